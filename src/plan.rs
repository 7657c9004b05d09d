//! How to walk: which levels, how many, and which sampler goes down them.

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    registry::one_of,
    samplers::{
        AnnealedLangevin, Churn, Consistent, Ddim, Ddpm, ProbabilityFlow, Sampler, Simplified, VeAncestral,
        VeEulerMaruyama, VeReverseDiffusion, VpAncestral,
    },
    schedule::{AnySchedule, count},
    sigma::Sigmas,
    walk::Walk,
};

one_of! {
    /// What `sampler:` may name.
    pub enum AnySampler: Sampler {
        AnnealedLangevin, Churn, Consistent, Ddim, Ddpm, ProbabilityFlow, Simplified, VeAncestral, VeEulerMaruyama,
        VeReverseDiffusion, VpAncestral
    }
}

/// A walk before its model is known.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where the levels lie.
    pub schedule: AnySchedule,
    /// How many levels.
    pub steps: usize,
    /// How to walk down them.
    pub sampler: AnySampler,
}

impl Plan {
    /// The levels, for a model that was trained from σ = `range.0` to `range.1`.
    pub fn sigmas(&self, range: (f64, f64)) -> Result<Sigmas, Error> {
        self.schedule.get().sigmas(count("steps", self.steps)?, range)
    }

    /// The walk, for a model that was trained from σ = `range.0` to `range.1`.
    pub fn walk(&self, range: (f64, f64)) -> Result<Walk, Error> {
        self.sampler.get().walk(&self.sigmas(range)?)
    }
}
