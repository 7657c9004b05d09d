//! The chain of DDPM.

use super::{Chain, Schedule, along, count, fraction, grid};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "linear-beta",
    what: "the chain of DDPM (“pretrained”)",
    source: "DDPM, §4",
    aliases: ["pretrained"],
    /// β grows linearly from `first` to `last`: the "pretrained" schedule of DDPM [DDPM, §4].
    pub struct LinearBeta {
        /// β₀.
        pub first: f64 = 1e-4 => "0 … 1, open",
        /// The last β.
        pub last: f64 = 0.02 => "0 … 1, open",
        /// Number of times of the chain.
        pub times: usize = 1000 => "≥ 1",
    }
}

impl Chain for LinearBeta {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let (first, last) = (fraction("first", self.first)?, fraction("last", self.last)?);
        Ok(grid(count("times", self.times)?).map(|u| first + u * (last - first)).collect())
    }
}

impl Schedule for LinearBeta {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}
