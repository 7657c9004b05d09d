//! `tweedie train`: the training template, with checkpoints and a loss curve.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::{Result, bail};
use clap::Args;
use tweedie::{
    evaluation::features::FeatureCard,
    files::{images, yaml},
    models::card::Card,
    numbers::plan::Plan,
    report::sheet,
    training::{AnyObjective, Trainer, Training},
};

use super::{Common, INTERRUPTED, thousands, workers};

/// Steps over which a point of the loss curve is averaged.
const EVERY: u64 = 20;

/// Train a score network, or the classifier whose features measure distances
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie train experiments/train-fashion-mnist.yaml
  tweedie train experiments/train-fashion-mnist.yaml --resume")]
pub struct Train {
    /// What to train, on what, and how
    config: PathBuf,
    /// Go on from the last checkpoint, if there is one
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    common: Common,
}

impl Train {
    pub fn run(&self) -> Result<()> {
        let config: Training = yaml::read(&self.config)?;
        let out = config.out.clone();
        let device = self.common.device()?;
        let kind = self.common.kind(device)?;
        let begun = out.join("checkpoint.safetensors").exists();
        if begun && !self.resume {
            bail!("{}: holds a run already: --resume goes on with it, another `out` begins anew", out.display());
        }
        let start = if begun { Trainer::resume } else { Trainer::new };
        let threads = workers(device, config.micro_batches());
        let mut trainer = start(config, device, kind, threads)?;
        let parameters: usize = trainer.average().values().map(tch::Tensor::numel).sum();
        self.common.say(format_args!(
            "{} parameters on {device:?}, from step {} to {}",
            thousands(parameters),
            trainer.step(),
            trainer.config().steps
        ));
        let mut curve = Curve::read(&out, trainer.step());
        self.steps(&mut trainer, &mut curve)?;
        curve.write(&out)?;
        let model = out.join("model.safetensors");
        trainer.export(&model, &card(trainer.config())?)?;
        self.common.say(format_args!("step {}: {} and the loss curve beside it", trainer.step(), model.display()));
        self.common.record(&serde_json::json!({"step": trainer.step(), "loss": curve.last(), "model": model}))
    }

    fn steps(&self, trainer: &mut Trainer, curve: &mut Curve) -> Result<()> {
        let config = trainer.config().clone();
        let bar = self.common.bar(config.steps, "training");
        bar.set_position(trainer.step());
        let start = Instant::now();
        let mut losses = Vec::new();
        while trainer.step() < config.steps {
            losses.push(trainer.advance()?);
            bar.inc(1);
            if trainer.step().is_multiple_of(EVERY) {
                let loss = f64::try_from(tch::Tensor::stack(&losses, 0).mean(tch::Kind::Double))?;
                losses.clear();
                if !loss.is_finite() {
                    bail!("the loss is not finite at step {}: lower the rate, or clip more", trainer.step());
                }
                bar.set_message(format!("loss {loss:.4}"));
                curve.push(trainer.step(), loss, trainer.rate(), start.elapsed().as_secs_f64());
            }
            let stop = INTERRUPTED.load(std::sync::atomic::Ordering::Relaxed);
            if stop || trainer.step().is_multiple_of(config.checkpoint_every) {
                trainer.save()?;
                curve.write(&config.out)?;
            }
            if stop {
                bail!("interrupted at step {}; --resume goes on from there", trainer.step());
            }
        }
        bar.finish_and_clear();
        Ok(trainer.save()?)
    }
}

/// The card of a freshly trained network: what the training file says, and for a denoiser DDIM-50 until somebody knows
/// better.
fn card(config: &Training) -> Result<String> {
    let data = config.data.load()?;
    let size = data.pixels.size();
    let image = [size[1], size[2], size[3]];
    let name = config.out.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    let about = format!("trained on {} images", thousands(data.count()));
    let training = format!("{} steps of {} images", config.steps, config.batch);
    let text = match &config.objective {
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
    };
    Ok(text?)
}

/// The loss, step by step: `loss.csv` and `loss.png`.
struct Curve(Vec<String>);

impl Curve {
    /// What an earlier part of the run wrote, up to `step`.
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

    fn write(&self, out: &Path) -> Result<()> {
        let mut text = String::from("step,loss,rate,seconds\n");
        for line in &self.0 {
            let _ = writeln!(text, "{line}");
        }
        images::write_whole(&out.join("loss.csv"), text.as_bytes())?;
        let picture = sheet::curve("training loss", "step", &self.points())?;
        Ok(images::write_png(&out.join("loss.png"), &picture)?)
    }
}
