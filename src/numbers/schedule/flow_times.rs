//! Times of flow matching.

use super::{LEVELS, Schedule, count, grid};
use crate::{
    Error,
    numbers::{precondition::Flow, registry::entry, sigma::Sigmas},
};

entry! {
    name: "flow-times",
    what: "times of flow matching, shifted towards noise",
    source: "Esser et al. 2024, §5.3.2",
    example: "{kind: flow-times, shift: 3}",
    /// σ = t/(1 − t) at K equal steps of u from 1 to 1/N, each shifted, t = s u/(1 + (s − 1) u), as often as `repeats` says.
    ///
    /// diffusers' FlowMatchEulerDiscreteScheduler shifts twice: when it is made and when its times are set. t = 1, where σ is
    /// infinite, is taken as 0.9999.
    pub struct FlowTimes {
        /// s; 1 does not shift, larger ones spend more steps in noise.
        pub shift: f64 = 1.0 => "> 0",
        /// Number of times that the shift is applied.
        pub repeats: usize = 1 => "≥ 0",
        /// N, the number of times in training.
        pub times: usize = 1000 => "≥ 2",
    }
}

impl Schedule for FlowTimes {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        if !(self.shift > 0.0 && self.shift.is_finite()) {
            return Err(Error::parameter("shift", "positive and finite", self.shift));
        }
        if self.times < 2 {
            return Err(Error::parameter("times", "at least 2", self.times));
        }
        let shifted = |u: f64| self.shift * u / (1.0 + (self.shift - 1.0) * u);
        // The ends of the steps are shifted when the scheduler is made, its steps when the times are set.
        let ends = |u: f64| (1..self.repeats).fold(u, |u, _| shifted(u));
        let (first, last) = (ends(1.0), ends(1.0 / self.times as f64));
        let times = grid(count(LEVELS, levels)?).map(|step| first + step * (last - first));
        let times = times.map(|u| if self.repeats > 0 { shifted(u) } else { u });
        Sigmas::new(times.map(|t| (t / (1.0 - t)).min(Flow::LARGEST)).collect())
    }
}
