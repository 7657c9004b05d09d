//! Networks against the peers' own classes on the same weights, and the training template against closed forms.

use std::path::Path;

use tch::{Device, Kind, Tensor};
use tweedie::{
    models::checkpoint::safetensors,
    networks::{AnyNetwork, UNetConfig, weights::Weights},
    numbers::{
        precondition::{Ddpm, Precondition, Prediction},
        schedule::{Chain, LinearBeta},
    },
    scores::denoiser::{Denoiser, Pretrained, Score},
};

const SIGMA: f64 = 1.240161045545549;

/// f32 rounding through some forty layers whose outputs are of order 1; the peer itself is 2e-6 from f64.
const F32: f64 = 2e-5;

fn config() -> AnyNetwork {
    AnyNetwork::Unet(UNetConfig {
        in_channels: 3,
        block_out_channels: vec![32, 32, 32],
        layers_per_block: 1,
        attention_levels: vec![1],
        norm_num_groups: 32,
        ..UNetConfig::default()
    })
}

fn golden(name: &str) -> Tensor {
    Tensor::read_npy(Path::new("tests/golden/zoo/diffusers-ddpm").join(name)).unwrap()
}

fn stored() -> safetensors::Tensors {
    let file = Path::new("tests/golden/zoo/diffusers-ddpm/diffusion_pytorch_model.safetensors");
    safetensors::read(file).unwrap().0
}

fn pretrained(prediction: Prediction) -> Pretrained {
    let weights = Weights::stored(stored(), Device::Cpu, Kind::Float);
    let network = config().build(&weights).unwrap();
    weights.finish().unwrap();
    Pretrained { network, precondition: Box::new(Ddpm::new(LinearBeta::default().times().unwrap(), prediction)) }
}

fn largest(difference: &Tensor) -> f64 {
    f64::try_from(difference.abs().max()).unwrap()
}

#[test]
fn the_unet_computes_what_diffusers_computes() {
    let model = pretrained(Prediction::Epsilon);
    let x = golden("z.npy");
    let input = &x * model.precondition.at(SIGMA).input;
    let raw = model.network.forward(&input, &Tensor::from_slice(&[300f32, 300.0]), None);
    assert!(largest(&(raw - golden("raw.npy"))) < F32);
}

#[test]
fn the_denoiser_is_the_peers_and_its_score_is_tweedies() {
    let model = pretrained(Prediction::Epsilon);
    let x = golden("z.npy");
    assert!((model.precondition.at(SIGMA).label - 300.0).abs() < 1e-6, "σ finds its own time again");
    assert!(largest(&(model.denoise(&x, SIGMA) - golden("denoised.npy"))) < F32);
    let score = (golden("denoised.npy") - &x) / (SIGMA * SIGMA);
    assert!(largest(&(model.score(&x, SIGMA) - score)) < F32);
}

/// The three predictions are one denoiser: from ε = (x − D)/σ follow v = √ᾱ ε − √(1−ᾱ) D and x₀ = D, so scalings that
/// disagree about D would show here.
#[test]
fn the_three_predictions_mean_the_same_denoiser() {
    let times = LinearBeta::default().times().unwrap();
    let (x, clean) = (0.7, -0.2);
    for sigma in [0.02, 0.3, 1.0, 7.0, 150.0] {
        let alpha_bar: f64 = 1.0 / (1.0 + sigma * sigma);
        let epsilon = (x - clean) / sigma;
        let v = alpha_bar.sqrt() * epsilon - (1.0 - alpha_bar).sqrt() * clean;
        for (prediction, output) in [(Prediction::Epsilon, epsilon), (Prediction::V, v), (Prediction::Sample, clean)] {
            let scaling = Ddpm::new(times.clone(), prediction).at(sigma);
            let denoised = x + scaling.skip_minus_one * x + scaling.out * output;
            // σ (x − D)/σ cancels at large σ: relative to |x| + |D| that is rounding.
            assert!((denoised - clean).abs() < 1e-12, "{prediction:?} at σ = {sigma}: {denoised}");
        }
    }
}

#[test]
fn every_missing_misshapen_and_left_over_tensor_is_named() {
    let mut tensors = stored();
    tensors.remove("conv_in.bias");
    tensors.insert("conv_out.bias".to_owned(), Tensor::zeros([7], (Kind::Float, Device::Cpu)));
    tensors.insert("spare".to_owned(), Tensor::zeros([1], (Kind::Float, Device::Cpu)));
    let weights = Weights::stored(tensors, Device::Cpu, Kind::Float);
    config().build(&weights).unwrap();
    assert_eq!(
        weights.finish().unwrap_err().to_string(),
        "the weights do not fit the network: conv_in.bias [32] is missing; conv_out.bias is [7], not [3]; spare is left over"
    );
}

#[test]
fn an_image_of_another_size_is_refused() {
    let model = pretrained(Prediction::Epsilon);
    assert!(model.network.check([3, 16, 16]).is_ok());
    let message = model.network.check([1, 16, 18]).unwrap_err().to_string();
    assert_eq!(message, "the image has shape [1, 16, 18], but [3, height, width] in multiples of 4 is wanted");
}

#[test]
fn what_a_card_says_wrongly_is_told_as_the_card_has_it() {
    let told = |config: UNetConfig| config.check().unwrap_err().to_string();
    let channels = told(UNetConfig { out_channels: Some(7), ..UNetConfig::default() });
    assert!(channels.ends_with("but is 7"), "{channels}");
    let heads = told(UNetConfig { attention_head_dim: Some(4096), ..UNetConfig::default() });
    assert!(heads.contains("but is 4096 of [128, 256"), "{heads}");
    let none = told(UNetConfig { block_out_channels: Vec::new(), ..UNetConfig::default() });
    assert!(none.contains(r#""block_out_channels":[]"#) && !none.contains("UNetConfig"), "{none}");
}
