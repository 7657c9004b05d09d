//! Sets of images to train on and to compare with: IDX files and folders.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use flate2::read::GzDecoder;
use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{Error, images};

/// What `data:` may name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AnyData {
    /// See [`Idx`].
    Idx(Idx),
    /// See [`Folder`].
    Folder(Folder),
}

impl AnyData {
    /// Reads all of it.
    pub fn load(&self) -> Result<Images, Error> {
        match self {
            Self::Idx(idx) => idx.load(),
            Self::Folder(folder) => folder.load(),
        }
    }
}

/// The files of MNIST and its kin, plain or gzipped.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Idx {
    /// `…-images-idx3-ubyte`, or the same with `.gz`.
    pub images: PathBuf,
    /// `…-labels-idx1-ubyte`, for a classifier.
    pub labels: Option<PathBuf>,
    /// Black pixels to add on each side; 2 makes 32×32 of 28×28.
    #[serde(default)]
    pub pad: i64,
}

impl Idx {
    fn load(&self) -> Result<Images, Error> {
        let pixels = idx(&self.images, 3)?;
        let pixels = pixels.unsqueeze(1).constant_pad_nd([self.pad; 4]);
        let labels = self.labels.as_deref().map(|path| idx(path, 1)).transpose()?;
        if let Some(labels) = &labels
            && labels.size()[0] != pixels.size()[0]
        {
            let cause = format!("{} labels for {} images", labels.size()[0], pixels.size()[0]);
            return Err(Error::file(&self.images, cause));
        }
        Ok(Images { pixels, labels: labels.map(|l| l.to_kind(Kind::Int64)) })
    }
}

fn idx(path: &Path, dimensions: u8) -> Result<Tensor, Error> {
    let unreadable = |e| Error::file(path, format!("cannot be read: {e}"));
    let mut bytes = Vec::new();
    let mut file = File::open(path).map_err(unreadable)?;
    match path.extension() {
        Some(extension) if extension == "gz" => GzDecoder::new(file).read_to_end(&mut bytes),
        _ => file.read_to_end(&mut bytes),
    }
    .map_err(unreadable)?;
    let header = 4 + 4 * usize::from(dimensions);
    if bytes.len() < header || bytes[..4] != [0, 0, 8, dimensions] {
        return Err(Error::file(path, format!("not an IDX file of bytes in {dimensions} dimensions")));
    }
    let size = bytes[4..header].chunks_exact(4).map(|b| i64::from(u32::from_be_bytes([b[0], b[1], b[2], b[3]])));
    let size: Vec<i64> = size.collect();
    if bytes.len() - header != size.iter().product::<i64>() as usize {
        return Err(Error::file(path, format!("holds {} bytes for {size:?}", bytes.len() - header)));
    }
    Ok(Tensor::f_from_data_size(&bytes[header..], &size, Kind::Uint8)?)
}

/// All images of a folder, which must be of one size.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// The folder; its own files, not those of folders within it.
    pub path: PathBuf,
    /// 1 for grey, 3 for colour.
    pub channels: i64,
    /// Only so many pixels in the middle, in both directions; images of many sizes then go together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crop: Option<i64>,
}

impl Folder {
    fn load(&self) -> Result<Images, Error> {
        let files = images::files(&self.path)?;
        let mut pixels: Vec<Tensor> = Vec::with_capacity(files.len());
        for file in &files {
            let image = self.cropped(images::read(file, self.channels)?, file)?;
            if let Some(first) = pixels.first()
                && first.size() != image.size()
            {
                let cause = format!("is {:?}, unlike {:?} of the files before", image.size(), first.size());
                return Err(Error::file(file, cause));
            }
            pixels.push(image);
        }
        Ok(Images { pixels: Tensor::stack(&pixels, 0), labels: None })
    }

    fn cropped(&self, image: Tensor, file: &Path) -> Result<Tensor, Error> {
        let Some(side) = self.crop else { return Ok(image) };
        let (height, width) = (image.size()[1], image.size()[2]);
        if side < 1 || side > height.min(width) {
            return Err(Error::file(file, format!("is {height}×{width}, of which no {side}×{side} can be cut")));
        }
        Ok(image.narrow(1, (height - side) / 2, side).narrow(2, (width - side) / 2, side))
    }
}

/// A set of images in memory.
#[derive(Debug)]
pub struct Images {
    /// `[count, channels, height, width]`, bytes.
    pub pixels: Tensor,
    /// `[count]`, the class of each, where it is known.
    pub labels: Option<Tensor>,
}

impl Images {
    /// How many.
    pub fn count(&self) -> usize {
        self.pixels.size()[0] as usize
    }

    /// The first `count` of them, or all.
    #[must_use]
    pub fn first(self, count: usize) -> Self {
        let count = self.count().min(count) as i64;
        let first = |all: &Tensor| all.narrow(0, 0, count);
        Self { pixels: first(&self.pixels), labels: self.labels.as_ref().map(first) }
    }

    /// The chosen ones, as f32 in [−1, 1].
    pub fn batch(&self, indices: &[usize]) -> Tensor {
        images::from_bytes(&self.pixels.index_select(0, &index(indices)))
    }

    /// The classes of the chosen ones.
    pub fn classes(&self, indices: &[usize]) -> Option<Tensor> {
        self.labels.as_ref().map(|labels| labels.index_select(0, &index(indices)))
    }
}

fn index(indices: &[usize]) -> Tensor {
    Tensor::from_slice(&indices.iter().map(|&i| i as i64).collect::<Vec<_>>())
}
