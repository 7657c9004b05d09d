//! Plans from the flags `--sampler`, `--schedule` and `--steps`.

use std::path::Path;

use anyhow::Result;
use tweedie::{
    files::yaml,
    numbers::{
        plan::{AnySampler, Plan},
        schedule::AnySchedule,
    },
};

use super::{args::plan::PlanFlags, choice};

impl PlanFlags {
    /// Returns the plan `default` with the parts that the flags replace.
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

    /// Reports whether a sampler was named.
    pub fn names_sampler(&self) -> bool {
        self.sampler.is_some()
    }
}
