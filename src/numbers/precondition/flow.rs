//! Networks of flow matching.

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling, ddpm::whole};
use crate::{Error, numbers::sigma::positive};

/// What a network of flow matching estimates.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// n − x₀.
    #[default]
    Velocity,
    /// x₀ − n, told N (1 − t): time runs from noise to images.
    Inverted,
    /// n.
    Noise,
    /// x₀.
    Sample,
}

impl Target {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
    fn is_velocity(&self) -> bool {
        *self == Self::Velocity
    }
}

/// Networks of z = (1 − t) x₀ + t n, of which most estimate the velocity n − x₀ [Lipman et al. 2023; Esser et al. 2024].
///
/// In our frame z = x/(1 + σ) with σ = t/(1 − t):
///
/// ```text
/// input = 1/(1 + σ)   label = N t,   t = σ/(1 + σ)
/// velocity   skip = 1/(1 + σ)   out = −σ/(1 + σ)
/// inverted   skip = 1/(1 + σ)   out =  σ/(1 + σ)    label = N (1 − t)
/// noise      skip = 1           out = −σ
/// sample     skip = 0           out = 1
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
    #[serde(default = "largest_range")]
    pub range: [f64; 2],
    /// What the network estimates.
    #[serde(default, skip_serializing_if = "Target::is_velocity")]
    pub target: Target,
    /// Labels are the whole numbers at or below N t.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole: bool,
}

fn thousand() -> f64 {
    1000.0
}

/// t from 1/1000 to 0.9999: beyond, f32 holds too few digits of x.
fn largest_range() -> [f64; 2] {
    [1.0 / 999.0, Flow::LARGEST]
}

impl Default for Flow {
    /// A thousand times, as in diffusers.
    fn default() -> Self {
        Self { times: thousand(), range: largest_range(), target: Target::Velocity, whole: false }
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
        let (skip_minus_one, out) = match self.target {
            Target::Velocity => (-t, -t),
            Target::Inverted => (-t, t),
            Target::Noise => (0.0, -sigma),
            Target::Sample => (-1.0, 1.0),
        };
        // Pure noise is told its own label, though it is reached at a finite σ.
        let t = if sigma >= Self::LARGEST { 1.0 } else { t };
        let label = self.times * if self.target == Target::Inverted { 1.0 - t } else { t };
        Scaling { skip_minus_one, out, input, label: if self.whole { whole(label) } else { label } }
    }

    fn range(&self) -> (f64, f64) {
        self.range.into()
    }

    /// 1 + σ: z begins as N(0, 1).
    fn start(&self, sigma: f64) -> f64 {
        1.0 + sigma
    }
}
