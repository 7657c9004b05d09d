//! Reverse-time SDEs that all keep the marginals of x, from the probability flow to Langevin dynamics.

use super::{Sampler, rows};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sigma::{Sigmas, at_least_zero},
        walk::{Step, Walk},
    },
};

entry! {
    name: "probability-flow",
    what: "τ = (σ²−σ′²)/2, T = 0",
    source: "Score SDE, Eq. 13",
    facts: { scores: "1", order: "1", random: "no" },
    /// τ = (σ² − σ′²)/2, T = 0: Euler's method on the probability flow dx/d(σ²) = −s/2 [Score SDE, Eq. 13].
    pub struct ProbabilityFlow {}
}

impl Sampler for ProbabilityFlow {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        Churn { lambda: 0.0 }.walk(sigmas)
    }
}

entry! {
    name: "churn",
    what: "τ = (1+λ²)/2 (σ²−σ′²), T = λ²/(1+λ²)",
    source: "Random Walks",
    facts: { scores: "1", order: "1", random: "if λ > 0" },
    /// τ = (1 + λ²)/2 · (σ² − σ′²), T = λ²/(1 + λ²).
    ///
    /// λ = 0 is the probability flow, 1 the reverse SDE, and large λ approaches Langevin dynamics. The last step goes no
    /// further than the denoised image, τ ≤ σ².
    pub struct Churn {
        /// λ.
        pub lambda: f64 = 1.0 => "≥ 0",
    }
}

impl Sampler for Churn {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let square = at_least_zero("lambda", self.lambda)?.powi(2);
        rows(sigmas, |sigma, next| {
            let tau = f64::midpoint(1.0, square) * (sigma - next) * (sigma + next);
            if next > 0.0 {
                Step { sigma, tau, temperature: square / (1.0 + square) }
            } else {
                Step { sigma, tau: tau.min(sigma * sigma), temperature: 0.0 }
            }
        })
    }
}
