//! Times of a chain, written out.

use super::{AnyChain, LinearBeta, Schedule, written};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "times",
    what: "times of a chain written out",
    source: "",
    example: "{kind: times, times: [999, 500, 0]}",
    /// σₜ = √((1 − ᾱₜ)/ᾱₜ) at these times of a chain; between whole times σ is linear in t.
    pub struct Times {
        /// t₀ > t₁ > …, counted from 0.
        pub times: Vec<f64> => "falling, from N − 1 to 0",
        /// The chain.
        pub beta: AnyChain = AnyChain::LinearBeta(LinearBeta::default()) => "any chain",
    }
}

impl Schedule for Times {
    /// All of the list; `levels` must be its length.
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        written(levels, self.times.len(), "the length of the list of times")?;
        let chain = self.beta.get().times()?;
        if let Some(t) = self.times.iter().find(|t| !(0.0..=chain.last()).contains(*t)) {
            return Err(Error::parameter(
                "times",
                "within the times of the chain",
                format!("{t} of 0 … {}", chain.last()),
            ));
        }
        Sigmas::new(self.times.iter().map(|t| chain.sigma(*t)).collect())
    }

    fn levels(&self) -> Option<usize> {
        Some(self.times.len())
    }
}
