//! The flags of `tweedie information`.

use std::path::PathBuf;

use clap::Args;

use super::{
    classes::ClassFlags,
    flags::{BatchFlags, DeviceFlags, ModelFlags, OutputFlags, SeedFlag},
};

/// Measure how well a network denoises at every level, and from this how likely images are
///
/// MMSE(λ) = E‖x − D(x + σn, σ)‖² over λ = 1/σ², the information I(λ) = ½∫MMSE that the noisy image has of the clean
/// one, and −log₂ p in bits per dimension: for bytes b as x = (b + u)/128 − 1 with u uniform on 0…1, so that it bounds
/// the length to which the bytes could be compressed.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie information fashion-mnist --data '{kind: idx, images: t10k-images-idx3-ubyte.gz, pad: 2}' --limit 256
  tweedie information fashion-mnist --data photos/ --levels 65 --draws 4 --flow --out out/information")]
pub struct InformationArgs {
    #[arg(help = super::MODEL)]
    pub model: String,
    /// Images to measure: a folder, or '{kind: idx, images: FILE, pad: 2}'
    #[arg(long, value_name = "DATA")]
    pub data: String,
    /// Measures only the first N images
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Number of noise levels: the integral over them is of fourth order
    #[arg(long, value_name = "K", default_value_t = 33)]
    pub levels: usize,
    /// Number of noises for each image and level
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub draws: u64,
    /// Noise levels of the integral and of the flow [default: geometric, over the network's own range]
    #[arg(long, value_name = "NAME")]
    pub schedule: Option<String>,
    /// Computes the density of the probability flow as well: some 20 times the work
    #[arg(long)]
    pub flow: bool,
    /// Number of noise levels of the flow: each step between two levels takes four evaluations with their gradients
    #[arg(long, value_name = "K", default_value_t = 25)]
    pub steps: usize,
    /// Number of random signs that estimate the flow's divergence; 0 computes it exactly, by one gradient for each
    /// number of an image [default: 1, or 0 for images of up to 16 numbers]
    #[arg(long, value_name = "N")]
    pub probes: Option<u64>,
    #[command(flatten)]
    pub class: ClassFlags,
    /// Folder for information.csv, information.png and information.json
    #[arg(long, default_value = "out/information", value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub source: ModelFlags,
    #[command(flatten)]
    pub device: DeviceFlags,
    #[command(flatten)]
    pub batch: BatchFlags,
    #[command(flatten)]
    pub seed: SeedFlag,
    #[command(flatten)]
    pub output: OutputFlags,
}
