//! Folders and pictures as people keep them.

use std::{fs, path::Path};

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use tch::Kind;
use tempfile::TempDir;
use tweedie::files::{
    data::AnyData,
    images::{self, Listing},
};

fn colours() -> RgbImage {
    RgbImage::from_fn(4, 3, |x, y| Rgb([(60 * x) as u8, (80 * y) as u8, (255 - 50 * x) as u8]))
}

fn save(path: &Path, format: ImageFormat) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    DynamicImage::from(colours()).save_with_format(path, format).unwrap();
}

/// Formats without losses give the same pixels, whatever their ending says.
#[test]
fn benchmark_sets_come_in_many_formats() {
    let place = TempDir::new().unwrap();
    let png = place.path().join("a.png");
    save(&png, ImageFormat::Png);
    let expected = images::read(&png, 3).unwrap();
    for (name, format) in [
        ("b.bmp", ImageFormat::Bmp),
        ("c.tif", ImageFormat::Tiff),
        ("d.TIFF", ImageFormat::Tiff),
        ("e.ppm", ImageFormat::Pnm),
        ("f.webp", ImageFormat::WebP),
    ] {
        let path = place.path().join(name);
        save(&path, format);
        assert_eq!(images::read(&path, 3).unwrap(), expected, "{name}");
    }
    assert_eq!(Listing::new(place.path(), false).unwrap().images.len(), 6);
    fs::write(place.path().join("g.avif"), "").unwrap();
    let refused = Listing::new(place.path(), false).unwrap_err().to_string();
    assert!(refused.ends_with("g.avif: is AVIF, which is not read: convert it to PNG"), "{refused}");
}

/// Grey is Pillow's `convert("L")`: 0.299 R + 0.587 G + 0.114 B in whole numbers.
#[test]
fn grey_of_colour_is_that_of_bt_601() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("a.png");
    save(&path, ImageFormat::Png);
    let grey = Vec::<u8>::try_from(images::read(&path, 1).unwrap().view([-1])).unwrap();
    let luma = |[r, g, b]: [u8; 3]| (0.299 * f64::from(r) + 0.587 * f64::from(g) + 0.114 * f64::from(b)).round() as u8;
    let expected: Vec<u8> = colours().pixels().map(|pixel| luma(pixel.0)).collect();
    assert_eq!(grey, expected);
    // Pillow 12.3: Image.new("RGB", (1, 1), (255, 0, 0)).convert("L") is 76, green 150, blue 29.
    for (pixel, value) in [([255, 0, 0], 76), ([0, 255, 0], 150), ([0, 0, 255], 29)] {
        DynamicImage::from(RgbImage::from_pixel(1, 1, Rgb(pixel))).save(&path).unwrap();
        assert_eq!(images::read(&path, 1).unwrap().int64_value(&[0, 0, 0]), value);
    }
}

/// EDM's --subdirs and folders of classes are one set; what is no image is counted and named.
#[test]
fn sets_are_read_from_their_subfolders_and_the_rest_is_named() {
    let place = TempDir::new().unwrap();
    for name in
        ["00000/000000.png", "00000/000001.png", "00001/001000.png", "__MACOSX/00000/._x.png", "00000/._000000.png"]
    {
        save(&place.path().join(name), ImageFormat::Png);
    }
    for name in ["notes.txt", "00001/labels.json"] {
        fs::write(place.path().join(name), "").unwrap();
    }
    let listing = Listing::new(place.path(), true).unwrap();
    assert_eq!(listing.images.len(), 3);
    let said = listing.passed_over().unwrap();
    assert_eq!(said, "2 of its entries are no images and left out: labels.json, notes.txt");
    let set = AnyData::at(place.path(), 3).load().unwrap();
    assert_eq!(set.pixels.size(), [3, 3, 3, 4]);
    let expected = images::read(&place.path().join("00001/001000.png"), 3).unwrap();
    assert_eq!(set.pixels.get(2), expected);
    let flat = Listing::new(&place.path().join("00001"), false).unwrap();
    assert_eq!(flat.passed_over().unwrap(), "1 of its entries is no image and left out: labels.json");
    let empty = Listing::new(&place.path().join("__MACOSX"), true).unwrap_err().to_string();
    assert!(empty.contains("holds no image (.png, .jpg, "), "{empty}");
    assert_eq!(set.pixels.kind(), Kind::Uint8);
}
