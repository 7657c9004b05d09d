//! `tweedie check`: checks of experiments before anything is computed.

use std::fmt;

use anyhow::{Result, bail};
use serde_json::{Value, json};
use tweedie::run::{
    check::{self, CheckedRow, RowCost},
    report::experiments,
};

use super::{args::check::CheckArgs, thousands};

/// Number of missed expectations; each has been printed on a line of its own before.
#[derive(Debug)]
pub struct Missed(usize);

impl fmt::Display for Missed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "statements of the experiments that do not hold: {}", self.0)
    }
}

impl std::error::Error for Missed {}

impl CheckArgs {
    pub fn run(&self) -> Result<()> {
        if self.rate.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
            bail!("--rate must be positive");
        }
        let (mut missed, mut lines) = (0, Vec::new());
        for folder in &self.experiments {
            for path in experiments(folder)? {
                self.output.say(format_args!("\n{}", path.display()));
                for row in check::rows(&path) {
                    missed += usize::from(row.cost.is_err());
                    lines.push(self.line(&path.display().to_string(), row));
                }
            }
        }
        self.output.record(&lines)?;
        if missed > 0 { Err(Missed(missed).into()) } else { Ok(()) }
    }

    fn line(&self, file: &str, CheckedRow { name, cost }: CheckedRow) -> Value {
        let RowCost { evaluations, images } = match cost {
            Ok(cost) => cost,
            Err(e) => {
                self.output.say(format_args!("  wrong: {name}: {e}"));
                return json!({"file": file, "row": name, "wrong": e.to_string()});
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
