//! Processes with constant coefficients [SDE tutorial, §2].

use super::{Sde, floor, positive_end};
use crate::{
    Error,
    numbers::{registry::entry, sigma::positive},
};

entry! {
    name: "ou",
    what: "dz = −θ z dt + g dw",
    source: "SDE tutorial, §2",
    /// Ornstein and Uhlenbeck's: dz = −θ z dt + g dw, which tends to N(0, g²/(2θ)): by default to N(0, I).
    ///
    /// ```text
    /// α = exp(−θ t)   s² = g² (1 − exp(−2θ t))/(2θ)   σ² = g² (exp(2θ t) − 1)/(2θ)
    /// ```
    #[derive(Copy)]
    pub struct Ou {
        /// θ.
        pub theta: f64 = 1.0 => "> 0" in "1/time",
        /// g.
        pub g: f64 = std::f64::consts::SQRT_2 => "> 0" in "data units/√time",
        /// T.
        pub end: f64 = 5.0 => "> 0" in "time",
    }
}

impl Sde for Ou {
    fn check(&self) -> Result<(), Error> {
        constants(self.theta, self.g, self.end)
    }

    fn alpha(&self, t: f64) -> f64 {
        (-self.theta * t).exp()
    }

    fn level(&self, t: f64) -> f64 {
        self.g * ((2.0 * self.theta * t).exp_m1() / (2.0 * self.theta)).sqrt()
    }

    fn time(&self, level: f64) -> f64 {
        (2.0 * self.theta * (level / self.g).powi(2)).ln_1p() / (2.0 * self.theta)
    }

    fn drift(&self, _: f64) -> f64 {
        -self.theta
    }

    fn diffusion(&self, _: f64) -> f64 {
        self.g * self.g
    }

    fn end(&self) -> f64 {
        self.end
    }

    fn prior(&self) -> f64 {
        self.g / (2.0 * self.theta).sqrt()
    }
}

entry! {
    name: "cou",
    what: "dz = θ z dt + g dw: contractive; its SNR has a floor",
    source: "SDE tutorial, §2",
    /// The contractive one: dz = θ z dt + g dw, whose reversal draws together [Contractive DPMs].
    ///
    /// ```text
    /// α = exp(θ t)   s² = g² (exp(2θ t) − 1)/(2θ)   σ² = g² (1 − exp(−2θ t))/(2θ), never above g²/(2θ)
    /// ```
    #[derive(Copy)]
    pub struct Cou {
        /// θ.
        pub theta: f64 = 0.5 => "> 0" in "1/time",
        /// g.
        pub g: f64 = 1.0 => "> 0" in "data units/√time",
        /// T.
        pub end: f64 = 3.0 => "> 0" in "time",
    }
}

impl Sde for Cou {
    fn check(&self) -> Result<(), Error> {
        constants(self.theta, self.g, self.end)
    }

    fn alpha(&self, t: f64) -> f64 {
        (self.theta * t).exp()
    }

    fn level(&self, t: f64) -> f64 {
        self.g * (-(-2.0 * self.theta * t).exp_m1() / (2.0 * self.theta)).sqrt()
    }

    fn time(&self, level: f64) -> f64 {
        -(-2.0 * self.theta * (level / self.g).powi(2)).ln_1p() / (2.0 * self.theta)
    }

    fn drift(&self, _: f64) -> f64 {
        self.theta
    }

    fn diffusion(&self, _: f64) -> f64 {
        self.g * self.g
    }

    fn end(&self) -> f64 {
        self.end
    }

    fn caveat(&self) -> Option<String> {
        Some(floor(self))
    }
}

fn constants(theta: f64, g: f64, end: f64) -> Result<(), Error> {
    positive("theta", theta)?;
    positive("g", g)?;
    positive_end(end)
}
