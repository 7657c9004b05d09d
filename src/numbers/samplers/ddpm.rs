//! Denoising diffusion probabilistic models [DDPM, Algorithm 2; RW, Table 1].

use serde::{Deserialize, Serialize};

use super::{Sampler, rows};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sigma::Sigmas,
        walk::{Step, Walk},
    },
};

entry! {
    name: "ddpm",
    what: "τ = σ²−σ′², variance beta or posterior",
    source: "DDPM, Algorithm 2",
    facts: { scores: "1", order: "1", random: "yes" },
    aliases: [
        "DDPMScheduler" { "variance": "posterior" },
        "ddpm_fixed_small" { "variance": "posterior" },
        "ddpm_fixed_large" { "variance": "beta" },
    ],
    /// τ = (1 − α)/ᾱ = σ² − σ′²,  T = v α / (2 (1 − α)), where α = (1 + σ′²)/(1 + σ²).
    pub struct Ddpm {
        /// Variance v.
        pub variance: Variance = Variance::Beta => "beta, posterior",
    }
}

/// The two variances v of the reverse chain [DDPM, §3.2].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Variance {
    /// v = β, so T = α/2: right for images of unit variance.
    #[default]
    Beta,
    /// v = β (1 − ᾱ′)/(1 − ᾱ), so T = σ′²/(2σ²): right for images of no variance.
    Posterior,
}

impl Sampler for Ddpm {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        rows(sigmas, |sigma, next| {
            let (now, then) = (sigma * sigma, next * next);
            let temperature = match self.variance {
                _ if next == 0.0 => 0.0,
                Variance::Beta => (1.0 + then) / (2.0 * (1.0 + now)),
                Variance::Posterior => then / (2.0 * now),
            };
            Step { sigma, tau: (sigma - next) * (sigma + next), temperature }
        })
    }
}

entry! {
    name: "vp-ancestral",
    what: "DDPM with variance beta",
    source: "Score SDE, Eq. 4",
    facts: { scores: "1", order: "1", random: "yes" },
    /// Ancestral sampling of the variance-preserving SDE [Score SDE, Eq. 4]: DDPM with v = β.
    pub struct VpAncestral {}
}

impl Sampler for VpAncestral {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        Ddpm { variance: Variance::Beta }.walk(sigmas)
    }
}
