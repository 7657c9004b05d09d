//! The flags of `tweedie run`.

use std::path::PathBuf;

use clap::Args;

use super::flags::{BatchFlags, DeviceFlags, OutputFlags, SeedFlag};

/// Run an experiment: methods beside each other, as a table and a plot
///
/// What is finished is kept: the same command goes on where it stopped.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie run experiments/discretisation.yaml
  tweedie run experiments/sampler-menu.yaml --precision bf16
  tweedie run experiments/published/edm-cifar10.yaml --models DIR --row 'F, unconditional, VP'
  srun --ntasks-per-node 8 tweedie run experiments/quick-table.yaml    # or torchrun --no-python, or mpirun")]
pub struct RunArgs {
    /// The experiment
    #[arg(value_name = "FILE.yaml")]
    pub experiment: PathBuf,
    /// Folder for table, plot and figures: NAME.md, NAME.png, NAME.json
    #[arg(long, default_value = "experiments/results", value_name = "DIR")]
    pub results: PathBuf,
    /// Folder for images, with a folder in it for each method
    #[arg(long, default_value = "out/experiments", value_name = "DIR")]
    pub out: PathBuf,
    /// Restorations and tables of generated images: what they cost, without the network
    #[arg(long = "dry-run")]
    pub dry: bool,
    /// Tables of generated images: where checkpoints are that are not where the file names them
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Tables of generated images: only rows whose names contain this
    #[arg(long, value_name = "NAME")]
    pub row: Option<String>,
    /// Tables of generated images: only so many in place of the file's number, for a first look
    #[arg(long, value_name = "N")]
    pub images: Option<u64>,
    /// Tables of generated images: measure nothing; `tweedie evaluate` does it later of the stored images
    #[arg(long)]
    pub draw_only: bool,
    /// Tables of generated images: after how many seconds of silence another process takes over the work of one
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    pub patience: u64,
    /// Replaces a value of the models' cards, which `tweedie inspect` shows; may be given several times
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Model")]
    pub set: Vec<String>,
    #[command(flatten)]
    pub device: DeviceFlags,
    #[command(flatten)]
    pub batch: BatchFlags,
    #[command(flatten)]
    pub seed: SeedFlag,
    #[command(flatten)]
    pub output: OutputFlags,
}
