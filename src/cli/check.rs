//! `tweedie check`: what experiments are worth before anything is computed.

use std::{fmt, path::PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};
use tweedie::run::{
    experiment::{AnyExperiment, DistanceExperiment, RestorationExperiment, SamplingMethod},
    table::{TableExperiment, TableRow},
};

use super::{flags::OutputFlags, table::experiments, thousands};

/// Prove that experiments parse and that their walks are the papers', and tell what they will cost
///
/// Where a file states the noise levels with which a paper's walk begins and ends, the plan has to come to the same.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie check
  tweedie check experiments/published --rate 3000")]
pub struct Check {
    /// Folders of experiments, or files
    #[arg(default_value = "experiments", value_name = "DIR|FILE.yaml")]
    experiments: Vec<PathBuf>,
    /// Evaluations of the network per second and image, as the device makes them: tells the hours
    #[arg(long, value_name = "RATE")]
    rate: Option<f64>,
    #[command(flatten)]
    output: OutputFlags,
}

/// Expectations that were missed: told line by line before.
#[derive(Debug)]
pub struct Missed(usize);

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of what the experiments say does not hold", self.0)
    }
}

impl std::error::Error for Missed {}

/// A row of an experiment: its name, and what an image costs and how many there are, or what is wrong with it.
type Line = (String, Result<(usize, u64)>);

impl Check {
    pub fn run(&self) -> Result<()> {
        if self.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            bail!("--rate must be positive");
        }
        let (mut missed, mut told) = (0, Vec::new());
        for folder in &self.experiments {
            for path in experiments(folder)? {
                self.output.say(format_args!("\n{}", path.display()));
                for (name, outcome) in lines(&path) {
                    missed += usize::from(outcome.is_err());
                    told.push(self.tell(&path.display().to_string(), &name, outcome));
                }
            }
        }
        self.output.record(&told)?;
        if missed > 0 { Err(Missed(missed).into()) } else { Ok(()) }
    }

    fn tell(&self, file: &str, name: &str, outcome: Result<(usize, u64)>) -> Value {
        let (evaluations, images) = match outcome {
            Ok(cost) => cost,
            Err(e) => {
                self.output.say(format_args!("  wrong: {name}: {e:#}"));
                return json!({"file": file, "row": name, "wrong": format!("{e:#}")});
            }
        };
        if images == 0 {
            self.output.say(format_args!("  {name}"));
            return json!({"file": file, "row": name});
        }
        let total = evaluations as f64 * images as f64;
        let hours = self.rate.map(|rate| total / rate / 3600.0);
        let time = hours.map_or_else(String::new, |hours| format!(", {hours:.2} h"));
        let known = if evaluations == 0 { "as many as the state asks for".to_owned() } else { thousands(evaluations) };
        self.output.say(format_args!("  {name}: {known} evaluations × {} images{time}", thousands(images as usize)));
        json!({"file": file, "row": name, "evaluations": evaluations, "images": images, "hours": hours})
    }
}

/// The rows of an experiment.
fn lines(path: &std::path::Path) -> Vec<Line> {
    match AnyExperiment::read(path) {
        Err(e) => vec![(String::new(), Err(e.into()))],
        Ok(AnyExperiment::Generation(of)) => generated(&of),
        Ok(AnyExperiment::Distance(of)) => distances(&of),
        Ok(AnyExperiment::Restorations(of)) => restored(&of),
        Ok(AnyExperiment::Points(of)) => {
            let count = of.methods.len() * of.levels.len() * of.errors.len();
            vec![(format!("{count} figures on {} points with exact scores", of.count), Ok((0, 0)))]
        }
        Ok(AnyExperiment::Posteriors(of)) => {
            let count = of.methods.len() * of.levels.len();
            vec![(format!("{count} figures on {} points with exact scores", of.count), Ok((0, 0)))]
        }
    }
}

fn generated(of: &TableExperiment) -> Vec<Line> {
    let whole = of.check().map_err(anyhow::Error::from).err().map(|e| (String::new(), Err(e)));
    let row = |row: &TableRow| {
        let cost = of.evaluations(row).map(|evaluations| (evaluations, of.images * of.repeats));
        (row.name.clone(), cost.map_err(anyhow::Error::from))
    };
    whole.into_iter().chain(of.rows.iter().map(row)).collect()
}

fn distances(of: &DistanceExperiment) -> Vec<Line> {
    let line = |method: &SamplingMethod| {
        let budgets = method.evaluations.as_ref().unwrap_or(&of.evaluations);
        (method.name.clone(), Ok((budgets.iter().sum(), of.images * of.blocks)))
    };
    of.methods.iter().map(line).collect()
}

fn restored(of: &RestorationExperiment) -> Vec<Line> {
    let mut lines = Vec::new();
    for posed in &of.tasks {
        for way in &of.methods {
            let name = format!("{}, {}", posed.name, way.name);
            let estimate = of.estimate(posed, way).context("cannot be laid out");
            let images = (of.limit.unwrap_or(1) * of.samples) as u64;
            lines.push((name, estimate.map(|e| (e.effort.evaluations + e.effort.gradients, images))));
        }
    }
    lines
}
