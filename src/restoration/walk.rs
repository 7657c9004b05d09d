//! The paper's own posterior walk.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Effort, Method, Posed, Seen, asked, sample};
use crate::{
    Error,
    likelihood::{GaussianLikelihood, Likelihood, Posterior, StepLimit},
    plan::{Course, Plan},
};

/// The exact likelihood at every level, and steps short enough for it [Random Walks]: see [`Posterior`].
///
/// x ← x + τ (s(x, σ) + Aᵀ(y − A x)/η²) + √(2τT) n with τ = min(c σ², limit), both scores at the old x.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Walk {
    /// Of τ.
    #[serde(default)]
    pub limit: StepLimit,
}

impl Method for Walk {
    fn plan(&self) -> Option<Plan> {
        Some(Plan::exact_posterior())
    }

    fn samples(&self) -> bool {
        true
    }

    fn step_limit(&self, likelihood: &GaussianLikelihood) -> f64 {
        likelihood.limited(self.limit)
    }

    fn check(&self, _: &GaussianLikelihood) -> Result<(), Error> {
        Ok(())
    }

    fn effort(&self, course: &Course) -> Effort {
        Effort { evaluations: asked(course), gradients: 0 }
    }

    fn run(&self, posed: &Posed, x: Tensor, seen: &mut Seen) -> Result<Tensor, Error> {
        let likelihood: &dyn Likelihood = posed.likelihood;
        sample(posed, &Posterior { prior: &posed.prior, likelihood }, x, seen)
    }
}
