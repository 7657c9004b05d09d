//! JPEG, as libjpeg-turbo decodes it: the programs that published figures read their images by it, and a decoder that
//! rounds otherwise, or enlarges chroma otherwise, moves FID.
//!
//! `mozjpeg` is a libjpeg-turbo whose encoder was changed; its decoder, without SIMD, gives the bytes of Pillow's.

use std::panic::{self, AssertUnwindSafe};

use image::{DynamicImage, GrayImage, RgbImage, metadata::Orientation};
use mozjpeg::{ColorSpace, Decompress};

/// Marker of the segment with EXIF.
const EXIF: u8 = 0xE1;
/// Marker of the start of a scan.
const SCAN: u8 = 0xDA;

/// Refuses an image by its width and height.
type Limit = fn(u64, u64) -> Result<(), String>;

/// Pixels of a JPEG file as they lie in it, grey or RGB, if `limit` lets it; colour profiles are ignored, as Pillow does. An
/// error is a sentence.
pub(super) fn decode(jpeg: &[u8], limit: Limit) -> Result<DynamicImage, String> {
    if !ends(jpeg) {
        return Err("is cut off before the end of its JPEG data: fetch it again".to_owned());
    }
    // libjpeg's errors unwind from its C code, which is compiled for that.
    let decoded = panic::catch_unwind(AssertUnwindSafe(|| decompress(jpeg, limit)));
    decoded.unwrap_or_else(|cause| Err(unreadable(cause.downcast_ref::<String>().map_or("damaged", String::as_str))))
}

fn decompress(jpeg: &[u8], limit: Limit) -> Result<DynamicImage, String> {
    let failed = |e: std::io::Error| unreadable(&e.to_string());
    let file = Decompress::new_mem(jpeg).map_err(failed)?;
    let (width, height) = file.size();
    limit(width as u64, height as u64)?;
    let wanted = match file.color_space() {
        ColorSpace::JCS_GRAYSCALE => ColorSpace::JCS_GRAYSCALE,
        ColorSpace::JCS_YCbCr | ColorSpace::JCS_RGB => ColorSpace::JCS_RGB,
        ColorSpace::JCS_CMYK | ColorSpace::JCS_YCCK => ColorSpace::JCS_CMYK,
        _ => return Err(unreadable("its channels are neither grey, RGB, YCbCr, CMYK nor YCCK")),
    };
    let mut lines = file.to_colorspace(wanted).map_err(failed)?;
    let bytes: Vec<u8> = lines.read_scanlines().map_err(failed)?;
    lines.finish().map_err(failed)?;
    let (width, height) = (width as u32, height as u32);
    let image = match wanted {
        ColorSpace::JCS_GRAYSCALE => GrayImage::from_raw(width, height, bytes).map(DynamicImage::from),
        ColorSpace::JCS_RGB => RgbImage::from_raw(width, height, bytes).map(DynamicImage::from),
        _ => RgbImage::from_raw(width, height, light(&bytes)).map(DynamicImage::from),
    };
    image.ok_or_else(|| unreadable("rows are missing"))
}

fn unreadable(cause: &str) -> String {
    let cause = cause.trim_start_matches("libjpeg fatal error: ");
    format!("is not a readable JPEG file ({cause}): convert it to PNG, or fetch it again")
}

/// RGB of printers' inks: a channel's light is what black and that ink let through, by the whole numbers of Pillow. JPEG files
/// hold 255 − ink, as Adobe's programs write them.
fn light(inks: &[u8]) -> Vec<u8> {
    let product = |a: u8, b: u8| {
        let product = u32::from(a) * u32::from(b) + 128;
        (((product >> 8) + product) >> 8) as u8
    };
    let pixel = |pixel: &[u8]| [0, 1, 2].map(|channel| pixel[3] - product(255 - pixel[channel], pixel[3]));
    inks.chunks_exact(4).flat_map(pixel).collect()
}

/// The orientation that a file's EXIF says.
pub(super) fn orientation(jpeg: &[u8]) -> Orientation {
    let exif = segments(jpeg).find_map(|(kind, rest)| {
        let length = usize::from(u16::from_be_bytes([*rest.first()?, *rest.get(1)?]));
        rest.get(2..length)?.strip_prefix(b"Exif\0\0").filter(|_| kind == EXIF)
    });
    exif.and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms)
}

/// Whether a file has its end mark: a decoder paints what is missing grey.
///
/// Segments are skipped, since the small picture within EXIF has an end mark as well; in the data after them the byte 255 is
/// always followed by another, so that the mark cannot occur by chance.
fn ends(jpeg: &[u8]) -> bool {
    let scan = segments(jpeg).find(|(kind, _)| *kind == SCAN);
    scan.is_some_and(|(_, data)| data.windows(2).any(|pair| pair == [255, 0xD9]))
}

/// Segments up to the first scan: marker, and the file from its length on.
fn segments(jpeg: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut at = 2;
    std::iter::from_fn(move || {
        // Any number of bytes 255 may fill the space between segments.
        while jpeg.get(at..at + 2) == Some(&[255, 255]) {
            at += 1;
        }
        let &[255, kind, high, low] = jpeg.get(at..at + 4)? else { return None };
        let rest = &jpeg[at + 2..];
        // All that follows the start of a scan is data.
        at = if kind == SCAN { jpeg.len() } else { at + 2 + usize::from(u16::from_be_bytes([high, low])) };
        Some((kind, rest))
    })
}
