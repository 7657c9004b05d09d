//! `--sampler`, `--schedule` and `--steps`.

use std::path::Path;

use anyhow::Result;
use clap::Args;
use tweedie::{
    files::yaml,
    numbers::{
        plan::{AnySampler, Plan},
        schedule::AnySchedule,
    },
};

use super::choice;

/// How to walk; what is left out is the model's own choice.
#[derive(Args, Debug, Default)]
pub struct PlanFlags {
    /// A name that `tweedie samplers` lists, '{kind: NAME, …}', or a .yaml file with a whole plan
    #[arg(long, value_name = "NAME|FILE.yaml")]
    sampler: Option<String>,
    /// The noise levels: geometric, karras, linear, linear-beta, sigmoid, cosine, …, or '{kind: NAME, …}'
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// How many noise levels
    #[arg(long, value_name = "K")]
    steps: Option<usize>,
}

impl PlanFlags {
    /// The plan that the flags make of `default`.
    pub fn over(&self, default: &Plan) -> Result<Plan> {
        let mut plan = default.clone();
        if let Some(sampler) = &self.sampler {
            let path = Path::new(sampler);
            if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                plan = yaml::read(path)?;
            } else {
                plan.sampler = choice::<AnySampler>(sampler, "--sampler")?;
            }
        }
        if let Some(schedule) = &self.schedule {
            plan.schedule = choice::<AnySchedule>(schedule, "--schedule")?;
        }
        plan.steps = self.steps.unwrap_or(plan.steps);
        Ok(plan)
    }

    /// Whether a sampler was named.
    pub fn names_sampler(&self) -> bool {
        self.sampler.is_some()
    }
}
