//! Drawing of a chunk's images, as many at a time as fit into memory.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// Calls `draw` with a number of images, and halves the number for as long as memory does not suffice; returns its
/// result and the final number.
pub fn within_memory<T, E: std::fmt::Display>(
    mut batch: u64,
    mut draw: impl FnMut(u64) -> Result<T, E>,
) -> Result<(T, u64), E> {
    loop {
        // libtorch reports a lack of memory by a panic where the call has no Result.
        match catch_unwind(AssertUnwindSafe(|| draw(batch))) {
            Ok(Err(e)) if batch > 1 && is_memory(&e.to_string()) => {}
            Ok(made) => return made.map(|made| (made, batch)),
            Err(cause) => {
                let text = cause.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| cause.downcast_ref::<&str>().copied());
                if batch == 1 || !text.is_some_and(is_memory) {
                    resume_unwind(cause);
                }
            }
        }
        batch /= 2;
    }
}

fn is_memory(text: &str) -> bool {
    ["out of memory", "not enough memory", "can't allocate memory"].iter().any(|words| text.contains(words))
}
