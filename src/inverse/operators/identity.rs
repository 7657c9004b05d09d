//! Denoising: A = I.

use tch::{Device, Kind, Tensor};

use super::{LinearOperator, Operator, Svd, Task};
use crate::{Error, numbers::registry::entry};

entry! {
    name: "identity",
    what: "nothing but noise: A = I",
    source: "",
    facts: { map: "linear, svd", random: "no" },
    aliases: ["denoising"],
    /// A = I: the image is only noisy.
    pub struct Identity {}
}

impl LinearOperator for Identity {
    fn apply(&self, x: &Tensor) -> Tensor {
        x.shallow_clone()
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        y.shallow_clone()
    }

    fn norm_squared(&self) -> f64 {
        1.0
    }

    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }
}

impl Svd for Identity {
    fn coordinates(&self, x: &Tensor) -> Tensor {
        x.shallow_clone()
    }

    fn image(&self, coordinates: &Tensor) -> Tensor {
        coordinates.shallow_clone()
    }

    fn measured(&self, y: &Tensor) -> Tensor {
        y.shallow_clone()
    }

    fn singular(&self, _: Kind) -> Tensor {
        Tensor::from(1.0)
    }
}

impl Task for Identity {
    fn operator(&self, _: [i64; 3], _: u64, _: Device, _: Kind) -> Result<Operator, Error> {
        Ok(Self {}.into())
    }
}
