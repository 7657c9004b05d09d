//! Processes that leave the image as it is, and the straight line to noise.

use serde::{Deserialize, Serialize};

use super::{Sde, before_one, positive_end};
use crate::{Error, numbers::sigma::positive};

/// The variance-exploding process: α = 1, σ² = min² ((max/min)^(2t/T) − 1) [SDE tutorial, §2].
///
/// Score SDE's code leaves out the −1 and calls max the standard deviation at T; the levels are the same otherwise.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Ve {
    /// The standard deviation with which the geometric growth begins.
    pub min: f64,
    /// And with which it ends.
    pub max: f64,
    /// T.
    pub end: f64,
}

impl Default for Ve {
    /// From 0.01 to 50, until T = 1 [Score SDE, Appendix C].
    fn default() -> Self {
        Self { min: 0.01, max: 50.0, end: 1.0 }
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

/// Time is the level itself: α = 1, σ = t, until T [EDM, §3].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Edm {
    /// T.
    pub end: f64,
}

impl Default for Edm {
    /// Until σ = 80.
    fn default() -> Self {
        Self { end: 80.0 }
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

/// The straight line z = (1 − t) x + t n, until T < 1 [Lipman et al. 2023].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct FlowMatching {
    /// T.
    pub end: f64,
}

impl Default for FlowMatching {
    /// Until T = 0.999, where σ = 999.
    fn default() -> Self {
        Self { end: 0.999 }
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
