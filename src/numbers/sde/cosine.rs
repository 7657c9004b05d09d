//! The quarter circle.

use std::f64::consts::FRAC_PI_2;

use super::{Sde, before_one};
use crate::{Error, numbers::registry::entry};

entry! {
    name: "cosine",
    what: "α = cos(πt/2), s = sin(πt/2)",
    source: "VDM",
    /// α = cos(π t/2), s = sin(π t/2), σ = tan(π t/2), until T < 1 [VDM; Nichol & Dhariwal 2021, without the offset]; σ = 637 at 0.999.
    #[derive(Copy)]
    pub struct Cosine {
        /// T.
        pub end: f64 = 0.999 => "0 … 1, open" in "time",
    }
}

impl Sde for Cosine {
    fn check(&self) -> Result<(), Error> {
        before_one(self.end)
    }

    fn alpha(&self, t: f64) -> f64 {
        (FRAC_PI_2 * t).cos()
    }

    fn level(&self, t: f64) -> f64 {
        (FRAC_PI_2 * t).tan()
    }

    fn time(&self, level: f64) -> f64 {
        level.atan() / FRAC_PI_2
    }

    fn drift(&self, t: f64) -> f64 {
        -FRAC_PI_2 * self.level(t)
    }

    fn diffusion(&self, t: f64) -> f64 {
        2.0 * FRAC_PI_2 * self.level(t)
    }

    fn end(&self) -> f64 {
        self.end
    }

    fn prior(&self) -> f64 {
        1.0
    }
}
