//! Sampling methods of experiments.

use serde::{Deserialize, Serialize};

use crate::numbers::{
    plan::{AnySampler, Plan},
    schedule::AnySchedule,
    sde::AnySde,
};

/// A sampler with its schedule and process, as an experiment names it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingMethod {
    /// Name in the table.
    pub name: String,
    /// Sampler.
    pub sampler: AnySampler,
    /// Noise levels.
    pub schedule: AnySchedule,
    /// Process that gives the prior of the initial points and the frame of the scores' errors; without it, points start
    /// at N(0, σ²) and errors are in the σ frame.
    #[serde(default)]
    pub sde: Option<AnySde>,
    /// Maximum numbers of evaluations for an image, if this row's columns differ from the experiment's.
    #[serde(default)]
    pub evaluations: Option<Vec<usize>>,
}

impl SamplingMethod {
    /// Returns the plan with the most levels whose evaluations do not exceed `budget`, and its number of evaluations;
    /// `None` if even one level takes more, or if the state decides the number.
    pub fn within(&self, budget: usize, range: (f64, f64)) -> Option<(Plan, usize)> {
        let scheme = |steps: usize| Some(self.plan(steps).resolve(range, f64::INFINITY).ok()?.scheme);
        if scheme(2).is_some_and(|scheme| scheme.is_adaptive()) {
            return None;
        }
        let spent = |steps: usize| scheme(steps).map(|scheme| (steps, scheme.evaluations()));
        let (steps, evaluations) = (1..=budget).rev().filter_map(spent).find(|(_, spent)| *spent <= budget)?;
        Some((self.plan(steps), evaluations))
    }

    /// Returns the plan with `steps` levels.
    pub(super) fn plan(&self, steps: usize) -> Plan {
        Plan { schedule: self.schedule.clone(), steps, sampler: self.sampler.clone() }
    }
}
