//! The flags of `tweedie doctor`.

use clap::Args;

use super::flags::OutputFlags;

/// Report which libtorch, devices and models were found
#[derive(Args, Debug)]
pub struct DoctorArgs {
    #[command(flatten)]
    pub output: OutputFlags,
}
