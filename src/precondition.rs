//! How a network's own conventions become a denoiser [EDM, §5]: four numbers for each σ.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    schedule::AnyChain,
    sigma::{Times, alpha_bar},
};

/// D(x, σ) = skip · x + out · F(input · x, label).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scaling {
    /// c_skip − 1, kept so that D − x loses no digits at small σ.
    pub skip_minus_one: f64,
    /// c_out.
    pub out: f64,
    /// c_in.
    pub input: f64,
    /// c_noise, what the network is told of σ.
    pub label: f64,
}

/// A family of checkpoints, reduced to four numbers for each σ.
pub trait Precondition: fmt::Debug + Send + Sync {
    /// The scaling at σ.
    fn at(&self, sigma: f64) -> Scaling;

    /// The smallest and the largest σ that the network was trained for, in data units.
    fn range(&self) -> (f64, f64);

    /// The standard deviation of x at a large σ, from which sampling starts: σ for images of no variance.
    fn start(&self, sigma: f64) -> f64 {
        sigma
    }

    /// The trained level of each discrete time, if the network knows discrete times.
    fn times(&self) -> Option<&Times> {
        None
    }
}

/// What the network's raw output F stands for, as diffusers' `prediction_type` has it.
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
    /// What the network predicts.
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
    /// For a network that was trained at these times.
    pub fn new(times: Times, prediction: Prediction) -> Self {
        Self { times, prediction }
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

/// What `precondition:` may name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AnyPrecondition {
    /// See [`Ddpm`].
    Ddpm(DdpmConfig),
}

impl AnyPrecondition {
    /// The chosen preconditioning, its tables made.
    pub fn build(&self) -> Result<Box<dyn Precondition>, Error> {
        match self {
            Self::Ddpm(config) => {
                let times = config.beta.get().times()?;
                Ok(Box::new(Ddpm::new(times, config.prediction)))
            }
        }
    }
}
