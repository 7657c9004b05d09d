//! Published checkpoints: opened as they are, they compute what their authors' code computes.

use std::path::Path;

use tch::{Device, Kind, Tensor};
use tweedie::{card::Model, denoiser::Denoiser, networks::AnyNetwork};

const ZOO: &str = "tests/golden/zoo";

/// D(x, σ) of a case, against what the original program computed on the same weights.
fn agrees(case: &str, file: &str) -> Model {
    let folder = Path::new(ZOO).join(case);
    let text = std::fs::read(folder.join("case.json")).unwrap();
    let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let sigma = text["sigma"].as_f64().unwrap();
    let model = Model::open(folder.join(file).to_str().unwrap(), Device::Cpu, Kind::Float).unwrap();
    let read = |name: &str| Tensor::read_npy(folder.join(name)).unwrap();
    let expected = read("denoised.npy");
    let denoised = tch::no_grad(|| model.denoiser.denoise(&read("z.npy"), sigma));
    let largest = |x: Tensor| f64::try_from(x.abs().max()).unwrap();
    let (error, scale) = (largest(denoised - &expected), largest(expected));
    // Two implementations in f32; the issue of all families asks for this.
    assert!(error < 1e-4 * scale, "{case}: {error} of {scale}");
    model
}

#[test]
fn a_checkpoint_of_pesser_and_ermongroup_opens_as_published() {
    let model = agrees("ermon-ddim", "model.ckpt");
    assert!(model.count() == 285_667 && model.assumed.contains("linear-β chain"));
    let AnyNetwork::Unet(config) = &model.card.network;
    assert_eq!(config.layers_per_block, 1);
    assert_eq!(model.card.image, [3, 32, 32]);
}
