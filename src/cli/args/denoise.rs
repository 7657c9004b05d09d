//! The flags of `tweedie denoise`.

use std::path::PathBuf;

use clap::Args;

use super::{
    classes::{ClassFlags, GuidanceFlags},
    flags::{DeviceFlags, ModelFlags, OutputFlags},
};

/// Denoise once: D(x, σ) = E[clean | x] for x = clean + σ n
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie denoise fashion-mnist --sigma 0.5 noisy.npy clean.npy     # data units, −1 … 1
  tweedie denoise fashion-mnist --sigma 0.5 noisy.png clean.png")]
pub struct DenoiseArgs {
    #[arg(help = super::MODEL)]
    pub model: String,
    /// σ of the noise, in the pixel range of the program that trained the model: −1 … 1, or 0 … 1 for a few models
    #[arg(long, value_name = "S", allow_negative_numbers = true)]
    pub sigma: f64,
    /// File to denoise: .npy (f32, [batch, channels, height, width]) or an image
    pub input: PathBuf,
    /// File to write, .npy or .png
    pub output: PathBuf,
    #[command(flatten)]
    pub class: ClassFlags,
    #[command(flatten)]
    pub guidance: GuidanceFlags,
    #[command(flatten)]
    pub source: ModelFlags,
    #[command(flatten)]
    pub device: DeviceFlags,
    #[command(flatten)]
    pub terminal: OutputFlags,
}
