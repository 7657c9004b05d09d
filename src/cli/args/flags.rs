//! Flags that several commands share, in groups: a command takes the groups that it uses.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// Flags that choose the model.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct ModelFlags {
    /// Replaces a value of the model's card, which `tweedie inspect` shows; may be given several times
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Model")]
    pub set: Vec<String>,
    /// Card (the network and its conventions) to use in place of the model's own
    #[arg(long, value_name = "FILE.yaml", help_heading = "Model")]
    pub card: Option<PathBuf>,
}

/// Flags that choose the networks' device and precision.
#[derive(Args, Clone, Debug)]
pub struct DeviceFlags {
    /// Device: auto (CUDA where it is present), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", help_heading = "Compute")]
    pub device: String,
    /// Precision of the network; the state of a walk is always f32
    #[arg(long, value_enum, default_value = "f32", help_heading = "Compute")]
    pub precision: PrecisionFlag,
    /// Computes with libtorch alone: on the CPU without Winograd convolutions, whose rounding is larger
    #[arg(long, help_heading = "Compute")]
    pub exact: bool,
    /// CPU threads of libtorch [default: OMP_NUM_THREADS, or all physical cores]
    #[arg(long, value_name = "N", help_heading = "Compute")]
    pub threads: Option<usize>,
}

/// Flags that choose the device of networks with one precision.
#[derive(Args, Clone, Debug)]
pub struct PlaceFlags {
    /// Device: auto (CUDA where it is present), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", help_heading = "Compute")]
    pub device: String,
    /// Computes with libtorch alone: on the CPU without Winograd convolutions, whose rounding is larger
    #[arg(long, help_heading = "Compute")]
    pub exact: bool,
    /// CPU threads of libtorch [default: OMP_NUM_THREADS, or all physical cores]
    #[arg(long, value_name = "N", help_heading = "Compute")]
    pub threads: Option<usize>,
}

/// Number of images computed together.
#[derive(Args, Clone, Debug, Default)]
pub struct BatchFlags {
    /// Number of images computed together [default: 16, on CUDA 64]
    #[arg(long, value_name = "N", help_heading = "Compute")]
    pub batch: Option<u64>,
    /// Gives the same bits at any batch size: the network receives one image at a time
    #[arg(long, help_heading = "Compute")]
    pub deterministic: bool,
}

/// Seed of the random numbers.
#[derive(Args, Clone, Debug, Default)]
pub struct SeedFlag {
    /// Seed of all random numbers besides the images' own: masks, measurement noise, bootstraps
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Compute")]
    pub seed: u64,
}

/// Flags of the terminal's output.
#[derive(Args, Clone, Debug, Default)]
pub struct OutputFlags {
    /// Prints no progress and no prose
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
    /// Prints one JSON record on standard output instead of prose
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// Precision of the network.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum PrecisionFlag {
    F32,
    Tf32,
    Bf16,
}
