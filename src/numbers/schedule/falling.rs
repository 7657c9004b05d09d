//! Chains given by ᾱ of continuous time.

use serde::{Deserialize, Serialize};

use super::{Chain, Schedule, along, count, fraction};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "falling",
    what: "chain whose ᾱ falls exponentially, or by Laplace’s law",
    source: "diffusers",
    example: "{kind: falling, law: laplace}",
    /// βₜ = min(1 − ᾱ((t+1)/N)/ᾱ(t/N), cap) with
    ///
    /// ```text
    /// exponential   ᾱ(u) = exp(−12 u)
    /// laplace       ᾱ(u) = √(S/(1 + S)),   ln S = ½ sign(u − ½) ln(1 − 2 |½ − u| + 10⁻⁶)
    /// ```
    ///
    /// diffusers' `exp` and `laplace` [Hang & Gu 2024]; the square root is diffusers' own.
    #[derive(Copy)]
    pub struct Falling {
        /// Law by which ᾱ falls.
        pub law: Law = Law::Exponential => "exponential, laplace",
        /// The largest β allowed.
        pub cap: f64 = 0.999 => "0 … 1, open",
        /// N, how many times the chain has.
        pub times: usize = 1000 => "≥ 1",
    }
}

/// See [`Falling`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Law {
    /// ᾱ = exp(−12 u).
    #[default]
    Exponential,
    /// The log signal-to-noise ratio has Laplace's distribution.
    Laplace,
}

impl Law {
    fn alpha_bar(self, u: f64) -> f64 {
        match self {
            Self::Exponential => (-12.0 * u).exp(),
            Self::Laplace => {
                let snr = (-0.5 * 1f64.copysign(0.5 - u) * (1.0 - 2.0 * (0.5 - u).abs() + 1e-6).ln()).exp();
                (snr / (1.0 + snr)).sqrt()
            }
        }
    }
}

impl Chain for Falling {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let (times, cap) = (count("times", self.times)?, fraction("cap", self.cap)?);
        let alpha_bar = |t: usize| self.law.alpha_bar(t as f64 / times as f64);
        Ok((0..times).map(|t| (1.0 - alpha_bar(t + 1) / alpha_bar(t)).min(cap)).collect())
    }
}

impl Schedule for Falling {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}
