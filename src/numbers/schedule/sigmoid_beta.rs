//! The chain whose β follows the logistic curve.

use super::{Chain, Schedule, along, count, fraction, grid};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "sigmoid-beta",
    what: "chain whose β follows the logistic curve",
    source: "diffusers",
    /// β grows along the logistic curve, from u = −6 to 6: β = first + S(u) (last − first); diffusers' `sigmoid`.
    pub struct SigmoidBeta {
        /// The level of β far to the left, which β₀ exceeds by a four-hundredth of the whole.
        pub first: f64 = 1e-4 => "0 … 1, open",
        /// The level of β far to the right.
        pub last: f64 = 0.02 => "0 … 1, open",
        /// Number of times of the chain.
        pub times: usize = 1000 => "≥ 1",
    }
}

impl Chain for SigmoidBeta {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let (first, last) = (fraction("first", self.first)?, fraction("last", self.last)?);
        let logistic = |u: f64| 1.0 / (1.0 + (6.0 - 12.0 * u).exp());
        Ok(grid(count("times", self.times)?).map(|u| first + logistic(u) * (last - first)).collect())
    }
}

impl Schedule for SigmoidBeta {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}
