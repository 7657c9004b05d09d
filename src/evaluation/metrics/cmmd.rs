//! The maximum mean discrepancy of CLIP's features, or of any others of length one [Jayasumana et al. 2024].

use tch::{Kind, Tensor};

use crate::Error;

/// σ of the Gaussian kernel.
const SIGMA: f64 = 10.0;
/// Figures are given in thousandths.
const SCALE: f64 = 1000.0;
/// Rows of the kernel that are held at once.
const ROWS: i64 = 1024;

/// 1000 MMD² of two sets `[m, dimensions]`, `[n, dimensions]`, each vector divided by its length, under
/// k(x, y) = exp(−‖x − y‖²/(2 · 10²)), with the pairs of a vector with itself [Jayasumana et al. 2024, §4].
pub fn cmmd(x: &Tensor, y: &Tensor) -> Result<f64, Error> {
    let unit = |set: &Tensor| {
        let set = set.to_kind(Kind::Double);
        let length = set.square().sum_dim_intlist([1i64].as_slice(), true, None).sqrt();
        set / length.clamp_min(f64::MIN_POSITIVE)
    };
    let (x, y) = (unit(x), unit(y));
    let mean = |a: &Tensor, b: &Tensor| -> Result<f64, Error> {
        let rows = |rows: &Tensor| {
            // ‖a − b‖² = 2 − 2 a·b.
            let kernel = ((rows.matmul(&b.tr()) - 1.0) / (SIGMA * SIGMA)).exp();
            Ok(f64::try_from(kernel.sum(Kind::Double))?)
        };
        let sums = a.split(ROWS, 0).iter().map(rows).collect::<Result<Vec<_>, Error>>()?;
        Ok(sums.iter().sum::<f64>() / (a.size()[0] * b.size()[0]) as f64)
    };
    Ok(SCALE * (mean(&x, &x)? + mean(&y, &y)? - 2.0 * mean(&x, &y)?))
}
