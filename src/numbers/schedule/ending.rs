//! Walks that end with noise left.

use super::{AnySchedule, Karras, Schedule};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "ending",
    what: "another schedule’s levels for a walk that ends above σ = 0",
    source: "diffusers",
    /// Levels of another schedule for a walk that ends at a level of noise in place of images.
    ///
    /// diffusers' `final_sigmas_type: sigma_min` and `set_alpha_to_one: false` end so, at the smallest level of the chain.
    pub struct Ending {
        /// Schedule with the levels.
        pub levels: Box<AnySchedule> = Box::new(AnySchedule::Karras(Karras::default())) => "any schedule",
        /// Level at which the walk ends; levels below it are left out.
        pub at: Option<f64> = None => "≥ 0" in "data units" or "the schedule’s last level",
    }
}

impl Schedule for Ending {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let sigmas = self.levels.get().sigmas(levels, range)?;
        let end = self.at.unwrap_or(sigmas.min());
        sigmas.ending(end)
    }

    fn levels(&self) -> Option<usize> {
        self.levels.get().levels()
    }

    fn caveat(&self) -> Option<String> {
        self.levels.get().caveat()
    }
}
