//! What is promised of the network that ships.

use std::path::Path;

use tch::{Device, Kind, Tensor};
use tweedie::{
    files::images,
    models::card::{self, Model},
    scores::{
        denoiser::Denoiser,
        noise::{Noise, Seeded},
    },
};

use crate::cli::Place;

const MODEL: &str = "fashion-mnist";

fn sample(place: &Place, flags: &[&str]) {
    place.succeed(&[&["sample", MODEL], flags].concat());
}

/// Order, interruption and the number of processes do not change a bit.
#[test]
fn images_of_the_shipped_network_depend_on_seed_and_block_size_alone() {
    let place = Place::new();
    let run =
        |seeds: &str, out: &str| sample(&place, &["--seeds", seeds, "--batch", "2", "--steps", "3", "--out", out]);
    run("0-3", "whole");
    for seeds in ["3", "1-2", "0"] {
        run(seeds, "pieces");
    }
    let (whole, pieces) = (place.images("whole"), place.images("pieces"));
    assert!(whole.len() == 4 && whole == pieces, "bit for bit");
}

/// The default sampler in other blocks: at most one grey level, in at most 0.1 % of the pixels.
#[test]
fn other_block_sizes_round_the_shipped_networks_images_alike() {
    let place = Place::new();
    for batch in ["1", "4"] {
        sample(&place, &["--seeds", "0-3", "--batch", batch, "--out", batch]);
    }
    let read = |out: &str, seed: u64| {
        images::read(&place.path(&format!("{out}/{seed:06}.png")), 1).unwrap().to_kind(Kind::Int64)
    };
    let differences: Vec<Tensor> = (0..4).map(|seed| (read("1", seed) - read("4", seed)).abs()).collect();
    let differences = Tensor::stack(&differences, 0);
    let moved = i64::try_from(differences.gt(0).sum(Kind::Int64)).unwrap();
    let most = i64::try_from(differences.max()).unwrap();
    assert!(most <= 1 && moved as f64 <= 1e-3 * differences.numel() as f64, "{moved} pixels, by up to {most}");
}

#[test]
fn deterministic_images_of_the_shipped_network_are_the_same_in_any_block() {
    let place = Place::new();
    for batch in ["1", "3"] {
        sample(&place, &["--seeds", "0-2", "--deterministic", "--batch", batch, "--steps", "3", "--out", batch]);
    }
    assert!(place.images("1") == place.images("3"), "bit for bit");
}

/// The four photographs of the demo come from the test set. The best answer that knows only the mean and the variance
/// of the pixels, m + g (x − m) with Wiener's g = v/(v + σ²), leaves an error of g σ²; a network of images does far
/// better.
#[test]
fn the_shipped_network_denoises_photographs_that_it_never_saw() {
    let model = Model::open_on(MODEL, Device::Cpu, Kind::Float).unwrap();
    let read = |path: &Path| images::from_bytes(&images::read(path, 1).unwrap());
    let photographs: Vec<Tensor> = images::Listing::new(Path::new("experiments/demo"), false)
        .unwrap()
        .images
        .iter()
        .map(|path| read(path))
        .collect();
    let clean = Tensor::stack(&photographs, 0);
    let variance = f64::try_from(clean.var(false)).unwrap();
    for sigma in [0.1, 0.3, 1.0] {
        let noise = Seeded((0..photographs.len() as u64).collect()).like(&clean, 0, 0);
        let denoised = tch::no_grad(|| model.denoiser.denoise(&(&clean + noise * sigma), sigma));
        let error = f64::try_from((denoised - &clean).square().mean(Kind::Double)).unwrap();
        let wiener = variance * sigma * sigma / (variance + sigma * sigma);
        assert!(error < wiener / 2.0, "σ = {sigma}: {error} is not well below {wiener}");
    }
}

#[test]
fn the_shipped_files_are_small_and_their_cards_complete() {
    let size = |file: &str| std::fs::metadata(file).unwrap().len();
    assert!(size("models/fashion-mnist.safetensors") <= 16 << 20);
    assert!(size("models/features/fashion-classifier.safetensors") <= 2 << 20);
    for card in card::cards().unwrap() {
        for entry in [card.reference, card.data, card.licence, card.training] {
            assert!(!entry.is_empty(), "{}", card.name);
        }
    }
}

/// D of the network of clothes by class, beside what the PyTorch that trained it makes of the same 16-bit weights.
#[test]
fn the_network_of_clothes_denoises_as_it_did_in_training() {
    let golden =
        |name: &str| Tensor::read_npy(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clothes").join(name));
    let (z, sigmas) = (golden("z.npy").unwrap(), golden("sigma.npy").unwrap());
    let model = Model::open_on("clothes", Device::Cpu, Kind::Float).unwrap();
    for (classes, file) in [([10; 4], "denoised.npy"), ([0, 3, 7, 9], "denoised_classes.npy")] {
        let expected = golden(file).unwrap();
        for (i, class) in classes.into_iter().enumerate() {
            let i = i as i64;
            let denoised = tch::no_grad(|| {
                model.denoiser.for_classes(Some(&[class])).denoise(&z.narrow(0, i, 1), sigmas.double_value(&[i]))
            });
            let apart = (denoised - expected.narrow(0, i, 1)).abs().max().double_value(&[]);
            assert!(apart < 1e-4, "{file}, image {i}: {apart}");
        }
    }
}
