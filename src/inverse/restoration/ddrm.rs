//! Denoising diffusion restoration models.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, Spectral, decomposed, levels};
use crate::{
    Error,
    inverse::likelihood::GaussianLikelihood,
    numbers::{
        plan::{Plan, ResolvedPlan},
        registry::entry,
    },
};

entry! {
    name: "ddrm",
    what: "steps in A’s singular vectors",
    source: "Kawar et al. 2022",
    facts: { cost: "1", tasks: "svd", spread: "narrower" },
    /// Denoising diffusion restoration models [Kawar et al. 2022, Eqs. 7 and 8], in A's singular vectors.
    ///
    /// For the coordinates x̂ of D(x, σ), those ȳ = Uᵀy/s of the measurement and noise n:
    ///
    /// ```text
    /// s = 0         x′ = x̂ + √(1 − a²) σ′ ε + a σ′ n,       ε = (x − x̂)/σ
    /// σ′ < η/s      x′ = x̂ + √(1 − a²) σ′ (ȳ − x̂)/(η/s) + a σ′ n
    /// σ′ ≥ η/s      x′ = (1 − b) x̂ + b ȳ + √(σ′² − b² η²/s²) n
    /// ```
    pub struct Ddrm {
        /// a, the share of fresh noise; the paper's η.
        pub fresh: f64 = 0.85 => "0 … 1",
        /// b, the weight of the measurement where it is better than x; the paper's η_b.
        pub trust: f64 = 1.0 => "0 … 1",
    }
}

impl Ddrm {
    /// The coordinates at σ′, from `at`, those x̂ of D, the ȳ and noise n; `width` is η/s, infinite where s = 0.
    fn step(&self, (sigma, next): (f64, f64), [at, denoised, measured, noise]: [&Tensor; 4], width: &Tensor) -> Tensor {
        let kept = (1.0 - self.fresh * self.fresh).sqrt() * next;
        let unseen = denoised + (at - denoised) * (kept / sigma) + noise * (self.fresh * next);
        let vague = denoised + (measured - denoised) * (kept / width) + noise * (self.fresh * next);
        let spread = (width.square() * -(self.trust * self.trust) + next * next).clamp_min(0.0).sqrt();
        let clear = denoised * (1.0 - self.trust) + measured * self.trust + noise * spread;
        let seen = vague.where_self(&width.gt(next), &clear);
        unseen.where_self(&width.isinf(), &seen)
    }
}

impl Method for Ddrm {
    fn plan(&self) -> Option<Plan> {
        Some(Plan { steps: 20, ..Plan::ddim() })
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        for (name, share) in [("fresh", self.fresh), ("trust", self.trust)] {
            if !(0.0..=1.0).contains(&share) {
                return Err(Error::parameter(name, "between 0 and 1", share));
            }
        }
        decomposed(&likelihood.linear("ddrm")?, "ddrm").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan), gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, mut x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("ddrm")?;
        let Spectral { svd, measured, width, .. } = Spectral::new(&likelihood, x.kind(), 0.0, "ddrm")?;
        for (k, (sigma, next)) in problem.plan.sigmas.pairs().enumerate() {
            let noise = svd.coordinates(&problem.noise.like(&x, k as u64 + 1, 0));
            let (at, denoised) = (svd.coordinates(&x), svd.coordinates(&problem.prior.denoise(&x, sigma)));
            x = svd.image(&self.step((sigma, next), [&at, &denoised, &measured, &noise], &width));
            seen(&mut x)?;
        }
        Ok(x)
    }
}
