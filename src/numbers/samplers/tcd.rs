//! Trajectory consistency distilled from a chain.

use super::{Sampler, checked};
use crate::{
    Error,
    numbers::{
        registry::entry,
        schedule::{AnyChain, ScaledLinear},
        sigma::{Sigmas, at_least_zero},
        walk::{Step, Walk},
    },
};

entry! {
    name: "tcd",
    what: "DDIM to an earlier time, noise back to the next",
    source: "Zheng et al. 2024",
    facts: { scores: "1", order: "1", random: "if γ > 0" },
    /// x ← D + σ_s ε + √(σ′² − σ_s²) n with σ_s the level of time s = ⌊(1 − γ) t′⌋ [Zheng et al. 2024, Algorithm 4; diffusers'
    /// TCDScheduler].
    pub struct Tcd {
        /// γ, diffusers' `eta`: 0 walks without noise.
        pub gamma: f64 = 0.3 => "0 … 1",
        /// The chain with t.
        pub beta: AnyChain = AnyChain::ScaledLinear(ScaledLinear::default()) => "any chain",
    }
}

impl Sampler for Tcd {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let gamma = at_least_zero("gamma", self.gamma)?;
        if gamma > 1.0 {
            return Err(Error::parameter("gamma", "at most 1", gamma));
        }
        let times = self.beta.get().times()?;
        checked(sigmas.pairs().map(|(sigma, next)| {
            if next == 0.0 {
                return Step::denoise(sigma);
            }
            // Whole times must not be lost to rounding.
            let kept = times.sigma(((1.0 - gamma) * times.time(next) + 1e-9).floor()).min(next);
            let tau = sigma * (sigma - kept);
            Step { sigma, tau, temperature: (next - kept) * (next + kept) / (2.0 * tau) }
        }))
    }
}
