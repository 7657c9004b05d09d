//! Colorization: only the grey of an image is seen.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::{LinearOperator, Operator, Svd, Task};
use crate::{Error, numbers::registry::entry};

/// One channel out of several, y = Σ wᵢ xᵢ at every pixel; ‖A‖ = ‖w‖.
#[derive(Debug)]
pub struct Grey {
    /// w, `[channels, 1, 1]`.
    weights: Tensor,
    /// V, `[channels, channels]`, symmetric; its first column is w / ‖w‖.
    basis: Tensor,
    /// ‖w‖ and zeros, `[channels, 1, 1]`.
    singular: Tensor,
    norm_squared: f64,
}

impl Grey {
    /// Creates the operator from w, one weight for each channel, not all 0.
    pub fn new(weights: &[f64], device: Device, kind: Kind) -> Result<Self, Error> {
        let norm_squared: f64 = weights.iter().map(|w| w * w).sum();
        if !norm_squared.is_finite() || norm_squared <= 0.0 {
            return Err(Error::parameter("the weights of the channels", "finite and not all 0", norm_squared));
        }
        let channels = weights.len() as i64;
        let place = |tensor: Tensor| tensor.to_device(device).to_kind(kind);
        let each = |tensor: Tensor| place(tensor.view([channels, 1, 1]));
        let weights = Tensor::from_slice(weights);
        let first = Tensor::arange(channels, (Kind::Double, Device::Cpu)).eq(0.0).to_kind(Kind::Double);
        let singular = first * norm_squared.sqrt();
        let basis = place(mirror(&(&weights / norm_squared.sqrt()))?);
        Ok(Self { weights: each(weights), basis, singular: each(singular), norm_squared })
    }

    /// V x; V is its own transpose.
    fn mirrored(&self, x: &Tensor) -> Tensor {
        self.basis.matmul(&x.flatten(2, 3)).view_as(x)
    }
}

/// The reflection that takes the first axis to a unit vector: I − 2 u uᵀ/uᵀu with u the difference of the two [Householder].
fn mirror(to: &Tensor) -> Result<Tensor, Error> {
    let identity = Tensor::eye(to.size()[0], (Kind::Double, Device::Cpu));
    let u = identity.get(0) - to;
    let length = f64::try_from(u.dot(&u))?;
    Ok(if length > 0.0 { identity - u.outer(&u) * (2.0 / length) } else { identity })
}

impl LinearOperator for Grey {
    fn apply(&self, x: &Tensor) -> Tensor {
        (x * &self.weights).sum_dim_intlist([1i64].as_slice(), true, None)
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        y * &self.weights
    }

    fn norm_squared(&self) -> f64 {
        self.norm_squared
    }

    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }

    fn tables(&self) -> Vec<(&'static str, Tensor)> {
        vec![("weights", self.weights.flatten(0, -1))]
    }
}

impl Svd for Grey {
    fn coordinates(&self, x: &Tensor) -> Tensor {
        self.mirrored(x)
    }

    fn image(&self, coordinates: &Tensor) -> Tensor {
        self.mirrored(coordinates)
    }

    fn measured(&self, y: &Tensor) -> Tensor {
        y.constant_pad_nd([0, 0, 0, 0, 0, self.weights.size()[0] - 1])
    }

    fn singular(&self, kind: Kind) -> Tensor {
        self.singular.to_kind(kind)
    }
}

entry! {
    name: "colorization",
    what: "the colours are lost",
    source: "DDRM",
    facts: { map: "linear, svd", random: "no" },
    /// The image has lost its colours.
    pub struct Colorization {
        /// Weights of the channels in grey.
        pub grey: GreyWeights = GreyWeights::Mean => "mean, luma",
    }
}

/// Weights of the channels in grey.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum GreyWeights {
    /// All alike [DDRM, §5.1].
    #[default]
    Mean,
    /// 0.299 R + 0.587 G + 0.114 B [ITU-R BT.601; RW, §5].
    Luma,
}

impl Task for Colorization {
    fn operator(&self, [channels, ..]: [i64; 3], _: u64, device: Device, kind: Kind) -> Result<Operator, Error> {
        let weights = match self.grey {
            GreyWeights::Mean => vec![1.0 / channels as f64; channels as usize],
            GreyWeights::Luma if channels == 3 => vec![0.299, 0.587, 0.114],
            GreyWeights::Luma => {
                let want = "mean, or luma for images of red, green and blue";
                return Err(Error::parameter("grey", want, format!("luma for images of {channels} channels")));
            }
        };
        Ok(Grey::new(&weights, device, kind)?.into())
    }
}
