//! Levels at the quantiles of a beta distribution.

use statrs::function::beta::inv_beta_reg;

use super::{Schedule, between, ends};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sigma::{Sigmas, positive},
    },
};

entry! {
    name: "beta-quantiles",
    what: "quantiles of Beta(a, b): dense at both ends",
    source: "Lee et al. 2024",
    /// σ = min + (max − min) Q(1 − u) with Q the quantile of Beta(a, b) [Lee et al. 2024, Beta Sampling].
    pub struct BetaQuantiles {
        /// a; the smaller, the more levels near `min`.
        pub a: f64 = 0.6 => "> 0",
        /// b; the smaller, the more levels near `max`.
        pub b: f64 = 0.6 => "> 0",
        /// The largest level.
        pub max: Option<f64> = None => "> min" in "data units" or "the model’s largest",
        /// The smallest level.
        pub min: Option<f64> = None => "> 0" in "data units" or "the model’s smallest",
    }
}

impl Schedule for BetaQuantiles {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let (a, b) = (positive("a", self.a)?, positive("b", self.b)?);
        let (min, max) = ends((self.min, self.max), range)?;
        between(levels, (min, max), |u| min + (max - min) * inv_beta_reg(a, b, 1.0 - u))
    }
}
