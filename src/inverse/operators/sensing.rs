//! Compressed sensing: a few coefficients of a randomised transform.

use std::f64::consts::PI;

use tch::{Device, Kind, Tensor};

use super::{LinearOperator, Operator, Svd, Task, draw};
use crate::{
    Error,
    numbers::{registry::entry, stream},
};

/// A = S C D for every channel alike: random signs D, the orthonormal 2-D cosine transform C, and of its coefficients a random
/// choice S. A Aᵀ = I.
///
/// A measurement is `[batch, channels, 1, m]`: images of one row, so that they can be drawn.
#[derive(Debug)]
pub struct Sensing {
    /// C of columns and of rows, `[height, height]` and `[width, width]`.
    transforms: [Tensor; 2],
    /// ±1, `[height, width]`.
    signs: Tensor,
    /// Numbers of the kept coefficients, row by row, `[m]`.
    kept: Tensor,
    /// 1 where a coefficient is kept, `[height, width]`.
    mask: Tensor,
}

impl Sensing {
    /// Creates the operator for images of `height` × `width` pixels, with `count` coefficients kept.
    fn new([height, width]: [i64; 2], count: usize, seed: u64, device: Device, kind: Kind) -> Self {
        let n = height * width;
        let place = |tensor: Tensor| tensor.to_device(device).to_kind(kind);
        let signs: Vec<f64> =
            stream::uniform(seed, 0, draw::SIGNS).take(n as usize).map(|u| if u > 0.5 { 1.0 } else { -1.0 }).collect();
        let mut kept = stream::permutation(n as usize, seed, 0, draw::COEFFICIENTS);
        kept.truncate(count);
        kept.sort_unstable();
        let kept: Vec<i64> = kept.into_iter().map(|i| i as i64).collect();
        let kept = Tensor::from_slice(&kept);
        let mask = Tensor::zeros([n], (kind, Device::Cpu)).index_fill(0, &kept, 1.0);
        Self {
            transforms: [place(cosines(height)), place(cosines(width))],
            signs: place(Tensor::from_slice(&signs).view([height, width])),
            kept: kept.to_device(device),
            mask: place(mask.view([height, width])),
        }
    }
}

/// The orthonormal cosine transform of a line, √(2/n) cos(π k (2 i + 1)/2n), its first row divided by √2 [DCT-II].
fn cosines(n: i64) -> Tensor {
    let value = |k: i64, i: i64| {
        let scale = if k == 0 { 1.0 } else { 2.0 } / n as f64;
        // Whole turns are taken out first, so that the cosine of a large multiple keeps its digits.
        scale.sqrt() * libm::cos(PI * ((k * (2 * i + 1)) % (4 * n)) as f64 / (2 * n) as f64)
    };
    let values: Vec<f64> = (0..n).flat_map(|k| (0..n).map(move |i| value(k, i))).collect();
    Tensor::from_slice(&values).view([n, n])
}

impl LinearOperator for Sensing {
    fn apply(&self, x: &Tensor) -> Tensor {
        self.coordinates(x).flatten(2, 3).index_select(2, &self.kept).unsqueeze(2)
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        self.image(&self.measured(y))
    }

    fn norm_squared(&self) -> f64 {
        1.0
    }

    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }

    fn tables(&self) -> Vec<(&'static str, Tensor)> {
        vec![("signs", self.signs.shallow_clone()), ("kept", self.kept.shallow_clone())]
    }
}

impl Svd for Sensing {
    fn coordinates(&self, x: &Tensor) -> Tensor {
        let [rows, columns] = &self.transforms;
        rows.matmul(&(x * &self.signs).matmul(&columns.tr()))
    }

    fn image(&self, coordinates: &Tensor) -> Tensor {
        let [rows, columns] = &self.transforms;
        rows.tr().matmul(&coordinates.matmul(columns)) * &self.signs
    }

    fn measured(&self, y: &Tensor) -> Tensor {
        let (seen, size) = (y.size(), self.signs.size());
        let blank = Tensor::zeros([seen[0], seen[1], size[0] * size[1]], (y.kind(), y.device()));
        blank.index_copy(2, &self.kept, &y.squeeze_dim(2)).view([seen[0], seen[1], size[0], size[1]])
    }

    fn singular(&self, kind: Kind) -> Tensor {
        self.mask.to_kind(kind)
    }
}

entry! {
    name: "compressed-sensing",
    what: "random orthonormal measurements",
    source: "DDRM",
    facts: { map: "linear, svd", random: "measurements" },
    /// Random orthonormal measurements, fewer than pixels.
    pub struct CompressedSensing {
        /// m as a part of the number of pixels, rounded to whole measurements.
        pub kept: f64 = 0.25 => "0 … 1" in "of all pixels",
    }
}

impl Task for CompressedSensing {
    fn operator(&self, [_, height, width]: [i64; 3], seed: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let count = ((height * width) as f64 * self.kept).round();
        if !(0.0..=1.0).contains(&self.kept) || count < 1.0 {
            let want = "a part between 0 and 1 that leaves at least one measurement";
            return Err(Error::parameter("kept", want, format!("{} for images of {height}x{width}", self.kept)));
        }
        Ok(Sensing::new([height, width], count as usize, seed, device, kind).into())
    }
}
