//! Exponential integrators: the linear part of a step is exact, something is held constant for the rest.

use serde::{Deserialize, Serialize};

use super::{NonMarkovian, Sampler, Snr, non_markovian::Beta, rows};
use crate::{
    Error,
    numbers::{
        quadrature::integral,
        registry::entry,
        sde::{AnySde, Vp, reaches},
        sigma::{Sigmas, at_least_zero},
        walk::{Step, Walk},
    },
};

entry! {
    name: "exponential-integrator",
    what: "epsilon, score or denoised frozen; ρ",
    source: "SDE tutorial, §4",
    facts: { scores: "1", order: "1", random: "if ρ > 0" },
    /// The reversal with noise ρ g dw, integrated exactly with ε, the score of z, or D frozen [SDE tutorial, §4; S2N, §3].
    ///
    /// ```text
    /// epsilon    τ = (1 + ρ²) σ (σ − σ′)                        2 τ T = ρ² (σ² − σ′²)
    /// score      τ = ½ (1 + ρ²) ∫ α d(σ²)/α over σ′ … σ         2 τ T = ρ² (σ² − σ′²)
    /// denoised   τ = σ (σ − σ′ (σ′/σ)^(ρ²))                     2 τ T = σ′² (1 − (σ′/σ)^(2ρ²))
    /// ```
    ///
    /// Only the second depends on the process, through α; the noise of the third is that of the linear part, which shrinks x.
    pub struct ExponentialIntegrator {
        /// Quantity held constant over a step.
        pub frozen: Frozen = Frozen::Epsilon => "epsilon, score, denoised",
        /// ρ: 0 follows the probability flow, 1 the reverse-time SDE.
        pub rho: f64 = 1.0 => "≥ 0",
        /// The process whose score that is.
        pub sde: AnySde = AnySde::Vp(Vp::default()) => "any process",
    }
}

/// See [`ExponentialIntegrator`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frozen {
    /// ε(z, t).
    #[default]
    Epsilon,
    /// ∇ log p_t(z).
    Score,
    /// D.
    Denoised,
}

impl Sampler for ExponentialIntegrator {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let rho = at_least_zero("rho", self.rho)?;
        match self.frozen {
            Frozen::Epsilon => Snr { rho, ..Snr::default() }.walk(sigmas),
            Frozen::Denoised => NonMarkovian { beta: Beta::Frozen { rho } }.walk(sigmas),
            Frozen::Score => self.score(rho, sigmas),
        }
    }
}

impl ExponentialIntegrator {
    fn score(&self, rho: f64, sigmas: &Sigmas) -> Result<Walk, Error> {
        let sde = self.sde.get();
        reaches(sde, sigmas)?;
        let alpha = |sigma: f64| sde.alpha(sde.time(sigma));
        rows(sigmas, |sigma, next| {
            if next == 0.0 {
                return Step::denoise(sigma);
            }
            // In u = ln σ the integrand is smooth however long the step.
            let drift = integral(|u| alpha(u.exp()) * 2.0 * (2.0 * u).exp(), next.ln(), sigma.ln());
            let tau = (1.0 + rho * rho) / 2.0 * drift / alpha(sigma);
            let fresh = rho * rho * (sigma - next) * (sigma + next);
            Step { sigma, tau, temperature: fresh / (2.0 * tau) }
        })
    }
}
