//! The paper's own walks: schedule, step and temperature chosen freely [Random Walks].

use serde::{Deserialize, Serialize};

use super::{Sampler, checked};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sigma::{Sigmas, at_least_zero, positive},
        walk::{Step, Walk},
    },
};

entry! {
    name: "simplified",
    what: "τ = c σ², T from t0 to 1; the paper’s own walk",
    source: "Random Walks",
    facts: { scores: "1", order: "–", random: "yes" },
    /// τ = c σ², T from T₀ to 1, no noise on the last step.
    ///
    /// The defaults are those of the paper's hundred levels of the schedule `sigmoid`; its posteriors begin with T₀ = 0. With
    /// a likelihood τ = min(c σ², limit): the cap comes from the posterior, not from here.
    pub struct Simplified {
        /// c.
        pub c: f64 = 0.7 => "> 0",
        /// T₀, the temperature of the first step.
        pub t0: f64 = 0.1 => "≥ 0",
        /// Course of T after its first value.
        pub ramp: Ramp = Ramp::Linear => "linear, constant",
    }
}

/// The course of the temperature.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ramp {
    /// T grows linearly in k from T₀ to 1.
    #[default]
    Linear,
    /// T stays at T₀.
    Constant,
}

impl Sampler for Simplified {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let c = positive("c", self.c)?;
        let t0 = at_least_zero("t0", self.t0)?;
        let last = sigmas.iter().len() - 1;
        let step = |(k, sigma): (usize, f64)| {
            let temperature = match self.ramp {
                _ if k == last => 0.0,
                Ramp::Linear => t0 + (1.0 - t0) * k as f64 / last as f64,
                Ramp::Constant => t0,
            };
            Step { sigma, tau: c * sigma * sigma, temperature }
        };
        checked(sigmas.iter().enumerate().map(step))
    }
}

entry! {
    name: "consistent",
    what: "τ = c σ², T*(v) keeps the variance exactly",
    source: "Random Walks",
    facts: { scores: "1", order: "–", random: "yes" },
    /// τ = c σ² at the temperature that keeps Var x = v + σ² exactly, for images of variance v:
    ///
    /// ```text
    /// T*(v) = 1 − (σ² − σ′²)/(2τ) − τ/(2(v + σ²))
    /// ```
    ///
    /// With τ = σ² − σ′² this is DDPM with v = β for unit variance, and with β̃ for none. The paper fixes neither c nor v; c = 1
    /// keeps T* ≥ σ′²/(2σ²) on any levels.
    pub struct Consistent {
        /// c. Other values than 1 need σ² − σ′² well below 2 c σ², which means levels that lie close together.
        pub c: f64 = 1.0 => "> 0, below 2",
        /// v, the variance of the images.
        pub v: f64 = 0.25 => "≥ 0" in "squared data units",
    }
}

impl Consistent {
    /// T*(v) of a step τ from σ to σ′.
    pub fn temperature(sigma: f64, next: f64, tau: f64, v: f64) -> f64 {
        1.0 - (sigma - next) * (sigma + next) / (2.0 * tau) - tau / (2.0 * (v + sigma * sigma))
    }
}

impl Sampler for Consistent {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let (c, v) = (positive("c", self.c)?, at_least_zero("v", self.v)?);
        let step = |(sigma, next): (f64, f64)| {
            let tau = c * sigma * sigma;
            if next == 0.0 {
                return Ok(Step { sigma, tau, temperature: 0.0 });
            }
            let temperature = Self::temperature(sigma, next, tau, v);
            if temperature < 0.0 {
                let want = "such that T*(v) ≥ 0 at every level (take more steps, or another c below 2)";
                return Err(Error::parameter("c", want, format!("{c}: T* = {temperature:.3} at σ = {sigma:.4}")));
            }
            Ok(Step { sigma, tau, temperature })
        };
        checked(sigmas.pairs().map(step).collect::<Result<Vec<_>, _>>()?.into_iter())
    }
}
