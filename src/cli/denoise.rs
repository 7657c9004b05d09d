//! `tweedie denoise`: D(x, σ), once.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use tch::{Device, Kind, Tensor};
use tweedie::{
    files::images,
    models::card::{Card, Model},
    run::{classes::Classes, prior::Prior},
};

use super::{
    Common,
    classes::{ClassFlags, GuidanceFlags},
    sample::finite,
};

/// Denoise once: D(x, σ) = E[clean | x] for x = clean + σ n
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie denoise fashion-mnist --sigma 0.5 noisy.npy clean.npy     # data units, −1 … 1
  tweedie denoise fashion-mnist --sigma 0.5 noisy.png clean.png")]
pub struct Denoise {
    #[arg(help = super::MODEL)]
    model: String,
    /// σ of the noise, in the pixel range of the program that trained the model: −1 … 1, but for a few 0 … 1
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    sigma: f64,
    /// .npy (f32, [batch, channels, height, width]) or an image
    input: PathBuf,
    /// .npy or .png
    output: PathBuf,
    #[command(flatten)]
    class: ClassFlags,
    #[command(flatten)]
    guidance: GuidanceFlags,
    #[command(flatten)]
    common: Common,
}

impl Denoise {
    pub fn run(&self) -> Result<()> {
        if !(self.sigma.is_finite() && self.sigma > 0.0) {
            bail!("--sigma must be positive, but is {}", self.sigma);
        }
        let (model, device) = self.common.open(&self.model)?;
        let session = self.common.session(device);
        let guided = self.guidance.request()?.apply(model, &session)?;
        let prior = Prior::from(&guided);
        let (model, classes) = (prior.model, Classes::new(self.class.list()?.as_ref(), &prior)?);
        let pixels = Pixels(model.card.pixels);
        let x = self.read(model, pixels)?;
        let rows = classes.rows(0..x.size()[0] as u64);
        let (sigma, state) = (pixels.scale() * self.sigma, x.to_device(device));
        let denoised = tch::no_grad(|| prior.denoiser(rows.as_deref()).denoise(&state, sigma));
        let denoised = denoised.to_device(Device::Cpu);
        finite(&denoised, &self.input).context("the network's answer")?;
        self.write(&denoised, pixels)?;
        let (min, max) = model.range();
        if sigma < min || sigma > max {
            let (min, max) = (min / pixels.scale(), max / pixels.scale());
            self.common.say(format_args!("note: the network was trained for σ from {min:.4} to {max:.4}"));
        }
        if pixels.0 != Card::PIXELS {
            let [black, white] = pixels.0;
            self.common.say(format_args!("pixels of {black} … {white}, as the program that trained it had them"));
        }
        self.common.say(format_args!("{} images in {}", x.size()[0], self.output.display()));
        self.common.record(&serde_json::json!({"images": x.size()[0], "sigma": self.sigma, "out": self.output}))
    }

    /// The images, in −1 … 1.
    fn read(&self, model: &Model, pixels: Pixels) -> Result<Tensor> {
        let x = if is_npy(&self.input) {
            let x = Tensor::read_npy(&self.input)
                .with_context(|| format!("{}: not a readable .npy file", self.input.display()))?;
            pixels.read(&x.to_kind(Kind::Float))
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

    fn write(&self, x: &Tensor, pixels: Pixels) -> Result<()> {
        if !is_npy(&self.output) {
            if x.size()[0] != 1 {
                bail!("{}: {} images do not fit one picture: write .npy", self.output.display(), x.size()[0]);
            }
            return Ok(images::write_png(&self.output, &images::to_bytes(&x.get(0)))?);
        }
        Ok(images::write_npy(&self.output, &pixels.write(x))?)
    }
}

/// Black and white of the program that trained the network.
#[derive(Clone, Copy)]
struct Pixels([f64; 2]);

impl Pixels {
    /// How much wider −1 … 1 is.
    fn scale(self) -> f64 {
        2.0 / (self.0[1] - self.0[0])
    }

    /// To −1 … 1.
    fn read(self, x: &Tensor) -> Tensor {
        if self.0 == Card::PIXELS { x.shallow_clone() } else { (x - self.0[0]) * self.scale() - 1.0 }
    }

    /// From −1 … 1.
    fn write(self, x: &Tensor) -> Tensor {
        if self.0 == Card::PIXELS { x.shallow_clone() } else { (x + 1.0) / self.scale() + self.0[0] }
    }
}

fn is_npy(path: &std::path::Path) -> bool {
    path.extension().is_some_and(|e| e == "npy")
}
