//! Bridges: how far z_s remembers the noise in z_t is free.

use serde::{Deserialize, Serialize};

use super::{Sampler, checked};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sigma::{Sigmas, at_least_zero},
        walk::{Step, Walk},
    },
};

entry! {
    name: "non-markovian",
    what: "D + √(σ′²−b²) ε + b n, any b ≤ σ′",
    source: "S2N, Theorem 4",
    facts: { scores: "1", order: "1", random: "if b > 0" },
    example: "{kind: non-markovian, beta: {kind: frozen, rho: 1}}",
    /// q(z_s | z_t, x) = N(α_s x + √(s_s² − β²) (z_t − α_t x)/s_t, β²) with x guessed as D [S2N, Theorem 4].
    ///
    /// In the σ frame, with b = β/α_s the standard deviation of the fresh noise, 0 ≤ b ≤ σ′:
    ///
    /// ```text
    /// x ← D + √(σ′² − b²) ε + b n      τ = σ (σ − √(σ′² − b²))      2 τ T = b²
    /// ```
    ///
    /// Each β keeps the marginals N(α_s x, s_s²) of a known image exactly.
    pub struct NonMarkovian {
        /// Choice of β.
        pub beta: Beta = Beta::default() => "{kind: ddim, eta}, {kind: frozen, rho}, {kind: fresh}, {kind: shares, shares}",
    }
}

/// b as a share of σ′, with r = (σ′/σ)².
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Beta {
    /// b² = η² σ′² (1 − r): DDIM for η = 0, the ancestral step of VDM and DDPM for η = 1 [DDIM, Eq. 16].
    Ddim {
        /// η.
        eta: f64,
    },
    /// b² = σ′² (1 − r^(ρ²)): the reverse SDE of that ρ, integrated exactly with D frozen [Zhang et al. 2023, gDDIM].
    Frozen {
        /// ρ.
        rho: f64,
    },
    /// b = σ′: all noise is fresh, x ← D + σ′ n, as consistency functions are sampled.
    Fresh,
    /// b = share · σ′, one share for each level but the last.
    Shares {
        /// Shares between 0 and 1.
        shares: Vec<f64>,
    },
}

impl Default for Beta {
    fn default() -> Self {
        Self::Ddim { eta: 1.0 }
    }
}

impl Beta {
    fn check(&self, steps: usize) -> Result<(), Error> {
        match self {
            Self::Ddim { eta } if at_least_zero("eta", *eta)? > 1.0 => Err(Error::parameter("eta", "at most 1", eta)),
            Self::Shares { shares } if shares.len() != steps => {
                let value = format!("{} (the levels need {steps})", shares.len());
                Err(Error::parameter("the number of shares", "one less than that of the levels", value))
            }
            Self::Shares { shares } => match shares.iter().find(|share| !(0.0..=1.0).contains(*share)) {
                Some(share) => Err(Error::parameter("every share", "between 0 and 1", share)),
                None => Ok(()),
            },
            Self::Frozen { rho } => at_least_zero("rho", *rho).map(drop),
            Self::Ddim { .. } | Self::Fresh => Ok(()),
        }
    }

    /// (b/σ′)² at step k.
    fn share(&self, k: usize, log_r: f64) -> f64 {
        match self {
            Self::Ddim { eta } => -eta * eta * log_r.exp_m1(),
            Self::Frozen { rho } => -(rho * rho * log_r).exp_m1(),
            Self::Fresh => 1.0,
            Self::Shares { shares } => shares[k] * shares[k],
        }
    }
}

impl Sampler for NonMarkovian {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        self.beta.check(sigmas.pairs().filter(|(_, next)| *next > 0.0).count())?;
        checked(sigmas.pairs().enumerate().map(|(k, (sigma, next))| {
            if next == 0.0 {
                return Step::denoise(sigma);
            }
            let share = self.beta.share(k, 2.0 * (next / sigma).ln());
            let kept = next * (1.0 - share).sqrt();
            // σ − kept as a quotient, so that no digits are lost where the two are close.
            let gap = ((sigma - next) * (sigma + next) + next * next * share) / (sigma + kept);
            Step { sigma, tau: sigma * gap, temperature: next * next * share / (2.0 * sigma * gap) }
        }))
    }
}
