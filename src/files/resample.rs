//! Images of another size, with a low pass where they shrink, as Pillow and TensorFlow 2 have it.

use tch::{Kind, Tensor};

/// Weight of a pixel at a distance from its centre.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ResampleKernel {
    /// 1 − |x|.
    Bilinear,
    /// Keys' cubic with a = −½.
    Bicubic,
}

impl ResampleKernel {
    fn reach(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }

    fn at(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear => (1.0 - x).max(0.0),
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Self::Bicubic => 0.0,
        }
    }

    /// `[side, size]`: what each new pixel is made of. The kernel is as wide as a new pixel, or as an old one if that is
    /// wider; weights beyond the edge are given to those within.
    fn matrix(self, size: i64, side: i64) -> Tensor {
        let scale = size as f64 / side as f64;
        let wide = scale.max(1.0);
        let mut weights = vec![0.0; (side * size) as usize];
        for (i, row) in weights.chunks_exact_mut(size as usize).enumerate() {
            let centre = (i as f64 + 0.5) * scale;
            let first = ((centre - self.reach() * wide + 0.5) as i64).max(0);
            let last = ((centre + self.reach() * wide + 0.5) as i64).min(size);
            for j in first..last {
                row[j as usize] = self.at((j as f64 - centre + 0.5) / wide);
            }
            let sum: f64 = row.iter().sum();
            for weight in row {
                *weight /= sum;
            }
        }
        Tensor::from_slice(&weights).view([side, size])
    }
}

/// The last two dimensions, `[…, height, width]`, become `[height, width]` pixels: columns first, then rows, in f64, with
/// `round` after each.
pub fn resample(
    x: &Tensor,
    [height, width]: [i64; 2],
    kernel: ResampleKernel,
    round: impl Fn(Tensor) -> Tensor,
) -> Tensor {
    let size = x.size();
    let [tall, wide] = [size[size.len() - 2], size[size.len() - 1]];
    let matrix = |size, side| kernel.matrix(size, side).to_device(x.device());
    let columns = round(x.to_kind(Kind::Double).matmul(&matrix(wide, width).tr()));
    round(matrix(tall, height).matmul(&columns.to_kind(Kind::Double)))
}
