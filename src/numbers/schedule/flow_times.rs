//! Times of flow matching.

use serde::{Deserialize, Serialize};

use super::{BetaQuantiles, Geometric, Karras, LEVELS, Schedule, count, grid};
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
        /// Ends of u.
        pub ends: FlowEnds = FlowEnds::Both => "both, first, last",
        /// The last t: 1 − t of all is stretched to end there, diffusers' `shift_terminal`.
        pub terminal: Option<f64> = None => "0 … 1, open" or "not stretched",
        /// Law by which t falls between its ends, the first and last shifted time.
        pub law: FlowLaw = FlowLaw::Shifted => "shifted, karras, exponential, beta",
    }
}

/// See [`FlowTimes`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowEnds {
    /// K values from 1 to 1/N.
    #[default]
    Both,
    /// The first K of K + 1 values from 1 to 1/N: diffusers' UniPC.
    First,
    /// The first K of K + 1 values from 1 − 1/N to 0: diffusers' DPM solvers.
    Last,
}

/// See [`FlowTimes`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FlowLaw {
    /// The shifted times themselves.
    #[default]
    Shifted,
    /// Linear in t^(1/7).
    Karras,
    /// Linear in ln t.
    Exponential,
    /// Quantiles of Beta(0.6, 0.6).
    Beta,
}

impl Schedule for FlowTimes {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        if !(self.shift > 0.0 && self.shift.is_finite()) {
            return Err(Error::parameter("shift", "positive and finite", self.shift));
        }
        if self.times < 2 {
            return Err(Error::parameter("times", "at least 2", self.times));
        }
        let times = self.stretched(self.shifted(count(LEVELS, levels)?))?;
        let times = self.by_law(times)?;
        Sigmas::new(times.into_iter().map(|t| (t / (1.0 - t)).min(Flow::LARGEST)).collect())
    }
}

impl FlowTimes {
    /// The shifted times.
    fn shifted(&self, levels: usize) -> Vec<f64> {
        let shift = |u: f64| self.shift * u / (1.0 + (self.shift - 1.0) * u);
        // The ends of the steps are shifted when the scheduler is made, its steps when the times are set.
        let ends = |u: f64| (1..self.repeats).fold(u, |u, _| shift(u));
        let last = 1.0 / self.times as f64;
        let (points, first, last) = match self.ends {
            FlowEnds::Both => (levels, ends(1.0), ends(last)),
            FlowEnds::First => (levels + 1, ends(1.0), ends(last)),
            FlowEnds::Last => (levels + 1, ends(1.0 - last), 0.0),
        };
        let times = grid(points).take(levels).map(|step| first + step * (last - first));
        times.map(|u| if self.repeats > 0 { shift(u) } else { u }).collect()
    }

    fn stretched(&self, times: Vec<f64>) -> Result<Vec<f64>, Error> {
        let Some(terminal) = self.terminal else { return Ok(times) };
        if !(0.0 < terminal && terminal < 1.0) {
            return Err(Error::parameter("terminal", "between 0 and 1", terminal));
        }
        let factor = (1.0 - terminal) / (1.0 - times[times.len() - 1]);
        Ok(times.into_iter().map(|t| 1.0 - (1.0 - t) * factor).collect())
    }

    fn by_law(&self, times: Vec<f64>) -> Result<Vec<f64>, Error> {
        let (count, range) = (times.len(), (times[times.len() - 1], times[0]));
        let laid = match self.law {
            FlowLaw::Shifted => return Ok(times),
            FlowLaw::Karras => Karras::default().sigmas(count, range)?,
            FlowLaw::Exponential => Geometric::default().sigmas(count, range)?,
            FlowLaw::Beta => BetaQuantiles::default().sigmas(count, range)?,
        };
        Ok(laid.iter().collect())
    }
}
