//! Operators that treat height and width one after the other.

use tch::{Device, Kind, Tensor};

use super::LinearOperator;
use crate::Error;

/// A x = R x Cᵀ for every channel; Aᵀ y = Rᵀ y C; ‖A‖ = ‖R‖ ‖C‖.
#[derive(Debug)]
pub struct Separable {
    /// R, `[height′, height]`.
    rows: Tensor,
    /// C, `[width′, width]`.
    columns: Tensor,
    norm_squared: f64,
}

impl Separable {
    /// From R, `[height′, height]`, and C, `[width′, width]`, in f64.
    pub fn new(rows: &Tensor, columns: &Tensor, device: Device, kind: Kind) -> Result<Self, Error> {
        let norm_squared = largest_square(rows)? * largest_square(columns)?;
        let place = |matrix: &Tensor| matrix.to_device(device).to_kind(kind);
        Ok(Self { rows: place(rows), columns: place(columns), norm_squared })
    }
}

/// ‖M‖², the largest eigenvalue of M Mᵀ.
fn largest_square(matrix: &Tensor) -> Result<f64, Error> {
    Ok(f64::try_from(matrix.matmul(&matrix.tr()).f_linalg_eigvalsh("L")?.max())?)
}

impl LinearOperator for Separable {
    fn apply(&self, x: &Tensor) -> Tensor {
        self.rows.matmul(&x.matmul(&self.columns.tr()))
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        self.rows.tr().matmul(&y.matmul(&self.columns))
    }

    fn norm_squared(&self) -> f64 {
        self.norm_squared
    }
}

/// The `[lines, n]` matrix with `weight` at (i, j) for each `(i, j, weight)`; weights at the same place add up.
pub(super) fn matrix(lines: i64, n: i64, entries: impl Iterator<Item = (i64, i64, f64)>) -> Tensor {
    let mut values = vec![0.0; (lines * n) as usize];
    for (i, j, weight) in entries {
        values[(i * n + j) as usize] += weight;
    }
    Tensor::from_slice(&values).view([lines, n])
}
