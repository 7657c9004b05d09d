//! One way to sample, as an experiment names it.

use serde::{Deserialize, Serialize};

use crate::numbers::{
    plan::{AnySampler, Plan},
    schedule::AnySchedule,
    sde::AnySde,
};

/// One way to sample.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SamplingMethod {
    /// Name in the table.
    pub name: String,
    /// Sampler.
    pub sampler: AnySampler,
    /// Noise levels.
    pub schedule: AnySchedule,
    /// The process from whose prior points start, and in whose frame scores err; x = N(0, σ²) and the σ frame without.
    #[serde(default)]
    pub sde: Option<AnySde>,
    /// The most evaluations for an image, if this row's columns are others than the experiment's.
    #[serde(default)]
    pub evaluations: Option<Vec<usize>>,
}

impl SamplingMethod {
    /// The method with the most levels whose evaluations do not exceed `budget`, and how many that are; none if even one
    /// level takes more, or if the state decides.
    pub fn within(&self, budget: usize, range: (f64, f64)) -> Option<(Plan, usize)> {
        let scheme = |steps: usize| Some(self.plan(steps).resolve(range, f64::INFINITY).ok()?.scheme);
        if scheme(2).is_some_and(|scheme| scheme.is_adaptive()) {
            return None;
        }
        let spent = |steps: usize| scheme(steps).map(|scheme| (steps, scheme.evaluations()));
        let (steps, evaluations) = (1..=budget).rev().filter_map(spent).find(|(_, spent)| *spent <= budget)?;
        Some((self.plan(steps), evaluations))
    }

    /// The plan with so many levels.
    pub(super) fn plan(&self, steps: usize) -> Plan {
        Plan { schedule: self.schedule.clone(), steps, sampler: self.sampler.clone() }
    }
}
