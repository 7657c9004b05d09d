//! FFDNet [Zhang, Zuo & Zhang 2018]: a denoiser of photographs that takes σ as an input, with the names of its files.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    Network,
    layers::{BatchNorm, Conv, channels_last},
    weights::Weights,
};
use crate::Error;

/// The hyper-parameters of an [`Ffdnet`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FfdnetConfig {
    /// Channels of the images.
    pub in_channels: i64,
    /// Width of all layers but the last.
    pub width: i64,
    /// Number of convolutions; 2 or more.
    pub layers: usize,
    /// The authors' form of the network.
    pub layout: FfdnetLayout,
}

/// The two published forms of the network, here N(p, s) with pixels p and noise s of 0 … 1.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FfdnetLayout {
    /// KAIR's: one map of s after the pixels, biases, no normalisation; N is the denoised image.
    Kair,
    /// IPOL's [Tassano, Delon & Veit 2019]: a map of s for each channel before the pixels, batch normalisation, no biases;
    /// N is what has to be taken from p.
    Ipol,
}

impl FfdnetLayout {
    /// The name of the i-th convolution.
    pub fn convolution(self, i: usize) -> String {
        self.layer(match self {
            Self::Kair => 2 * i,
            Self::Ipol => (3 * i).saturating_sub(1),
        })
    }

    /// The name of the normalisation after it, which IPOL's have but for the first and the last.
    fn norm(self, i: usize, layers: usize) -> Option<String> {
        (self == Self::Ipol && i > 0 && i + 1 < layers).then(|| self.layer(3 * i))
    }

    fn layer(self, number: usize) -> String {
        match self {
            Self::Kair => format!("model.{number}"),
            // The files spell it like this.
            Self::Ipol => format!("intermediate_dncnn.itermediate_dncnn.{number}"),
        }
    }

    /// Number of channels that hold s, for images of so many.
    fn maps(self, channels: i64) -> i64 {
        match self {
            Self::Kair => 1,
            Self::Ipol => channels,
        }
    }
}

/// Each 2×2 pixels as one of four times the channels, convolutions and rectifiers between them at this half resolution, and
/// back.
///
/// For x of −1 … 1, with p = (x + 1)/2 and s = σ/2, KAIR's gives D = 2 N(p, s) − 1 and IPOL's n = 2 N(p, s)/σ. It takes
/// images of any size; where a side is odd, the last row or column is repeated, as both authors' programs do.
#[derive(Debug)]
pub struct Ffdnet {
    config: FfdnetConfig,
    kind: Kind,
    layers: Vec<(Conv, Option<BatchNorm>)>,
}

impl Ffdnet {
    /// Takes every parameter from `weights`.
    pub fn new(config: &FfdnetConfig, weights: &Weights) -> Result<Self, Error> {
        let &FfdnetConfig { in_channels, width, layers, layout } = config;
        if in_channels < 1 || width < 1 || layers < 2 {
            let want = "of one or more channels, and two or more layers with a width of 1 or more";
            return Err(Error::parameter("network", want, super::shown(config)));
        }
        let root = &weights.root();
        let layer = |i: usize| {
            let inputs = if i == 0 { 4 * in_channels + layout.maps(in_channels) } else { width };
            let outputs = if i + 1 == layers { 4 * in_channels } else { width };
            let path = root / layout.convolution(i);
            let conv = match layout {
                FfdnetLayout::Kair => Conv::new(&path, inputs, outputs, 3),
                FfdnetLayout::Ipol => Conv::unbiased(&path, inputs, outputs, 3),
            };
            (conv, layout.norm(i, layers).map(|name| BatchNorm::new(&(root / name), outputs)))
        };
        Ok(Self { config: config.clone(), kind: root.kind(), layers: (0..layers).map(layer).collect() })
    }

    /// N of pixels of 0 … 1, in even numbers, and of s, `[batch, 1, 1, 1]`.
    fn raw(&self, pixels: &Tensor, noise: &Tensor) -> Tensor {
        let fine = pixels.pixel_unshuffle(2);
        let &[batch, _, height, width] = fine.size().as_slice() else { return fine };
        let layout = self.config.layout;
        let map = noise.expand([batch, layout.maps(self.config.in_channels), height, width], false);
        let input = match layout {
            FfdnetLayout::Kair => Tensor::cat(&[fine, map], 1),
            FfdnetLayout::Ipol => Tensor::cat(&[map, fine], 1),
        };
        let last = self.layers.len() - 1;
        let h = self.layers.iter().enumerate().fold(channels_last(&input), |h, (i, (conv, norm))| {
            let h = conv.forward(&h);
            let h = norm.as_ref().map_or_else(|| h.shallow_clone(), |norm| norm.forward(&h));
            if i < last { h.relu() } else { h }
        });
        h.contiguous().pixel_shuffle(2)
    }
}

impl Network for Ffdnet {
    fn forward(&self, x: &Tensor, label: &Tensor, _class: Option<&Tensor>) -> Tensor {
        let (height, width) = (x.size()[2], x.size()[3]);
        let sigma = label.reshape([-1, 1, 1, 1]);
        let pixels = ((x + 1.0) / 2.0).to_kind(self.kind).replication_pad2d([0, width % 2, 0, height % 2]);
        let raw = self.raw(&pixels, &(&sigma / 2.0).to_kind(self.kind));
        let raw = raw.narrow(2, 0, height).narrow(3, 0, width).to_kind(x.kind()) * 2.0;
        match self.config.layout {
            FfdnetLayout::Kair => raw - 1.0,
            FfdnetLayout::Ipol => raw / sigma.to_kind(x.kind()),
        }
    }

    fn check(&self, shape: [i64; 3]) -> Result<(), Error> {
        super::multiples(shape, self.config.in_channels, 1)
    }
}
