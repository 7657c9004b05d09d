//! Forward operators y = A x, and the tasks that build them.

mod blur;
mod boundary;
mod downsample;
mod gaussian;
mod identity;
mod inpaint;
mod motion;
mod norm;
mod separable;

use std::fmt;

pub use blur::Blur;
pub use boundary::Boundary;
pub use downsample::{Kernel, SuperResolution};
pub use gaussian::DeblurGaussian;
pub use identity::Identity;
pub use inpaint::{Inpaint, InpaintBox, InpaintRandom};
pub use motion::DeblurMotion;
pub use separable::Separable;
use tch::{Device, Kind, Tensor};

use crate::{Error, registry::one_of};

/// A linear map between images; it acts on each image of a batch alike.
pub trait LinearOperator: fmt::Debug + Send {
    /// A x: `[batch, channels, height, width]` to the measurement's `[batch, …]`.
    fn apply(&self, x: &Tensor) -> Tensor;

    /// Aᵀ y, the true adjoint: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩.
    fn adjoint(&self, y: &Tensor) -> Tensor;

    /// ‖A‖², the largest eigenvalue of Aᵀ A.
    fn norm_squared(&self) -> f64;
}

/// A way in which images are damaged, before their size is known.
pub trait Task {
    /// A, for images of `shape` = `[channels, height, width]` and precision `kind` (`Float` or `Double`) on `device`.
    ///
    /// `seed` decides all that is random about it; the same seed gives the same A on every machine.
    fn operator(
        &self,
        shape: [i64; 3],
        seed: u64,
        device: Device,
        kind: Kind,
    ) -> Result<Box<dyn LinearOperator>, Error>;
}

one_of! {
    /// What `task:` may name.
    pub enum AnyTask: Task { DeblurGaussian, DeblurMotion, Identity, InpaintBox, InpaintRandom, SuperResolution }
}

/// Draws of [`stream`](crate::noise::stream), apart from one another and from those of the sampling noise.
mod draw {
    pub const MASK: u64 = u64::from_be_bytes(*b"\0\0\0\0mask");
    pub const BOX: u64 = u64::from_be_bytes(*b"\0\0\0\0\0box");
    pub const DIRECTION: u64 = u64::from_be_bytes(*b"\0\0direct");
    pub const TREMOR: u64 = u64::from_be_bytes(*b"\0\0tremor");
}
