//! The flags of `tweedie check`.

use std::path::PathBuf;

use clap::Args;

use super::flags::OutputFlags;

/// Prove that experiments parse and that their walks are the papers', and print what they will cost
///
/// Where a file states the first and last noise levels of a paper's walk, the plan has to arrive at these levels.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie check
  tweedie check experiments/published --rate 3000")]
pub struct CheckArgs {
    /// Folders of experiments, or files
    #[arg(default_value = "experiments", value_name = "DIR|FILE.yaml")]
    pub experiments: Vec<PathBuf>,
    /// Evaluations of the network per second and image, as `tweedie bench` measures them: adds the hours to the table
    #[arg(long, value_name = "RATE")]
    pub rate: Option<f64>,
    #[command(flatten)]
    pub output: OutputFlags,
}
