//! Architectures: what stands between a noisy image and the network's raw output.

mod classifier;
pub mod layers;
mod unet;
pub mod weights;

use std::fmt;

pub use classifier::{Classifier, ClassifierConfig};
use serde::{Deserialize, Serialize};
use tch::Tensor;
pub use unet::{UNet, UNetConfig};

use crate::Error;
use weights::Weights;

/// F: the raw network.
pub trait Network: fmt::Debug {
    /// `x` is `[batch, channels, height, width]`; `label`, `[batch]`, is what the network is told of σ.
    fn forward(&self, x: &Tensor, label: &Tensor) -> Tensor;

    /// Whether it takes images of this `[channels, height, width]`.
    fn check(&self, shape: [i64; 3]) -> Result<(), Error>;
}

/// What `network:` may name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AnyNetwork {
    /// See [`UNet`].
    Unet(UNetConfig),
}

impl AnyNetwork {
    /// The network, with its parameters taken from `weights`.
    pub fn build(&self, weights: &Weights) -> Result<Box<dyn Network>, Error> {
        match self {
            Self::Unet(config) => Ok(Box::new(UNet::new(config, weights)?)),
        }
    }
}
