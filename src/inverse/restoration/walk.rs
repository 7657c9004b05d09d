//! The paper's own posterior walk.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, asked, to_the_end};
use crate::{
    Error,
    inverse::likelihood::{GaussianLikelihood, Likelihood, Posterior, StepLimit},
    numbers::{
        plan::{Plan, ResolvedPlan},
        registry::entry,
    },
};

entry! {
    name: "walk",
    what: "exact likelihood at every level, short steps",
    source: "Random Walks",
    facts: { cost: "1", tasks: "any", spread: "posterior" },
    /// The exact likelihood at every level, and steps short enough for it [Random Walks]: see [`Posterior`].
    ///
    /// x ← x + τ (s(x, σ) + Aᵀ(y − A x)/η²) + √(2τT) n with τ = min(c σ², limit), both scores at the old x.
    pub struct Walk {
        /// The bound on τ: η²/‖A‖² (norm) or η² (paper).
        pub limit: StepLimit = StepLimit::Norm => "norm, paper",
    }
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

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: asked(plan), gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood: &dyn Likelihood = problem.likelihood;
        to_the_end(problem, &Posterior { prior: &problem.prior, likelihood }, x, seen)
    }
}
