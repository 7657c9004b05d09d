//! Many images in one file: what ADM's evaluator and EDM's tools read.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use tch::Tensor;
use zip::{CompressionMethod, DateTime, ZipWriter, write::SimpleFileOptions};

use crate::files::{images, npz};

/// Bytes from which on an entry's sizes take 8 bytes, with a margin for its header.
const LARGE: u64 = (1 << 32) - (1 << 16);

/// An archive that is being written, image after image.
pub struct ImageArchive {
    zip: ZipWriter<BufWriter<File>>,
    layout: ArchiveLayout,
}

/// Layout of the images in an archive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ArchiveLayout {
    /// `arr_0.npy`, `[count, height, width, channels]`, bytes [guided-diffusion].
    Npz,
    /// `000000/000000.png` and so on: a folder for every thousand seeds [EDM, generate.py --subdirs].
    Zip,
}

impl std::fmt::Debug for ImageArchive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ImageArchive").field("layout", &self.layout).finish_non_exhaustive()
    }
}

/// Stored as they are, and without the time: the same images give the same bytes.
fn options(bytes: u64) -> SimpleFileOptions {
    SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default())
        .large_file(bytes >= LARGE)
}

impl ImageArchive {
    /// An archive of `count` images of this `[channels, height, width]`, at `path`.
    pub fn create(
        path: &Path,
        layout: ArchiveLayout,
        count: u64,
        [channels, height, width]: [i64; 3],
    ) -> Result<Self, String> {
        let file = File::create(path).map_err(|e| e.to_string())?;
        let mut zip = ZipWriter::new(BufWriter::new(file));
        if layout == ArchiveLayout::Npz {
            let bytes = count * (channels * height * width) as u64;
            zip.start_file("arr_0.npy", options(bytes)).map_err(|e| e.to_string())?;
            zip.write_all(&npz::header("|u1", &[count as i64, height, width, channels])).map_err(|e| e.to_string())?;
        }
        Ok(Self { zip, layout })
    }

    /// Adds the images of seeds that follow each other: bytes, `[batch, channels, height, width]`.
    pub fn push(&mut self, seeds: impl Iterator<Item = u64>, pixels: &Tensor) -> Result<(), String> {
        if self.layout == ArchiveLayout::Npz {
            let bytes = images::bytes(&pixels.permute([0, 2, 3, 1])).map_err(|e| e.to_string())?;
            return self.zip.write_all(&bytes).map_err(|e| e.to_string());
        }
        for (i, seed) in seeds.enumerate() {
            let png = images::png(&pixels.get(i as i64))?;
            let name = format!("{:06}/{seed:06}.png", seed / 1000 * 1000);
            self.zip.start_file(name, options(0)).map_err(|e| e.to_string())?;
            self.zip.write_all(&png).map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Ends the file, and waits until it is on the disk.
    pub fn finish(self) -> Result<(), String> {
        let file = self.zip.finish().map_err(|e| e.to_string())?;
        file.into_inner().map_err(|e| e.to_string())?.sync_all().map_err(|e| e.to_string())
    }
}
