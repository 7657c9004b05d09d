//! The entries of a measurement that depend on the image.

use tch::{Device, Kind, Tensor};

use super::Operator;
use crate::Error;

/// What changes by less than this part of the largest change is rounding.
const ROUNDING: f64 = 1e-6;

/// What an operator does to no image at all, and which entries of its results depend on the image.
#[derive(Debug)]
pub struct Seen {
    /// A(0), `[1, …]`.
    pub blank: Tensor,
    /// True where an entry depends on the image, `[1, …]`.
    pub entries: Tensor,
}

impl Operator {
    /// The entries of y that depend on x. Those of rows of zeros do not: hidden pixels, frequencies that are not sampled, rays
    /// beside the image, the imaginary part of a real image's mean.
    ///
    /// Two images of noise are measured, and what does not change beyond rounding counts as unseen.
    pub fn seen(&self, [channels, height, width]: [i64; 3], (kind, device): (Kind, Device)) -> Result<Seen, Error> {
        let zeros = Tensor::f_zeros([1, channels, height, width], (kind, device))?;
        let blank = tch::no_grad(|| self.apply(&zeros));
        let change = |stride| tch::no_grad(|| (self.apply(&speckled(&zeros, stride)) - &blank).abs());
        let changes = change(12.9898).maximum(&change(78.233));
        let most = f64::try_from(changes.max())?;
        Ok(Seen { entries: changes.gt(ROUNDING * most), blank })
    }
}

impl Seen {
    /// y without what its unseen entries say: they are what any image would make of them.
    pub fn alone(&self, y: &Tensor) -> Tensor {
        y.where_self(&self.entries, &self.blank)
    }

    /// The mean of values `[batch, …]` over the seen entries; 0 if there are none.
    pub fn mean(&self, values: &Tensor) -> Result<f64, Error> {
        let share = f64::try_from(self.entries.to_kind(Kind::Double).mean(Kind::Double))?;
        let mean = f64::try_from((values * &self.entries).mean(Kind::Double))?;
        Ok(if share > 0.0 { mean / share } else { 0.0 })
    }
}

/// An image between −1 and 1 without any order, from the fraction of a large sine.
fn speckled(like: &Tensor, stride: f64) -> Tensor {
    let places = Tensor::arange(like.numel() as i64, (Kind::Double, Device::Cpu));
    let values = ((places + 1.0) * stride).sin() * 43_758.545_3;
    ((&values - values.floor()) * 2.0 - 1.0).view_as(like).to_kind(like.kind()).to_device(like.device())
}
