//! Equal steps in the time of a process.

use super::{Schedule, between};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sde::{AnySde, Vp},
        sigma::{Sigmas, positive},
    },
};

entry! {
    name: "in-time",
    what: "equal steps in the time of any sde",
    source: "S2N, Theorem 5",
    example: "{kind: in-time, sde: vp}",
    /// The levels of a process at equal steps of its time, from T to `epsilon`.
    ///
    /// With it a network goes along a process that it was not trained on: s(x, σ) is the same for all of them [S2N, Theorem 5].
    pub struct InTime {
        /// The process.
        pub sde: AnySde = AnySde::Vp(Vp::default()) => "any process",
        /// The last time.
        pub epsilon: f64 = 1e-3 => "> 0, before the end of the process" in "time",
    }
}

impl Schedule for InTime {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        let sde = self.sde.get();
        sde.check()?;
        let (epsilon, end) = (positive("epsilon", self.epsilon)?, sde.end());
        if epsilon >= end {
            return Err(Error::parameter("epsilon", "earlier than the end of the process", epsilon));
        }
        between(levels, (sde.level(epsilon), sde.level(end)), |u| sde.level(end + u * (epsilon - end)))
    }

    fn caveat(&self) -> Option<String> {
        self.sde.get().caveat()
    }
}
