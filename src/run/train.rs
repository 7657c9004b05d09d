//! Training from a file: the loop with its checkpoints, its loss curve and the final model.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Serialize;
use tch::{Kind, Tensor};

use super::{observer::Observer, session::Session};
use crate::{
    Error,
    evaluation::features::FeatureCard,
    files::images,
    models::card::Card,
    numbers::plan::Plan,
    report::{sheet, text::thousands},
    training::{AnyObjective, Trainer, Training},
};

/// Number of steps over which a point of the loss curve is averaged.
const EVERY: u64 = 20;

/// A training run in its folder: checkpoint.safetensors, loss.csv, loss.png and, at the end, model.safetensors.
#[derive(Debug)]
pub struct TrainingRun {
    trainer: Trainer,
    curve: LossCurve,
}

/// A finished training run.
#[derive(Clone, Debug, Serialize)]
pub struct Trained {
    /// Total number of steps.
    pub step: u64,
    /// Loss at the last point of the loss curve.
    pub loss: Option<f64>,
    /// Path of the model.
    pub model: PathBuf,
}

impl TrainingRun {
    /// Begins the run; with `resume`, goes on from the last checkpoint if there is one.
    pub fn open(config: Training, resume: bool, session: &Session) -> Result<Self, Error> {
        let out = config.out.clone();
        let begun = out.join("checkpoint.safetensors").exists();
        if begun && !resume {
            let cause = "holds a run already: `resume` goes on with it, another `out` begins anew";
            return Err(Error::file(out, cause));
        }
        let start = if begun { Trainer::resume } else { Trainer::new };
        let threads = session.workers(config.micro_batches());
        let trainer = start(config, session.device, session.kind()?, threads)?;
        let curve = LossCurve::read(&out, trainer.step());
        Ok(Self { trainer, curve })
    }

    /// Returns the number of steps done.
    pub fn step(&self) -> u64 {
        self.trainer.step()
    }

    /// Returns the settings of the run.
    pub fn config(&self) -> &Training {
        self.trainer.config()
    }

    /// Returns the number of parameters of the network.
    pub fn parameters(&self) -> usize {
        self.trainer.average().values().map(Tensor::numel).sum()
    }

    /// Takes the remaining steps, and then writes the model; an interruption leaves a checkpoint of the last step.
    pub fn run(&mut self, observer: &dyn Observer) -> Result<Trained, Error> {
        let config = self.config().clone();
        observer.begun("training", config.steps);
        observer.advanced(self.step());
        let start = Instant::now();
        let mut losses = Vec::new();
        while self.step() < config.steps {
            losses.push(self.trainer.advance()?);
            observer.advanced(1);
            if self.step().is_multiple_of(EVERY) {
                let loss = self.point(&mut losses, start)?;
                observer.figure(&format!("loss {loss:.4}"));
            }
            let stop = observer.stops();
            if stop || self.step().is_multiple_of(config.checkpoint_every) {
                self.save()?;
            }
            if stop {
                return Err(Error::Interrupted);
            }
        }
        observer.ended();
        self.save()?;
        self.export()
    }

    /// Adds a point to the loss curve: the mean of these losses.
    fn point(&mut self, losses: &mut Vec<Tensor>, start: Instant) -> Result<f64, Error> {
        let (step, rate) = (self.trainer.step(), self.trainer.rate());
        let loss = f64::try_from(Tensor::stack(losses, 0).mean(Kind::Double))?;
        losses.clear();
        if !loss.is_finite() {
            let cause = format!("the loss is not finite at step {step}: lower the rate, or clip more");
            return Err(Error::request(cause));
        }
        self.curve.push(step, loss, rate, start.elapsed().as_secs_f64());
        Ok(loss)
    }

    fn save(&self) -> Result<(), Error> {
        self.trainer.save()?;
        self.curve.write(&self.config().out)
    }

    fn export(&self) -> Result<Trained, Error> {
        let config = self.config();
        let model = config.out.join("model.safetensors");
        self.trainer.export(&model, &card(config)?)?;
        Ok(Trained { step: self.step(), loss: self.curve.last(), model })
    }
}

/// Creates the card of a newly trained network from the training file; a denoiser gets DDIM-50 as its default plan.
fn card(config: &Training) -> Result<String, Error> {
    let data = config.data.load()?;
    let size = data.pixels.size();
    let image = [size[1], size[2], size[3]];
    let name = config.out.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    let about = format!("trained on {} images", thousands(data.count()));
    let training = format!("{} steps of {} images", config.steps, config.batch);
    match &config.objective {
        AnyObjective::Denoise(denoise) => Card {
            name,
            about,
            reference: String::new(),
            data: String::new(),
            licence: String::new(),
            training,
            image,
            pixels: Card::PIXELS,
            network: denoise.network.clone(),
            precondition: denoise.precondition.clone(),
            sample: Plan::ddim(),
            restore: Plan::posterior(),
            clip: None,
        }
        .text(),
        AnyObjective::Classify(classify) => FeatureCard {
            name,
            about,
            data: String::new(),
            licence: String::new(),
            training,
            image,
            network: classify.network.clone(),
        }
        .text(),
    }
}

/// Loss curve in `loss.csv` and `loss.png`.
#[derive(Debug)]
struct LossCurve(Vec<String>);

impl LossCurve {
    /// Reads the points that an earlier part of the run wrote, up to `step`.
    fn read(out: &Path, step: u64) -> Self {
        let text = fs::read_to_string(out.join("loss.csv")).unwrap_or_default();
        let kept = |line: &&str| line.split(',').next().and_then(|n| n.parse().ok()).is_some_and(|n: u64| n <= step);
        Self(text.lines().skip(1).filter(kept).map(str::to_owned).collect())
    }

    fn push(&mut self, step: u64, loss: f64, rate: f64, seconds: f64) {
        self.0.push(format!("{step},{loss:.6},{rate:.3e},{seconds:.1}"));
    }

    fn last(&self) -> Option<f64> {
        self.points().last().map(|point| point.1)
    }

    fn points(&self) -> Vec<(f64, f64)> {
        let number = |text: Option<&str>| text.and_then(|text| text.parse().ok());
        let point = |line: &String| {
            let mut parts = line.split(',');
            Some((number(parts.next())?, number(parts.next())?))
        };
        self.0.iter().filter_map(point).collect()
    }

    fn write(&self, out: &Path) -> Result<(), Error> {
        let mut text = String::from("step,loss,rate,seconds\n");
        for line in &self.0 {
            let _ = writeln!(text, "{line}");
        }
        images::write_whole(&out.join("loss.csv"), text.as_bytes())?;
        let picture = sheet::curve("training loss", "step", &self.points())?;
        images::write_png(&out.join("loss.png"), &picture)
    }
}
