//! The layers of which score networks are made.
//!
//! Images are `[batch, channels, height, width]`, channels-last in memory. A layer computes in the kind of its input: where
//! parameters are f32 and images bf16, as in training, it rounds its parameters on the way.

use tch::{Device, Kind, Tensor};

use super::weights::{Init, Path};

/// The same tensor with its channels side by side in memory, as convolutions like it.
pub fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// y = W ∗ x + b.
#[derive(Debug)]
pub struct Conv {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: i64,
}

impl Conv {
    /// `size`×`size` taps from `inputs` to `outputs` channels, at stride 1 and padded to keep the image's size.
    pub fn new(path: &Path, inputs: i64, outputs: i64, size: i64) -> Self {
        let init = Init::FanIn(inputs * size * size);
        Self {
            weight: path.tensor("weight", &[outputs, inputs, size, size], init),
            bias: path.tensor("bias", &[outputs], init),
            stride: 1,
            padding: size / 2,
        }
    }

    /// The same, starting from the zero map.
    pub fn zero(path: &Path, inputs: i64, outputs: i64, size: i64) -> Self {
        Self {
            weight: path.tensor("weight", &[outputs, inputs, size, size], Init::Constant(0.0)),
            bias: path.tensor("bias", &[outputs], Init::Constant(0.0)),
            stride: 1,
            padding: size / 2,
        }
    }

    /// The same taps at another stride and padding.
    #[must_use]
    pub fn strided(self, stride: i64, padding: i64) -> Self {
        Self { stride, padding, ..self }
    }

    /// `[batch, inputs, …]` to `[batch, outputs, …]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (stride, padding) = ([self.stride; 2], [self.padding; 2]);
        let kind = x.kind();
        x.conv2d(&self.weight.to_kind(kind), Some(&self.bias.to_kind(kind)), stride, padding, [1, 1], 1)
    }
}

/// y = W x + b over the last dimension.
#[derive(Debug)]
pub struct Linear {
    weight: Tensor,
    bias: Tensor,
}

impl Linear {
    /// From `inputs` to `outputs` features.
    pub fn new(path: &Path, inputs: i64, outputs: i64) -> Self {
        let init = Init::FanIn(inputs);
        Self { weight: path.tensor("weight", &[outputs, inputs], init), bias: path.tensor("bias", &[outputs], init) }
    }

    /// The same, stored as a convolution over a row, `[outputs, inputs, 1]`.
    pub fn convolution(path: &Path, inputs: i64, outputs: i64) -> Self {
        let init = Init::FanIn(inputs);
        Self { weight: path.tensor("weight", &[outputs, inputs, 1], init), bias: path.tensor("bias", &[outputs], init) }
    }

    /// A row of `width` numbers for each of `count` classes.
    pub fn table(path: &Path, count: i64, width: i64) -> Tensor {
        path.tensor("weight", &[count, width], Init::FanIn(1))
    }

    /// `[…, inputs]` to `[…, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.linear(&self.weight.flatten(1, -1).to_kind(x.kind()), Some(&self.bias.to_kind(x.kind())))
    }
}

/// Group normalisation [Wu & He 2018], with a scale and a shift for each channel.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    epsilon: f64,
}

impl GroupNorm {
    /// `channels` in `groups` groups.
    pub fn new(path: &Path, groups: i64, channels: i64, epsilon: f64) -> Self {
        Self {
            weight: path.tensor("weight", &[channels], Init::Constant(1.0)),
            bias: path.tensor("bias", &[channels], Init::Constant(0.0)),
            groups,
            epsilon,
        }
    }

    /// `[batch, channels, …]` to the same.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let (weight, bias) = (self.weight.to_kind(x.kind()), self.bias.to_kind(x.kind()));
        x.group_norm(self.groups, Some(&weight), Some(&bias), self.epsilon, true)
    }
}

/// Sines and cosines of a time, at `features / 2` frequencies from 1 down to 1/10000 [DDPM, Appendix B].
#[derive(Debug)]
pub struct Sinusoidal {
    frequencies: Tensor,
}

impl Sinusoidal {
    /// Frequencies exp(−ln 10⁴ · i / (n − 1)), i = 0, …, n − 1, with n = `features` / 2.
    pub fn new(features: i64, device: Device) -> Self {
        let half = features / 2;
        let exponents = Tensor::arange(half, (Kind::Float, device)) / (half - 1) as f64;
        Self { frequencies: (exponents * -(10_000f64.ln())).exp() }
    }

    /// A time for each image, `[batch]`, to `[batch, features]`: all sines, then all cosines.
    pub fn forward(&self, time: &Tensor) -> Tensor {
        let angles = time.unsqueeze(1) * self.frequencies.unsqueeze(0);
        Tensor::cat(&[angles.sin(), angles.cos()], 1)
    }
}

/// Cosines, then sines, of times `[batch]` at frequencies exp(−ln 10⁴ · i / n), i = 0, …, n − 1, with n = `features` / 2:
/// `[batch, features]` [Dhariwal & Nichol 2021, §3].
pub fn cosines_and_sines(time: &Tensor, features: i64) -> Tensor {
    let half = features / 2;
    let exponents = Tensor::arange(half, (Kind::Float, time.device())) / half as f64;
    let angles = time.unsqueeze(1) * (exponents * -(10_000f64.ln())).exp().unsqueeze(0);
    Tensor::cat(&[angles.cos(), angles.sin()], 1)
}
