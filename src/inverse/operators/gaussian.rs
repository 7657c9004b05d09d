//! Gaussian blur.

use tch::{Device, Kind};

use super::{
    Boundary, Operator, Separable, Task,
    blur::{reach, shrink},
};
use crate::{Error, numbers::registry::entry};

entry! {
    name: "deblur-gaussian",
    what: "a Gaussian kernel",
    source: "DPS",
    facts: { map: "linear, svd", random: "no" },
    /// A Gaussian kernel exp(−r²/2s²), cut at 4 s and at its size, normalised to sum 1 [DPS, §4.1].
    ///
    /// The defaults of size and s are 61 and 3 for 256 pixels, as in the papers, and shrink with the square root of the
    /// shorter side: 21 and 1.06 for 32 pixels.
    pub struct DeblurGaussian {
        /// s, in pixels.
        pub std: Option<f64> = None => "> 0" in "pixels" or "3 for 256 pixels, less for fewer",
        /// The kernel's height and width in pixels, odd; at least wide enough for 4 s if left out.
        pub size: Option<i64> = None => "odd" in "pixels" or "wide enough for 4 std",
        /// Continuation of the image beyond its border.
        pub boundary: Boundary = Boundary::Reflect => "reflect, zero, circular",
    }
}

impl DeblurGaussian {
    /// s.
    fn std(&self, shape: [i64; 3]) -> Result<f64, Error> {
        let std = self.std.unwrap_or(3.0 * shrink(shape));
        if std.is_finite() && std > 0.0 { Ok(std) } else { Err(Error::parameter("std", "positive", std)) }
    }

    /// The weights of the pixels −k … k of one line.
    fn taps(&self, shape: [i64; 3]) -> Result<Vec<f64>, Error> {
        let std = self.std(shape)?;
        let cut = (4.0 * std + 0.5).floor();
        let reach = reach(self.size, (30.0 * shrink(shape)).max(cut), shape)?;
        let weight = |d: i64| {
            let d = d as f64;
            if d.abs() > cut { 0.0 } else { libm::exp(-0.5 * (d / std).powi(2)) }
        };
        let weights: Vec<f64> = (-reach..=reach).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        Ok(weights.iter().map(|weight| weight / sum).collect())
    }
}

impl Task for DeblurGaussian {
    fn operator(&self, shape: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let taps = self.taps(shape)?;
        Separable::blur([&taps, &taps], shape, self.boundary, device, kind)
    }
}
