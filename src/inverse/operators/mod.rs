//! Forward operators y = A x, and the tasks that build them; [`tasks`](crate::inverse::tasks) lists them all.

mod blur;
mod boundary;
mod chain;
mod norm;
mod program;
mod seen;
mod separable;
mod solve;

use std::fmt;

pub use blur::Blur;
pub use boundary::Boundary;
pub use chain::{ComposedNonlinearOperator, ComposedOperator};
pub use program::Program;
pub use seen::Seen;
pub use separable::Separable;
pub(crate) use solve::dot;
use tch::{Device, Kind, Tensor};

pub use crate::inverse::tasks::AnyTask;
use crate::{Error, numbers::registry::modules};

/// The table of operators that a task names: each file, and the structs in it that are tasks.
macro_rules! operator_rows {
    ($then:ident $(, $($rest:tt)+)?) => {
        $then! { $($($rest)+,)? {
            identity: Identity,
            inpaint: InpaintBox InpaintRandom,
            extreme: InpaintExtreme,
            half: InpaintHalf,
            anisotropic: DeblurAnisotropic,
            gaussian: DeblurGaussian,
            motion: DeblurMotion,
            uniform: DeblurUniform,
            downsample: SuperResolution,
            colour: Colorization,
            sensing: CompressedSensing,
            fourier: MriCartesian MriRadial,
            radon: Tomography,
            phase: PhaseRetrieval,
            dynamic_range: HighDynamicRange,
        } }
    };
}
pub(crate) use operator_rows;

operator_rows!(modules);

/// A linear map between images; it acts on each image of a batch alike.
pub trait LinearOperator: fmt::Debug + Send {
    /// A x: `[batch, channels, height, width]` to the measurement's `[batch, …]`.
    fn apply(&self, x: &Tensor) -> Tensor;

    /// Aᵀ y, the true adjoint: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩.
    fn adjoint(&self, y: &Tensor) -> Tensor;

    /// ‖A‖², the largest eigenvalue of Aᵀ A.
    fn norm_squared(&self) -> f64;

    /// A's singular values and vectors, where fast transforms give them.
    fn svd(&self) -> Option<&dyn Svd> {
        None
    }

    /// Refuses measurements of one's own `[count, …]` that cannot be of this map.
    fn check(&self, _: &Tensor) -> Result<(), Error> {
        Ok(())
    }

    /// The arrays that define A, by name, for other programs; none where its parts must be asked.
    fn tables(&self) -> Vec<(&'static str, Tensor)> {
        Vec::new()
    }
}

/// A = U S Vᵀ. Coordinates may be complex, as Fourier's are, but V keeps lengths and s is real.
pub trait Svd {
    /// Vᵀ x, of any shape `[batch, …]` with a coordinate for each dimension of the images.
    fn coordinates(&self, x: &Tensor) -> Tensor;

    /// V c.
    fn image(&self, coordinates: &Tensor) -> Tensor;

    /// Uᵀ y in the places of the coordinates; where s = 0 it does not matter.
    fn measured(&self, y: &Tensor) -> Tensor;

    /// s ≥ 0 in the precision `kind` of the images, of a shape that multiplies coordinates.
    fn singular(&self, kind: Kind) -> Tensor;
}

/// Any other map, whose gradients automatic differentiation finds.
pub trait NonlinearOperator: fmt::Debug + Send {
    /// A(x): `[batch, channels, height, width]` to the measurement's `[batch, …]`.
    fn apply(&self, x: &Tensor) -> Tensor;

    /// A bound of ‖∂A/∂x‖², by which steps are kept short.
    fn norm_squared(&self) -> f64;
}

/// A degradation of images, y = A(x).
#[derive(Debug)]
pub enum Operator {
    /// See [`LinearOperator`].
    Linear(Box<dyn LinearOperator>),
    /// See [`NonlinearOperator`].
    Nonlinear(Box<dyn NonlinearOperator>),
}

impl Operator {
    /// A(x).
    pub fn apply(&self, x: &Tensor) -> Tensor {
        match self {
            Self::Linear(linear) => linear.apply(x),
            Self::Nonlinear(other) => other.apply(x),
        }
    }

    /// (∂A/∂x)ᵀ e at x for e = `residual`(A(x)): Aᵀ e where A is linear.
    pub fn pull(&self, x: &Tensor, residual: impl Fn(&Tensor) -> Tensor) -> Tensor {
        match self {
            Self::Linear(linear) => linear.adjoint(&residual(&linear.apply(x))),
            Self::Nonlinear(other) => {
                let leaf = x.detach().set_requires_grad(true);
                let seen = tch::with_grad(|| other.apply(&leaf));
                let weight = residual(&seen.detach());
                let product = tch::with_grad(|| (&seen * weight).sum(seen.kind()));
                Tensor::run_backward(&[product], &[&leaf], false, false).remove(0)
            }
        }
    }

    /// ‖A‖², or a bound of ‖∂A/∂x‖².
    pub fn norm_squared(&self) -> f64 {
        match self {
            Self::Linear(linear) => linear.norm_squared(),
            Self::Nonlinear(other) => other.norm_squared(),
        }
    }

    /// The linear map that it is, if it is one.
    pub fn linear(&self) -> Option<&dyn LinearOperator> {
        match self {
            Self::Linear(linear) => Some(&**linear),
            Self::Nonlinear(_) => None,
        }
    }
}

impl<L: LinearOperator + 'static> From<L> for Operator {
    fn from(linear: L) -> Self {
        Self::Linear(Box::new(linear))
    }
}

impl From<Box<dyn LinearOperator>> for Operator {
    fn from(linear: Box<dyn LinearOperator>) -> Self {
        Self::Linear(linear)
    }
}

/// A way in which images are damaged, before their size is known.
pub trait Task {
    /// A, for images of `shape` = `[channels, height, width]` and precision `kind` (`Float` or `Double`) on `device`.
    ///
    /// `seed` decides all that is random about it; the same seed gives the same A on every machine.
    fn operator(&self, shape: [i64; 3], seed: u64, device: Device, kind: Kind) -> Result<Operator, Error>;
}

/// Draws of [`stream`](crate::numbers::stream), apart from one another and from those of the sampling noise.
mod draw {
    pub const MASK: u64 = u64::from_be_bytes(*b"\0\0\0\0mask");
    pub const BOX: u64 = u64::from_be_bytes(*b"\0\0\0\0\0box");
    pub const LINES: u64 = u64::from_be_bytes(*b"\0\0\0lines");
    pub const SIGNS: u64 = u64::from_be_bytes(*b"\0\0\0signs");
    pub const COEFFICIENTS: u64 = u64::from_be_bytes(*b"\0\0\0coeff");
    pub const DIRECTION: u64 = u64::from_be_bytes(*b"\0\0direct");
    pub const TREMOR: u64 = u64::from_be_bytes(*b"\0\0tremor");
}
