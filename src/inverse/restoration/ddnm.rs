//! Denoising diffusion null-space models.

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
    name: "ddnm",
    what: "D corrected by y in the range of A, DDNM+",
    source: "Wang et al. 2023",
    facts: { cost: "1", tasks: "svd", spread: "narrower" },
    /// Denoising diffusion null-space models, DDNM+ [Wang et al. 2023, Algorithm 3], in A's singular vectors.
    ///
    /// D is made to fit the measurement, x̂ ← x̂ + λ (ȳ − x̂) with ȳ = Uᵀy/s, and the step goes on from there:
    ///
    /// ```text
    /// x′ = a x̂ + (1 − a) x + √(b² − (a λ η/s)²) n,   b = e σ′ √(1 − σ′²/σ²),   a = 1 − √(σ′² − b²)/σ
    /// ```
    ///
    /// λ = min(1, b s/(a η)) is the most trust for which the noise that ȳ brings does not exceed what the step wants.
    ///
    /// That rule takes the noise of ȳ for new at every step, where it is the same one: of coordinates with s ≪ η it adds up to
    /// several σ, which the network, given the label of σ, leaves in the image. So coordinates below a share `zero` of the largest s count as
    /// hidden, as in the code that the authors released (3 %).
    pub struct Ddnm {
        /// e, the share of the ancestral noise; the paper's η.
        pub fresh: f64 = 0.85 => "0 … 1, above 0",
        /// The share of the largest singular value below which one counts as 0.
        pub zero: f64 = 0.03 => "0 … 1, below 1",
    }
}

impl Method for Ddnm {
    fn plan(&self) -> Option<Plan> {
        Some(Plan { steps: 100, ..Plan::ddim() })
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        if !(self.fresh > 0.0 && self.fresh <= 1.0) {
            return Err(Error::parameter("fresh", "above 0 and at most 1", self.fresh));
        }
        if !(0.0..1.0).contains(&self.zero) {
            return Err(Error::parameter("zero", "at least 0 and below 1", self.zero));
        }
        decomposed(&likelihood.linear("ddnm")?, "ddnm").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan), gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, mut x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("ddnm")?;
        let Spectral { svd, known, measured, width } = Spectral::new(&likelihood, x.kind(), self.zero, "ddnm")?;
        let width = width.masked_fill(&known.logical_not(), 0.0);
        for (k, (sigma, next)) in problem.plan.sigmas.pairs().enumerate() {
            let noise = svd.coordinates(&problem.noise.like(&x, k as u64 + 1, 0));
            let fresh = self.fresh * next * (1.0 - (next / sigma).powi(2)).sqrt();
            let kept = (next * next - fresh * fresh).sqrt() / sigma;
            let brought = &width * (1.0 - kept);
            // The last step wants no fresh noise, and trusts the measurement, noisy as it is, no further.
            let trust = (brought.clamp_min(f64::from(f32::MIN_POSITIVE)).reciprocal() * fresh).clamp_max(1.0) * &known;
            let spread = ((&brought * &trust).square().neg() + fresh * fresh).clamp_min(0.0).sqrt();
            let (at, denoised) = (svd.coordinates(&x), svd.coordinates(&problem.prior.denoise(&x, sigma)));
            let fitted = &denoised + (&measured - &denoised) * trust;
            x = svd.image(&(fitted * (1.0 - kept) + at * kept + noise * spread));
            seen(&mut x)?;
        }
        Ok(x)
    }
}
