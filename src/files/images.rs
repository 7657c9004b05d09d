//! Images as tensors and as files.
//!
//! Pixels are bytes 0 … 255 in files and data units −1 … 1 in networks: x = byte / 127.5 − 1. Files of 16 bits and of real
//! numbers keep their depth where images become data units, and are rounded to bytes where bytes are wanted.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use image::{
    ColorType, DynamicImage, GrayImage, ImageBuffer, ImageDecoder, ImageError, ImageFormat, ImageReader, Luma, Rgb,
    RgbImage, metadata::Orientation,
};
use tch::{Device, Kind, Tensor};

use super::{depth::Depth, jpeg, tiff};
use crate::{Error, files::npz};

/// The contact sheet of a folder of samples.
pub const SHEET: &str = "grid.png";

const EXTENSIONS: [&str; 13] =
    ["png", "jpg", "jpeg", "jfif", "webp", "bmp", "tif", "tiff", "ppm", "pgm", "pbm", "pnm", "gif"];
/// Endings of images that cannot be read here.
const OTHERS: [&str; 6] = ["avif", "heic", "heif", "jp2", "jxl", "exr"];
/// Folders within folders.
const MOST_NESTED: usize = 16;
/// Folder that the archiver of macOS adds to its archives.
const RESOURCES: &str = "__MACOSX";

/// Bytes to data units: x / 127.5 − 1.
pub fn from_bytes(bytes: &Tensor) -> Tensor {
    bytes.to_kind(Kind::Float) / 127.5 - 1.0
}

/// Data units to bytes: the nearest of 127.5 (x + 1), held within 0 … 255.
pub fn to_bytes(x: &Tensor) -> Tensor {
    ((x + 1.0) * 127.5).round().clamp(0.0, 255.0).to_kind(Kind::Uint8)
}

/// Data units −1 … 1 to the unit range 0 … 1, in which η and PSNR are given on the command line.
pub fn to_unit(x: &Tensor) -> Tensor {
    (x + 1.0) / 2.0
}

/// The image files of a folder, and its other files and folders.
#[derive(Debug, Default)]
pub struct Listing {
    /// Image files, in the order of their paths.
    pub images: Vec<PathBuf>,
    /// Other files; and folders, where these are not looked into.
    pub others: Vec<PathBuf>,
}

impl Listing {
    /// Lists a folder, and the folders in it if `deep`; without the contact sheet that `tweedie sample` draws beside its
    /// images, and without what macOS adds (`__MACOSX`, `._*`).
    pub fn new(folder: &Path, deep: bool) -> Result<Self, Error> {
        let mut listing = Self::default();
        listing.add(folder, if deep { MOST_NESTED } else { 0 })?;
        listing.images.sort();
        listing.others.sort();
        if let Some(other) = listing.others.iter().find(|path| OTHERS.contains(&ending(path).as_str())) {
            return Err(Error::file(
                other,
                format!("is {}, which is not read: convert it to PNG", ending(other).to_uppercase()),
            ));
        }
        if listing.images.is_empty() {
            return Err(Error::file(folder, format!("holds no image (.{})", EXTENSIONS.join(", ."))));
        }
        Ok(listing)
    }

    fn add(&mut self, folder: &Path, deep: usize) -> Result<(), Error> {
        let unreadable = |e| Error::file(folder, format!("cannot be listed: {e}"));
        let is_run = folder.join("record.json").exists();
        for entry in fs::read_dir(folder).map_err(unreadable)? {
            let path = entry.map_err(unreadable)?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if name.starts_with("._") || name == RESOURCES || is_run && name == SHEET {
                continue;
            }
            if path.is_dir() && deep > 0 {
                self.add(&path, deep - 1)?;
            } else if is_image(&path) && !path.is_dir() {
                self.images.push(path);
            } else if !is_run {
                self.others.push(path);
            }
        }
        Ok(())
    }

    /// A sentence that counts and names what was passed over, if anything was.
    pub fn passed_over(&self) -> Option<String> {
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names: Vec<String> = self.others.iter().map(name).collect();
        let count = self.others.len();
        let noun = if count == 1 { "is no image" } else { "are no images" };
        (count > 0).then(|| format!("{count} of its entries {noun} and left out: {}", super::several(&names)))
    }
}

fn ending(path: &Path) -> String {
    path.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase()
}

/// Whether its name ends as images' names do.
pub fn is_image(path: &Path) -> bool {
    EXTENSIONS.contains(&ending(path).as_str())
}

/// The file's pixels, `[channels, height, width]`, bytes; colour becomes grey, or grey colour, where need be.
pub fn read(path: &Path, channels: i64) -> Result<Tensor, Error> {
    pixels(&open(path)?, channels)
}

/// The file's pixels, `[1 or 3, height, width]`, bytes: grey stays grey.
pub fn read_as_is(path: &Path) -> Result<Tensor, Error> {
    let image = open(path)?;
    pixels(&image, if coloured(&image) { 3 } else { 1 })
}

/// The file's pixels in data units, `[channels, height, width]`, from numbers of the file's own depth; grey stays grey where
/// `channels` are not given.
pub fn read_units(path: &Path, channels: Option<i64>) -> Result<(Tensor, Depth), Error> {
    let image = open(path)?;
    let channels = channels.unwrap_or(if coloured(&image) { 3 } else { 1 });
    let depth = depth(&image);
    let x = match depth {
        Depth::Eight => from_bytes(&pixels(&image, channels)?),
        Depth::Sixteen | Depth::Real => {
            let numbers = exact(&image, channels, depth)?.to_kind(Kind::Double);
            (numbers * (2.0 / depth.white()) - 1.0).to_kind(Kind::Float)
        }
    };
    Ok((x, depth))
}

/// Whether there are colours. Grey real numbers come as three equal channels.
fn coloured(image: &DynamicImage) -> bool {
    match image {
        DynamicImage::ImageRgb32F(image) => image.pixels().any(|pixel| pixel.0 != [pixel.0[0]; 3]),
        _ => image.color().has_color(),
    }
}

fn depth(image: &DynamicImage) -> Depth {
    match image.color() {
        ColorType::L16 | ColorType::La16 | ColorType::Rgb16 | ColorType::Rgba16 => Depth::Sixteen,
        ColorType::Rgb32F | ColorType::Rgba32F => Depth::Real,
        _ => Depth::Eight,
    }
}

/// The numbers of a picture of 16 bits or of real numbers, f32.
fn exact(image: &DynamicImage, channels: i64, depth: Depth) -> Result<Tensor, Error> {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let numbers = match depth {
        Depth::Real => image.to_rgb32f().into_raw(),
        _ => image.to_rgb16().into_raw().into_iter().map(f32::from).collect(),
    };
    let numbers = Tensor::from_slice(&numbers).f_view([height, width, 3])?.permute([2, 0, 1]).contiguous();
    if channels != 1 {
        return Ok(numbers);
    }
    // BT.601 by differences, which are exactly 0 where the channels are equal.
    let [red, green, blue] = [0, 1, 2].map(|channel| numbers.narrow(0, channel, 1));
    let grey = &red + (green - &red) * 0.587 + (blue - &red) * 0.114;
    Ok(if depth == Depth::Real { grey } else { grey.round() })
}

fn pixels(image: &DynamicImage, channels: i64) -> Result<Tensor, Error> {
    let (width, height) = (i64::from(image.width()), i64::from(image.height()));
    let (channels, bytes) = if channels == 1 { (1, grey(image)) } else { (3, image.to_rgb8().into_raw()) };
    Ok(Tensor::f_from_data_size(&bytes, &[height, width, channels], Kind::Uint8)?.permute([2, 0, 1]).contiguous())
}

/// Grey of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, by the whole numbers of Pillow.
fn grey(image: &DynamicImage) -> Vec<u8> {
    if !image.color().has_color() {
        return image.to_luma8().into_raw();
    }
    let luma = |pixel: &[u8]| {
        let [red, green, blue] = [0, 1, 2].map(|channel| u32::from(pixel[channel]));
        ((19_595 * red + 38_470 * green + 7_471 * blue + (1 << 15)) >> 16) as u8
    };
    image.to_rgb8().as_raw().chunks_exact(3).map(luma).collect()
}

/// No image may have more pixels: 2²⁷, more than the largest cameras take.
const MOST_PIXELS: u64 = 1 << 27;

/// An image of a set.
#[derive(Debug)]
pub struct Decoded {
    /// Bytes, `[channels, height, width]`.
    pub pixels: Tensor,
    /// Whether the file is JPEG, whose losses features can see.
    pub jpeg: bool,
    /// Whether its EXIF says that it is to be turned.
    pub oriented: bool,
    /// Whether the file has more than 8 bits, and was rounded.
    pub rounded: bool,
}

/// The image in a file's contents; the way up that its EXIF says where `exif`, else as its pixels lie.
pub fn decode(path: &Path, contents: &[u8], channels: i64, exif: bool) -> Result<Decoded, Error> {
    let (mut image, orientation) = decoded(contents).map_err(|cause| Error::file(path, cause))?;
    let oriented = orientation != Orientation::NoTransforms;
    if exif {
        image.apply_orientation(orientation);
    }
    let rounded = depth(&image) != Depth::Eight;
    Ok(Decoded { pixels: pixels(&image, channels)?, jpeg: is_jpeg(contents), oriented, rounded })
}

/// The image in a file, whatever its name ends in, the way up that its EXIF says.
fn open(path: &Path) -> Result<DynamicImage, Error> {
    let contents = super::read(path)?;
    let (mut image, orientation) = decoded(&contents).map_err(|cause| Error::file(path, cause))?;
    image.apply_orientation(orientation);
    Ok(image)
}

fn is_jpeg(contents: &[u8]) -> bool {
    image::guess_format(contents).is_ok_and(|format| format == ImageFormat::Jpeg)
}

/// The image as its pixels lie, and the orientation that its EXIF says.
fn decoded(contents: &[u8]) -> Result<(DynamicImage, Orientation), String> {
    if is_jpeg(contents) {
        return Ok((jpeg::decode(contents, at_most)?, jpeg::orientation(contents)));
    }
    let unreadable = |e: ImageError| format!("not a readable image: {e}");
    if image::guess_format(contents).is_ok_and(|format| format == ImageFormat::Tiff)
        && let Some(grey) = tiff::grey_real(contents, at_most)
    {
        let image = grey.map_err(|cause| format!("not a readable image: {cause}"))?;
        return within_unit(&image).map(|()| (image, Orientation::NoTransforms));
    }
    let reader = ImageReader::new(Cursor::new(contents)).with_guessed_format().map_err(|e| unreadable(e.into()))?;
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    at_most(u64::from(width), u64::from(height))?;
    let orientation = decoder.orientation().map_err(unreadable)?;
    let image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    within_unit(&image)?;
    if image.color().has_alpha() && image.to_rgba16().pixels().any(|pixel| pixel.0[3] < u16::MAX) {
        return Err(
            "has transparent pixels, which have no colour of their own: put it on a background first".to_owned()
        );
    }
    Ok((image, orientation))
}

/// Refuses real numbers that are no pixels.
fn within_unit(image: &DynamicImage) -> Result<(), String> {
    let numbers = match image {
        DynamicImage::ImageRgb32F(image) => image.as_raw(),
        DynamicImage::ImageRgba32F(image) => image.as_raw(),
        _ => return Ok(()),
    };
    if numbers.iter().all(|number| (0.0..=1.0).contains(number)) {
        return Ok(());
    }
    let (least, most) =
        numbers.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(least, most), x| (least.min(*x), most.max(*x)));
    Err(format!(
        "holds real numbers from {least} to {most}, and pixels are 0 … 1 there: divide by the number of white, and clip"
    ))
}

/// Refuses an image with too many pixels.
fn at_most(width: u64, height: u64) -> Result<(), String> {
    if width * height > MOST_PIXELS {
        return Err(format!("has {width}×{height} pixels, more than {MOST_PIXELS}: make a smaller copy of it"));
    }
    Ok(())
}

/// Writes a picture in data units, `[channels, height, width]`, whole or not at all: as TIFF of this depth where the name
/// ends in .tif or .tiff, and else as PNG, which has real numbers in 16 bits.
pub fn write(path: &Path, x: &Tensor, depth: Depth) -> Result<(), Error> {
    if !matches!(ending(path).as_str(), "tif" | "tiff") {
        return write_png(path, &depth.pixels(x));
    }
    write_whole(
        path,
        &tiff::encode(x, depth).map_err(|cause| Error::file(path, format!("cannot be encoded: {cause}")))?,
    )
}

/// Writes bytes, or numbers 0 … 65535 of 16 bits (i32), `[channels, height, width]`, as PNG, whole or not at all.
///
/// One channel is grey, three are colours; any others, such as a measurement's, are drawn in grey beside each other.
pub fn write_png(path: &Path, pixels: &Tensor) -> Result<(), Error> {
    write_whole(path, &png(pixels).map_err(|cause| Error::file(path, cause))?)
}

/// Pixels `[channels, height, width]` as the bytes of a PNG file; see [`write_png`].
pub fn png(pixels: &Tensor) -> Result<Vec<u8>, String> {
    let size = pixels.size();
    let beside = if matches!(size[..], [1 | 3, ..]) { pixels.permute([1, 2, 0]) } else { beside(pixels) };
    let (height, width) = (size[1] as u32, (beside.numel() as i64 / size[1].max(1)) as u32);
    let image = match (size[0], pixels.kind()) {
        (3, Kind::Int) => {
            ImageBuffer::<Rgb<u16>, _>::from_raw(width / 3, height, words(&beside)?).map(DynamicImage::from)
        }
        (_, Kind::Int) => ImageBuffer::<Luma<u16>, _>::from_raw(width, height, words(&beside)?).map(DynamicImage::from),
        (3, _) => RgbImage::from_raw(width / 3, height, raw(&beside)?).map(DynamicImage::from),
        _ => GrayImage::from_raw(width, height, raw(&beside)?).map(DynamicImage::from),
    };
    let image = image.ok_or_else(|| format!("cannot be encoded: {size:?} has no channel or no pixel"))?;
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Png).map_err(|e| format!("cannot be encoded: {e}"))?;
    Ok(file.into_inner())
}

fn words(tensor: &Tensor) -> Result<Vec<u16>, String> {
    let numbers = Vec::<i32>::try_from(tensor.contiguous().view([-1])).map_err(|e| e.to_string())?;
    Ok(numbers.into_iter().map(|number| number as u16).collect())
}

fn raw(tensor: &Tensor) -> Result<Vec<u8>, String> {
    bytes(tensor).map_err(|e| e.to_string())
}

/// All channels in one row of pictures.
fn beside(pixels: &Tensor) -> Tensor {
    pixels.permute([1, 0, 2]).flatten(1, 2)
}

/// The bytes of a tensor of bytes, row by row.
pub fn bytes(tensor: &Tensor) -> Result<Vec<u8>, Error> {
    let tensor = tensor.to_device(Device::Cpu).contiguous();
    let mut bytes = vec![0; tensor.numel()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok(bytes)
}

/// Writes a file under a temporary name beside it, then renames it: the file is there whole or not at all.
pub fn write_whole(path: &Path, contents: &[u8]) -> Result<(), Error> {
    write_by(path, |unfinished| fs::write(unfinished, contents).map_err(|e| e.to_string()))
}

/// Writes a file by `write`, which receives a temporary path.
pub fn write_by(path: &Path, write: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), Error> {
    let failed = |cause: String| Error::file(path, format!("cannot be written: {cause}"));
    let unwritable = |e: std::io::Error| failed(e.to_string());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(unwritable)?;
    let file = tempfile::Builder::new().prefix(".unfinished-").tempfile_in(folder).map_err(unwritable)?;
    write(file.path()).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).map_err(unwritable)?;
    }
    file.persist(path).map_err(|e| unwritable(e.error))?;
    Ok(())
}

/// Refuses NaN and infinity in a tensor from `path`.
pub fn finite(x: &Tensor, path: &Path) -> Result<(), Error> {
    let bad = i64::try_from(x.isfinite().logical_not().sum(Kind::Int64))?;
    if bad > 0 {
        return Err(Error::file(path, format!("{bad} of its {} values are NaN or infinite", x.numel())));
    }
    Ok(())
}

/// Writes a tensor as .npy (f32), whole or not at all.
pub fn write_npy(path: &Path, x: &Tensor) -> Result<(), Error> {
    write_whole(path, &npy(x)?)
}

/// The array in a .npy file, all of whose values must be finite.
pub fn read_npy(path: &Path) -> Result<Tensor, Error> {
    let x = npz::read_npy(path)?;
    finite(&x, path)?;
    Ok(x)
}

/// A tensor as the bytes of a .npy file (f32).
pub fn npy(x: &Tensor) -> Result<Vec<u8>, Error> {
    npz::npy(&x.to_kind(Kind::Float))
}
