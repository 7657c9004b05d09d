//! Equal steps of σ.

use super::{Schedule, between, ends};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "linear",
    what: "linear in σ",
    source: "Random Walks, Fig. 1",
    /// σ = max + u (min − max) [Random Walks, Fig. 1].
    pub struct Linear {
        /// The largest level.
        pub max: Option<f64> = None => "> min" in "data units" or "the model’s largest",
        /// The smallest level.
        pub min: Option<f64> = None => "> 0" in "data units" or "the model’s smallest",
    }
}

impl Schedule for Linear {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let (min, max) = ends((self.min, self.max), range)?;
        between(levels, (min, max), |u| max + u * (min - max))
    }
}
