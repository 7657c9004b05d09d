//! Levels along the logistic curve.

use super::{LEVELS, Schedule, count, ends, grid};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sigma::{Sigmas, positive},
    },
};

entry! {
    name: "sigmoid",
    what: "a piece of the logistic curve",
    source: "Random Walks",
    /// σ = min + g(u) (max − min), where g falls from 1 to 0 as a piece of the logistic curve
    /// [Random Walks; Chen 2023, Alg. 1].
    ///
    /// g(u) = (S(end/τ) − S((u (end − start) + start)/τ)) / (S(end/τ) − S(start/τ)), held within 10⁻⁹ … 1, so that the last
    /// level is min + 10⁻⁹ (max − min). The code released with the paper then moves each level to the nearest of a million
    /// points between the trained levels; here the levels stay as they are, and the network gets a fractional t.
    pub struct Sigmoid {
        /// Begin of the levels on the logistic curve.
        pub start: f64 = 0.0 => "≠ end",
        /// End of the levels on the logistic curve.
        pub end: f64 = 3.0 => "≠ start",
        /// The width of the curve.
        pub tau: f64 = 0.3 => "> 0",
        /// The largest level.
        pub max: Option<f64> = None => "> min" in "data units" or "the model’s largest",
        /// The smallest level.
        pub min: Option<f64> = None => "> 0" in "data units" or "the model’s smallest",
    }
}

impl Schedule for Sigmoid {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let (start, end, tau) = (self.start, self.end, positive("tau", self.tau)?);
        let length = end - start;
        if !length.is_finite() || length == 0.0 {
            let value = format!("{end} (start is {start})");
            return Err(Error::parameter("end", "finite and different from start", value));
        }
        let (min, max) = ends((self.min, self.max), range)?;
        let logistic = |t: f64| 1.0 / (1.0 + (-t / tau).exp());
        let (from, to) = (logistic(start), logistic(end));
        let sigma = |u: f64| {
            let g = ((to - logistic(start + u * length)) / (to - from)).clamp(1e-9, 1.0);
            g * max + (1.0 - g) * min
        };
        // Neighbouring levels coincide if the curve is flat to the last digit.
        let flat = |_| Error::parameter("tau", "large enough for all levels to differ (or take fewer steps)", tau);
        Sigmas::new(grid(count(LEVELS, levels)?).map(sigma).collect()).map_err(flat)
    }
}
