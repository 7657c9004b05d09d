//! Denoising diffusion probabilistic models [DDPM, Algorithm 2; RW, Table 1].

use serde::{Deserialize, Serialize};

use super::{Sampler, rows};
use crate::{
    Error,
    numbers::{
        sigma::Sigmas,
        walk::{Step, Walk},
    },
};

/// τ = (1 − α)/ᾱ = σ² − σ′²,  T = v α / (2 (1 − α)), where α = (1 + σ′²)/(1 + σ²).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ddpm {
    /// Which v.
    #[serde(default)]
    pub variance: Variance,
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

/// Ancestral sampling of the variance-preserving SDE [Score SDE, Eq. 4]: DDPM with v = β.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VpAncestral {}

impl Sampler for VpAncestral {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        Ddpm { variance: Variance::Beta }.walk(sigmas)
    }
}
