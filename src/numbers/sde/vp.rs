//! Processes whose rate β(t) grows linearly [SDE tutorial, §2].
//!
//! ```text
//! β(t) = β_min + (β_max − β_min) t/T      B(t) = ∫₀ᵗ β = β_min t + (β_max − β_min) t²/(2T)
//! ```

use super::{Sde, floor, positive_end};
use crate::{
    Error,
    numbers::{registry::entry, sigma::at_least_zero},
};

struct Rate {
    min: f64,
    max: f64,
    end: f64,
}

impl Rate {
    fn check(&self) -> Result<(), Error> {
        at_least_zero("beta_min", self.min)?;
        positive_end(self.end)?;
        if self.max > 0.0 && self.min <= self.max && self.max < f64::INFINITY {
            return Ok(());
        }
        Err(Error::parameter("beta_max", "positive, finite and not smaller than beta_min", self.max))
    }

    fn beta(&self, t: f64) -> f64 {
        self.min + (self.max - self.min) * t / self.end
    }

    /// B(t).
    fn total(&self, t: f64) -> f64 {
        (self.min + (self.max - self.min) * t / (2.0 * self.end)) * t
    }

    /// t at B, in the form of the quadratic formula that loses no digits at small B.
    fn time(&self, total: f64) -> f64 {
        let slope = (self.max - self.min) / self.end;
        2.0 * total / (self.min + (self.min * self.min + 2.0 * slope * total).sqrt())
    }
}

/// Declares a process with such a rate: its parameters and their defaults.
macro_rules! rated {
    ($name:literal, $what:literal, $source:literal, $(#[doc = $doc:literal])+ $struct:ident, $beta_min:literal, $beta_max:literal) => {
        entry! {
            name: $name,
            what: $what,
            source: $source,
            $(#[doc = $doc])+
            #[derive(Copy)]
            pub struct $struct {
                /// β(0).
                pub beta_min: f64 = $beta_min => "≥ 0" in "1/time",
                /// β(T).
                pub beta_max: f64 = $beta_max => "≥ beta_min, > 0" in "1/time",
                /// T.
                pub end: f64 = 1.0 => "> 0" in "time",
            }
        }

        impl $struct {
            fn rate(&self) -> Rate {
                Rate { min: self.beta_min, max: self.beta_max, end: self.end }
            }
        }
    };
}

rated! {
    "vp", "β linear in t, s² = 1 − exp(−B)", "Score SDE, Eq. 11",
    /// The variance-preserving process, dz = −½ β z dt + √β dw [Score SDE, Eq. 11].
    ///
    /// ```text
    /// α = exp(−B/2)   s² = 1 − exp(−B)   σ² = exp(B) − 1
    /// ```
    Vp, 0.1, 20.0
}

impl Sde for Vp {
    fn check(&self) -> Result<(), Error> {
        self.rate().check()
    }

    fn alpha(&self, t: f64) -> f64 {
        (-self.rate().total(t) / 2.0).exp()
    }

    fn level(&self, t: f64) -> f64 {
        self.rate().total(t).exp_m1().sqrt()
    }

    fn time(&self, level: f64) -> f64 {
        self.rate().time((level * level).ln_1p())
    }

    fn drift(&self, t: f64) -> f64 {
        -self.rate().beta(t) / 2.0
    }

    fn diffusion(&self, t: f64) -> f64 {
        self.rate().beta(t)
    }

    fn end(&self) -> f64 {
        self.end
    }

    fn prior(&self) -> f64 {
        1.0
    }
}

rated! {
    "sub-vp", "β linear in t, s = 1 − exp(−B)", "Score SDE, Eq. 29",
    /// The sub-variance-preserving process, dz = −½ β z dt + √(β (1 − exp(−2B))) dw [Score SDE, Eq. 29].
    ///
    /// ```text
    /// α = exp(−B/2)   s = 1 − exp(−B)   σ = 2 sinh(B/2)
    /// ```
    SubVp, 0.1, 20.0
}

impl Sde for SubVp {
    fn check(&self) -> Result<(), Error> {
        self.rate().check()
    }

    fn alpha(&self, t: f64) -> f64 {
        (-self.rate().total(t) / 2.0).exp()
    }

    fn level(&self, t: f64) -> f64 {
        2.0 * (self.rate().total(t) / 2.0).sinh()
    }

    fn time(&self, level: f64) -> f64 {
        self.rate().time(2.0 * (level / 2.0).asinh())
    }

    fn drift(&self, t: f64) -> f64 {
        -self.rate().beta(t) / 2.0
    }

    fn diffusion(&self, t: f64) -> f64 {
        let rate = self.rate();
        -rate.beta(t) * (-2.0 * rate.total(t)).exp_m1()
    }

    fn end(&self) -> f64 {
        self.end
    }

    fn prior(&self) -> f64 {
        1.0
    }
}

rated! {
    "cvp", "contractive; its SNR has a floor", "SDE tutorial, §2",
    /// The contractive variance-preserving process, dz = +½ β z dt + √β dw [Contractive DPMs].
    ///
    /// ```text
    /// α = exp(B/2)   s² = exp(B) − 1   σ² = 1 − exp(−B), never above 1
    /// ```
    Cvp, 0.01, 8.0
}

impl Sde for Cvp {
    fn check(&self) -> Result<(), Error> {
        self.rate().check()
    }

    fn alpha(&self, t: f64) -> f64 {
        (self.rate().total(t) / 2.0).exp()
    }

    fn level(&self, t: f64) -> f64 {
        (-(-self.rate().total(t)).exp_m1()).sqrt()
    }

    fn time(&self, level: f64) -> f64 {
        self.rate().time(-(-level * level).ln_1p())
    }

    fn drift(&self, t: f64) -> f64 {
        self.rate().beta(t) / 2.0
    }

    fn diffusion(&self, t: f64) -> f64 {
        self.rate().beta(t)
    }

    fn end(&self) -> f64 {
        self.end
    }

    fn caveat(&self) -> Option<String> {
        Some(floor(self))
    }
}

rated! {
    "csub-vp", "contractive, with the levels of sub-vp", "SDE tutorial, §2",
    /// The contractive sub-variance-preserving process, dz = +½ β z dt + √(β (exp(2B) − 1)) dw [Contractive DPMs].
    ///
    /// ```text
    /// α = exp(B/2)   s = exp(B) − 1   σ = 2 sinh(B/2), as for the process that does not contract
    /// ```
    CsubVp, 0.01, 8.0
}

impl Sde for CsubVp {
    fn check(&self) -> Result<(), Error> {
        self.rate().check()
    }

    fn alpha(&self, t: f64) -> f64 {
        (self.rate().total(t) / 2.0).exp()
    }

    fn level(&self, t: f64) -> f64 {
        2.0 * (self.rate().total(t) / 2.0).sinh()
    }

    fn time(&self, level: f64) -> f64 {
        self.rate().time(2.0 * (level / 2.0).asinh())
    }

    fn drift(&self, t: f64) -> f64 {
        self.rate().beta(t) / 2.0
    }

    fn diffusion(&self, t: f64) -> f64 {
        let rate = self.rate();
        rate.beta(t) * (2.0 * rate.total(t)).exp_m1()
    }

    fn end(&self) -> f64 {
        self.end
    }
}
