//! Pictures as cameras and other programs write them: the right pixels, or one sentence that says what to do.

use std::{fs, io::Cursor, path::PathBuf};

use image::{DynamicImage, ImageBuffer, ImageFormat, Luma, LumaA, Rgb, Rgba};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::files::{depth::Depth, images};

struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, contents: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, contents).unwrap();
        path
    }

    fn refused(&self, name: &str, contents: &[u8]) -> String {
        let told = images::read(&self.file(name, contents), 3).unwrap_err().to_string();
        assert!(told.contains(name) && told.lines().count() == 1, "{told}");
        told
    }
}

fn encoded(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
    let mut file = Cursor::new(Vec::new());
    image.into().write_to(&mut file, format).unwrap();
    file.into_inner()
}

/// The pixels of a channel, row by row.
fn channel(pixels: &Tensor, channel: i64) -> Vec<i64> {
    Vec::try_from(pixels.get(channel).to_kind(Kind::Int64).flatten(0, -1)).unwrap()
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from("tests/golden/photographs").join(name)
}

/// x = n / 32767.5 − 1 of a number n of 16 bits, n / 127.5 − 1 of 8.
#[test]
fn images_become_data_units_from_their_own_depth() {
    let folder = Folder::new();
    let numbers = [0u16, 1, 25_700, 25_827, 32_768, 65_535];
    let grey = ImageBuffer::from_fn(6, 1, |x, _| Luma([numbers[x as usize]]));
    for (name, format) in [("grey.png", ImageFormat::Png), ("grey.tif", ImageFormat::Tiff)] {
        let file = folder.file(name, &encoded(grey.clone(), format));
        let (x, depth) = images::read_units(&file, None).unwrap();
        assert_eq!((x.size(), depth), (vec![1, 1, 6], Depth::Sixteen));
        for (found, number) in Vec::<f32>::try_from(x.flatten(0, -1)).unwrap().into_iter().zip(numbers) {
            assert_eq!(f64::from(found), f64::from((f64::from(number) / 32_767.5 - 1.0) as f32), "{number}");
        }
        // Bytes, where they are wanted, are the nearest: 257 b is b, and 128 above it is half a step.
        assert_eq!(channel(&images::read(&file, 1).unwrap(), 0), [0, 0, 100, 100, 128, 255]);
        // And back: every number is the one that it was.
        images::write(&folder.0.path().join(format!("again-{name}")), &x, depth).unwrap();
        let again = image::open(folder.0.path().join(format!("again-{name}"))).unwrap();
        assert_eq!(again.as_luma16().unwrap().as_raw()[..], numbers, "{name}");
    }
    let colour = ImageBuffer::from_fn(2, 1, |x, _| Rgb([257 * x as u16, 65_535, 1_000]));
    let file = folder.file("colour.png", &encoded(colour, ImageFormat::Png));
    let (x, _) = images::read_units(&file, Some(3)).unwrap();
    images::write(&folder.0.path().join("again.png"), &x, Depth::Sixteen).unwrap();
    let again = image::open(folder.0.path().join("again.png")).unwrap();
    assert_eq!(again.as_rgb16().unwrap().as_raw()[..], [0, 65_535, 1_000, 257, 65_535, 1_000]);
    // BT.601: 0.299 · 257 + 0.587 · 65535 + 0.114 · 1000 = 38659.888.
    let (grey, _) = images::read_units(&file, Some(1)).unwrap();
    assert_eq!(channel(&Depth::Sixteen.pixels(&grey), 0)[1], 38_660);
    let bytes = ImageBuffer::from_fn(2, 1, |x, _| Luma([200 * x as u8]));
    let (x, depth) = images::read_units(&folder.file("bytes.png", &encoded(bytes, ImageFormat::Png)), None).unwrap();
    assert_eq!((depth, channel(&Depth::Eight.pixels(&x), 0)), (Depth::Eight, vec![0, 200]));
}

/// TIFF as tifffile writes it: real numbers of 32 and 64 bits, and 16 bits with the high byte first.
#[test]
fn tiff_of_real_numbers_has_them() {
    let folder = Folder::new();
    let pixels = Tensor::arange(12, (Kind::Float, Device::Cpu)).view([1, 3, 4]) / 11.0;
    for (name, channels) in [("real.tif", 1), ("real-64.tif", 1), ("real-colour.tif", 3)] {
        let (x, depth) = images::read_units(&golden(name), None).unwrap();
        assert_eq!((depth, x.size()), (Depth::Real, vec![channels, 3, 4]));
        let found = (&x + 1.0) / 2.0;
        for channel in 0..channels {
            // The rounding of 2 v − 1 in f32.
            let expected = if channel == 1 { 1.0 - &pixels } else { pixels.shallow_clone() };
            let apart = f64::try_from((found.narrow(0, channel, 1) - expected).abs().max()).unwrap();
            assert!(apart < 1e-7, "{name} {channel}: {apart}");
        }
        let path = folder.0.path().join(format!("again-{name}"));
        images::write(&path, &x, depth).unwrap();
        let (again, depth) = images::read_units(&path, None).unwrap();
        assert_eq!(depth, Depth::Real);
        assert!(f64::try_from((again - x).abs().max()).unwrap() < 1e-7, "{name}");
    }
    let (x, depth) = images::read_units(&golden("sixteen-big.tif"), None).unwrap();
    assert_eq!(depth, Depth::Sixteen);
    assert_eq!(channel(&depth.pixels(&x), 0), (0..12).map(|k| 5_000 * k).collect::<Vec<_>>());
    let told = folder.refused("wide.tif", &fs::read(golden("real-wide.tif")).unwrap());
    assert!(told.contains("holds real numbers from 0 to 11, and pixels are 0 … 1 there"), "{told}");
}

#[test]
fn a_palette_is_looked_up() {
    let pixels = images::read_as_is(&golden("palette.png")).unwrap();
    assert_eq!(pixels.size(), [3, 4, 8]);
    let line = |c: i64| channel(&pixels.narrow(1, 3, 1), c);
    assert_eq!(line(0), [255, 255, 0, 0, 0, 0, 77, 77]);
    assert_eq!(line(1), [0, 0, 255, 255, 0, 0, 77, 77]);
    assert_eq!(line(2), [0, 0, 0, 0, 255, 255, 77, 77]);
}

#[test]
fn opaque_alpha_is_dropped_and_transparent_pixels_are_refused() {
    let folder = Folder::new();
    let colour =
        |alpha: u8| ImageBuffer::from_fn(2, 1, move |x, _| Rgba([10, 20, 30, if x == 0 { 255 } else { alpha }]));
    let pixels = images::read_as_is(&folder.file("a.png", &encoded(colour(255), ImageFormat::Png))).unwrap();
    assert_eq!([0, 1, 2].map(|c| channel(&pixels, c)), [vec![10, 10], vec![20, 20], vec![30, 30]]);
    let told = folder.refused("b.png", &encoded(colour(254), ImageFormat::Png));
    assert!(told.ends_with("has transparent pixels, which have no colour of their own: put it on a background first"));
    let grey = ImageBuffer::from_fn(2, 1, |_, _| LumaA([40u8, 255]));
    let pixels = images::read_as_is(&folder.file("c.png", &encoded(grey, ImageFormat::Png))).unwrap();
    assert_eq!((pixels.size()[0], channel(&pixels, 0)), (1, vec![40, 40]));
}

/// 16 × 8 pixels, the left half dark and the right half bright.
fn halves() -> Vec<u8> {
    encoded(ImageBuffer::from_fn(16, 8, |x, _| Luma([if x < 8 { 40u8 } else { 200 }])), ImageFormat::Jpeg)
}

/// The same file with an EXIF segment that holds nothing but an orientation.
fn oriented(orientation: u8) -> Vec<u8> {
    let mut exif = b"\xFF\xE1\x00\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
    exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
    let jpeg = halves();
    [&jpeg[..2], &exif, &jpeg[2..]].concat()
}

/// Blocks of one grey survive a JPEG up to the rounding of their mean.
const JPEG: i64 = 3;

#[test]
fn a_photograph_is_the_right_way_up() {
    let folder = Folder::new();
    // Where the dark half lies for a viewer, by the number in the file [EXIF 2.3, tag 274].
    for (orientation, size, dark) in
        [(1, [1, 8, 16], "left"), (3, [1, 8, 16], "right"), (6, [1, 16, 8], "top"), (8, [1, 16, 8], "bottom")]
    {
        let pixels = images::read_as_is(&folder.file("photo.jpg", &oriented(orientation))).unwrap();
        assert_eq!(pixels.size(), size, "{orientation}");
        let (dim, first) = match dark {
            "left" => (2, 0),
            "right" => (2, 8),
            "top" => (1, 0),
            _ => (1, 8),
        };
        let half = pixels.narrow(dim, first, 8).to_kind(Kind::Int64);
        assert!(i64::try_from((half - 40).abs().max()).unwrap() <= JPEG, "{orientation}: {dark}");
    }
}

#[test]
fn grey_and_printers_jpegs_have_their_colours() {
    let folder = Folder::new();
    let pixels = images::read_as_is(&folder.file("grey.jpg", &halves())).unwrap();
    assert_eq!(pixels.size(), [1, 8, 16]);
    let three = images::read(&folder.file("grey.jpg", &halves()), 3).unwrap();
    assert!(three.equal(&pixels.expand([3, 8, 16], false)));
    // White, cyan, yellow and half black ink, as Pillow reads it.
    let inks = images::read(&golden("cmyk.jpg"), 3).unwrap();
    for (i, colour) in [[255, 255, 255], [0, 255, 255], [255, 255, 0], [127, 127, 127]].into_iter().enumerate() {
        for (c, expected) in colour.into_iter().enumerate() {
            let found = channel(&inks, c as i64)[8 * 64 + 8 + 16 * i];
            assert!((found - expected).abs() <= JPEG, "{i} {c}: {found}");
        }
    }
}

/// What Pillow reads, by libjpeg-turbo: every byte.
#[test]
fn jpegs_have_the_bytes_that_libjpeg_turbo_gives() {
    for name in [
        "444",
        "422",
        "420",
        "440",
        "411",
        "420-progressive",
        "420-wide",
        "420-narrow",
        "grey",
        "rgb",
        "cmyk",
        "inks",
        "ycck",
    ] {
        let [found, expected] =
            ["jpg", "png"].map(|ending| images::read_as_is(&golden(&format!("{name}.{ending}"))).unwrap());
        assert_eq!(found.size(), expected.size(), "{name}");
        let apart = (found.to_kind(Kind::Int64) - expected.to_kind(Kind::Int64)).abs();
        assert_eq!(
            i64::try_from(apart.max()).unwrap(),
            0,
            "{name}: mean {}",
            apart.to_kind(Kind::Double).mean(Kind::Double)
        );
    }
}

/// The frame's header says what a decoder must know; each fault in it is a sentence, and none ends the program.
#[test]
fn jpegs_that_cannot_be_decoded_are_refused_for_their_reason() {
    let folder = Folder::new();
    let whole = fs::read(golden("420.jpg")).unwrap();
    let frame = whole.windows(2).position(|pair| pair == [255, 0xC0]).unwrap();
    let scan = whole.windows(2).position(|pair| pair == [255, 0xDA]).unwrap();
    for (at, byte, told) in [
        (frame + 1, 0xC3, "Unsupported JPEG process: SOF type 0xc3"),
        (frame + 1, 0xC9, "arithmetic coding"),
        (frame + 4, 12, "Unsupported JPEG data precision 12"),
        (frame + 9, 2, "ogus"),
        (scan + 4, 9, "ogus"),
    ] {
        let mut broken = whole.clone();
        broken[at] = byte;
        let found = folder.refused("broken.jpg", &broken);
        assert!(found.contains("is not a readable JPEG file (") && found.contains(told), "{found}");
    }
    let large = [&whole[..frame + 5], &[0xFF, 0xDC, 0xFF, 0xDC][..], &whole[frame + 9..]].concat();
    let told = folder.refused("large.jpg", &large);
    assert!(told.contains("has 65500×65500 pixels, more than"), "{told}");
}

/// Any byte of a JPEG file may be wrong: it is read as libjpeg-turbo reads it, or refused.
#[test]
fn damaged_jpegs_are_read_or_refused() {
    let folder = Folder::new();
    for name in ["420.jpg", "420-progressive.jpg", "ycck.jpg"] {
        let whole = fs::read(golden(name)).unwrap();
        for at in (2..whole.len()).step_by(7) {
            let mut broken = whole.clone();
            broken[at] ^= 0xFF;
            let path = folder.file("damaged.jpg", &broken);
            if let Err(e) = images::read(&path, 3) {
                assert!(e.to_string().contains("damaged.jpg") && e.to_string().lines().count() == 1, "{e}");
            }
        }
    }
}

#[test]
fn a_wrong_ending_does_not_matter() {
    let folder = Folder::new();
    let pixels = images::read_as_is(&folder.file("photo.png", &halves())).unwrap();
    assert_eq!(pixels.size(), [1, 8, 16]);
}

#[test]
fn files_that_are_cut_off_are_refused() {
    let folder = Folder::new();
    let noise = |x: u32, y: u32| Rgb([(x * 37 + y * 91) as u8, (x * y) as u8, (x ^ (y * 13)) as u8]);
    let image = ImageBuffer::from_fn(64, 64, noise);
    for (name, format) in [("a.jpg", ImageFormat::Jpeg), ("a.png", ImageFormat::Png), ("a.webp", ImageFormat::WebP)] {
        let whole = encoded(image.clone(), format);
        assert!(images::read(&folder.file(name, &whole), 3).is_ok(), "{name}");
        for part in [0, 1, 20, whole.len() / 2, whole.len() * 9 / 10] {
            folder.refused(name, &whole[..part]);
        }
    }
    let jpeg = encoded(image, ImageFormat::Jpeg);
    let told = folder.refused("b.jpg", &jpeg[..jpeg.len() / 2]);
    assert!(told.ends_with("is cut off before the end of its JPEG data: fetch it again"), "{told}");
    // The small picture in EXIF is whole, the picture is not; and what follows the end does no harm.
    let exif = [b"\xFF\xE1\x00\x08Exif".as_slice(), b"\xFF\xD9"].concat();
    folder.refused("c.jpg", &[&jpeg[..2], &exif, &jpeg[2..jpeg.len() / 2]].concat());
    assert!(images::read(&folder.file("d.jpg", &[&jpeg, b"more".as_slice()].concat()), 3).is_ok());
}

#[test]
fn what_is_no_image_is_refused() {
    let folder = Folder::new();
    folder.refused("text.png", b"not an image at all");
    let told = images::read(&folder.0.path().join("none.png"), 3).unwrap_err().to_string();
    assert!(told.contains("none.png: cannot be read"), "{told}");
}

fn chunk(kind: &[u8], data: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(data);
    [&(data.len() as u32).to_be_bytes(), kind, data, &sum.sum().to_be_bytes()].concat()
}

#[test]
fn a_small_file_that_would_fill_the_memory_is_refused_before_it_does() {
    let side = 60_000u32.to_be_bytes();
    let header = [&side[..], &side, &[8, 2, 0, 0, 0]].concat();
    let bomb = [b"\x89PNG\r\n\x1a\n".to_vec(), chunk(b"IHDR", &header), chunk(b"IDAT", &[0x78, 0x9C, 1])].concat();
    let told = Folder::new().refused("bomb.png", &bomb);
    assert!(told.ends_with("has 60000×60000 pixels, more than 134217728: make a smaller copy of it"), "{told}");
}

#[test]
fn channels_that_are_no_colours_are_drawn_beside_each_other() {
    let folder = Folder::new();
    let x = Tensor::arange(2 * 3 * 4, (Kind::Uint8, Device::Cpu)).view([2, 3, 4]);
    let path = folder.0.path().join("two.png");
    images::write_png(&path, &x).unwrap();
    let drawn = images::read_as_is(&path).unwrap();
    assert_eq!(drawn.size(), [1, 3, 8]);
    assert!(drawn.narrow(2, 0, 4).equal(&x.narrow(0, 0, 1)) && drawn.narrow(2, 4, 4).equal(&x.narrow(0, 1, 1)));
}
