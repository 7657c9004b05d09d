//! Structural similarity [Wang et al. 2004].

use tch::{Kind, Tensor};

use crate::Error;

/// Window for means and covariances: the two conventions in which papers give SSIM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Window {
    /// 11×11, weighed by a Gaussian of standard deviation 1.5; covariances of the population [Wang et al. 2004, §III-B].
    Gaussian,
    /// 7×7, all alike; covariances of a sample, with n − 1 in the denominator: scikit-image's default. scikit-image
    /// takes it by default.
    Uniform,
}

impl Window {
    /// Pixels along one side.
    pub fn side(self) -> i64 {
        match self {
            Self::Gaussian => 11,
            Self::Uniform => 7,
        }
    }

    /// The weights along one side, which sum to 1; the window is their product with themselves.
    fn weights(self) -> Vec<f64> {
        let half = (self.side() / 2) as f64;
        let weight = |i: i64| match self {
            Self::Gaussian => (-((i as f64 - half) / 1.5).powi(2) / 2.0).exp(),
            Self::Uniform => 1.0,
        };
        let weights: Vec<f64> = (0..self.side()).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / sum).collect()
    }

    /// Factor that makes a covariance out of E\[xy\] − E\[x\] E\[y\].
    fn unbiased(self) -> f64 {
        let count = self.side().pow(2) as f64;
        match self {
            Self::Gaussian => 1.0,
            Self::Uniform => count / (count - 1.0),
        }
    }

    /// The weighed mean around each pixel of `[images, 1, height, width]` whose window lies within the image.
    fn mean(self, x: &Tensor) -> Tensor {
        let side = self.side();
        let weights = Tensor::from_slice(&self.weights()).to_device(x.device());
        let along =
            |x: &Tensor, shape: [i64; 4]| x.conv2d(&weights.reshape(shape), None::<&Tensor>, [1, 1], [0, 0], [1, 1], 1);
        along(&along(x, [1, 1, side, 1]), [1, 1, 1, side])
    }
}

/// The mean over pixels and channels of (2 μ_x μ_y + C₁)(2 σ_xy + C₂) / ((μ_x² + μ_y² + C₁)(σ_x² + σ_y² + C₂)) for each
/// image of a batch, `[batch, channels, height, width]`, in the unit range 0 … 1, in f64 [Wang et al. 2004, Eq. 13].
///
/// C₁ = 0.01² and C₂ = 0.03²: the data range is 1. Only pixels whose whole window lies within the image count, as in the
/// authors' program and in scikit-image; images smaller than the window have no SSIM.
pub fn ssim(x: &Tensor, truth: &Tensor, window: Window) -> Result<Vec<f64>, Error> {
    const C1: f64 = 0.01 * 0.01;
    const C2: f64 = 0.03 * 0.03;
    let (size, side) = (x.size(), window.side());
    if size != truth.size() || size.len() != 4 || size[2].min(size[3]) < side {
        let want = format!("that of the other, {:?}, with sides of {side} pixels or more,", truth.size());
        return Err(Error::Shape { what: "an image for SSIM", got: size, want });
    }
    let [x, y] = [x, truth].map(|x| x.to_kind(Kind::Double).flatten(0, 1).unsqueeze(1));
    let mean = |x: &Tensor| window.mean(x);
    let (mx, my) = (mean(&x), mean(&y));
    let covariance = |product: Tensor, means: Tensor| (mean(&product) - means) * window.unbiased();
    let (vx, vy) = (covariance(&x * &x, &mx * &mx), covariance(&y * &y, &my * &my));
    let luminance = (&mx * &my * 2.0 + C1) / (mx.square() + my.square() + C1);
    let structure = (covariance(&x * &y, &mx * &my) * 2.0 + C2) / (vx + vy + C2);
    let mean = (luminance * structure).reshape([size[0], -1]).mean_dim([1i64].as_slice(), false, None);
    Ok(Vec::try_from(mean)?)
}
