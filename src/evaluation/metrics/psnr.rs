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

/// The PSNR of (x − min x) / (max x − min x) and of the same of the truth: brightness and contrast count for nothing.
///
/// Each image, `[batch, …]`, is taken by itself, all its channels together; one that is the same everywhere becomes 0. The
/// figures of Random Walks are such, and those of images that reach beyond 0 … 1 differ much from the plain ones.
pub fn psnr_min_max(x: &Tensor, truth: &Tensor) -> Vec<f64> {
    psnr(&min_max(x), &min_max(truth))
}

/// Each image of a batch, scaled to 0 … 1.
fn min_max(x: &Tensor) -> Tensor {
    let x = x.to_kind(Kind::Double).flatten(1, -1);
    let (low, high) = (x.amin([1i64].as_slice(), true), x.amax([1i64].as_slice(), true));
    (x - &low) / (high - low).clamp_min(f64::MIN_POSITIVE)
}
