//! Linear systems of an operator.

use tch::{Kind, Tensor};

use super::LinearOperator;

/// The factor by which conjugate gradients reduce the error.
const TOLERANCE: f64 = 1e-6;

/// No system is given more steps.
const STEPS: usize = 200;

/// The weight at which (AᵀA + w ‖A‖² I)⁻¹ Aᵀ stands for the pseudo-inverse of an operator without a decomposition.
const TIKHONOV: f64 = 1e-6;

/// s below this part of ‖A‖ counts as 0.
const NOTHING: f64 = 1e-6;

impl dyn LinearOperator + '_ {
    /// (AᵀA + w I)⁻¹ r for each image of r = `right`, w = `weight` > 0: what lies nearest to both a measurement and an image.
    ///
    /// It works in A's singular vectors where A has them; otherwise by as many conjugate gradients as reduce any error
    /// a million times, at most 200.
    pub fn regularised(&self, right: &Tensor, weight: f64) -> Tensor {
        match self.svd() {
            Some(svd) => svd.image(&(svd.coordinates(right) / (svd.singular(right.kind()).square() + weight))),
            None => self.conjugate_gradients(right, weight),
        }
    }

    /// A⁺ y: of all x that fit y best, the shortest.
    pub fn pseudo_inverse(&self, y: &Tensor) -> Tensor {
        match self.svd() {
            Some(svd) => {
                let s = svd.singular(y.kind());
                let seen = s.ge(NOTHING * self.norm_squared().sqrt());
                svd.image(&(svd.measured(y) * (&seen / s.where_scalarother(&seen, 1.0))))
            }
            None => self.conjugate_gradients(&self.adjoint(y), TIKHONOV * self.norm_squared()),
        }
    }

    fn conjugate_gradients(&self, right: &Tensor, weight: f64) -> Tensor {
        let (mut x, mut residual) = (right.zeros_like(), right.copy());
        let (mut direction, mut length) = (right.copy(), dot(right, right));
        for _ in 0..steps(1.0 + self.norm_squared() / weight) {
            let image = self.adjoint(&self.apply(&direction)) + &direction * weight;
            // If nothing is left to solve, direction and image are 0, and so is the step.
            let step = &length / positive(&dot(&direction, &image));
            x += &direction * &step;
            residual -= image * step;
            let before = std::mem::replace(&mut length, dot(&residual, &residual));
            direction = &residual + direction * (&length / positive(&before));
        }
        x
    }
}

/// Number of steps that reduce the error, in the norm of a matrix of this condition, to TOLERANCE: k with 2 ((√κ −
/// 1)/(√κ + 1))ᵏ that small.
fn steps(condition: f64) -> usize {
    let root = condition.sqrt();
    let rate = ((root - 1.0) / (root + 1.0)).max(f64::MIN_POSITIVE);
    ((TOLERANCE / 2.0).ln() / rate.ln()).ceil().clamp(1.0, STEPS as f64) as usize
}

fn positive(x: &Tensor) -> Tensor {
    x.clamp_min(f64::from(f32::MIN_POSITIVE))
}

/// ⟨a, b⟩ for each image of a batch, in a shape that multiplies them.
pub(crate) fn dot(a: &Tensor, b: &Tensor) -> Tensor {
    let rest: Vec<i64> = (1..a.dim() as i64).collect();
    (a * b).sum_dim_intlist(rest.as_slice(), true, None::<Kind>)
}
