//! Processes that leave the image as it is, and the straight line to noise.

use super::{Sde, before_one, positive_end};
use crate::{
    Error,
    numbers::{registry::entry, sigma::positive},
};

entry! {
    name: "ve",
    what: "α = 1, σ geometric in t",
    source: "SDE tutorial, §2",
    /// The variance-exploding process: α = 1, σ² = min² ((max/min)^(2t/T) − 1) [SDE tutorial, §2].
    ///
    /// The defaults are those of [Score SDE, Appendix C], whose code leaves out the −1 and calls max the standard deviation at T; the levels are the same otherwise.
    #[derive(Copy)]
    pub struct Ve {
        /// The standard deviation with which the geometric growth begins.
        pub min: f64 = 0.01 => "> 0" in "data units",
        /// Largest σ, with which the process ends.
        pub max: f64 = 50.0 => "> min" in "data units",
        /// T.
        pub end: f64 = 1.0 => "> 0" in "time",
    }
}

impl Ve {
    /// d ln σ²/dt of the geometric growth.
    fn rate(&self) -> f64 {
        2.0 * (self.max / self.min).ln() / self.end
    }
}

impl Sde for Ve {
    fn check(&self) -> Result<(), Error> {
        positive("min", self.min)?;
        positive_end(self.end)?;
        if self.min < self.max && self.max < f64::INFINITY {
            return Ok(());
        }
        Err(Error::parameter("max", "finite and larger than min", self.max))
    }

    fn alpha(&self, _: f64) -> f64 {
        1.0
    }

    fn level(&self, t: f64) -> f64 {
        self.min * (self.rate() * t).exp_m1().sqrt()
    }

    fn time(&self, level: f64) -> f64 {
        (level / self.min).powi(2).ln_1p() / self.rate()
    }

    fn drift(&self, _: f64) -> f64 {
        0.0
    }

    fn diffusion(&self, t: f64) -> f64 {
        self.min.powi(2) * self.rate() * (self.rate() * t).exp()
    }

    fn end(&self) -> f64 {
        self.end
    }
}

entry! {
    name: "edm",
    what: "α = 1, σ = t",
    source: "EDM, §3",
    /// Time is the level itself: α = 1, σ = t, until T [EDM, §3].
    #[derive(Copy)]
    pub struct Edm {
        /// T.
        pub end: f64 = 80.0 => "> 0" in "data units",
    }
}

impl Sde for Edm {
    fn check(&self) -> Result<(), Error> {
        positive_end(self.end)
    }

    fn alpha(&self, _: f64) -> f64 {
        1.0
    }

    fn level(&self, t: f64) -> f64 {
        t
    }

    fn time(&self, level: f64) -> f64 {
        level
    }

    fn drift(&self, _: f64) -> f64 {
        0.0
    }

    fn diffusion(&self, t: f64) -> f64 {
        2.0 * t
    }

    fn end(&self) -> f64 {
        self.end
    }
}

entry! {
    name: "flow-matching",
    what: "α = 1 − t, s = t",
    source: "Lipman et al. 2023",
    aliases: ["rectified-flow"],
    /// The straight line z = (1 − t) x + t n, until T < 1 [Lipman et al. 2023]; σ = 999 at 0.999.
    #[derive(Copy)]
    pub struct FlowMatching {
        /// T.
        pub end: f64 = 0.999 => "0 … 1, open" in "time",
    }
}

impl Sde for FlowMatching {
    fn check(&self) -> Result<(), Error> {
        before_one(self.end)
    }

    fn alpha(&self, t: f64) -> f64 {
        1.0 - t
    }

    fn level(&self, t: f64) -> f64 {
        t / (1.0 - t)
    }

    fn time(&self, level: f64) -> f64 {
        level / (1.0 + level)
    }

    fn drift(&self, t: f64) -> f64 {
        -1.0 / (1.0 - t)
    }

    fn diffusion(&self, t: f64) -> f64 {
        2.0 * t / (1.0 - t)
    }

    fn end(&self) -> f64 {
        self.end
    }

    fn prior(&self) -> f64 {
        1.0
    }
}
