//! The flags of `tweedie run`.

use std::path::PathBuf;

use clap::Args;

use super::flags::{BatchFlags, DeviceFlags, OutputFlags, SeedFlag};

/// Run an experiment: compare methods, as a table and a plot
///
/// Finished parts are kept: the same command goes on where it stopped.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie run experiments/discretisation.yaml
  tweedie run experiments/sampler-menu.yaml --precision bf16
  tweedie run experiments/published/edm-cifar10.yaml --models DIR --row 'F, unconditional, VP'
  srun --ntasks-per-node 8 tweedie run experiments/quick-table.yaml    # or torchrun --no-python, or mpirun")]
pub struct RunArgs {
    /// File of the experiment
    #[arg(value_name = "FILE.yaml")]
    pub experiment: PathBuf,
    /// Folder for table, plot and figures: NAME.md, NAME.png, NAME.json
    #[arg(long, default_value = "experiments/results", value_name = "DIR")]
    pub results: PathBuf,
    /// Folder for images, with a subfolder for each method
    #[arg(long, default_value = "out/experiments", value_name = "DIR")]
    pub out: PathBuf,
    /// Print what restorations and tables of generated images would cost, without the network
    #[arg(long = "dry-run")]
    pub dry: bool,
    /// Tables of generated images: folder of the checkpoints that are not where the file names them
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Tables of generated images: run only rows whose names contain NAME
    #[arg(long, value_name = "NAME")]
    pub row: Option<String>,
    /// Tables of generated images: draw N images in place of the file's number, for a first look
    #[arg(long, value_name = "N")]
    pub images: Option<u64>,
    /// Tables of generated images: measure nothing; `tweedie evaluate` can measure the stored images later
    #[arg(long)]
    pub draw_only: bool,
    /// Tables of generated images: seconds of silence after which a process's work is taken over by another
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
