//! The flags of `tweedie table`.

use std::path::PathBuf;

use clap::Args;

use super::flags::OutputFlags;

/// Write all results as one table: published value, measured value, cost, and the command that repeats it
///
/// Writes RESULTS/tables.md, and RESULTS/tables.html, which a browser shows without a network connection.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie table
  tweedie table experiments/published --results experiments/results")]
pub struct TableArgs {
    /// Folder of experiments, searched with its subfolders
    #[arg(default_value = "experiments", value_name = "DIR")]
    pub experiments: PathBuf,
    /// Folder of the records and plots of `tweedie run`
    #[arg(long, default_value = "experiments/results", value_name = "DIR")]
    pub results: PathBuf,
    #[command(flatten)]
    pub output: OutputFlags,
}
