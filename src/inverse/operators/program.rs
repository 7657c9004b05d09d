//! Any map that somebody exported as a TorchScript program.

use std::sync::Arc;

use tch::{CModule, Device, Kind, Tensor};

use super::NonlinearOperator;
use crate::{Error, networks::called};

/// A(x) = `forward(x)` of a TorchScript program, whose gradients automatic differentiation finds.
#[derive(Debug)]
pub struct Program {
    module: Arc<CModule>,
    norm: f64,
}

impl Program {
    /// A program that was loaded to its device and set to compute in `kind`, tried on an image of `shape` = `[channels, height,
    /// width]`; `norm` is a bound of ‖∂A/∂x‖.
    pub fn new(
        module: Arc<CModule>,
        norm: f64,
        [channels, height, width]: [i64; 3],
        device: Device,
        kind: Kind,
    ) -> Result<Self, Error> {
        if !norm.is_finite() || norm <= 0.0 {
            return Err(Error::parameter("norm", "a positive bound of ‖∂A/∂x‖", norm));
        }
        let x = Tensor::zeros([2, channels, height, width], (kind, device));
        let answer = tch::no_grad(|| called(&module, [x.shallow_clone()].into_iter()));
        match answer.map(|y| y.size()) {
            Ok(size) if size.len() > 1 && size[0] == 2 => Ok(Self { module, norm }),
            Ok(size) => {
                let value = format!("{size:?} of {:?}", x.size());
                Err(Error::parameter("the program's answer", "a measurement for each image", value))
            }
            Err(cause) => Err(Error::parameter("the program", "one that takes an image", cause)),
        }
    }
}

impl NonlinearOperator for Program {
    fn apply(&self, x: &Tensor) -> Tensor {
        match called(&self.module, [x.shallow_clone()].into_iter()) {
            Ok(y) => y,
            Err(cause) => panic!("{cause}"),
        }
    }

    fn norm_squared(&self) -> f64 {
        self.norm * self.norm
    }
}
