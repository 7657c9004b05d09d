//! `tweedie denoise`: D(x, σ), once.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tweedie::{models::card::Card, run::denoise::DenoiseRequest};

use super::{
    classes::{ClassFlags, GuidanceFlags},
    flags::{DeviceFlags, ModelFlags, OutputFlags},
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
    source: ModelFlags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    terminal: OutputFlags,
}

impl Denoise {
    pub fn run(&self) -> Result<()> {
        let request = DenoiseRequest::new(self.sigma)?.classes(self.class.list()?);
        let (session, terminal) = (self.device.session()?, &self.terminal);
        let model = self.source.open(&self.model, &session, terminal)?;
        let guided = self.guidance.request()?.apply(model, &session)?;
        let denoised = request.write(&guided, (&self.input, &self.output), &terminal.observer())?;
        if denoised.pixels != Card::PIXELS {
            let [black, white] = denoised.pixels;
            terminal.say(format_args!("pixels of {black} … {white}, as the program that trained it had them"));
        }
        terminal.say(format_args!("{} images in {}", denoised.images, self.output.display()));
        terminal.record(&denoised)
    }
}
