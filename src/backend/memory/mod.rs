//! Memory: pages that a file can give again, which those who read them last may leave; large blocks, which are kept.

#![allow(unsafe_code)]

use std::{
    ops::Range,
    sync::{Mutex, PoisonError},
};

/// Maps that stay for as long as the process, private to it, by their addresses.
static LENT: Mutex<Vec<Range<usize>>> = Mutex::new(Vec::new());

unsafe extern "C" {
    fn tweedie_keep_blocks();
}

/// Keeps large blocks of tensors on the CPU from now on when they are freed, for the tensors that follow.
pub fn keep_blocks() {
    // SAFETY: replaces libtorch's allocator by one of ours, which asks the old one for what is small; tensors know by which
    // they were made.
    unsafe { tweedie_keep_blocks() };
}

/// Allows [`leave`] to drop pages of this map of a file from now on.
///
/// # Safety
///
/// The map is private to this process and is never unmapped.
pub(crate) unsafe fn lend(map: Range<usize>) {
    LENT.lock().unwrap_or_else(PoisonError::into_inner).push(map);
}

/// Takes whole pages between these addresses out of memory, if they are of a map that was lent: whoever reads them again has
/// them from the file. Elsewhere it does nothing.
///
/// # Safety
///
/// Nothing was written to them: it would be lost.
pub(crate) unsafe fn leave(bytes: Range<usize>) {
    let lent = LENT.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: asks for the size of a page.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    let (first, last) = (bytes.start.next_multiple_of(page), bytes.end - bytes.end % page);
    if first < last && lent.iter().any(|map| map.start <= first && last <= map.end) {
        // SAFETY: the pages are of a private map of a file, and the caller says that they are as the file has them.
        unsafe { libc::madvise(first as *mut libc::c_void, last - first, libc::MADV_DONTNEED) };
    }
}
