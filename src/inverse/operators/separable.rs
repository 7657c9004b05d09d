//! Operators that treat height and width one after the other.

use tch::{Device, Kind, Tensor};

use super::{Boundary, LinearOperator, Operator, Svd};
use crate::Error;

/// A x = R x Cᵀ for every channel; Aᵀ y = Rᵀ y C; ‖A‖ = ‖R‖ ‖C‖.
#[derive(Debug)]
pub struct Separable {
    /// R, `[height′, height]`.
    rows: Tensor,
    /// C, `[width′, width]`.
    columns: Tensor,
    /// The singular vectors of R and of C: U, `[n′, n′]`, and V, `[n, n]`.
    bases: [(Tensor, Tensor); 2],
    /// s, `[height, width]`.
    singular: Tensor,
    norm_squared: f64,
}

impl Separable {
    /// Creates the operator from R, `[height′, height]`, and C, `[width′, width]`, in f64.
    pub fn new(rows: &Tensor, columns: &Tensor, device: Device, kind: Kind) -> Result<Self, Error> {
        let place = |matrix: &Tensor| matrix.to_device(device).to_kind(kind);
        let decomposed = |matrix: &Tensor| -> Result<_, Error> {
            let (u, s, v) = matrix.f_svd(false, true)?;
            let s = s.constant_pad_nd([0, matrix.size()[1] - s.size()[0]]);
            Ok(((place(&u), place(&v)), s))
        };
        let ((of_rows, tall), (of_columns, wide)) = (decomposed(rows)?, decomposed(columns)?);
        let singular = tall.unsqueeze(1) * wide.unsqueeze(0);
        let norm_squared = f64::try_from(singular.max())?.powi(2);
        let bases = [of_rows, of_columns];
        Ok(Self { rows: place(rows), columns: place(columns), bases, singular: place(&singular), norm_squared })
    }

    /// The blur of height and width by `taps`, weights of the pixels −k … k, one after the other.
    pub(super) fn blur(
        taps: [&[f64]; 2],
        [_, height, width]: [i64; 3],
        boundary: Boundary,
        device: Device,
        kind: Kind,
    ) -> Result<Operator, Error> {
        let [rows, columns] = taps;
        let (rows, columns) = (convolution(height, rows, boundary), convolution(width, columns, boundary));
        Ok(Self::new(&rows, &columns, device, kind)?.into())
    }
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

    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }

    fn tables(&self) -> Vec<(&'static str, Tensor)> {
        vec![("rows", self.rows.shallow_clone()), ("columns", self.columns.shallow_clone())]
    }
}

impl Svd for Separable {
    fn coordinates(&self, x: &Tensor) -> Tensor {
        let [(_, rows), (_, columns)] = &self.bases;
        rows.tr().matmul(&x.matmul(columns))
    }

    fn image(&self, coordinates: &Tensor) -> Tensor {
        let [(_, rows), (_, columns)] = &self.bases;
        rows.matmul(&coordinates.matmul(&columns.tr()))
    }

    fn measured(&self, y: &Tensor) -> Tensor {
        let [(rows, _), (columns, _)] = &self.bases;
        let (size, y) = (self.singular.size(), rows.tr().matmul(&y.matmul(columns)));
        let seen = y.size();
        y.constant_pad_nd([0, size[1] - seen[3], 0, size[0] - seen[2]])
    }

    fn singular(&self, kind: Kind) -> Tensor {
        self.singular.to_kind(kind)
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

/// The blur of a line of `n` pixels by symmetric weights of the pixels −k … k, `[n, n]`.
fn convolution(n: i64, taps: &[f64], boundary: Boundary) -> Tensor {
    let reach = taps.len() as i64 / 2;
    let entry = |i: i64, j: i64, weight: f64| boundary.source(j, n).map(|j| (i, j, weight));
    let entries = (0..n).flat_map(|i| (i - reach..).zip(taps).filter_map(move |(j, weight)| entry(i, j, *weight)));
    matrix(n, n, entries)
}
