//! Networks that are TorchScript programs: a card says what they take and give.

use std::{fs, path::PathBuf};

use tch::{CModule, Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{models::card::Model, scores::denoiser::Denoiser};

/// Of pixels, for a Gaussian prior.
const VARIANCE: f64 = 0.25;

/// Traces forward(x, label) and writes it to a file.
fn export(place: &TempDir, name: &str, program: impl Fn(&Tensor, &Tensor) -> Tensor) -> PathBuf {
    let inputs =
        [Tensor::ones([2, 1, 4, 4], (Kind::Float, Device::Cpu)), Tensor::ones([2], (Kind::Float, Device::Cpu))];
    let mut traced = |inputs: &[Tensor]| vec![program(&inputs[0], &inputs[1])];
    let module = CModule::create_by_tracing("Program", "forward", &inputs, &mut traced).unwrap();
    let path = place.path().join(name);
    module.save(&path).unwrap();
    path
}

fn card(place: &TempDir, network: &str, predicts: &str) -> PathBuf {
    let path = place.path().join("card.yaml");
    let card = format!(
        "{{name: exported, about: traced, image: [1, 4, 4], network: {network},
          precondition: {{kind: plain, predicts: {predicts}, range: [0.01, 80.0]}},
          sample: {{schedule: {{kind: karras}}, steps: 5, sampler: {{kind: ddim, eta: 0.0}}}},
          restore: {{schedule: {{kind: geometric, max: 1.0}}, steps: 5, sampler: {{kind: ve-ancestral}}}}}}"
    );
    fs::write(&path, card).unwrap();
    path
}

fn open(program: &std::path::Path, card: Option<&std::path::Path>) -> Result<Model, String> {
    let model = Model::open_with(program.to_str().unwrap(), card, &[], Device::Cpu, Kind::Float);
    model.map_err(|error| error.to_string())
}

/// The exact denoiser of a Gaussian prior, exported in each of the three ways to say it: D = x v/(v + σ²).
#[test]
fn a_program_denoises_as_its_card_says() {
    let place = TempDir::new().unwrap();
    let spread = |label: &Tensor| (label * label + VARIANCE).reshape([-1, 1, 1, 1]);
    let denoised = export(&place, "denoised.pt", move |x, label| x * VARIANCE / spread(label));
    let noise = export(&place, "noise.pt", move |x, label| x * label.reshape([-1, 1, 1, 1]) / spread(label));
    let score = export(&place, "score.pt", move |x, label| -x / spread(label));
    let x = Tensor::arange(16, (Kind::Float, Device::Cpu)).reshape([1, 1, 4, 4]) / 4.0 - 2.0;
    for (program, predicts) in [(denoised, "denoised"), (noise, "noise"), (score, "score")] {
        let card = card(&place, "{kind: torchscript, in_channels: 1}", predicts);
        let model = open(&program, Some(&card)).unwrap();
        for model in [&model, &model.replica().unwrap()] {
            for sigma in [0.02, 0.5, 3.0, 40.0] {
                let error = model.denoiser.denoise(&x, sigma) - &x * (VARIANCE / (VARIANCE + sigma * sigma));
                // f32: x − σ n and x + σ² s lose what x has more than D.
                let bound = 1e-6 * f64::try_from(x.abs().max()).unwrap();
                let error = f64::try_from(error.abs().max()).unwrap();
                assert!(error < bound, "{predicts} at {sigma}: {error}");
            }
        }
    }
}

#[test]
fn a_program_without_a_fitting_card_is_refused() {
    let place = TempDir::new().unwrap();
    let program = export(&place, "program.pt", |x, label| x * label.reshape([-1, 1, 1, 1]));
    let told = open(&program, None).unwrap_err();
    assert!(told.contains("program.pt: is a TorchScript program: say in a card") && told.contains("`card`"), "{told}");
    let other = card(
        &place,
        "{kind: unet, in_channels: 1, block_out_channels: [8], layers_per_block: 1, norm_num_groups: 4}",
        "noise",
    );
    assert!(open(&program, Some(&other)).unwrap_err().contains("network: {kind: torchscript"));
    let three = card(&place, "{kind: torchscript, in_channels: 3}", "noise");
    assert!(open(&program, Some(&three)).unwrap_err().contains("[3, height, width]"));
    let half = export(&place, "half.pt", |x, label| x.narrow(3, 0, 2) * label.reshape([-1, 1, 1, 1]));
    let plain = card(&place, "{kind: torchscript, in_channels: 1}", "noise");
    let told = open(&half, Some(&plain)).unwrap_err();
    assert!(told.contains("makes [1, 1, 4, 2] of [1, 1, 4, 4]"), "{told}");
    // A card of a program with weights that are none.
    let told = open(std::path::Path::new("tests/golden/zoo/ermon-ddim/model.ckpt"), Some(&plain)).unwrap_err();
    assert!(told.contains("torchscript is for TorchScript programs"), "{told}");
}
