//! Files whose tensors stay where they are until they are asked for.

#![allow(unsafe_code)]

use std::{
    fmt,
    fs::File,
    io,
    ops::Range,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::OnceLock,
};

use memmap2::{Mmap, MmapMut, MmapOptions};
use sha2::{Digest, Sha256};
use tch::{Device, Kind, Tensor};

use crate::{Error, backend::memory, files};

/// A tensor that is still in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// The kind of its numbers.
    pub kind: Kind,
    /// Sizes of the tensor's dimensions.
    pub size: Vec<i64>,
    /// Numbers from one row to the next, for each dimension.
    pub(super) stride: Vec<i64>,
    /// Offset of the tensor's first number, counted in numbers.
    pub(super) offset: i64,
    /// Range of its storage in the file, in bytes.
    pub(super) place: Range<usize>,
}

impl Stored {
    /// A tensor without gaps that fills its place; none if it does not.
    pub(super) fn whole(kind: Kind, size: Vec<i64>, place: Range<usize>) -> Option<Self> {
        let count = size.iter().try_fold(1i64, |count, size| count.checked_mul(*size))?;
        let length = usize::try_from(count).ok()?.checked_mul(kind.elt_size_in_bytes())?;
        let stride = contiguous(&size);
        (length == place.len()).then_some(Self { kind, size, stride, offset: 0, place })
    }

    /// Place of its first number in the file, in bytes.
    fn start(&self) -> usize {
        self.place.start + self.offset as usize * self.kind.elt_size_in_bytes()
    }

    /// Whether its numbers lie side by side, and there are any.
    pub fn is_whole(&self) -> bool {
        !self.size.contains(&0) && self.stride == contiguous(&self.size)
    }
}

/// Bytes with tensors in them: a file, or a part of the program.
pub struct Source {
    path: PathBuf,
    bytes: Bytes,
    /// Behind the tensors that are used as they lie in the file.
    views: OnceLock<&'static MmapMut>,
}

enum Bytes {
    /// The map is for what describes tensors. Numbers that have to be copied are read, so that no page is held twice.
    Disk(File, Mmap),
    Program(&'static [u8]),
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Source {
    /// Opens a file.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (file, map) = files::map(path)?;
        Ok(Self { path: path.to_owned(), bytes: Bytes::Disk(file, map), views: OnceLock::new() })
    }

    /// Bytes of the program itself; `path` is for messages.
    pub fn program(path: &Path, bytes: &'static [u8]) -> Self {
        Self { path: path.to_owned(), bytes: Bytes::Program(bytes), views: OnceLock::new() }
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        match &self.bytes {
            Bytes::Disk(_, map) => map,
            Bytes::Program(bytes) => bytes,
        }
    }

    /// Adds all of it to a hash.
    pub fn hash(&self, hash: &mut Sha256) -> Result<(), Error> {
        match &self.bytes {
            Bytes::Program(bytes) => hash.update(bytes),
            Bytes::Disk(..) => {
                let copied = File::open(&self.path).and_then(|mut file| io::copy(&mut file, hash));
                copied.map_err(|e| Error::file(&self.path, format!("cannot be read: {e}")))?;
            }
        }
        Ok(())
    }

    /// Brings a tensor into memory: its numbers are copied once.
    pub fn load(&self, stored: &Stored) -> Result<Tensor, Error> {
        if stored.size.contains(&0) {
            return Ok(Tensor::f_zeros(&stored.size, (stored.kind, Device::Cpu))?);
        }
        if stored.is_whole() {
            return self.read(stored, &stored.size);
        }
        let span = span(&stored.size, &stored.stride).unwrap_or(0);
        Ok(self.read(stored, &[span])?.f_as_strided(&stored.size, &stored.stride, 0)?.f_contiguous()?)
    }

    /// A tensor whose numbers stay in the file until they are used, and are then the file's own pages; those that are written
    /// to become the process's. None for a tensor that cannot be used as it lies there.
    pub fn view(&self, stored: &Stored) -> Result<Option<Tensor>, Error> {
        let Bytes::Disk(file, ..) = &self.bytes else { return Ok(None) };
        let start = stored.start();
        if !stored.is_whole() || !start.is_multiple_of(ALIGNMENT) {
            return Ok(None);
        }
        if self.views.get().is_none() {
            // SAFETY: pages are private to this process. Whoever changes the file while it is used changes the numbers of
            // pages that were not written to, as with any program that maps its files.
            let map = unsafe { MmapOptions::new().no_reserve_swap().map_copy(file) };
            let map = map.map_err(|e| Error::file(&self.path, format!("cannot be read: {e}")))?;
            // Tensors may outlive everything: the map stays, and costs addresses alone once the source is gone.
            let map: &MmapMut = self.views.get_or_init(|| Box::leak(Box::new(map)));
            let start = map.as_ptr() as usize;
            // SAFETY: private, and leaked.
            unsafe { memory::lend(start..start + map.len()) };
        }
        let Some(map) = self.views.get() else { return Ok(None) };
        let Some(bytes) = map.get(start..stored.place.end) else { return Ok(None) };
        // SAFETY: the bytes are never unmapped, and are as many as the tensor needs; see `Stored`.
        let tensor =
            unsafe { Tensor::f_from_blob(bytes.as_ptr(), &stored.size, &stored.stride, stored.kind, Device::Cpu)? };
        Ok(Some(tensor))
    }

    /// The numbers from the tensor's first on, in this shape.
    fn read(&self, stored: &Stored, size: &[i64]) -> Result<Tensor, Error> {
        let length = size.iter().product::<i64>() as usize * stored.kind.elt_size_in_bytes();
        let start = stored.start();
        match &self.bytes {
            Bytes::Program(bytes) => Ok(Tensor::f_from_data_size(&bytes[start..start + length], size, stored.kind)?),
            Bytes::Disk(file, _) => {
                let tensor = Tensor::f_empty(size, (stored.kind, Device::Cpu))?;
                // SAFETY: a fresh tensor without gaps owns exactly `length` bytes, and nobody else knows of it yet.
                let into = unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<u8>(), length) };
                let read = file.read_exact_at(into, start as u64);
                read.map_err(|e| Error::file(&self.path, format!("cannot be read: {e}")))?;
                Ok(tensor)
            }
        }
    }
}

impl Drop for Source {
    /// Gives the pages of views back. A tensor that outlives its source reads the file's numbers again.
    fn drop(&mut self) {
        if let Some(map) = self.views.get() {
            let start = map.as_ptr().cast_mut().cast::<libc::c_void>();
            // SAFETY: the map is a private one of a file: its pages come back from there when they are asked for.
            unsafe { libc::madvise(start, map.len(), libc::MADV_DONTNEED) };
        }
    }
}

/// Alignment of libtorch's own allocations, in bytes.
const ALIGNMENT: usize = 64;

/// The strides of a tensor without gaps.
pub(super) fn contiguous(size: &[i64]) -> Vec<i64> {
    let mut stride = vec![1; size.len()];
    for i in (1..size.len()).rev() {
        stride[i - 1] = stride[i] * size[i];
    }
    stride
}

/// Numbers from the first to the last of a view; `None` if they are more than an i64 counts.
pub(super) fn span(size: &[i64], stride: &[i64]) -> Option<i64> {
    size.iter().zip(stride).try_fold(1i64, |span, (size, stride)| span.checked_add((size - 1).checked_mul(*stride)?))
}
