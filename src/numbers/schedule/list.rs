//! Levels written out.

use super::{Schedule, written};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "list",
    what: "levels written out: [80, 10, 1, 0.1]",
    source: "",
    example: "[80, 10, 1, 0.1]",
    /// Levels written out, largest first.
    pub struct List {
        /// σ₀ > σ₁ > … > 0.
        pub sigmas: Vec<f64> => "falling, > 0" in "data units",
    }
}

impl Schedule for List {
    /// All of the list; `levels` must be its length.
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        written(levels, self.sigmas.len(), "the length of the list of levels")?;
        Sigmas::new(self.sigmas.clone())
    }

    fn levels(&self) -> Option<usize> {
        Some(self.sigmas.len())
    }
}
