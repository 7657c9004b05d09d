//! The variance-exploding SDE, discretised three ways [Score SDE, Appendices E and F].

use serde::{Deserialize, Serialize};

use super::{Sampler, rows};
use crate::{
    Error,
    sigma::Sigmas,
    walk::{Step, Walk},
};

/// τ = σ² − σ′², T = ½ [Score SDE, Eq. 47].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VeReverseDiffusion {}

impl Sampler for VeReverseDiffusion {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        Ok(rows(sigmas, |sigma, next| Step {
            sigma,
            tau: (sigma - next) * (sigma + next),
            temperature: if next > 0.0 { 0.5 } else { 0.0 },
        }))
    }
}

/// τ = σ² − σ′², T = σ′²/(2σ²) [Score SDE, Eq. 46].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VeAncestral {}

impl Sampler for VeAncestral {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        Ok(rows(sigmas, |sigma, next| Step {
            sigma,
            tau: (sigma - next) * (sigma + next),
            temperature: next * next / (2.0 * sigma * sigma),
        }))
    }
}

/// τ = g² Δt = 2 ln(σ₀/σ_{K−1}) σ² / K, T = ½: Euler and Maruyama on dx = g dw with σ(t) geometric, Δt = 1/K.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VeEulerMaruyama {}

impl Sampler for VeEulerMaruyama {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let rate = 2.0 * (sigmas.max() / sigmas.min()).ln() / sigmas.iter().len() as f64;
        Ok(rows(sigmas, |sigma, next| Step {
            sigma,
            tau: rate * sigma * sigma,
            temperature: if next > 0.0 { 0.5 } else { 0.0 },
        }))
    }
}
