//! The variance-exploding SDE, discretised three ways [Score SDE].

use serde::{Deserialize, Serialize};

use super::{Sampler, rows};
use crate::{
    Error,
    numbers::{
        sigma::Sigmas,
        walk::{Step, Walk},
    },
};

/// τ = σ² − σ′², T = ½ [Score SDE, Appendix E].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VeReverseDiffusion {}

impl Sampler for VeReverseDiffusion {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        rows(sigmas, |sigma, next| Step {
            sigma,
            tau: (sigma - next) * (sigma + next),
            temperature: if next > 0.0 { 0.5 } else { 0.0 },
        })
    }
}

/// τ = σ² − σ′², T = σ′²/(2σ²) [Score SDE, Appendix F].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VeAncestral {}

impl Sampler for VeAncestral {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        rows(sigmas, |sigma, next| Step {
            sigma,
            tau: (sigma - next) * (sigma + next),
            temperature: next * next / (2.0 * sigma * sigma),
        })
    }
}

/// τ = g² Δt = 2 ln(σ₀/σ_{K−1}) σ² / K, T = ½: Euler and Maruyama on dx = g dw with σ(t) geometric, Δt = 1/K.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct VeEulerMaruyama {}

impl Sampler for VeEulerMaruyama {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let levels = sigmas.iter().len();
        if levels == 1 {
            return Err(Error::parameter("steps", "at least 2 for a sampler that needs a range of levels", levels));
        }
        let rate = 2.0 * (sigmas.max() / sigmas.min()).ln() / levels as f64;
        rows(sigmas, |sigma, next| Step {
            sigma,
            tau: rate * sigma * sigma,
            temperature: if next > 0.0 { 0.5 } else { 0.0 },
        })
    }
}
