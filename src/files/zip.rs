//! Zip archives, read in place: those of `torch.save`, NumPy and sets of images.
//!
//! `rawzip` follows the zip64 record, which PyTorch always writes. The crate `zip`, which writes our own archives, refuses
//! some of these (9.4.1 and 9.8.2: those with entries under a folder of 21 characters).

use std::{
    collections::BTreeMap,
    io::{self, Read},
    ops::Range,
    path::Path,
};

use flate2::read::DeflateDecoder;
use memmap2::Mmap;
use rawzip::{CompressionMethod, ErrorKind, ZipArchive, ZipArchiveEntryWayfinder, ZipSliceArchive};

use crate::Error;

/// Most entries of an archive.
const MOST_ENTRIES: usize = 1 << 23;

/// An archive in memory, or in a map of its file.
#[derive(Debug)]
pub struct Zip<T: AsRef<[u8]>> {
    archive: ZipSliceArchive<T>,
    entries: BTreeMap<String, Entry>,
}

/// An entry of an archive.
#[derive(Clone, Debug)]
struct Entry {
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
}

impl Zip<Mmap> {
    /// Opens an archive.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let (_, map) = super::map(path)?;
        Self::new(map).map_err(|cause| Error::file(path, format!("not a whole zip archive ({cause}): fetch it again")))
    }
}

impl<T: AsRef<[u8]>> Zip<T> {
    /// Reads the directory of an archive; an error is a sentence.
    pub fn new(bytes: T) -> Result<Self, String> {
        let archive = ZipArchive::from_slice(bytes).map_err(|e| sentence(&e))?;
        let mut entries = BTreeMap::new();
        let mut records = archive.entries();
        while let Some(record) = records.next_entry().map_err(|e| sentence(&e))? {
            if record.is_dir() {
                continue;
            }
            let path = record.file_path();
            let name =
                std::str::from_utf8(path.as_ref()).map_err(|_| "the name of an entry is not UTF-8".to_owned())?;
            entries.insert(name.to_owned(), Entry { place: record.wayfinder(), method: record.compression_method() });
            if entries.len() > MOST_ENTRIES {
                return Err(format!("it has more than {MOST_ENTRIES} entries"));
            }
        }
        Ok(Self { archive, entries })
    }

    /// Names of the files, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// Range of an entry's bytes in the archive; `None` if they are compressed or cut off.
    pub fn stored(&self, name: &str) -> Option<Range<usize>> {
        let entry = self.entries.get(name).filter(|entry| entry.method == CompressionMethod::STORE)?;
        let (start, end) = self.archive.get_entry(entry.place).ok()?.compressed_data_range();
        Some(usize::try_from(start).ok()?..usize::try_from(end).ok()?)
    }

    /// The contents of an entry, checked by their length and CRC; an error is a sentence.
    pub fn contents(&self, name: &str) -> Result<Vec<u8>, String> {
        let entry = self.entries.get(name).ok_or_else(|| format!("it has no entry {name}"))?;
        let slice = self.archive.get_entry(entry.place).map_err(|e| sentence(&e))?;
        let length = entry.place.uncompressed_size_hint();
        let mut contents = Vec::new();
        let mut read = |reader: &mut dyn Read| -> io::Result<usize> {
            // One byte more than the directory states shows an entry that is longer; memory grows with the bytes that come.
            reader.take(length.saturating_add(1)).read_to_end(&mut contents)
        };
        let done = match entry.method {
            CompressionMethod::STORE => read(&mut slice.verifying_reader(slice.data())),
            CompressionMethod::DEFLATE => read(&mut slice.verifying_reader(DeflateDecoder::new(slice.data()))),
            method => {
                return Err(format!(
                    "its entry {name} is compressed by method {}: store or deflate it",
                    method.as_u16()
                ));
            }
        };
        done.map_err(|e| format!("its entry {name} is damaged: {e}"))?;
        Ok(contents)
    }
}

fn sentence(error: &rawzip::Error) -> String {
    match error.kind() {
        ErrorKind::MissingEndOfCentralDirectory | ErrorKind::Eof => "it is cut off".to_owned(),
        _ => error.to_string(),
    }
}
