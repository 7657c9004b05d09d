//! The chain of latent diffusion.

use super::{Chain, Schedule, along, count, fraction, grid};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "scaled-linear",
    what: "chain linear in √β",
    source: "Rombach et al. 2022",
    aliases: ["scaled_linear"],
    /// √β grows linearly [Rombach et al. 2022]; diffusers' `scaled_linear`.
    pub struct ScaledLinear {
        /// β₀.
        pub first: f64 = 0.00085 => "0 … 1, open",
        /// The last β.
        pub last: f64 = 0.012 => "0 … 1, open",
        /// Number of times of the chain.
        pub times: usize = 1000 => "≥ 1",
    }
}

impl Chain for ScaledLinear {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let (first, last) = (fraction("first", self.first)?.sqrt(), fraction("last", self.last)?.sqrt());
        Ok(grid(count("times", self.times)?).map(|u| (first + u * (last - first)).powi(2)).collect())
    }
}

impl Schedule for ScaledLinear {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}
