//! A small convolutional classifier, whose penultimate features measure how far apart two sets of images lie.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{
    layers::{Conv, GroupNorm, Linear, channels_last},
    weights::Weights,
};
use crate::Error;

/// The hyper-parameters of a [`Classifier`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ClassifierConfig {
    /// Channels of the images.
    pub in_channels: i64,
    /// Width of each level; each halves the image.
    pub widths: Vec<i64>,
    /// Number of features of the last hidden layer.
    pub features: i64,
    /// Number of classes.
    pub classes: i64,
}

/// Levels of two 3×3 convolutions and a 2×2 maximum, a mean over what is left of the image, a hidden layer, logits.
#[derive(Debug)]
pub struct Classifier {
    levels: Vec<[(Conv, GroupNorm); 2]>,
    hidden: Linear,
    logits: Linear,
}

impl Classifier {
    /// Takes every parameter from `weights`.
    pub fn new(config: &ClassifierConfig, weights: &Weights) -> Result<Self, Error> {
        if config.widths.is_empty() || config.widths.iter().any(|width| *width < 8 || width % 8 != 0) {
            return Err(Error::parameter("widths", "multiples of 8", format!("{:?}", config.widths)));
        }
        let root = &weights.root();
        let mut inputs = config.in_channels;
        let mut levels = Vec::new();
        for (level, &width) in config.widths.iter().enumerate() {
            let mut layer = |i: usize| {
                let path = root / "levels" / level / i;
                let conv = Conv::new(&(&path / "conv"), inputs, width, 3);
                inputs = width;
                (conv, GroupNorm::new(&(&path / "norm"), 8, width, 1e-5))
            };
            levels.push([layer(0), layer(1)]);
        }
        Ok(Self {
            levels,
            hidden: Linear::new(&(root / "hidden"), inputs, config.features),
            logits: Linear::new(&(root / "logits"), config.features, config.classes),
        })
    }

    /// The hidden layer, `[batch, features]`, of images in [−1, 1].
    pub fn features(&self, x: &Tensor) -> Tensor {
        let mut h = channels_last(x);
        for level in &self.levels {
            for (conv, norm) in level {
                h = norm.forward(&conv.forward(&h)).relu();
            }
            h = h.max_pool2d([2, 2], [2, 2], [0, 0], [1, 1], false);
        }
        self.hidden.forward(&h.mean_dim([2i64, 3].as_slice(), false, None)).relu()
    }

    /// Logits, `[batch, classes]`, from features.
    pub fn logits(&self, features: &Tensor) -> Tensor {
        self.logits.forward(features)
    }
}
