//! Gaussian blur that is wider in one direction than in the other.

use tch::{Device, Kind, Tensor};

use super::{
    Blur, Boundary, Operator, Separable, Task,
    blur::{reach, shrink},
};
use crate::{Error, numbers::registry::entry};

entry! {
    name: "deblur-anisotropic",
    what: "a Gaussian kernel, longer one way than the other",
    source: "DDRM",
    facts: { map: "linear, svd", random: "no" },
    /// A kernel exp(−u²/2s₁² − v²/2s₂²), cut at its size, normalised to sum 1 [DDRM, §5.1].
    ///
    /// u runs down and v across the image where the angle is 0. Then, and at any other right angle, the singular values are
    /// known; at the others only where the image goes round and round.
    pub struct DeblurAnisotropic {
        /// s₁ and s₂ in pixels; 20 and 1 for 256 pixels, as in the paper, shrinking with the square root of the shorter side.
        pub std: Option<[f64; 2]> = None => "> 0" in "pixels" or "[20, 1] for 256 pixels, less for fewer",
        /// The angle by which the kernel is turned, counter-clockwise.
        pub angle: f64 = 0.0 => "any number" in "degrees",
        /// The kernel's height and width in pixels, odd; 9 for 256 pixels, as in the paper, shrinking likewise.
        pub size: Option<i64> = None => "odd" in "pixels" or "9 for 256 pixels, less for fewer",
        /// Continuation of the image beyond its border.
        pub boundary: Boundary = Boundary::Reflect => "reflect, zero, circular",
    }
}

impl DeblurAnisotropic {
    fn std(&self, shape: [i64; 3]) -> Result<[f64; 2], Error> {
        let std = self.std.unwrap_or([20.0, 1.0].map(|s| s * shrink(shape)));
        match std.into_iter().find(|s| !s.is_finite() || *s <= 0.0) {
            Some(s) => Err(Error::parameter("std", "two positive numbers", s)),
            None => Ok(std),
        }
    }

    /// The turned kernel, `[2 k + 1, 2 k + 1]`.
    fn kernel(&self, [first, second]: [f64; 2], k: i64) -> Tensor {
        let (sine, cosine) = libm::sincos(self.angle.to_radians());
        let value = |row: i64, column: i64| {
            let (u, v) = (row as f64 * cosine + column as f64 * sine, column as f64 * cosine - row as f64 * sine);
            libm::exp(-0.5 * ((u / first).powi(2) + (v / second).powi(2)))
        };
        let values: Vec<f64> = (-k..=k).flat_map(|row| (-k..=k).map(move |column| value(row, column))).collect();
        Tensor::from_slice(&values).view([2 * k + 1, 2 * k + 1])
    }
}

/// exp(−i²/2s²) for i = −k … k, normalised.
fn taps(std: f64, k: i64) -> Vec<f64> {
    let weights: Vec<f64> = (-k..=k).map(|i| libm::exp(-0.5 * (i as f64 / std).powi(2))).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

impl Task for DeblurAnisotropic {
    fn operator(&self, shape: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        if !self.angle.is_finite() {
            return Err(Error::parameter("angle", "a finite number of degrees", self.angle));
        }
        let [first, second] = self.std(shape)?;
        let k = reach(self.size, 4.0 * shrink(shape), shape)?;
        let separable =
            |rows, columns| Separable::blur([&taps(rows, k), &taps(columns, k)], shape, self.boundary, device, kind);
        match self.angle.rem_euclid(180.0) {
            0.0 => separable(first, second),
            90.0 => separable(second, first),
            _ => Ok(Blur::new(&self.kernel([first, second], k), shape, self.boundary, device, kind)?.into()),
        }
    }
}
