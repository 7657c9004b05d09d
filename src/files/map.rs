//! Files in memory without being read.

use std::{fs::File, path::Path};

use memmap2::Mmap;

use crate::Error;

/// A file, and a map of it that is read only. A pipe or a device is refused: it has no end to map, and opening it may
/// wait for ever.
pub(crate) fn map(path: &Path) -> Result<(File, Mmap), Error> {
    let unreadable = |e| Error::file(path, format!("cannot be read: {e}"));
    if path.metadata().is_ok_and(|metadata| !metadata.is_file()) {
        return Err(Error::file(path, "is no file"));
    }
    let file = File::open(path).map_err(unreadable)?;
    // SAFETY: the map is read only. Whoever cuts the file short while it is read ends this process, as with any program
    // that maps its files; nothing else depends on the map staying the same.
    let map = unsafe { Mmap::map(&file) }.map_err(unreadable)?;
    Ok((file, map))
}
