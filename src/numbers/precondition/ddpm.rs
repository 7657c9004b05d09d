//! Chains of discrete times [DDPM].

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling};
use crate::{
    Error,
    numbers::{
        schedule::AnyChain,
        sigma::{Times, alpha_bar, positive},
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
    /// Labels count to this, whatever the length N of the chain: the label of time t is t · `label_times`/N
    /// [improved-diffusion's `rescale_timesteps`]; t itself if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_times: Option<f64>,
}

/// See [`DdpmConfig`].
#[derive(Clone, Debug)]
pub struct Ddpm {
    times: Times,
    prediction: Prediction,
    /// Label of one step of the chain.
    step: f64,
}

impl Ddpm {
    /// Creates the preconditioning of a network that was trained at these times.
    pub fn new(times: Times, prediction: Prediction) -> Self {
        Self { times, prediction, step: 1.0 }
    }

    pub(super) fn from_config(config: &DdpmConfig) -> Result<Self, Error> {
        let times = config.beta.get().times()?;
        let count = times.levels().len() as f64;
        let step = config
            .label_times
            .map_or(Ok(1.0), |labels| positive("label_times", labels).map(|labels| labels / count))?;
        Ok(Self { step, ..Self::new(times, config.prediction) })
    }
}

impl Precondition for Ddpm {
    fn at(&self, sigma: f64) -> Scaling {
        let alpha_bar = alpha_bar(sigma);
        let (input, label) = (alpha_bar.sqrt(), self.step * self.times.time(sigma));
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
