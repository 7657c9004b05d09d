//! One operator after another.

use tch::Tensor;

use super::{LinearOperator, NonlinearOperator, Operator, norm};
use crate::Error;

/// A = Aₙ … A₂ A₁, and Aᵀ = A₁ᵀ A₂ᵀ … Aₙᵀ.
#[derive(Debug)]
pub struct ComposedOperator {
    parts: Vec<Box<dyn LinearOperator>>,
    norm_squared: f64,
}

impl ComposedOperator {
    /// ‖A‖² is that of `exact`, the same operators in f64 on the CPU, for images of this `[channels, height, width]`.
    pub fn new(
        parts: Vec<Box<dyn LinearOperator>>,
        exact: &[Box<dyn LinearOperator>],
        shape: [i64; 3],
    ) -> Result<Self, Error> {
        let norm_squared = norm::largest_eigenvalue(|x| adjoint(exact, &apply(exact, x)), shape)?;
        Ok(Self { parts, norm_squared })
    }
}

fn apply(parts: &[Box<dyn LinearOperator>], x: &Tensor) -> Tensor {
    parts.iter().fold(x.shallow_clone(), |x, part| part.apply(&x))
}

fn adjoint(parts: &[Box<dyn LinearOperator>], y: &Tensor) -> Tensor {
    parts.iter().rev().fold(y.shallow_clone(), |y, part| part.adjoint(&y))
}

impl LinearOperator for ComposedOperator {
    fn apply(&self, x: &Tensor) -> Tensor {
        apply(&self.parts, x)
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        adjoint(&self.parts, y)
    }

    fn norm_squared(&self) -> f64 {
        self.norm_squared
    }
}

/// Any maps in a row, A(x) = Aₙ(… A₂(A₁(x))); ‖∂A/∂x‖ is at most the product of their norms.
#[derive(Debug)]
pub struct ComposedNonlinearOperator(pub Vec<Operator>);

impl NonlinearOperator for ComposedNonlinearOperator {
    fn apply(&self, x: &Tensor) -> Tensor {
        self.0.iter().fold(x.shallow_clone(), |x, part| part.apply(&x))
    }

    fn norm_squared(&self) -> f64 {
        self.0.iter().map(Operator::norm_squared).product()
    }
}
