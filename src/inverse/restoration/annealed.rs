//! Annealed Langevin dynamics.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, asked, to_the_end};
use crate::{
    Error,
    inverse::likelihood::{self, GaussianLikelihood},
    numbers::{
        plan::{Plan, ResolvedPlan},
        registry::entry,
    },
};

entry! {
    name: "annealed",
    what: "likelihood as broad as the level’s noise",
    source: "Jalal et al. 2021",
    facts: { cost: "1", tasks: "any", spread: "posterior" },
    /// The likelihood as broad as the noise of the level, exact from σ = η/‖A‖ on [Jalal et al. 2021]: see [`likelihood::AnnealedPosterior`].
    pub struct Annealed {}
}

impl Method for Annealed {
    fn plan(&self) -> Option<Plan> {
        Some(Plan::annealed_posterior())
    }

    fn samples(&self) -> bool {
        true
    }

    fn check(&self, _: &GaussianLikelihood) -> Result<(), Error> {
        Ok(())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: asked(plan), gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        to_the_end(
            problem,
            &likelihood::AnnealedPosterior { prior: &problem.prior, likelihood: problem.likelihood },
            x,
            seen,
        )
    }
}
