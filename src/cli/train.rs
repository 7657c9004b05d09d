//! `tweedie train`: trains a network from a training file.

use anyhow::Result;
use tweedie::{files::yaml, run::train::TrainingRun};

use super::{Interrupted, args::train::TrainArgs, thousands};

impl TrainArgs {
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
