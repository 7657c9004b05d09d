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

/// The label of a level between those of two whole times.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Labels {
    /// t is linear in σ between whole times [Random Walks].
    #[default]
    Linear,
    /// t is linear in ln σ, as in k-diffusion and diffusers.
    Logarithmic,
    /// The whole time nearest to that.
    Nearest,
    /// The whole time at or below it.
    Below,
}

impl Labels {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
    fn is_linear(&self) -> bool {
        *self == Self::Linear
    }

    /// t at level σ of a chain.
    fn time(self, times: &Times, sigma: f64) -> f64 {
        match self {
            Self::Linear => times.time(sigma),
            Self::Logarithmic => times.time_in_log(sigma),
            Self::Nearest => times.time_in_log(sigma).round_ties_even(),
            Self::Below => whole(times.time_in_log(sigma)),
        }
    }
}

/// The whole number at or below `time`, where rounding must not lose one.
pub(super) fn whole(time: f64) -> f64 {
    (time + 1e-9).floor()
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
    /// Labels between those of whole times.
    #[serde(default, skip_serializing_if = "Labels::is_linear")]
    pub labels: Labels,
}

/// See [`DdpmConfig`].
#[derive(Clone, Debug)]
pub struct Ddpm {
    times: Times,
    prediction: Prediction,
    labels: Labels,
    /// Label of one step of the chain.
    step: f64,
}

impl Ddpm {
    /// Creates the preconditioning of a network that was trained at these times.
    pub fn new(times: Times, prediction: Prediction) -> Self {
        Self { times, prediction, labels: Labels::default(), step: 1.0 }
    }

    pub(super) fn from_config(config: &DdpmConfig) -> Result<Self, Error> {
        let times = config.beta.get().times()?;
        let count = times.levels().len() as f64;
        let step = config
            .label_times
            .map_or(Ok(1.0), |labels| positive("label_times", labels).map(|labels| labels / count))?;
        Ok(Self { step, labels: config.labels, ..Self::new(times, config.prediction) })
    }
}

impl Precondition for Ddpm {
    fn at(&self, sigma: f64) -> Scaling {
        let alpha_bar = alpha_bar(sigma);
        let (input, label) = (alpha_bar.sqrt(), self.step * self.labels.time(&self.times, sigma));
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
