//! The flags of `tweedie train`.

use std::path::PathBuf;

use clap::Args;

use super::flags::{DeviceFlags, OutputFlags};

/// Train a score network, or the classifier whose features measure distances
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie train experiments/train-fashion-mnist.yaml
  tweedie train experiments/train-fashion-mnist.yaml --resume")]
pub struct TrainArgs {
    /// A training file: network, data, optimizer, steps (.yaml)
    pub config: PathBuf,
    /// Goes on from the last checkpoint, if there is one
    #[arg(long)]
    pub resume: bool,
    #[command(flatten)]
    pub device: DeviceFlags,
    #[command(flatten)]
    pub output: OutputFlags,
}
