//! The chain of improved-diffusion as EDM uses it.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling};
use crate::{Error, numbers::schedule::count};

/// M times of a cosine chain, the nearest of which is the network's label [EDM, Table 1 and App. C.3].
///
/// ```text
/// ᾱ(j) = sin²(π/2 · j / (M (1 + c₂)))   u_M = 0   u_{j−1} = √((u_j² + 1) / max(ᾱ(j−1)/ᾱ(j), c₁) − 1)
/// skip = 1   out = −σ   input = 1 / √(1 + σ²)   label = M − 1 − j
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IddpmConfig {
    /// c₁.
    pub c1: f64,
    /// c₂.
    pub c2: f64,
    /// M.
    pub times: usize,
}

impl Default for IddpmConfig {
    fn default() -> Self {
        Self { c1: 0.001, c2: 0.008, times: 1000 }
    }
}

/// See [`IddpmConfig`].
#[derive(Clone, Debug)]
pub struct Iddpm {
    /// u₀ > u₁ > … > u_M = 0.
    levels: Vec<f64>,
}

impl Iddpm {
    /// Makes the table of levels.
    pub fn new(config: &IddpmConfig) -> Result<Self, Error> {
        let last = count("times", config.times)?;
        let alpha_bar = |j: usize| (FRAC_PI_2 * j as f64 / last as f64 / (1.0 + config.c2)).sin().powi(2);
        let mut levels = vec![0.0; last + 1];
        for j in (1..=last).rev() {
            let ratio = (alpha_bar(j - 1) / alpha_bar(j)).max(config.c1);
            levels[j - 1] = ((levels[j] * levels[j] + 1.0) / ratio - 1.0).sqrt();
        }
        if levels.windows(2).all(|pair| pair[0] > pair[1] && pair[0].is_finite()) {
            return Ok(Self { levels });
        }
        Err(Error::parameter("c1 and c2", "such that its levels fall from finite values", format!("{config:?}")))
    }
}

impl Precondition for Iddpm {
    fn at(&self, sigma: f64) -> Scaling {
        let below = self.levels.partition_point(|level| *level >= sigma).min(self.levels.len() - 1);
        let above = below.saturating_sub(1);
        let index = if self.levels[above] - sigma <= sigma - self.levels[below] { above } else { below };
        let label = self.levels.len() as f64 - 2.0 - index as f64;
        Scaling { skip_minus_one: 0.0, out: -sigma, input: sigma.hypot(1.0).recip(), label }
    }

    fn range(&self) -> (f64, f64) {
        (self.levels[self.levels.len() - 2], self.levels[0])
    }

    fn start(&self, sigma: f64) -> f64 {
        sigma.hypot(1.0)
    }
}
