//! Input files of a restoration: photographs, measurements, kernels.

use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use super::restore::fits;
use crate::{
    Error,
    error::Within,
    files::{
        data::{AnyData, ImageSource},
        images::{self, Listing},
    },
    models::card::Model,
};

/// Images of one size, with their names.
#[derive(Debug)]
pub struct ImageSet {
    /// Names of the files without their endings, or numbers.
    pub names: Vec<String>,
    /// Images, `[count, channels, height, width]`, in data units −1 … 1, on the CPU.
    pub images: Tensor,
    /// Notes for a reader of the results.
    pub notes: Vec<String>,
}

impl ImageSet {
    /// Reads an image, or the first `limit` images of a folder, with the channels of `model`.
    pub fn read(path: &Path, limit: Option<usize>, model: &Model) -> Result<Self, Error> {
        let mut listing = Listing { images: vec![path.to_owned()], ..Listing::default() };
        if path.is_dir() {
            listing = Listing::new(path, false)?;
        }
        let (passed_over, mut files) = (listing.passed_over(), listing.images);
        files.truncate(limit.unwrap_or(usize::MAX));
        let mut pixels: Vec<Tensor> = Vec::new();
        for file in &files {
            let image = images::from_bytes(&images::read(file, model.card.image[0])?).unsqueeze(0);
            size_of(&image, model).within(|| file.display().to_string())?;
            if pixels.first().is_some_and(|first| first.size() != image.size()) {
                return Err(Error::file(file, "has another size than the image before it: restore them one by one"));
            }
            pixels.push(image);
        }
        let notes = grey_note(&files, model)?.into_iter().chain(passed_over).collect();
        Ok(Self { names: files.iter().map(|file| stem(file)).collect(), images: Tensor::cat(&pixels, 0), notes })
    }

    /// Reads the first `limit` images that an experiment names.
    pub fn from_source(source: &ImageSource, limit: Option<usize>, model: &Model) -> Result<Self, Error> {
        match source {
            ImageSource::Path(path) if images::is_image(path) => Self::read(path, limit, model),
            ImageSource::Path(path) => Self::from_data(&AnyData::at(path, model.card.image[0]), limit, model),
            ImageSource::Data(data) => Self::from_data(data, limit, model),
        }
    }

    /// Reads the first `limit` images of a set; images of a folder keep their names.
    pub fn from_data(data: &AnyData, limit: Option<usize>, model: &Model) -> Result<Self, Error> {
        if let AnyData::Folder(folder) = data {
            return Self::read(&folder.path, limit, model);
        }
        let all = data.load()?;
        let indices: Vec<usize> = (0..all.count().min(limit.unwrap_or(usize::MAX))).collect();
        let images = all.batch(&indices);
        size_of(&images, model).within(|| "`image`".to_owned())?;
        Ok(Self { names: indices.iter().map(|i| format!("{i:05}")).collect(), images, notes: Vec::new() })
    }
}

/// Reads a blur kernel from a file, `[height, width]`: an array, or a grey image.
pub fn kernel(path: &Path) -> Result<Tensor, Error> {
    if path.extension().is_none_or(|ending| ending != "npy") {
        return Ok(images::read(path, 1)?.get(0).to_kind(Kind::Double));
    }
    Ok(images::read_npy(path)?.to_kind(Kind::Double))
}

/// Returns a file's name without its ending.
pub fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "image".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

fn size_of(images: &Tensor, model: &Model) -> Result<(), Error> {
    let size = images.size();
    fits([size[1], size[2], size[3]], model)
}

/// Returns a note if files have colours and the network is grey, so that it does not restore them.
fn grey_note(files: &[PathBuf], model: &Model) -> Result<Option<String>, Error> {
    if model.card.image[0] != 1 {
        return Ok(None);
    }
    for file in files {
        let pixels = images::read_as_is(file)?;
        let coloured = || !pixels.get(0).equal(&pixels.get(1)) || !pixels.get(1).equal(&pixels.get(2));
        if pixels.size()[0] == 3 && coloured() {
            let (file, name) = (file.display(), &model.card.name);
            return Ok(Some(format!(
                "{file} is in colour, and {name} knows grey images alone: it is restored in grey"
            )));
        }
    }
    Ok(None)
}
