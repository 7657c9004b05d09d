//! Plug-and-play ADMM.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, levels, proximal};
use crate::{
    Error,
    inverse::likelihood::GaussianLikelihood,
    numbers::{
        plan::{Plan, ResolvedPlan},
        registry::entry,
        sigma::positive,
    },
};

entry! {
    name: "pnp-admm",
    what: "ADMM with D for the prior, σ fixed",
    source: "Venkatakrishnan et al. 2013",
    facts: { cost: "1", tasks: "linear", spread: "one image" },
    /// Plug-and-play ADMM [Venkatakrishnan et al. 2013]: a denoiser in place of the prior's proximal map.
    ///
    /// ```text
    /// x = argmin ‖y − A x‖² + w ‖x − (v − u)‖²,   v = D(x + u, s),   u ← u + x − v,   w = λ η²/s²
    /// ```
    ///
    /// for as many rounds as the plan has levels. It seeks one image, and spreads no further than where it begins.
    pub struct PnpAdmm {
        /// s, the level at which the denoiser works, in data units.
        pub sigma: f64 = 0.1 => "> 0" in "data units",
        /// λ, the weight of the prior.
        pub lambda: f64 = 1.0 => "> 0",
    }
}

impl Method for PnpAdmm {
    fn plan(&self) -> Option<Plan> {
        Some(super::dpir::falling(30))
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        positive("sigma", self.sigma)?;
        positive("lambda", self.lambda)?;
        likelihood.linear("pnp-admm").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan), gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("pnp-admm")?;
        let weight = self.lambda * (likelihood.eta / self.sigma).powi(2);
        let (mut clean, mut dual) = (x.shallow_clone(), x.zeros_like());
        for _ in problem.plan.sigmas.iter() {
            let fitted = proximal(&likelihood, &(&clean - &dual), weight);
            clean = problem.prior.denoise(&(&fitted + &dual), self.sigma);
            dual = dual + fitted - &clean;
            seen(&mut clean)?;
        }
        Ok(clean)
    }
}
