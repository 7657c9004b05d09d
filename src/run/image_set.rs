//! Input files of a restoration: photographs, measurements, kernels.

use std::path::{Path, PathBuf};

use tch::{Kind, Tensor};

use super::restore::fits;
use crate::{
    Error,
    error::Within,
    files::{
        data::{AnyData, ImageSource, channels_first},
        depth::Depth,
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
    /// The largest depth of the files: pictures of results have it.
    pub depth: Depth,
    /// Notes for a reader of the results.
    pub notes: Vec<String>,
}

impl ImageSet {
    /// Reads an image, the first `limit` images of a folder, with the channels of `model`, or those of a `.npy`.
    pub fn read(path: &Path, limit: Option<usize>, model: &Model) -> Result<Self, Error> {
        if path.extension().is_some_and(|ending| ending == "npy") {
            return Self::from_array(path, limit, model);
        }
        let mut listing = Listing { images: vec![path.to_owned()], ..Listing::default() };
        if path.is_dir() {
            listing = Listing::new(path, false)?;
        }
        let (passed_over, mut files) = (listing.passed_over(), listing.images);
        files.truncate(limit.unwrap_or(usize::MAX));
        let (mut pixels, mut depth) = (Vec::<Tensor>::new(), Depth::default());
        for file in &files {
            let (image, own) = images::read_units(file, Some(model.card.image[0]))?;
            let image = image.unsqueeze(0);
            depth = depth.max(own);
            size_of(&image, model).within(|| file.display().to_string())?;
            if pixels.first().is_some_and(|first| first.size() != image.size()) {
                return Err(Error::file(file, "has another size than the image before it: restore them one by one"));
            }
            pixels.push(image);
        }
        let notes = grey_note(&files, model)?.into_iter().chain(depth_note(depth)).chain(passed_over).collect();
        Ok(Self { names: files.iter().map(|file| stem(file)).collect(), images: Tensor::cat(&pixels, 0), depth, notes })
    }

    /// Reads the first `limit` images of a `.npy`: bytes, whole numbers 0 … 65535, or real numbers in data units; one image,
    /// `[height, width]`, `[height, width, 1 or 3]` or `[channels, height, width]`, or several.
    fn from_array(path: &Path, limit: Option<usize>, model: &Model) -> Result<Self, Error> {
        let x = images::read_npy(path)?;
        let x = channels_first(&several(&x)).map_err(|cause| Error::file(path, cause))?;
        let x = x.narrow(0, 0, x.size()[0].min(limit.unwrap_or(usize::MAX).try_into().unwrap_or(i64::MAX)));
        let (black, white, depth) = match x.kind() {
            Kind::Uint8 => (0.0, 255.0, Depth::Eight),
            Kind::Int | Kind::Int16 => (0.0, 65_535.0, Depth::Sixteen),
            Kind::Half | Kind::Float | Kind::Double => (-1.0, 1.0, Depth::Real),
            kind => {
                return Err(Error::file(path, format!("is of {kind:?}: bytes, 16 bits or real numbers are wanted")));
            }
        };
        let x = x.to_kind(Kind::Double);
        let (least, most) = (f64::try_from(x.min())?, f64::try_from(x.max())?);
        if least < black || most > white {
            let cause = format!("holds numbers from {least} to {most}, and images of its type are {black} … {white}");
            return Err(Error::file(path, cause));
        }
        let images = ((x - black) * (2.0 / (white - black)) - 1.0).to_kind(Kind::Float);
        size_of(&images, model).within(|| path.display().to_string())?;
        let assumed = (depth == Depth::Real).then(|| {
            let hint = if least >= 0.0 { ", although no number of it is negative" } else { "" };
            format!("{} is taken to be of pixels −1 … 1{hint}", path.display())
        });
        let names = match images.size()[0] {
            1 => vec![stem(path)],
            count => (0..count).map(|i| format!("{i:05}")).collect(),
        };
        Ok(Self { names, images, depth, notes: assumed.into_iter().chain(depth_note(depth)).collect() })
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
        let names = indices.iter().map(|i| format!("{i:05}")).collect();
        Ok(Self { names, images, depth: Depth::default(), notes: Vec::new() })
    }
}

/// One image or several as several, in the shapes that [`channels_first`] takes.
fn several(x: &Tensor) -> Tensor {
    match x.size()[..] {
        [_, _] | [_, _, 1 | 3] | [1 | 3, _, _] => x.unsqueeze(0),
        _ => x.shallow_clone(),
    }
}

/// Reads a blur kernel from a file, `[height, width]`: an array, or a grey image.
pub fn kernel(path: &Path) -> Result<Tensor, Error> {
    if path.extension().is_none_or(|ending| ending != "npy") {
        return Ok(images::read(path, 1)?.get(0).to_kind(Kind::Double));
    }
    Ok(images::read_npy(path)?.to_kind(Kind::Double))
}

/// Returns a note on the range of figures and pictures of images of more than 8 bits.
fn depth_note(depth: Depth) -> Option<String> {
    let range = match depth {
        Depth::Eight => return None,
        Depth::Sixteen => "numbers 0 … 65535",
        Depth::Real => "real numbers 0 … 1",
    };
    Some(format!("images have {range}: PSNR takes the whole of that range, and pictures are written with 16 bits"))
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
