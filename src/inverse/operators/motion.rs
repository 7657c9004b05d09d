//! Motion blur.

use std::f64::consts::{PI, TAU};

use tch::{Device, Kind, Tensor};

use super::{
    Blur, Boundary, Operator, Task,
    blur::{reach, shrink},
    draw,
};
use crate::{
    Error,
    numbers::{registry::entry, stream},
};

entry! {
    name: "deblur-motion",
    what: "the path of a shaken camera",
    source: "DPS",
    facts: { map: "linear, svd if circular", random: "path" },
    /// The trace of a hand that moves while the shutter is open.
    ///
    /// The hand starts in a random direction and goes on at constant speed, while its direction θ wanders as Brownian
    /// motion does: by intensity · π in standard deviation until the end. So 0 draws a straight line and 1 a scribble. The
    /// trace is centred on its mean and scaled so that its farthest point lies 3/4 of the way to the kernel's border.
    /// This is in the spirit of, but not the same as, the kernels of DPS [DPS, §4.1].
    pub struct DeblurMotion {
        /// The kernel's height and width in pixels, odd.
        ///
        /// If left out 61 for 256 pixels, shrinking with the square root of the shorter side: 21 for 32 pixels.
        pub size: Option<i64> = None => "odd" in "pixels" or "61 for 256 pixels, less for fewer",
        /// Unsteadiness of the hand, 0 … 1.
        pub intensity: f64 = 0.5 => "0 … 1",
        /// Fixes the trace; if left out it changes with the seed of the task.
        pub seed: Option<u64> = None => "any whole number" or "changes with the seed of the task",
        /// Continuation of the image beyond its border.
        pub boundary: Boundary = Boundary::Reflect => "reflect, zero, circular",
    }
}

impl DeblurMotion {
    /// The kernel, `[2 k + 1, 2 k + 1]`; its values sum to 1.
    fn kernel(&self, k: i64, seed: u64) -> Tensor {
        let side = 2 * k + 1;
        let points = self.trace(k, seed);
        let mut kernel = vec![0.0; (side * side) as usize];
        for point in &points {
            for (at, part) in corners(*point, k) {
                kernel[at] += part / points.len() as f64;
            }
        }
        Tensor::from_slice(&kernel).view([side, side])
    }

    /// Points at equal times along the trace, rows and columns from the kernel's middle.
    fn trace(&self, k: i64, seed: u64) -> Vec<[f64; 2]> {
        // Close enough for several points on every pixel, even of a scribble.
        let count = 64 * (k as usize + 1);
        let tremor = self.intensity * PI / (count as f64).sqrt();
        let mut angle = TAU * stream::uniform(seed, 0, draw::DIRECTION).next().unwrap_or(1.0);
        let [mut row, mut column] = [0.0; 2];
        let step = |turn: f64| {
            angle += tremor * turn;
            let (sine, cosine) = libm::sincos(angle);
            row += sine;
            column += cosine;
            [row, column]
        };
        let points: Vec<_> = stream::normal(seed, 0, draw::TREMOR).take(count).map(step).collect();
        fitted(&points, 0.75 * k as f64)
    }
}

/// The points moved to mean 0 and scaled so that no coordinate exceeds `extent`.
fn fitted(points: &[[f64; 2]], extent: f64) -> Vec<[f64; 2]> {
    let mean = [0, 1].map(|axis| points.iter().map(|point| point[axis]).sum::<f64>() / points.len() as f64);
    let centred = |point: &[f64; 2]| [point[0] - mean[0], point[1] - mean[1]];
    let farthest = points.iter().flat_map(centred).fold(0.0, |most: f64, value| most.max(value.abs()));
    points.iter().map(|point| centred(point).map(|value| value * extent / farthest)).collect()
}

/// The four pixels around a point and the part of its light that each gets; `k` is the index of the middle.
fn corners([row, column]: [f64; 2], k: i64) -> impl Iterator<Item = (usize, f64)> {
    let (top, left) = (row.floor(), column.floor());
    let (down, right) = (row - top, column - left);
    let parts =
        [(0, 0, 1.0 - down, 1.0 - right), (0, 1, 1.0 - down, right), (1, 0, down, 1.0 - right), (1, 1, down, right)];
    let at = move |i: i64, j: i64| (((top as i64 + i + k) * (2 * k + 1)) + left as i64 + j + k) as usize;
    parts.into_iter().map(move |(i, j, y, x)| (at(i, j), y * x)).filter(|(_, part)| *part > 0.0)
}

impl Task for DeblurMotion {
    fn operator(&self, shape: [i64; 3], seed: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        if !(0.0..=1.0).contains(&self.intensity) {
            return Err(Error::parameter("intensity", "between 0 and 1", self.intensity));
        }
        let k = reach(self.size, 30.0 * shrink(shape), shape)?;
        let kernel = self.kernel(k, self.seed.unwrap_or(seed));
        Ok(Blur::new(&kernel, shape, self.boundary, device, kind)?.into())
    }
}
