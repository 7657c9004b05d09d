//! Files: images, NumPy arrays and archives, sets of images, YAML.

pub mod archive;
pub mod data;
pub mod depth;
pub mod images;
mod jpeg;
pub mod json;
pub mod npz;
pub mod preprocessing;
pub mod resample;
pub mod rounding;
mod tiff;
pub mod yaml;
pub mod zip;

#[allow(unsafe_code)]
mod map;

use std::{fs, path::Path};

pub(crate) use map::map;

use crate::Error;

/// Names of one sort in a sentence.
const MOST_NAMED: usize = 6;

/// Most bytes of a text: configurations, cards and experiments have some thousands.
const MOST_TEXT: u64 = 1 << 26;

/// The contents of a file. A pipe or a device is refused: it has no end, or makes its reader wait.
pub fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let unreadable = |e| Error::file(path, format!("cannot be read: {e}"));
    if !path.metadata().map_err(unreadable)?.is_file() {
        return Err(Error::file(path, if path.is_dir() { "is a folder: a file is wanted" } else { "is no file" }));
    }
    fs::read(path).map_err(unreadable)
}

/// The first of some names, and the number of the others.
pub(crate) fn several(names: &[String]) -> String {
    match names.len().checked_sub(MOST_NAMED) {
        Some(more @ 1..) => format!("{} and {more} more", names[..MOST_NAMED].join(", ")),
        _ => names.join(", "),
    }
}

/// The contents of a file of text.
pub fn read_text(path: &Path) -> Result<String, Error> {
    if path.metadata().is_ok_and(|metadata| metadata.len() > MOST_TEXT) {
        return Err(Error::file(path, format!("is larger than {} MB: a text is wanted", MOST_TEXT >> 20)));
    }
    String::from_utf8(read(path)?).map_err(|_| Error::file(path, "is not text"))
}
