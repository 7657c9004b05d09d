//! Continuous variance-preserving networks.

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling};
use crate::{
    Error,
    numbers::sigma::{alpha_bar, at_least_zero, from_alpha_bar, positive},
};

/// The rate of the variance-preserving SDE, β(t) = β_min + t β_d for t in 0 … 1 [Score SDE, Eq. 33].
///
/// ```text
/// −ln ᾱ(t) = β_d t² / 2 + β_min t
/// skip = 1   out = −σ   input = √ᾱ   label = (M − 1) t
/// ```
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Vp {
    /// β(0).
    pub beta_min: f64,
    /// β(1) − β(0).
    pub beta_d: f64,
    /// The earliest time that the network was trained for.
    pub epsilon: f64,
    /// M, the number of times of the chain that the SDE stands for.
    #[serde(default = "thousand", skip_serializing_if = "is_thousand")]
    pub times: f64,
}

fn thousand() -> f64 {
    1000.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_thousand(times: &f64) -> bool {
    *times == thousand()
}

impl Default for Vp {
    /// β from 0.1 to 20, from t = 10⁻⁵ on.
    fn default() -> Self {
        Self { beta_min: 0.1, beta_d: 19.9, epsilon: 1e-5, times: thousand() }
    }
}

impl Vp {
    pub(super) fn checked(&self) -> Result<Self, Error> {
        at_least_zero("beta_min", self.beta_min)?;
        positive("beta_d", self.beta_d)?;
        positive("times", self.times - 1.0)?;
        if self.epsilon > 0.0 && self.epsilon < 1.0 {
            return Ok(*self);
        }
        Err(Error::parameter("epsilon", "between 0 and 1", self.epsilon))
    }

    fn alpha_bar(&self, time: f64) -> f64 {
        (-time * (self.beta_d * time / 2.0 + self.beta_min)).exp()
    }

    fn time(&self, alpha_bar: f64) -> f64 {
        ((self.beta_min.powi(2) - 2.0 * self.beta_d * alpha_bar.ln()).sqrt() - self.beta_min) / self.beta_d
    }
}

impl Precondition for Vp {
    fn at(&self, sigma: f64) -> Scaling {
        let alpha_bar = alpha_bar(sigma);
        let label = (self.times - 1.0) * self.time(alpha_bar);
        Scaling { skip_minus_one: 0.0, out: -sigma, input: alpha_bar.sqrt(), label }
    }

    fn range(&self) -> (f64, f64) {
        (from_alpha_bar(self.alpha_bar(self.epsilon)), from_alpha_bar(self.alpha_bar(1.0)))
    }

    fn start(&self, sigma: f64) -> f64 {
        sigma.hypot(1.0)
    }
}

/// The sub-variance-preserving SDE: √ᾱ x₀ + (1 − ᾱ) n, so that σ = (1 − ᾱ)/√ᾱ; time is that of [`Vp`]
/// [Score SDE, Eq. 29].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(transparent)]
pub struct SubVp(pub Vp);

impl SubVp {
    pub(super) fn checked(&self) -> Result<Self, Error> {
        Ok(Self(self.0.checked()?))
    }
}

impl Precondition for SubVp {
    fn at(&self, sigma: f64) -> Scaling {
        // m = √ᾱ solves 1 − m² = σ m.
        let scale = 2.0 / (sigma + sigma.hypot(2.0));
        let label = (self.0.times - 1.0) * self.0.time(scale * scale);
        Scaling { skip_minus_one: 0.0, out: -sigma, input: scale, label }
    }

    fn range(&self) -> (f64, f64) {
        let sigma = |time| {
            let alpha_bar = self.0.alpha_bar(time);
            (1.0 - alpha_bar) / alpha_bar.sqrt()
        };
        (sigma(self.0.epsilon), sigma(1.0))
    }

    /// The chain itself starts from x_T ~ N(0, I).
    fn start(&self, sigma: f64) -> f64 {
        self.at(sigma).input.recip()
    }
}
