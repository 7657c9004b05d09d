//! Moment matching.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Effort, InverseProblem, Method, Seen, asked, to_the_end};
use crate::{
    Error,
    inverse::{likelihood::GaussianLikelihood, moment_matching::MomentMatching},
    numbers::plan::ResolvedPlan,
};

/// A denoiser that knows the measurement, by matched moments through the network's Jacobian [Rozet et al. 2024]: see
/// [`MomentMatching`]. With enough iterations it is TMPD [Boys et al. 2023] without its diagonal approximation.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mmps {
    /// Of the linear solver; 2 unless said otherwise.
    #[serde(default = "two")]
    pub iterations: usize,
}

fn two() -> usize {
    2
}

impl Default for Mmps {
    fn default() -> Self {
        Self { iterations: two() }
    }
}

impl Method for Mmps {
    fn samples(&self) -> bool {
        true
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        if self.iterations == 0 {
            return Err(Error::parameter("iterations", "at least 1", 0));
        }
        likelihood.linear("mmps").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        let evaluations = asked(plan);
        Effort { evaluations, gradients: evaluations * (self.iterations + 1) }
    }

    fn run(&self, problem: &InverseProblem, x: Tensor, seen: &mut Seen) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("mmps")?;
        let score = MomentMatching { prior: &problem.prior, likelihood, iterations: self.iterations };
        to_the_end(problem, &score, x, seen)
    }
}
