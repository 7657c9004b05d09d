//! Manifold-constrained gradients.

use tch::Tensor;

use super::{Dps, Effort, InverseProblem, Method, OnState, chain, levels, projection::projected};
use crate::{
    Error,
    inverse::likelihood::GaussianLikelihood,
    numbers::{
        plan::{Plan, ResolvedPlan},
        registry::entry,
    },
};

entry! {
    name: "mcg",
    what: "dps, then projection",
    source: "Chung et al. 2022",
    facts: { cost: "1 + 1", tasks: "linear", spread: "of scale" },
    /// Manifold-constrained gradients [Chung et al. 2022]: a step of [`Dps`], then a [`Projection`](super::Projection).
    pub struct Mcg {
        /// The first of the two.
        pub gradient: Dps = Dps::default() => "the parameters of dps",
    }
}

impl Method for Mcg {
    fn plan(&self) -> Option<Plan> {
        Some(chain(1000))
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        self.gradient.check(likelihood)?;
        likelihood.linear("mcg").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan), gradients: levels(plan) }
    }

    fn run(&self, problem: &InverseProblem, mut x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("mcg")?;
        for (k, (sigma, next)) in problem.plan.sigmas.pairs().enumerate() {
            let noise = |draw| problem.noise.like(&x, k as u64 + 1, draw);
            let moved = self.gradient.step(problem, &x, (sigma, next), &noise(0));
            x = projected(&likelihood, &moved, (sigma, next), &noise(1));
            seen(&mut x)?;
        }
        Ok(x)
    }
}
