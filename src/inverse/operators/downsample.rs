//! Super-resolution: the image is seen at a lower resolution.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{Operator, Separable, Task, separable::matrix};
use crate::{Error, numbers::registry::entry};

entry! {
    name: "super-resolution",
    what: "fewer pixels",
    source: "Random Walks",
    facts: { map: "linear, svd", random: "no" },
    /// Fewer pixels by a whole factor in height and in width.
    pub struct SuperResolution {
        /// f; it must divide the height and the width.
        pub factor: i64 = 4 => "≥ 1, divides height and width",
        /// Kernel that averages pixels.
        pub kernel: DownsampleKernel = DownsampleKernel::Bicubic => "bicubic, mean, stride",
    }
}

/// Kernel that averages pixels.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DownsampleKernel {
    /// Keys' cubic convolution with a = −1/2, stretched by the factor so that nothing aliases, and mirrored at the
    /// border with the outermost pixel repeated [Keys 1981, Eq. 15; RW, §5].
    #[default]
    Bicubic,
    /// The mean of each block of f × f pixels.
    Mean,
    /// Every f-th pixel as it is, beginning with the first; what lies between is not seen.
    Stride,
}

impl DownsampleKernel {
    /// The pixels of the fine line that the coarse pixel `i` averages or picks, and their weights, which sum to 1.
    fn taps(self, i: i64, f: i64) -> Vec<(i64, f64)> {
        match self {
            Self::Bicubic => bicubic(i, f),
            Self::Mean => (i * f..(i + 1) * f).map(|j| (j, 1.0 / f as f64)).collect(),
            Self::Stride => vec![(i * f, 1.0)],
        }
    }

    /// The averages of a line of `n` pixels, `[n / f, n]`.
    fn line(self, n: i64, f: i64) -> Tensor {
        let taps = |i| self.taps(i, f).into_iter().map(move |(j, weight)| (i, mirrored(j, n), weight));
        matrix(n / f, n, (0..n / f).flat_map(taps))
    }
}

/// K((j − c)/f) at every pixel j within 2 f of the middle c of coarse pixel `i`, divided by their sum.
fn bicubic(i: i64, f: i64) -> Vec<(i64, f64)> {
    let middle = (i * f) as f64 + 0.5 * (f - 1) as f64;
    let weights = (i * f - 2 * f..=(i + 3) * f).map(|j| (j, keys((j as f64 - middle) / f as f64)));
    let weights: Vec<_> = weights.filter(|(_, weight)| *weight != 0.0).collect();
    let sum: f64 = weights.iter().map(|(_, weight)| weight).sum();
    weights.into_iter().map(|(j, weight)| (j, weight / sum)).collect()
}

/// K(t) = 3/2 |t|³ − 5/2 |t|² + 1 up to 1, −1/2 |t|³ + 5/2 |t|² − 4 |t| + 2 up to 2.
fn keys(t: f64) -> f64 {
    match t.abs() {
        t if t <= 1.0 => (1.5 * t - 2.5) * t * t + 1.0,
        t if t < 2.0 => ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0,
        _ => 0.0,
    }
}

/// −1 → 0, −2 → 1, n → n − 1, and so on.
fn mirrored(j: i64, n: i64) -> i64 {
    let j = j.rem_euclid(2 * n);
    j.min(2 * n - 1 - j)
}

impl Task for SuperResolution {
    fn operator(&self, [_, height, width]: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let f = self.factor;
        if f < 1 || height % f != 0 || width % f != 0 {
            let want = "a whole number that divides the image's height and width";
            return Err(Error::parameter("factor", want, format!("{f} for images of {height}x{width}")));
        }
        let (rows, columns) = (self.kernel.line(height, f), self.kernel.line(width, f));
        Ok(Separable::new(&rows, &columns, device, kind)?.into())
    }
}
