//! Equal steps of ln σ.

use super::{Schedule, between, ends};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "geometric",
    what: "σ = max (min/max)^u",
    source: "NCSN, §4.3",
    aliases: ["exponential", "get_sigmas_exponential"],
    /// σ = max (min / max)^u, the levels of the variance-exploding SDE [NCSN, §4.3; Score SDE, Appendix C].
    pub struct Geometric {
        /// The largest level.
        pub max: Option<f64> = None => "> min" in "data units" or "the model’s largest",
        /// The smallest level.
        pub min: Option<f64> = None => "> 0" in "data units" or "the model’s smallest",
    }
}

impl Schedule for Geometric {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let (min, max) = ends((self.min, self.max), range)?;
        between(levels, (min, max), |u| max * (min / max).powf(u))
    }
}
