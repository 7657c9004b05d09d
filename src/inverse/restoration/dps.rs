//! Diffusion posterior sampling.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, ancestral, chain, length, levels, value_and_grad};
use crate::{
    Error,
    inverse::likelihood::GaussianLikelihood,
    numbers::{
        plan::{Plan, ResolvedPlan},
        registry::entry,
        sigma::at_least_zero,
    },
};

entry! {
    name: "dps",
    what: "ancestral step, then against ∇‖y − A D‖",
    source: "Chung et al. 2023",
    facts: { cost: "1 + 1", tasks: "any", spread: "of scale" },
    /// Diffusion posterior sampling [DPS, Algorithm 1]: an ancestral step, then a step of length ζ against ∇‖y − A D(x, σ)‖.
    ///
    /// In the papers' frame z = x/√(1 + σ²) the second step is z′ ← z′ − ζ ∇_z ‖y − A D‖; in ours
    ///
    /// ```text
    /// x′ ← ancestral(x, D) − ζ √((1 + σ²)(1 + σ′²)) ∇ₓ ‖y − A D(x, σ)‖
    /// ```
    ///
    /// The norm is each image's own; in the released code it is that of the batch, so that there results change with its size.
    /// η does not enter, and the spread of the samples means little: ζ decides it.
    pub struct Dps {
        /// ζ; 0.3 for deblurring and super-resolution, 0.5 for inpainting in the released code.
        pub scale: f64 = 0.3 => "≥ 0",
        /// Whether D is clipped to −1 … 1, as in the released code.
        pub clip: bool = false => "true, false",
    }
}

impl Dps {
    /// x at σ′, from x at σ.
    pub(super) fn step(
        &self,
        problem: &InverseProblem,
        x: &Tensor,
        (sigma, next): (f64, f64),
        noise: &Tensor,
    ) -> Tensor {
        let (operator, y) = (&problem.likelihood.operator, &problem.likelihood.measurement);
        let clipped = |denoised: &Tensor| if self.clip { denoised.clamp(-1.0, 1.0) } else { denoised.shallow_clone() };
        let misfit = |denoised: &Tensor| length(&(y - operator.apply(&clipped(denoised))));
        let (denoised, gradient) = value_and_grad(problem.prior, x, sigma, misfit);
        let frame = ((1.0 + sigma * sigma) * (1.0 + next * next)).sqrt();
        ancestral(x, &clipped(&denoised), (sigma, next), noise) - gradient * (self.scale * frame)
    }
}

impl Method for Dps {
    fn plan(&self) -> Option<Plan> {
        Some(chain(1000))
    }

    fn check(&self, _: &GaussianLikelihood) -> Result<(), Error> {
        at_least_zero("scale", self.scale).map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan), gradients: levels(plan) }
    }

    fn run(&self, problem: &InverseProblem, mut x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        for (k, levels) in problem.plan.sigmas.pairs().enumerate() {
            let noise = problem.noise.like(&x, k as u64 + 1, 0);
            x = self.step(problem, &x, levels, &noise);
            seen(&mut x)?;
        }
        Ok(x)
    }
}
