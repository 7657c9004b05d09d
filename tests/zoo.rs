//! Published checkpoints: opened as they are, they compute what their authors' code computes.

use std::path::Path;

use tch::{Device, Kind, Tensor};
use tweedie::{card::Model, denoiser::Denoiser, networks::AnyNetwork};

const ZOO: &str = "tests/golden/zoo";

fn open(path: &Path, settings: &[&str]) -> Result<Model, tweedie::Error> {
    let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
    Model::open_with(path.to_str().unwrap(), &settings, Device::Cpu, Kind::Float)
}

/// D(x, σ) of a case, against what the original program computed on the same weights.
fn agrees(case: &str, file: &str, settings: &[&str]) -> Model {
    let folder = Path::new(ZOO).join(case);
    let text = std::fs::read(folder.join("case.json")).unwrap();
    let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let sigma = text["sigma"].as_f64().unwrap();
    let model = open(&folder.join(file), settings).unwrap();
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
    let model = agrees("ermon-ddim", "model.ckpt", &[]);
    assert!(model.count() == 285_667 && model.assumed.contains("linear-β chain"));
    let AnyNetwork::Unet(config) = &model.card.network else { panic!("{:?}", model.card) };
    assert_eq!(config.layers_per_block, 1);
    assert_eq!(model.card.image, [3, 32, 32]);
}

#[test]
fn a_checkpoint_of_guided_diffusion_opens_as_published() {
    // Shapes do not tell how attention is divided; the published files have heads of 64 channels.
    let model = agrees("guided-diffusion", "model.pt", &["heads={width: 16}"]);
    let AnyNetwork::Adm(config) = &model.card.network else { panic!("{:?}", model.card) };
    assert_eq!((config.num_res_blocks, config.attention_levels.as_slice()), (1, [1].as_slice()));
    assert!(config.resblock_updown && config.use_scale_shift_norm && config.out_channels == 6);
    assert!(model.card.image == [3, 32, 32] && model.assumed.contains("legacy order"), "{}", model.assumed);
}

#[test]
fn what_the_command_line_sets_must_be_in_the_card_and_make_sense() {
    let path = Path::new(ZOO).join("guided-diffusion/model.pt");
    let complaint = |setting: &str| open(&path, &["heads={width: 16}", setting]).unwrap_err().to_string();
    assert!(complaint("heads").contains("is not of the form key=value"));
    let unknown = complaint("num_heads=4");
    assert!(unknown.contains("the card has no such key") && unknown.contains("heads, in_channels"), "{unknown}");
    assert!(complaint("heads={width: 24}").contains("heads that divide the widths that attend"));
    assert!(complaint("class=3").contains("one that knows the class"));
    assert!(complaint("block_out_channels=[32, 64]").contains("not"), "shapes that the file does not have");
    assert!(open(&path, &[]).unwrap_err().to_string().contains("set heads"), "64 channels do not divide 32");
    let model = open(&path, &["network.heads={count: 2}", "prediction=v", "image=[3, 64, 64]"]).unwrap();
    assert_eq!(model.card.image, [3, 64, 64]);
}
