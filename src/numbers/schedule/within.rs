//! Levels between the ends of others.

use super::{AnySchedule, Karras, Schedule, Subsequence};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "within",
    what: "levels of one schedule between the ends of another",
    source: "diffusers",
    /// As many levels of one schedule as of another, between the largest and the smallest of that.
    ///
    /// diffusers lays Karras', exponential and beta levels between the ends of a chain's chosen times.
    pub struct Within {
        /// Schedule that lays out the levels; its own ends, where it has them, come first.
        pub levels: Box<AnySchedule> = Box::new(AnySchedule::Karras(Karras::default())) => "any schedule",
        /// Schedule with the ends.
        pub ends: Box<AnySchedule> = Box::new(AnySchedule::Subsequence(Subsequence::default())) => "any schedule",
    }
}

impl Schedule for Within {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let ends = self.ends.get().sigmas(levels, range)?;
        self.levels.get().sigmas(levels, (ends.min(), ends.max()))
    }
}
