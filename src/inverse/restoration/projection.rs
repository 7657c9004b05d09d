//! Projection onto the measurement.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, ancestral, fitted, levels};
use crate::{
    Error,
    inverse::likelihood::{GaussianLikelihood, LinearGaussian},
    numbers::{
        plan::{Plan, ResolvedPlan},
        registry::entry,
    },
};

entry! {
    name: "projection",
    what: "ancestral step, then made to fit y",
    source: "Score SDE, §5",
    facts: { cost: "1", tasks: "linear", spread: "narrower" },
    /// Ancestral steps, after each of which x is made to fit the measurement with noise of its level [Score SDE, §5].
    ///
    /// After a step from σ to σ′, x ← x + A⁺ (y + σ′ A n − A x), as published for measurements without noise. With η > 0, A⁺ is
    /// Aᵀ(AAᵀ + (η/σ)² I)⁻¹, which tends to it as η falls: y moves x as far as it is better than x. What is hidden is drawn
    /// without knowing what is seen but through the network.
    pub struct Projection {}
}

/// x + A⁺ (y + σ′ A n − A x) after a step from σ to σ′.
pub(super) fn projected(likelihood: &LinearGaussian, x: &Tensor, (sigma, next): (f64, f64), noise: &Tensor) -> Tensor {
    fitted(likelihood, x, &(likelihood.measurement + likelihood.operator.apply(noise) * next), sigma)
}

impl Method for Projection {
    fn plan(&self) -> Option<Plan> {
        Some(Plan { steps: 100, ..Plan::ddim() })
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        likelihood.linear("projection").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan), gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, mut x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("projection")?;
        for (k, (sigma, next)) in problem.plan.sigmas.pairs().enumerate() {
            let noise = |draw| problem.noise.like(&x, k as u64 + 1, draw);
            let moved = ancestral(&x, &problem.prior.denoise(&x, sigma), (sigma, next), &noise(0));
            x = projected(&likelihood, &moved, (sigma, next), &noise(1));
            seen(&mut x)?;
        }
        Ok(x)
    }
}
