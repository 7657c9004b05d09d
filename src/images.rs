//! Images as tensors and as files.
//!
//! Pixels are bytes 0 … 255 in files and data units −1 … 1 in networks: x = byte / 127.5 − 1.

use std::{
    fs,
    io::Cursor,
    path::{Path, PathBuf},
};

use image::{DynamicImage, GrayImage, ImageFormat, RgbImage};
use tch::{Device, Kind, Tensor};

use crate::Error;

/// The contact sheet of a folder of samples.
pub const SHEET: &str = "grid.png";

const EXTENSIONS: [&str; 4] = ["png", "jpg", "jpeg", "webp"];

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

/// The image files in a folder, by name; without the contact sheet that `tweedie sample` draws beside its images.
pub fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let unreadable = |e| Error::file(folder, format!("cannot be listed: {e}"));
    let entries = fs::read_dir(folder).map_err(unreadable)?.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
    let sheet = folder.join("record.json").exists().then(|| folder.join(SHEET));
    let wanted = |path: &PathBuf| is_image(path) && Some(path) != sheet.as_ref();
    let mut files: Vec<_> = entries.into_iter().map(|entry| entry.path()).filter(wanted).collect();
    files.sort();
    if files.is_empty() {
        return Err(Error::file(folder, "holds no image (.png, .jpg or .webp)"));
    }
    Ok(files)
}

fn is_image(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str()).map(str::to_ascii_lowercase);
    extension.is_some_and(|e| EXTENSIONS.contains(&e.as_str()))
}

/// The file's pixels, `[channels, height, width]`, bytes; colour becomes grey, or grey colour, where need be.
pub fn read(path: &Path, channels: i64) -> Result<Tensor, Error> {
    let image = image::open(path).map_err(|e| Error::file(path, format!("not a readable image: {e}")))?;
    let (size, bytes) = match channels {
        1 => (image.to_luma8().dimensions(), image.to_luma8().into_raw()),
        _ => (image.to_rgb8().dimensions(), image.to_rgb8().into_raw()),
    };
    let shape = [i64::from(size.1), i64::from(size.0), if channels == 1 { 1 } else { 3 }];
    Ok(Tensor::f_from_data_size(&bytes, &shape, Kind::Uint8)?.permute([2, 0, 1]).contiguous())
}

/// The file's pixels, `[1 or 3, height, width]`, bytes: grey stays grey.
pub fn read_as_is(path: &Path) -> Result<Tensor, Error> {
    let image = image::open(path).map_err(|e| Error::file(path, format!("not a readable image: {e}")))?;
    read(path, if image.color().has_color() { 3 } else { 1 })
}

/// Writes bytes `[channels, height, width]` (1 or 3 channels) as PNG, whole or not at all.
pub fn write_png(path: &Path, pixels: &Tensor) -> Result<(), Error> {
    let size = pixels.size();
    let (height, width) = (size[1] as u32, size[2] as u32);
    let bytes = bytes(&pixels.permute([1, 2, 0]))?;
    let image = match size[0] {
        1 => GrayImage::from_raw(width, height, bytes).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, bytes).map(DynamicImage::from),
    };
    let image = image.ok_or_else(|| Error::Shape { what: "the image", got: size, want: "1 or 3 channels".into() })?;
    let mut file = Cursor::new(Vec::new());
    image.write_to(&mut file, ImageFormat::Png).map_err(|e| Error::file(path, format!("cannot be encoded: {e}")))?;
    write_whole(path, file.get_ref())
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

/// The same with what `write` writes to the path that it is given.
pub fn write_by(path: &Path, write: impl FnOnce(&Path) -> Result<(), String>) -> Result<(), Error> {
    let failed = |cause: String| Error::file(path, format!("cannot be written: {cause}"));
    let told = |e: std::io::Error| failed(e.to_string());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(told)?;
    let file = tempfile::Builder::new().prefix(".unfinished-").tempfile_in(folder).map_err(told)?;
    write(file.path()).map_err(failed)?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).map_err(told)?;
    }
    file.persist(path).map_err(|e| told(e.error))?;
    Ok(())
}

/// Writes a tensor as .npy (f32), whole or not at all.
pub fn write_npy(path: &Path, x: &Tensor) -> Result<(), Error> {
    write_whole(path, &npy(x)?)
}

/// A tensor as the bytes of a .npy file (f32).
pub fn npy(x: &Tensor) -> Result<Vec<u8>, Error> {
    let shape: Vec<String> = x.size().iter().map(ToString::to_string).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({},), }}", shape.join(", "));
    // Magic, version and length take 10 bytes; the header ends in a newline and the data begin at a multiple of 64.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let values = Vec::<f32>::try_from(x.to_kind(Kind::Float).to_device(Device::Cpu).contiguous().view([-1]))?;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((length as u16).to_le_bytes());
    file.extend(format!("{header:<width$}\n", width = length - 1).as_bytes());
    file.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    Ok(file)
}
