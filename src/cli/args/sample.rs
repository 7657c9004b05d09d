//! The flags of `tweedie sample`.

use std::path::PathBuf;

use clap::Args;

use super::{
    classes::{ClassFlags, GuidanceFlags},
    flags::{BatchFlags, DeviceFlags, ModelFlags, OutputFlags},
    plan::PlanFlags,
};

/// Draw new images
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie sample fashion-mnist
  tweedie sample fashion-mnist --seeds 0-999 --sampler ddpm --steps 250 --out out/ddpm
  tweedie sample fashion-mnist --sampler '{kind: ddim, eta: 0.5}' --schedule '{kind: karras, max: 40}'
  tweedie sample fashion-mnist --sampler plan.yaml      # a file with schedule, steps and sampler
  tweedie sample ffhq_10m.pt --config vp_uncond_sigmoidSchedule.yaml
  tweedie sample cond.pkl --class 0-9 --guidance 1 --unconditional uncond.pkl")]
pub struct SampleArgs {
    #[arg(help = super::MODEL)]
    pub model: String,
    #[command(flatten)]
    pub plan: PlanFlags,
    #[command(flatten)]
    pub class: ClassFlags,
    #[command(flatten)]
    pub guidance: GuidanceFlags,
    /// Seeds: each gives one image, which does not depend on the other seeds
    #[arg(long, default_value = "0-63", value_name = "SEEDS")]
    pub seeds: String,
    /// Configuration released with Random Walks with Tweedie (.yaml): its walk, which begins at N(0, I) of its pixels
    #[arg(long, value_name = "FILE.yaml", conflicts_with = "init")]
    pub config: Option<PathBuf>,
    /// Hold the denoised image within −R … R at every step; 0 never does [default: the card's clip, which a folder of diffusers
    /// sets]
    #[arg(long, value_name = "R")]
    pub clip: Option<f64>,
    /// Initial states in the σ frame, [images, channels, height, width], in place of noise
    #[arg(long, value_name = "FILE.npy")]
    pub init: Option<PathBuf>,
    /// Write each final state as well, unclipped: SEED.npy, [channels, height, width], f32
    #[arg(long)]
    pub states: bool,
    /// Folder for the images
    #[arg(long, default_value = "out/samples", value_name = "DIR")]
    pub out: PathBuf,
    /// Remove the images of another run from --out, and begin
    #[arg(long)]
    pub overwrite: bool,
    #[command(flatten)]
    pub source: ModelFlags,
    #[command(flatten)]
    pub device: DeviceFlags,
    #[command(flatten)]
    pub batch: BatchFlags,
    #[command(flatten)]
    pub output: OutputFlags,
}
