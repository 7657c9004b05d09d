//! A chain written out.

use super::{Chain, Schedule, along, count, fraction};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "betas",
    what: "a chain written out",
    source: "",
    example: "{kind: betas, betas: [0.01, 0.05, 0.2]}",
    /// βₜ written out.
    pub struct Betas {
        /// β₀, β₁, ….
        pub betas: Vec<f64> => "0 … 1, open",
    }
}

impl Chain for Betas {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        count("the number of betas", self.betas.len())?;
        self.betas.iter().map(|beta| fraction("beta", *beta)).collect()
    }
}

impl Schedule for Betas {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}
