//! The flags of `tweedie train`.

use std::path::PathBuf;

use clap::Args;

use super::flags::{DeviceFlags, OutputFlags};

/// Train a score network, or a classifier whose features measure distances
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie train experiments/train-fashion-mnist.yaml
  tweedie train experiments/train-fashion-mnist.yaml --resume")]
pub struct TrainArgs {
    /// Training file (.yaml): network, data, optimizer, steps
    pub config: PathBuf,
    /// Goes on from the last checkpoint, if there is one
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub device: DeviceFlags,
    #[command(flatten)]
    pub output: OutputFlags,
}
