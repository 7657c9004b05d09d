//! Peak signal-to-noise ratio.

use tch::{Kind, Tensor};

/// 10 log₁₀(1 / MSE) in decibels for each image of a batch, `[batch, …]`, in the unit range 0 … 1.
///
/// Nothing is normalised: an image that is off by a constant pays for it.
pub fn psnr(x: &Tensor, truth: &Tensor) -> Vec<f64> {
    let error = (x - truth).to_kind(Kind::Double).square().flatten(1, -1);
    let mean = error.mean_dim([1i64].as_slice(), false, None);
    Vec::<f64>::try_from(mean).unwrap_or_default().into_iter().map(|mse| -10.0 * mse.log10()).collect()
}
