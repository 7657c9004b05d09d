//! `tweedie train`: a network from a training file.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tweedie::{files::yaml, run::train::TrainingRun};

use super::{
    Interrupted,
    flags::{DeviceFlags, OutputFlags},
    thousands,
};

/// Train a score network, or the classifier whose features measure distances
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie train experiments/train-fashion-mnist.yaml
  tweedie train experiments/train-fashion-mnist.yaml --resume")]
pub struct Train {
    /// A training file: network, data, optimizer, steps (.yaml)
    config: PathBuf,
    /// Goes on from the last checkpoint, if there is one
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    output: OutputFlags,
}

impl Train {
    pub fn run(&self) -> Result<()> {
        let session = self.device.session()?;
        let mut run = TrainingRun::open(yaml::read(&self.config)?, self.resume, &session)?;
        self.output.say(format_args!(
            "{} parameters on {:?}, from step {} to {}",
            thousands(run.parameters()),
            session.device,
            run.step(),
            run.config().steps
        ));
        let trained = run.run(&self.output.observer());
        if matches!(trained, Err(tweedie::Error::Interrupted)) {
            let text = format!("interrupted at step {}; --resume goes on from there", run.step());
            return Err(Interrupted(text).into());
        }
        let trained = trained?;
        let model = trained.model.display();
        self.output.say(format_args!("step {}: {model} and the loss curve beside it", trained.step));
        self.output.record(&trained)
    }
}
