//! The flags of `tweedie inspect`.

use clap::Args;

use super::flags::{ModelFlags, OutputFlags};

/// Show a model's architecture, conventions, parameters and hash
#[derive(Args, Debug)]
pub struct InspectArgs {
    #[arg(help = super::MODEL)]
    pub model: String,
    /// List every tensor with its shape
    #[arg(long)]
    pub tensors: bool,
    #[command(flatten)]
    pub source: ModelFlags,
    #[command(flatten)]
    pub output: OutputFlags,
}
