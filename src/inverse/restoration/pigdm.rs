//! Pseudo-inverse guidance.

use std::fmt;

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, asked, to_the_end, value_and_grad};
use crate::{
    Error,
    inverse::likelihood::{GaussianLikelihood, LinearGaussian},
    numbers::{
        plan::{AnySampler, Plan, ResolvedPlan},
        registry::entry,
        samplers::Ddim,
        sigma::positive,
    },
    scores::denoiser::Denoiser,
};

entry! {
    name: "pigdm",
    what: "E[X | x, y] with independent pixels, ΠGDM",
    source: "Song et al. 2023",
    facts: { cost: "1 + 1", tasks: "linear", spread: "near it" },
    /// Pseudo-inverse guidance, ΠGDM [Song et al. 2023]: see [`PseudoInverseGuided`].
    pub struct Pigdm {
        /// v, a variance that all pixels are taken to have; the paper's r² = σ²/(1 + σ²) is that of v = 1.
        pub variance: f64 = 1.0 => "> 0" in "squared data units",
    }
}

/// Images behind x taken as N(D, r² I) with r² = σ² v/(v + σ²): then y ~ N(A D, r² AAᵀ + η² I), and
///
/// ```text
/// E[X | x, y] ≈ D + σ² Jᵀ Aᵀ (r² AAᵀ + η² I)⁻¹ (y − A D),   J = ∂D/∂x
/// ```
///
/// Exact for independent pixels of variance v; where pixels depend on one another r² I is not their covariance and the
/// answer is biased. The paper multiplies the correction by r² besides, which Bayes' rule does not have.
pub struct PseudoInverseGuided<'a> {
    /// The denoiser of the images.
    pub prior: &'a dyn Denoiser,
    /// The likelihood of the measurement.
    pub likelihood: LinearGaussian<'a>,
    /// v.
    pub variance: f64,
}

impl fmt::Debug for PseudoInverseGuided<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PseudoInverseGuided").field("variance", &self.variance).finish_non_exhaustive()
    }
}

impl Denoiser for PseudoInverseGuided<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        let LinearGaussian { operator, measurement, eta } = self.likelihood;
        let square = sigma * sigma;
        let spread = square * self.variance / (self.variance + square);
        let weight = |denoised: &Tensor| {
            let surprise = operator.adjoint(&(measurement - operator.apply(denoised)));
            operator.regularised(&surprise, eta * eta / spread) / spread
        };
        // The weight is held constant, so that the gradient is Jᵀ of it.
        let (denoised, correction) =
            value_and_grad(self.prior, x, sigma, |denoised| denoised * tch::no_grad(|| weight(&denoised.detach())));
        denoised + correction * square
    }
}

impl Method for Pigdm {
    fn plan(&self) -> Option<Plan> {
        Some(Plan { sampler: AnySampler::Ddim(Ddim { eta: 1.0 }), ..Plan::ddim() })
    }

    fn samples(&self) -> bool {
        true
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        positive("variance", self.variance)?;
        likelihood.linear("pigdm").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        let evaluations = asked(plan);
        Effort { evaluations, gradients: evaluations }
    }

    fn run(&self, problem: &InverseProblem, x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("pigdm")?;
        let score = PseudoInverseGuided { prior: problem.prior, likelihood, variance: self.variance };
        to_the_end(problem, &score, x, seen)
    }
}
