//! The flags of `tweedie convert`.

use std::path::PathBuf;

use clap::Args;

use super::flags::{ModelFlags, OutputFlags, PrecisionFlag};

/// Write a model as one .safetensors file with its card inside
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie convert ffhq_10m.pt ffhq.safetensors
  tweedie convert checkpoint.pth faces.safetensors --precision bf16     # half the size")]
pub struct ConvertArgs {
    #[arg(help = super::MODEL)]
    pub model: String,
    /// File to write, .safetensors
    pub output: PathBuf,
    /// Precision of the numbers in the file
    #[arg(long, value_enum, default_value = "f32")]
    pub precision: PrecisionFlag,
    #[command(flatten)]
    pub source: ModelFlags,
    #[command(flatten)]
    pub terminal: OutputFlags,
}
