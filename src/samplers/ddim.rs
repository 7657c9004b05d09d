//! Denoising diffusion implicit models [DDIM, Eq. 12], seen from the variance-exploding frame.

use serde::{Deserialize, Serialize};

use super::{Sampler, at_least, rows};
use crate::{
    Error,
    sigma::Sigmas,
    walk::{Step, Walk},
};

/// Fresh noise v = η² σ′² (σ² − σ′²) / σ², then τ = σ (σ − √(σ′² − v)) and T = v / (2τ).
///
/// η = 0 is also EDM's Euler step in σ, η = 1 ancestral sampling.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ddim {
    /// η: 0 walks without noise, 1 is ancestral sampling.
    #[serde(default)]
    pub eta: f64,
}

impl Sampler for Ddim {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let eta = at_least("eta", self.eta, 0.0)?;
        if eta > 1.0 {
            return Err(Error::parameter("eta", "0 … 1", eta));
        }
        Ok(rows(sigmas, |sigma, next| {
            let ratio = next / sigma;
            // v / σ², and √(σ′² − v) / σ with the difference taken in closed form, so that η = 1 loses no digits.
            let fresh = eta * eta * ratio * ratio * (1.0 - ratio * ratio);
            let kept = ratio * (1.0 - eta * eta * (1.0 - ratio * ratio)).sqrt();
            let tau = 1.0 - kept;
            Step { sigma, tau: sigma * sigma * tau, temperature: fresh / (2.0 * tau) }
        }))
    }
}
