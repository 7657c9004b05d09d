//! Random numbers, a pure function of (seed, step, draw).

use rayon::prelude::*;
use tch::{Kind, Tensor};

use crate::{backend::kernels::device, numbers::stream};

/// A source of N(0, I).
pub trait Noise {
    /// Noise shaped like `x`, `[batch, …]`: a pure function of (seed of each image, `step`, `draw`).
    ///
    /// Step 0 is the initial state; step k + 1 belongs to the k-th step of a walk. `draw` distinguishes several
    /// draws within one step.
    fn like(&self, x: &Tensor, step: u64, draw: u64) -> Tensor;
}

/// Each image of the batch has its own seed, so that it does not depend on its neighbours.
#[derive(Clone, Debug)]
pub struct Seeded(pub Vec<u64>);

impl Noise for Seeded {
    fn like(&self, x: &Tensor, step: u64, draw: u64) -> Tensor {
        let size = x.size();
        let each = size[1..].iter().product::<i64>() as usize;
        if let Some(values) = device::normal(&self.0, each, [step, draw], x.kind(), x.device()) {
            return values.reshape(size.as_slice());
        }
        let values = match x.kind() {
            Kind::Double => Tensor::from_slice(&self.draws(each, step, draw, |n| n)),
            _ => Tensor::from_slice(&self.draws(each, step, draw, |n| n as f32)),
        };
        values.reshape(size.as_slice()).to_device(x.device())
    }
}

impl Seeded {
    fn draws<T: Send>(&self, each: usize, step: u64, draw: u64, round: fn(f64) -> T) -> Vec<T> {
        let image = |&seed| stream::normal(seed, step, draw).take(each).map(round).collect();
        let images: Vec<Vec<T>> = self.0.par_iter().map(image).collect();
        images.into_iter().flatten().collect()
    }
}
