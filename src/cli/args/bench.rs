//! The flags of `tweedie bench`.

use std::path::PathBuf;

use clap::Args;

use super::flags::{DeviceFlags, ModelFlags, OutputFlags};

/// Measure a network's speed: images and evaluations per second, the loop's share, FLOP/s, memory
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie bench fashion-mnist
  tweedie bench fashion-mnist --gradient --batches 4
  tweedie bench google/ddpm-cifar10-32/ --batches 1,4,16 --compare --python .venv/bin/python")]
pub struct BenchArgs {
    #[arg(help = super::MODEL)]
    pub model: String,
    /// Batch sizes, measured one after another
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64", value_name = "N,…")]
    pub batches: Vec<i64>,
    /// Number of steps of the model's own walk at each batch size; the first is not counted
    #[arg(long, default_value_t = 6, value_name = "K")]
    pub steps: usize,
    /// Include the gradient of a misfit through the network in each evaluation, as DPS needs it
    #[arg(long)]
    pub gradient: bool,
    /// Measure diffusers' UNet2DModel in PyTorch with the same weights as well: turn by turn, median of the ratios
    #[arg(long)]
    pub compare: bool,
    /// Run UNet2DModel under torch.compile, frozen; this takes minutes for each batch size
    #[arg(long, requires = "compare")]
    pub compiled: bool,
    /// Compare with the network that this script serves in place of UNet2DModel, as tests/parity/forwards.py does for
    /// other classes
    #[arg(long, requires = "compare", value_name = "FILE.py")]
    pub peer: Option<PathBuf>,
    /// Number of turns of the comparison
    #[arg(long, default_value_t = 15, value_name = "N")]
    pub rounds: usize,
    /// Path of a Python that has torch and diffusers
    #[arg(long, default_value = "python3", value_name = "PATH")]
    pub python: PathBuf,
    #[command(flatten)]
    pub source: ModelFlags,
    #[command(flatten)]
    pub device: DeviceFlags,
    #[command(flatten)]
    pub output: OutputFlags,
}
