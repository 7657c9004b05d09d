//! DiffPIR.

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
    name: "diffpir",
    what: "D and y weighed, then noise again",
    source: "Zhu et al. 2023",
    facts: { cost: "1", tasks: "linear", spread: "narrower" },
    /// Denoising diffusion models for plug-and-play restoration [Zhu et al. 2023, Algorithm 1].
    ///
    /// ```text
    /// x̂  = argmin ‖y − A z‖² + w ‖z − D(x, σ)‖²,   w = λ η²/σ²
    /// x′ = x̂ + σ′ (√(1 − ζ) (x − x̂)/σ + √ζ n)
    /// ```
    pub struct Diffpir {
        /// λ, the weight of the prior.
        pub lambda: f64 = 1.0 => "> 0",
        /// ζ, the share of fresh noise: 0.1 for deblurring, 0.25 for super-resolution, 1 for inpainting in the paper's tables.
        pub zeta: f64 = 0.25 => "0 … 1",
    }
}

impl Method for Diffpir {
    fn plan(&self) -> Option<Plan> {
        Some(Plan { steps: 100, ..Plan::ddim() })
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        positive("lambda", self.lambda)?;
        if !(0.0..=1.0).contains(&self.zeta) {
            return Err(Error::parameter("zeta", "between 0 and 1", self.zeta));
        }
        likelihood.linear("diffpir").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan), gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, mut x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("diffpir")?;
        for (k, (sigma, next)) in problem.plan.sigmas.pairs().enumerate() {
            let denoised = problem.prior.denoise(&x, sigma);
            let fitted = proximal(&likelihood, &denoised, self.lambda * (likelihood.eta / sigma).powi(2));
            let noise = problem.noise.like(&x, k as u64 + 1, 0);
            let implied = (&x - &fitted) * ((1.0 - self.zeta).sqrt() * next / sigma);
            x = fitted + implied + noise * (self.zeta.sqrt() * next);
            seen(&mut x)?;
        }
        Ok(x)
    }
}
