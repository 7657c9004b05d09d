//! Convolutions with the normalisation that follows them multiplied in.

use tch::{Kind, Tensor};

use super::{
    layers::channels_last,
    weights::{Init, Path},
};

/// γ (W ∗ x − μ)/√(v + 10⁻³) + β as one W and one b: the normalisations of TensorFlow's networks, in use.
#[derive(Debug)]
pub struct Folded {
    weight: Tensor,
    bias: Tensor,
    stride: i64,
    padding: [i64; 2],
    groups: i64,
}

impl Folded {
    /// W is `[outputs, inputs / groups, rows, columns]` at `conv`, and the four numbers of each channel are at `norm`.
    pub fn new(conv: &Path, norm: &Path, shape: [i64; 4], groups: i64) -> Self {
        let weight = conv.tensor("weight", &shape, Init::FanIn(shape[1..].iter().product()));
        let parameter = |name: &str, value| norm.tensor(name, &shape[..1], Init::Constant(value)).to_kind(Kind::Double);
        let gain = parameter("weight", 1.0) / (parameter("running_var", 1.0) + 1e-3).sqrt();
        let bias = parameter("bias", 0.0) - parameter("running_mean", 0.0) * &gain;
        let folded = weight.to_kind(Kind::Double) * gain.view([-1, 1, 1, 1]);
        let weight = channels_last(&folded.to_kind(weight.kind()));
        Self { bias: bias.to_kind(weight.kind()), weight, stride: 1, padding: [0, 0], groups }
    }

    /// The convolution with this stride.
    #[must_use]
    pub fn strided(self, stride: i64) -> Self {
        Self { stride, ..self }
    }

    /// The convolution, padded by half its rows and columns.
    #[must_use]
    pub fn padded(self) -> Self {
        let size = self.weight.size();
        Self { padding: [size[2] / 2, size[3] / 2], ..self }
    }

    /// The convolution's first `count` channels alone.
    #[must_use]
    pub fn first(&self, count: i64) -> Self {
        let [weight, bias] = [&self.weight, &self.bias].map(|tensor| tensor.narrow(0, 0, count));
        Self { weight, bias, stride: self.stride, padding: self.padding, groups: self.groups }
    }

    /// `[batch, inputs, …]` to `[batch, outputs, …]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        x.conv2d(&self.weight, Some(&self.bias), [self.stride; 2], self.padding, [1, 1], self.groups)
    }
}
