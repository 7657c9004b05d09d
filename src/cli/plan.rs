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
    /// The noise levels: a name that `tweedie schedules` lists, '{kind: NAME, …}', or the levels, '[80, 10, 1, 0.1]'
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// How many noise levels; levels that are written out count themselves
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
        let schedule = self.schedule.as_deref().map(|text| choice::<AnySchedule>(text, "--schedule")).transpose()?;
        Ok(plan.with(schedule, self.steps, None))
    }

    /// Whether a sampler was named.
    pub fn names_sampler(&self) -> bool {
        self.sampler.is_some()
    }
}
