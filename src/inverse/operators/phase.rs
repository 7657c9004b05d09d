//! Phase retrieval: only the magnitudes of an image's spectrum are seen.

use tch::{Device, Kind, Tensor};

use super::{NonlinearOperator, Operator, Task, fourier::transform};
use crate::{Error, numbers::registry::entry};

entry! {
    name: "phase-retrieval",
    what: "magnitudes of the spectrum",
    source: "DPS",
    facts: { map: "nonlinear", random: "no" },
    /// A(x) = |F P x|: the image amid zeros, its unitary Fourier transform, and of that the magnitude [DPS, App. C.5].
    ///
    /// Magnitudes change no faster than the image: ‖∂A/∂x‖ ≤ 1. An image, its negative, its reflection in its middle and its shifts
    /// within the zeros all look the same.
    pub struct PhaseRetrieval {
        /// The side of the image amid zeros over that of the image, rounded to whole pixels at either side; 1.5 unless said
        /// otherwise, which DPS calls an oversampling of 2.
        pub oversampling: f64 = 1.5 => "1 … 16",
    }
}

/// See [`PhaseRetrieval`].
#[derive(Debug)]
struct Magnitudes {
    /// Zeros at either side, in rows and in columns.
    border: [i64; 2],
}

impl NonlinearOperator for Magnitudes {
    fn apply(&self, x: &Tensor) -> Tensor {
        let [rows, columns] = self.border;
        transform(&x.constant_pad_nd([columns, columns, rows, rows])).abs()
    }

    fn norm_squared(&self) -> f64 {
        1.0
    }
}

impl Task for PhaseRetrieval {
    fn operator(&self, [_, height, width]: [i64; 3], _: u64, _: Device, _: Kind) -> Result<Operator, Error> {
        if !(1.0..=16.0).contains(&self.oversampling) {
            return Err(Error::parameter("oversampling", "between 1 and 16", self.oversampling));
        }
        let border = [height, width].map(|side| (0.5 * (self.oversampling - 1.0) * side as f64).round() as i64);
        Ok(Operator::Nonlinear(Box::new(Magnitudes { border })))
    }
}
