//! Denoising diffusion implicit models [DDIM, Eq. 12], seen from the variance-exploding frame.

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
    name: "ddim",
    what: "η = 0 deterministic … 1 ancestral",
    source: "DDIM, Eq. 12",
    facts: { scores: "1", order: "1", random: "if η > 0" },
    aliases: ["DDIMScheduler", "euler", "sample_euler", "EulerDiscreteScheduler", "EDMEulerScheduler"],
    example: "{kind: ddim, eta: 0.5}",
    /// Fresh noise v = η² σ′² (σ² − σ′²) / σ², then τ = σ (σ − √(σ′² − v)) and T = v / (2τ).
    ///
    /// η = 0 is also EDM's Euler step in σ, η = 1 ancestral sampling.
    pub struct Ddim {
        /// η: 0 walks without noise, 1 is ancestral sampling.
        pub eta: f64 = 0.0 => "0 … 1",
    }
}

impl Sampler for Ddim {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let eta = at_least_zero("eta", self.eta)?;
        if eta > 1.0 {
            return Err(Error::parameter("eta", "at most 1", eta));
        }
        // With e = η² σ′²/σ² and κ = √(σ′² − v)/σ the differences cancel: 1 − κ² = (1 + e)(σ² − σ′²)/σ².
        rows(sigmas, |sigma, next| {
            let (ratio, gap) = (next / sigma, (sigma - next) * (sigma + next));
            let fresh = (eta * ratio).powi(2);
            let kept = ratio * (1.0 - eta * eta * gap / (sigma * sigma)).sqrt();
            let tau = gap * (1.0 + fresh) / (1.0 + kept);
            Step { sigma, tau, temperature: fresh * (1.0 + kept) / (2.0 * (1.0 + fresh)) }
        })
    }
}
