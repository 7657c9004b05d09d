//! Moment matching.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, asked, to_the_end};
use crate::{
    Error,
    inverse::{likelihood::GaussianLikelihood, moment_matching::MomentMatching},
    numbers::{plan::ResolvedPlan, registry::entry},
};

entry! {
    name: "mmps",
    what: "E[X | x, y] by moments through the Jacobian; default",
    source: "Rozet et al. 2024",
    facts: { cost: "1 + 3", tasks: "linear", spread: "posterior" },
    /// A denoiser that knows the measurement, by matched moments through the network's Jacobian [Rozet et al. 2024]: see
    /// [`MomentMatching`]. With enough iterations it is TMPD [Boys et al. 2023] without its diagonal approximation.
    pub struct Mmps {
        /// Iterations of the linear solver.
        pub iterations: usize = 2 => "≥ 1",
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

    fn run(&self, problem: &InverseProblem, x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("mmps")?;
        let score = MomentMatching { prior: &problem.prior, likelihood, iterations: self.iterations };
        to_the_end(problem, &score, x, seen)
    }
}
