//! Processes with constant coefficients [SDE tutorial, §2].

use serde::{Deserialize, Serialize};

use super::{Sde, floor, positive_end};
use crate::{Error, numbers::sigma::positive};

/// Ornstein and Uhlenbeck's: dz = −θ z dt + g dw, which tends to N(0, g²/(2θ)).
///
/// ```text
/// α = exp(−θ t)   s² = g² (1 − exp(−2θ t))/(2θ)   σ² = g² (exp(2θ t) − 1)/(2θ)
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ou {
    /// θ.
    pub theta: f64,
    /// g.
    pub g: f64,
    /// T.
    pub end: f64,
}

impl Default for Ou {
    /// θ = 1 and g = √2, which tend to N(0, I), until T = 5.
    fn default() -> Self {
        Self { theta: 1.0, g: std::f64::consts::SQRT_2, end: 5.0 }
    }
}

impl Sde for Ou {
    fn check(&self) -> Result<(), Error> {
        constants(self.theta, self.g, self.end)
    }

    fn alpha(&self, t: f64) -> f64 {
        (-self.theta * t).exp()
    }

    fn level(&self, t: f64) -> f64 {
        self.g * ((2.0 * self.theta * t).exp_m1() / (2.0 * self.theta)).sqrt()
    }

    fn time(&self, level: f64) -> f64 {
        (2.0 * self.theta * (level / self.g).powi(2)).ln_1p() / (2.0 * self.theta)
    }

    fn drift(&self, _: f64) -> f64 {
        -self.theta
    }

    fn diffusion(&self, _: f64) -> f64 {
        self.g * self.g
    }

    fn end(&self) -> f64 {
        self.end
    }

    fn prior(&self) -> f64 {
        self.g / (2.0 * self.theta).sqrt()
    }
}

/// The contractive one: dz = θ z dt + g dw, whose reversal draws together [Contractive DPMs].
///
/// ```text
/// α = exp(θ t)   s² = g² (exp(2θ t) − 1)/(2θ)   σ² = g² (1 − exp(−2θ t))/(2θ), never above g²/(2θ)
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Cou {
    /// θ.
    pub theta: f64,
    /// g.
    pub g: f64,
    /// T.
    pub end: f64,
}

impl Default for Cou {
    /// θ = ½ and g = 1, until T = 3.
    fn default() -> Self {
        Self { theta: 0.5, g: 1.0, end: 3.0 }
    }
}

impl Sde for Cou {
    fn check(&self) -> Result<(), Error> {
        constants(self.theta, self.g, self.end)
    }

    fn alpha(&self, t: f64) -> f64 {
        (self.theta * t).exp()
    }

    fn level(&self, t: f64) -> f64 {
        self.g * (-(-2.0 * self.theta * t).exp_m1() / (2.0 * self.theta)).sqrt()
    }

    fn time(&self, level: f64) -> f64 {
        -(-2.0 * self.theta * (level / self.g).powi(2)).ln_1p() / (2.0 * self.theta)
    }

    fn drift(&self, _: f64) -> f64 {
        self.theta
    }

    fn diffusion(&self, _: f64) -> f64 {
        self.g * self.g
    }

    fn end(&self) -> f64 {
        self.end
    }

    fn caveat(&self) -> Option<String> {
        Some(floor(self))
    }
}

fn constants(theta: f64, g: f64, end: f64) -> Result<(), Error> {
    positive("theta", theta)?;
    positive("g", g)?;
    positive_end(end)
}
