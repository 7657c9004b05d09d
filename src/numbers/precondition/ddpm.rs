//! Chains of discrete times [DDPM].

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling};
use crate::{
    Error,
    numbers::{
        schedule::AnyChain,
        sigma::{Times, alpha_bar},
    },
};

/// Meaning of the network's raw output F, as in diffusers' `prediction_type`.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Prediction {
    /// ε: D = x − σ F [DDPM, Eq. 12].
    #[default]
    Epsilon,
    /// v = √ᾱ ε − √(1 − ᾱ) x₀: D = ᾱ x − √(1 − ᾱ) F in this frame [Salimans & Ho 2022, §4].
    V,
    /// x₀ itself: D = F.
    Sample,
}

/// A chain of discrete times, called as F(√ᾱ x, t) with fractional t [DDPM; Random Walks].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DdpmConfig {
    /// The chain's βₜ.
    pub beta: AnyChain,
    /// Meaning of the network's output.
    #[serde(default)]
    pub prediction: Prediction,
}

/// See [`DdpmConfig`].
#[derive(Clone, Debug)]
pub struct Ddpm {
    times: Times,
    prediction: Prediction,
}

impl Ddpm {
    /// Creates the preconditioning of a network that was trained at these times.
    pub fn new(times: Times, prediction: Prediction) -> Self {
        Self { times, prediction }
    }

    pub(super) fn from_config(config: &DdpmConfig) -> Result<Self, Error> {
        Ok(Self::new(config.beta.get().times()?, config.prediction))
    }
}

impl Precondition for Ddpm {
    fn at(&self, sigma: f64) -> Scaling {
        let alpha_bar = alpha_bar(sigma);
        let (input, label) = (alpha_bar.sqrt(), self.times.time(sigma));
        match self.prediction {
            Prediction::Epsilon => Scaling { skip_minus_one: 0.0, out: -sigma, input, label },
            Prediction::V => {
                let skip_minus_one = -sigma * sigma * alpha_bar;
                Scaling { skip_minus_one, out: -sigma * input, input, label }
            }
            Prediction::Sample => Scaling { skip_minus_one: -1.0, out: 1.0, input, label },
        }
    }

    fn range(&self) -> (f64, f64) {
        self.times.range()
    }

    /// √(1 + σ²) = 1/√ᾱ: the chain itself starts from x_T ~ N(0, I).
    fn start(&self, sigma: f64) -> f64 {
        sigma.hypot(1.0)
    }

    fn times(&self) -> Option<&Times> {
        Some(&self.times)
    }
}
