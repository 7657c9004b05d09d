//! TIFF of grey real numbers, which the crate `image` does not read, and pictures written as TIFF.

use std::io::Cursor;

use image::{DynamicImage, Rgb32FImage};
use tch::Tensor;
use tiff::{
    ColorType, TiffResult,
    decoder::{Decoder, DecodingResult, Limits},
    encoder::{TiffEncoder, colortype},
};

use super::depth::Depth;

/// The picture, if its numbers are grey and real, as three equal channels, and if `limit` lets its width and height.
pub(super) fn grey_real(
    contents: &[u8],
    limit: fn(u64, u64) -> Result<(), String>,
) -> Option<Result<DynamicImage, String>> {
    let mut file = Decoder::new(Cursor::new(contents)).ok()?.with_limits(Limits::unlimited());
    if !matches!(file.colortype(), Ok(ColorType::Gray(32 | 64))) {
        return None;
    }
    let (width, height) = file.dimensions().ok()?;
    if let Err(cause) = limit(u64::from(width), u64::from(height)) {
        return Some(Err(cause));
    }
    let values = match file.read_image() {
        Ok(DecodingResult::F32(values)) => values,
        Ok(DecodingResult::F64(values)) => values.into_iter().map(|value| value as f32).collect(),
        Ok(_) => return None,
        Err(e) => return Some(Err(e.to_string())),
    };
    let three = values.into_iter().flat_map(|value| [value; 3]).collect();
    let image = Rgb32FImage::from_raw(width, height, three).map(DynamicImage::from);
    Some(image.ok_or_else(|| "rows are missing".to_owned()))
}

/// The TIFF file of a picture of 1 or 3 channels in data units, `[channels, height, width]`.
pub(super) fn encode(x: &Tensor, depth: Depth) -> Result<Vec<u8>, String> {
    let size = x.size();
    let ([channels @ (1 | 3), height, width], true) = (&size[..], x.numel() > 0) else {
        return Err(format!("{size:?} is no picture of one or three channels"));
    };
    let numbers = match depth {
        Depth::Real => ((x + 1.0) / 2.0).clamp(0.0, 1.0),
        _ => depth.pixels(x),
    };
    let numbers = Vec::<f32>::try_from(numbers.to_kind(tch::Kind::Float).permute([1, 2, 0]).contiguous().view([-1]));
    let numbers = numbers.map_err(|e| e.to_string())?;
    let mut file = Cursor::new(Vec::new());
    written(&mut file, (&numbers, *channels == 3, depth), (*width as u32, *height as u32))
        .map_err(|e| e.to_string())?;
    Ok(file.into_inner())
}

fn written(
    file: &mut Cursor<Vec<u8>>,
    (numbers, coloured, depth): (&[f32], bool, Depth),
    (width, height): (u32, u32),
) -> TiffResult<()> {
    let mut tiff = TiffEncoder::new(file)?;
    let bytes = || numbers.iter().map(|number| *number as u8).collect::<Vec<_>>();
    let words = || numbers.iter().map(|number| *number as u16).collect::<Vec<_>>();
    match (depth, coloured) {
        (Depth::Eight, false) => tiff.write_image::<colortype::Gray8>(width, height, &bytes()),
        (Depth::Eight, true) => tiff.write_image::<colortype::RGB8>(width, height, &bytes()),
        (Depth::Sixteen, false) => tiff.write_image::<colortype::Gray16>(width, height, &words()),
        (Depth::Sixteen, true) => tiff.write_image::<colortype::RGB16>(width, height, &words()),
        (Depth::Real, false) => tiff.write_image::<colortype::Gray32Float>(width, height, numbers),
        (Depth::Real, true) => tiff.write_image::<colortype::RGB32Float>(width, height, numbers),
    }
}
