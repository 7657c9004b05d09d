//! `tweedie denoise`: D(x, σ), once.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use tch::{Device, Kind, Tensor};
use tweedie::{card::Model, denoiser::Denoiser, images};

use super::{Common, sample::finite};

/// Denoise once: D(x, σ) = E[clean | x] for x = clean + σ n
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie denoise fashion-mnist --sigma 0.5 noisy.npy clean.npy     # data units, −1 … 1
  tweedie denoise fashion-mnist --sigma 0.5 noisy.png clean.png")]
pub struct Denoise {
    /// A card's name, a card (.yaml), a .safetensors file with a card inside, or a published checkpoint (.ckpt)
    model: String,
    /// σ of the noise, in the model's own pixel range −1 … 1
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    sigma: f64,
    /// .npy (f32, [batch, channels, height, width]) or an image
    input: PathBuf,
    /// .npy or .png
    output: PathBuf,
    #[command(flatten)]
    common: Common,
}

impl Denoise {
    pub fn run(&self) -> Result<()> {
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            bail!("--sigma must be positive, but is {}", self.sigma);
        }
        let (model, device) = self.common.open(&self.model)?;
        let x = self.read(&model)?;
        let denoised = tch::no_grad(|| model.denoiser.denoise(&x.to_device(device), self.sigma)).to_device(Device::Cpu);
        finite(&denoised, &self.input).context("the network's answer")?;
        self.write(&denoised)?;
        let (min, max) = model.range();
        if self.sigma < min || self.sigma > max {
            self.common.say(format_args!("note: the network was trained for σ from {min:.4} to {max:.4}"));
        }
        self.common.say(format_args!("{} images in {}", x.size()[0], self.output.display()));
        self.common.record(&serde_json::json!({"images": x.size()[0], "sigma": self.sigma, "out": self.output}))
    }

    fn read(&self, model: &Model) -> Result<Tensor> {
        let x = if is_npy(&self.input) {
            Tensor::read_npy(&self.input)
                .with_context(|| format!("{}: not a readable .npy file", self.input.display()))?
                .to_kind(Kind::Float)
        } else {
            images::from_bytes(&images::read(&self.input, model.card.image[0])?).unsqueeze(0)
        };
        let size = x.size();
        let &[_, channels, height, width] = size.as_slice() else {
            bail!("{}: is {size:?}, but [batch, channels, height, width] is wanted", self.input.display());
        };
        finite(&x, &self.input)?;
        model.denoiser.network.check([channels, height, width]).with_context(|| self.input.display().to_string())?;
        Ok(x)
    }

    fn write(&self, x: &Tensor) -> Result<()> {
        if !is_npy(&self.output) {
            if x.size()[0] != 1 {
                bail!("{}: {} images do not fit one picture: write .npy", self.output.display(), x.size()[0]);
            }
            return Ok(images::write_png(&self.output, &images::to_bytes(&x.get(0)))?);
        }
        Ok(images::write_npy(&self.output, x)?)
    }
}

fn is_npy(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|e| e == "npy")
}
