//! Networks of flow matching.

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling};
use crate::{Error, numbers::sigma::positive};

/// Networks that estimate the velocity n − x₀ of z = (1 − t) x₀ + t n [Lipman et al. 2023; Esser et al. 2024].
///
/// In our frame z = x/(1 + σ) with σ = t/(1 − t):
///
/// ```text
/// skip = 1/(1 + σ)   out = −σ/(1 + σ)   input = 1/(1 + σ)   label = N t,   t = σ/(1 + σ)
/// ```
///
/// Pure noise, t = 1, is σ = ∞: walks begin at the largest level of the range, where z is drawn from N(0, 1).
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Flow {
    /// N, the label of pure noise.
    #[serde(default = "thousand")]
    pub times: f64,
    /// Levels that the network was trained for: smallest and largest σ.
    #[serde(default = "whole")]
    pub range: [f64; 2],
}

fn thousand() -> f64 {
    1000.0
}

/// t from 1/1000 to 0.9999: beyond, f32 holds too few digits of x.
fn whole() -> [f64; 2] {
    [1.0 / 999.0, Flow::LARGEST]
}

impl Default for Flow {
    /// A thousand times, as in diffusers.
    fn default() -> Self {
        Self { times: thousand(), range: whole() }
    }
}

impl Flow {
    /// σ that stands for pure noise: t = 0.9999.
    pub const LARGEST: f64 = 9999.0;

    pub(super) fn checked(&self) -> Result<Self, Error> {
        positive("times", self.times)?;
        super::interval(self.range)?;
        Ok(*self)
    }
}

impl Precondition for Flow {
    fn at(&self, sigma: f64) -> Scaling {
        let (input, t) = (1.0 / (1.0 + sigma), sigma / (1.0 + sigma));
        Scaling { skip_minus_one: -t, out: -t, input, label: self.times * t }
    }

    fn range(&self) -> (f64, f64) {
        self.range.into()
    }

    /// 1 + σ: z begins as N(0, 1).
    fn start(&self, sigma: f64) -> f64 {
        1.0 + sigma
    }
}
