//! `tweedie evaluate`, and the files that it reads and writes.

use std::{collections::BTreeMap, fs, fs::File, io::Write, path::Path};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tweedie::{
    evaluation::{
        features::{Probe, Published, Resize},
        metrics::{Moments, Statistics},
    },
    files::{
        data::{AnyData, Cifar},
        depth::Depth,
        images, npz,
    },
    models::checkpoint::safetensors,
    networks::{EfficientNet, Inception},
};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::{
    cli::Place,
    features::{pixels, weights},
    metrics::uniform,
};

/// A .npz file of these arrays, compressed or not.
fn save(place: &Place, name: &str, arrays: &[(&str, &Tensor)], method: CompressionMethod) {
    let mut zip = ZipWriter::new(File::create(place.path(name)).unwrap());
    for (name, x) in arrays {
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default().compression_method(method)).unwrap();
        zip.write_all(&npz::npy(x).unwrap()).unwrap();
    }
    zip.finish().unwrap();
}

/// As ADM's evaluator has images: `[count, height, width, channels]`.
fn last(images: &Tensor) -> Tensor {
    images.permute([0, 2, 3, 1]).contiguous()
}

#[test]
fn arrays_come_back_as_they_were_written() {
    let place = Place::new();
    let x = (uniform(1, 24) - 0.5).view([2, 3, 4]);
    let arrays = [
        ("x", &x),
        ("y", &x.to_kind(Kind::Float)),
        ("i", &Tensor::from_slice(&[1i64, -2])),
        ("n", &Tensor::from(7i64)),
        ("b", &pixels(2, &[5])),
    ];
    for method in [CompressionMethod::Stored, CompressionMethod::Deflated] {
        save(&place, "a.npz", &arrays, method);
        let read = npz::read(&place.path("a.npz"), |name| name != "y").unwrap();
        assert_eq!(read.keys().collect::<Vec<_>>(), ["b", "i", "n", "x"]);
        for (name, x) in arrays.iter().filter(|(name, _)| *name != "y") {
            assert_eq!(read[*name], **x);
        }
    }
    // NumPy's own bytes of [[0, 1, 2], [3, 4, 5]] with columns first, and of a text, which is no tensor.
    let write = |header: &str, data: &[u8]| {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        let mut zip = ZipWriter::new(File::create(place.path("f.npz")).unwrap());
        zip.start_file("f.npy", SimpleFileOptions::default().compression_method(CompressionMethod::Stored)).unwrap();
        zip.write_all(&[&bytes[..], header.as_bytes(), data].concat()).unwrap();
        zip.finish().unwrap();
        npz::read(&place.path("f.npz"), |_| true)
    };
    let columns = write("{'descr': '|u1', 'fortran_order': True, 'shape': (2, 3), }\n", &[0, 3, 1, 4, 2, 5]).unwrap();
    assert_eq!(columns["f"], Tensor::arange(6, (Kind::Uint8, Device::Cpu)).view([2, 3]));
    assert!(write("{'descr': '<U3', 'fortran_order': False, 'shape': (), }\n", &[0; 12]).unwrap().is_empty());
    for (header, data) in [
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }\n", &[0u8; 5][..]),
        ("{'descr': '<f8', 'fortran_order': False, 'shape': (9223372036854775807, 9223372036854775807), }\n", &[]),
        ("{'descr': '|u1', 'fortran_order': False, 'shape': (-1,), }\n", &[0]),
        ("{'descr': '|u1'}\n", &[0]),
    ] {
        let told = write(header, data).unwrap_err().to_string();
        assert!(told.contains("f.npz: not a whole .npz file (f: "), "{told}");
    }
}

/// The bytes of a .npy file.
fn npy(descr: &str, order: &str, shape: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': {shape}, }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// Every type and byte order of NumPy's that a tensor can hold.
#[test]
fn arrays_of_every_byte_order_have_their_numbers() {
    let place = Place::new();
    let read = |descr: &str, data: &[u8]| {
        fs::write(place.path("x.npy"), npy(descr, "False", "(1,)", data)).unwrap();
        npz::read_npy(&place.path("x.npy"))
    };
    for (descr, data, expected) in [
        ("<f8", &1.5f64.to_le_bytes()[..], 1.5),
        (">f8", &1.5f64.to_be_bytes(), 1.5),
        (">f4", &(-0.75f32).to_be_bytes(), -0.75),
        ("<f2", &[0x00, 0x3E], 1.5),
        (">f2", &[0x3E, 0x00], 1.5),
        (">i8", &(-7i64).to_be_bytes(), -7.0),
        (">i4", &(-7i32).to_be_bytes(), -7.0),
        ("<i2", &(-7i16).to_le_bytes(), -7.0),
        (">i2", &(-7i16).to_be_bytes(), -7.0),
        ("|i1", &(-7i8).to_le_bytes(), -7.0),
        ("<u2", &65_535u16.to_le_bytes(), 65_535.0),
        (">u2", &65_535u16.to_be_bytes(), 65_535.0),
        ("<u4", &u32::MAX.to_le_bytes(), 4_294_967_295.0),
        (">u4", &u32::MAX.to_be_bytes(), 4_294_967_295.0),
        (">u8", &12u64.to_be_bytes(), 12.0),
        ("|b1", &[1], 1.0),
    ] {
        let found = read(descr, data).unwrap().to_kind(Kind::Double);
        assert_eq!(Vec::<f64>::try_from(found).unwrap(), [expected], "{descr}");
    }
    for (descr, parts) in [
        ("<c8", [1.0f32.to_le_bytes(), (-2.0f32).to_le_bytes()].concat()),
        (">c8", [1.0f32.to_be_bytes(), (-2.0f32).to_be_bytes()].concat()),
        (">c16", [1.0f64.to_be_bytes(), (-2.0f64).to_be_bytes()].concat()),
    ] {
        let found = read(descr, &parts).unwrap().view_as_real().to_kind(Kind::Double).view([-1]);
        assert_eq!(Vec::<f64>::try_from(found).unwrap(), [1.0, -2.0], "{descr}");
    }
    let told = read("<u8", &u64::MAX.to_le_bytes()).unwrap_err().to_string();
    assert!(told.contains("18446744073709551615 is larger than any number that a tensor holds"), "{told}");
    let told = read("<U1", &[0; 4]).unwrap_err().to_string();
    assert!(told.contains("x.npy: holds text or objects: an array of numbers is wanted"), "{told}");
}

/// Statistics as a machine of the other byte order, or a program of columns first, stores them.
#[test]
fn statistics_are_read_in_any_byte_order_and_order_of_axes() {
    let place = Place::new();
    let mut zip = ZipWriter::new(File::create(place.path("s.npz")).unwrap());
    let numbers = |values: &[f64]| values.iter().flat_map(|value| value.to_be_bytes()).collect::<Vec<u8>>();
    let files = [
        ("mu", npy(">f8", "False", "(2,)", &numbers(&[1.0, 2.0]))),
        ("sigma", npy(">f8", "True", "(2, 2)", &numbers(&[4.0, 1.0, 1.0, 3.0]))),
        ("count", npy(">i8", "False", "()", &50_000i64.to_be_bytes())),
    ];
    for (name, contents) in files {
        zip.start_file(format!("{name}.npy"), SimpleFileOptions::default()).unwrap();
        zip.write_all(&contents).unwrap();
    }
    zip.finish().unwrap();
    let Statistics { count, mean, covariance } = Published::read(&place.path("s.npz")).unwrap().unwrap().statistics;
    assert_eq!(count, Some(50_000));
    assert_eq!(Vec::<f64>::try_from(mean).unwrap(), [1.0, 2.0]);
    assert_eq!(Vec::<f64>::try_from(covariance.flatten(0, -1)).unwrap(), [4.0, 1.0, 1.0, 3.0]);
}

/// Sets in .npy: channels last, first and none.
#[test]
fn arrays_of_bytes_are_sets_of_images() {
    let place = Place::new();
    let all = pixels(3, &[4, 3, 8, 6]);
    let load = |x: &Tensor| {
        fs::write(place.path("set.npy"), npz::npy(x).unwrap()).unwrap();
        AnyData::at(&place.path("set.npy"), 3).load()
    };
    assert_eq!(load(&all).unwrap().pixels, all);
    assert_eq!(load(&last(&all)).unwrap().pixels, all);
    assert_eq!(load(&all.select(1, 0)).unwrap().pixels, all.narrow(1, 0, 1));
    save(&place, "first.npz", &[("images", &all)], CompressionMethod::Stored);
    assert_eq!(AnyData::at(&place.path("first.npz"), 3).load().unwrap().pixels, all);
    for (x, told) in [
        (all.to_kind(Kind::Float), "is of Float: images of a set are bytes, 0 … 255 (uint8)"),
        (all.narrow(3, 0, 3), "is [4, 3, 8, 3], whose channels may be the second or the last: transpose it"),
        (all.narrow(1, 0, 2), "is [4, 2, 8, 6]: [count, height, width, 1 or 3] or"),
        (last(&all).get(0), "is [8, 6, 3]: [count, height, width, 1 or 3] or"),
        (all.narrow(0, 0, 0), "is [0, 3, 8, 6]: "),
    ] {
        let found = load(&x).unwrap_err().to_string();
        assert!(found.contains("set.npy: ") && found.contains(told), "{found}");
    }
}

/// Each image of a set of many sizes is resized on its own: the features are those of the images one by one.
#[test]
fn images_of_many_sizes_are_measured_by_a_resize_that_is_named() {
    let place = Place::new();
    safetensors::write(&place.path("lite.safetensors"), &weights(EfficientNet::new), &BTreeMap::new()).unwrap();
    fs::create_dir(place.path("set")).unwrap();
    let sizes = [[3, 40, 30], [3, 40, 30], [3, 25, 60], [1, 20, 20]];
    for (i, size) in sizes.iter().enumerate() {
        images::write_png(&place.path(&format!("set/{i}.png")), &pixels(i as u64, size)).unwrap();
    }
    let network = ["--network", "efficientnet-lite0:lite.safetensors"];
    let complaint = place.complaint(&[&["evaluate", "set"], &network[..]].concat());
    let told =
        "2.png: is [3, 25, 60], unlike [3, 40, 30] of the files before: --resize names a way for images of many sizes";
    assert!(complaint.ends_with(told), "{complaint}");
    images::write(&place.path("set/3.png"), &images::from_bytes(&pixels(3, &sizes[3])), Depth::Sixteen).unwrap();
    for batch in ["1", "3", "50"] {
        let arguments = ["set", "--resize", "clean", "--batch", batch, "--save-statistics", "s.npz"];
        let (_, error) = evaluate(&place, &[&arguments[..], &network].concat());
        let told = "images are of many sizes: each is resized to the network's by clean on its own";
        assert!(error.contains(told), "{error}");
        assert!(error.contains("1 image has more than 8 bits: the nearest bytes are measured"), "{error}");
        let found = Published::read(&place.path("s.npz")).unwrap().unwrap().statistics;
        let name = format!("efficientnet-lite0:{}", place.path("lite.safetensors").display());
        let probe = Probe::open(&name, Some(Resize::Clean), None, Device::Cpu).unwrap();
        let alone = sizes.iter().enumerate().map(|(i, size)| probe.take(&pixels(i as u64, size).unsqueeze(0)).unwrap());
        let expected = Tensor::cat(&alone.map(|taken| taken.features).collect::<Vec<_>>(), 0).to_kind(Kind::Double);
        let apart = (found.mean - expected.mean_dim([0i64].as_slice(), false, None)).abs().max();
        // Kernels of libtorch round a batch and an image alone differently.
        assert!(f64::try_from(apart).unwrap() < 1e-5 * f64::try_from(expected.abs().max()).unwrap());
    }
}

#[test]
fn archives_arrays_and_cifar_hold_the_same_images() {
    let place = Place::new();
    let all = pixels(3, &[4, 3, 32, 32]);
    let mut zip = ZipWriter::new(File::create(place.path("all.zip")).unwrap());
    fs::create_dir(place.path("all")).unwrap();
    for (i, image) in all.split(1, 0).iter().enumerate() {
        let path = place.path(&format!("all/{i}.png"));
        images::write_png(&path, &image.squeeze_dim(0)).unwrap();
        zip.start_file(format!("0000{i}/img.png"), SimpleFileOptions::default()).unwrap();
        zip.write_all(&fs::read(path).unwrap()).unwrap();
    }
    zip.start_file("dataset.json", SimpleFileOptions::default()).unwrap();
    zip.finish().unwrap();
    save(
        &place,
        "all.npz",
        &[("arr_0", &last(&all)), ("arr_1", &Tensor::from_slice(&[0i64; 4]))],
        CompressionMethod::Stored,
    );
    let record = |i: i64| [vec![i as u8], images::bytes(&all.get(i)).unwrap()].concat();
    fs::create_dir(place.path("cifar")).unwrap();
    for (name, records) in [("data_batch_1.bin", [0, 1]), ("data_batch_2.bin", [2, 3])] {
        fs::write(place.path("cifar").join(name), records.map(record).concat()).unwrap();
    }
    let same = |data: AnyData| {
        let images = data.load().unwrap();
        assert_eq!(images.pixels, all, "{data:?}");
        images.labels
    };
    for name in ["all", "all.zip", "all.npz"] {
        assert!(same(AnyData::at(&place.path(name), 3)).is_none());
    }
    let labels = same(AnyData::Cifar(Cifar { path: place.path("cifar") })).unwrap();
    assert_eq!(labels, Tensor::from_slice(&[0i64, 1, 2, 3]));
    // CIFAR-100 has two labels, the finer last.
    let finer = [vec![9, 77], images::bytes(&all.get(0)).unwrap()].concat();
    fs::write(place.path("train.bin"), finer).unwrap();
    assert_eq!(AnyData::at(&place.path("train.bin"), 3).load().unwrap().labels.unwrap(), Tensor::from_slice(&[77i64]));
    fs::write(place.path("train.bin"), [0; 100]).unwrap();
    let told = AnyData::at(&place.path("train.bin"), 3).load().unwrap_err().to_string();
    assert!(told.contains("no binary file of CIFAR"), "{told}");
}

/// Runs `evaluate` with --json; the record, and what was said on standard error.
fn evaluate(place: &Place, arguments: &[&str]) -> (Value, String) {
    let output = place.run(&[&["evaluate", "--json"], arguments].concat());
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{arguments:?}: {error}");
    (serde_json::from_slice(&output.stdout).unwrap(), error)
}

/// 24 images of 8×8, with another like the first, and 20 others.
fn sets(place: &Place) {
    let images = pixels(4, &[24, 3, 8, 8]);
    let twice = Tensor::cat(&[&images, &images.narrow(0, 0, 1)], 0);
    save(place, "images.npz", &[("arr_0", &last(&twice))], CompressionMethod::Stored);
    save(place, "others.npz", &[("arr_0", &last(&pixels(5, &[20, 3, 8, 8])))], CompressionMethod::Deflated);
}

#[test]
fn every_figure_has_its_own_name_spread_and_warnings() {
    let place = Place::new();
    safetensors::write(&place.path("lite.safetensors"), &weights(EfficientNet::new), &BTreeMap::new()).unwrap();
    sets(&place);
    let network = ["--network", "efficientnet-lite0:lite.safetensors"];
    let all = [&["images.npz", "--reference", "others.npz", "--bootstrap", "2"], &network[..]].concat();
    let metrics = ["--metrics", "fid,kid,is,prdc,infinity,cmmd,mind", "--parts", "2", "--subset-size", "10"];
    let (record, error) = evaluate(&place, &[&all[..], &metrics].concat());
    let figures = &record["figures"];
    for (name, said) in [
        ("frechet", "Fréchet distance in the 1280 features of EfficientNet-Lite0 (not FID)"),
        ("kid", "kernel distance in EfficientNet-Lite0"),
        ("is", "(not IS)"),
    ] {
        assert!(figures[name]["name"].as_str().unwrap().contains(said), "{figures}");
        assert!(figures[name]["value"].is_f64() && figures[name]["spread"].is_f64(), "{figures}");
    }
    for name in ["infinity", "precision", "recall", "density", "coverage", "cmmd", "mind"] {
        assert!(figures[name]["value"].is_f64(), "{name}: {figures}");
    }
    assert_eq!(record["frechet_distance"], figures["frechet"]["value"]);
    assert_eq!((record["images"].as_i64(), record["reference"].as_i64()), (Some(25), Some(20)));
    assert_eq!((&record["resize"], record["features"].as_i64()), (&Value::from("clean"), Some(1280)));
    for told in ["1 of 25 images are the same", "25 images for 1280 features"] {
        assert!(error.contains(told) && record["warnings"].to_string().contains(told), "{error}");
    }
    // What is saved of the reference is a reference, and the distance does not depend on how it came.
    let saved = [&["others.npz", "--save-statistics", "statistics.npz"], &network[..]].concat();
    evaluate(&place, &saved);
    let published = Published::read(&place.path("statistics.npz")).unwrap().unwrap();
    assert_eq!((published.statistics.count, published.statistics.dimensions()), (Some(20), 1280));
    let from = |reference: &str, more: &[&str]| {
        evaluate(&place, &[&["images.npz", "--reference", reference, "--bootstrap", "0"], &network[..], more].concat())
            .0
    };
    assert_eq!(from("statistics.npz", &[])["frechet_distance"], record["frechet_distance"]);
    assert_eq!(from("others.npz", &["--batch", "50"])["frechet_distance"], record["frechet_distance"]);
    let complaint = place.complaint(
        &[
            &["evaluate", "images.npz", "--reference", "statistics.npz", "--metrics", "kid", "--subset-size", "9"],
            &network[..],
        ]
        .concat(),
    );
    assert!(complaint.contains("kid, prdc, cmmd and mind need the images of the reference"), "{complaint}");
    let complaint = place.complaint(&[&["evaluate", "images.npz", "--expect", "50000"], &network[..]].concat());
    assert!(complaint.starts_with("25 images are there, but --expect 50000"), "{complaint}");
    let complaint = place.complaint(&[&["evaluate", "images.npz", "--metrics", "sfid"], &network[..]].concat());
    assert!(complaint.contains("Inception's state dict"), "{complaint}");
    let complaint = place.complaint(&["evaluate", "images.npz", "--network", "inception:lite.safetensors"]);
    assert!(complaint.contains("is not the Inception of FID (Conv2d_1a_3x3.conv.weight"), "{complaint}");
}

/// Numbers that are no figures: parts without an image, subsets that are the whole set, a distance below 0.
#[test]
fn figures_that_mean_nothing_are_refused_or_said() {
    let place = Place::new();
    safetensors::write(&place.path("lite.safetensors"), &weights(EfficientNet::new), &BTreeMap::new()).unwrap();
    sets(&place);
    let network = ["--network", "efficientnet-lite0:lite.safetensors"];
    let told = |more: &[&str]| place.complaint(&[&["evaluate", "images.npz"], &network[..], more].concat());
    let complaint = told(&["--metrics", "is", "--limit", "3"]);
    assert_eq!(
        complaint,
        "the Inception Score of 3 images cannot be the mean over 10 parts of them: --parts of 1 to 3 are wanted"
    );
    assert!(told(&["--metrics", "is", "--parts", "0"]).contains("the mean over 0 parts"));
    assert!(
        told(&["--reference", "others.npz", "--metrics", "kid", "--subset-size", "1"])
            .contains("--subset-size must be")
    );
    let kid = |reference: &str, size: &str, more: &[&str]| {
        let arguments = ["images.npz", "--reference", reference, "--metrics", "kid", "--subset-size", size];
        let (record, error) = evaluate(&place, &[&arguments[..], &network, more].concat());
        (record["figures"]["kid"]["spread"].as_f64(), error)
    };
    let (spread, error) = kid("others.npz", "10", &[]);
    assert!(spread.unwrap() > 0.0 && !error.contains("KID"), "{error}");
    let (spread, error) = kid("others.npz", "1000", &[]);
    let told =
        "KID's subsets of 1000 hold all 20 images of a set, so that their spread is too small: --subset-size must be";
    assert!(spread.unwrap() > 0.0 && error.contains(told), "{error}");
    let (spread, error) = kid("others.npz", "20", &["--limit", "20"]);
    let told =
        "KID's subsets of 20 hold all 20 images of a set, so that there is no spread: --subset-size must be smaller";
    assert!(spread.is_none() && error.contains(told), "{error}");
    // The same images: rounding alone would print −0.0000 for half of all sets.
    let itself = place.succeed(
        &[&["evaluate", "others.npz", "--reference", "others.npz", "--bootstrap", "0"], &network[..]].concat(),
    );
    assert!(itself.contains("(not FID): 0.0000\n"), "{itself}");
}

/// A `count` decides of which rank a covariance is taken to be.
#[test]
fn a_count_that_does_not_go_with_its_statistics_is_refused() {
    let place = Place::new();
    let features = uniform(6, 8 * 12).view([8, 12]);
    let Statistics { mean, covariance, .. } = Moments::from_features(&features).statistics().unwrap();
    let read = |count: Tensor| {
        save(&place, "s.npz", &[("mu", &mean), ("sigma", &covariance), ("count", &count)], CompressionMethod::Stored);
        Published::read(&place.path("s.npz"))
    };
    assert_eq!(read(Tensor::from(8i64)).unwrap().unwrap().statistics.count, Some(8));
    assert_eq!(read(Tensor::from_slice(&[50_000f64])).unwrap().unwrap().statistics.count, Some(50_000));
    for count in [2i64, 5, 7] {
        let told = read(Tensor::from(count)).unwrap_err().to_string();
        let why = format!("s.npz: says that {count} images were counted, but its covariance is of more");
        assert!(told.contains(&why), "{told}");
    }
    for count in [Tensor::from(0i64), Tensor::from(-3i64), Tensor::from(8.5), Tensor::from_slice(&[8i64, 8])] {
        let told = read(count).unwrap_err().to_string();
        assert!(told.contains("holds a `count` that is no number of images"), "{told}");
    }
}

/// pytorch-fid, clean-fid, torch-fidelity, EDM and ADM open images by Pillow, which turns none.
#[test]
fn images_are_measured_as_their_pixels_lie_unless_exif_is_asked_for() {
    let place = Place::new();
    safetensors::write(&place.path("lite.safetensors"), &weights(EfficientNet::new), &BTreeMap::new()).unwrap();
    let exif = b"\xFF\xE1\x00\x22Exif\0\0MM\0\x2A\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0";
    for name in ["plain", "marked", "turned"] {
        fs::create_dir(place.path(name)).unwrap();
    }
    for name in ["420", "444"] {
        let file = format!("tests/golden/photographs/{name}.jpg");
        let jpeg = fs::read(&file).unwrap();
        fs::write(place.path(&format!("plain/{name}.jpg")), &jpeg).unwrap();
        let marked = [&jpeg[..2], exif, &jpeg[2..]].concat();
        fs::write(place.path(&format!("marked/{name}.jpg")), marked).unwrap();
        // Number 6 says that the first row is the viewer's right column: a quarter turn with the clock.
        let pixels = images::read(Path::new(&file), 3).unwrap().rot90(-1, [1, 2]);
        images::write_png(&place.path(&format!("turned/{name}.png")), &pixels).unwrap();
    }
    let network = ["--network", "efficientnet-lite0:lite.safetensors", "--bootstrap", "0"];
    let apart = |images: &str, reference: &str, more: &[&str]| {
        let (record, error) = evaluate(&place, &[&[images, "--reference", reference], &network[..], more].concat());
        (record["frechet_distance"].as_f64().unwrap(), error)
    };
    let (different, error) = apart("marked", "turned", &[]);
    let told = "2 images are to be turned by EXIF, and measured as the pixels lie, as published programs do: --exif turns them";
    assert!(error.contains(told), "{error}");
    let rounding = 1e-5 * different;
    assert!(different > 0.0 && apart("marked", "plain", &[]).0 < rounding);
    let (same, error) = apart("marked", "turned", &["--exif"]);
    assert!(same < rounding && !error.contains("EXIF"), "{same}: {error}");
    assert!(apart("plain", "marked", &["--exif"]).0 > rounding);
}

/// JPEG against PNG, and other sizes: each is told.
#[test]
fn references_that_cannot_be_compared_are_told() {
    let place = Place::new();
    safetensors::write(&place.path("lite.safetensors"), &weights(EfficientNet::new), &BTreeMap::new()).unwrap();
    sets(&place);
    fs::create_dir(place.path("photographs")).unwrap();
    for name in ["a", "b"] {
        fs::copy("tests/golden/photographs/cmyk.jpg", place.path(&format!("photographs/{name}.jpg"))).unwrap();
    }
    let arguments = ["images.npz", "--reference", "photographs", "--network", "efficientnet-lite0:lite.safetensors"];
    let (_, error) = evaluate(&place, &[&arguments[..], &["--limit", "3", "--bootstrap", "0"]].concat());
    assert!(error.contains("0 % of the images are JPEG, and 100 % of the reference"), "{error}");
    assert!(error.contains("warning: images are [3, 8, 8], those of the reference [3, "), "{error}");
}

/// The layouts of ADM and of score_sde, by Inception itself.
#[test]
fn fid_is_inceptions_alone_and_sfid_reads_adms_statistics() {
    let place = Place::new();
    safetensors::write(&place.path("inception.safetensors"), &weights(Inception::new), &BTreeMap::new()).unwrap();
    save(&place, "four.npz", &[("arr_0", &last(&pixels(4, &[4, 3, 8, 8])))], CompressionMethod::Stored);
    let network = ["--network", "inception:inception.safetensors"];
    let (record, _) = evaluate(
        &place,
        &[
            &["four.npz", "--metrics", "is,sfid", "--parts", "2", "--save-statistics", "adm.npz", "--resize", "adm"],
            &network[..],
        ]
        .concat(),
    );
    assert_eq!(record["figures"]["is"]["name"], "Inception Score");
    let adm = Published::read(&place.path("adm.npz")).unwrap().unwrap();
    assert_eq!((adm.statistics.dimensions(), adm.spatial.as_ref().unwrap().dimensions()), (2048, 2023));
    let (record, error) = evaluate(
        &place,
        &[&["four.npz", "--reference", "adm.npz", "--metrics", "fid,sfid", "--bootstrap", "0"], &network[..]].concat(),
    );
    assert_eq!(record["figures"]["frechet"]["name"], "FID (tf1)");
    let itself = |name: &str| record["figures"][name]["value"].as_f64().unwrap().abs();
    // √ of a rounding of f64, for each of 2048 eigenvalues; distances of these features are of some hundreds.
    assert!(itself("frechet") < 1e-4 && itself("sfid") < 1e-4, "{record}");
    assert!(error.contains("published FIDs are of 50,000 images; these are 4"), "{error}");
}

/// Features themselves, as score_sde publishes them.
#[test]
fn published_features_become_statistics() {
    let place = Place::new();
    let features = (uniform(6, 600).view([200, 3]) - 0.3).to_kind(Kind::Float);
    save(&place, "pool.npz", &[("pool_3", &features)], CompressionMethod::Deflated);
    let published = Published::read(&place.path("pool.npz")).unwrap().unwrap();
    let expected = Moments::from_features(&features).statistics().unwrap();
    assert!(published.statistics.distance(&expected).unwrap().abs() < 1e-12);
    assert_eq!((published.statistics.count, published.features.unwrap()), (Some(200), features));
    let (mu, nan) =
        (Tensor::zeros([3], (Kind::Double, Device::Cpu)), Tensor::full([3, 3], f64::NAN, (Kind::Double, Device::Cpu)));
    for (sigma, told) in [(&nan, "not finite"), (&mu, "do not go together")] {
        save(&place, "wrong.npz", &[("mu", &mu), ("sigma", sigma)], CompressionMethod::Stored);
        let error = Published::read(&place.path("wrong.npz")).unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    save(&place, "images.npz", &[("arr_0", &pixels(1, &[1, 2, 2, 3]))], CompressionMethod::Stored);
    assert!(Published::read(&place.path("images.npz")).unwrap().is_none());
}
