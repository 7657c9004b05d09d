//! Denoisers known in closed form: Gaussians, their mixtures, and finite sets of images.
//!
//! They are the yardstick for every sampler and the baseline for every restoration.

use tch::{Kind, Tensor};

use crate::{Error, scores::denoiser::Denoiser};

/// The Wiener filter: images X ~ N(m, C) of any covariance.
///
/// D(x, σ) = m + C (C + σ² I)⁻¹ (x − m), computed in the eigenbasis of C [SDE tutorial, §2].
#[derive(Debug)]
pub struct Gaussian {
    pub(crate) mean: Tensor,
    pub(crate) basis: Tensor,
    pub(crate) variances: Tensor,
}

impl Gaussian {
    /// `mean` is `[channels, height, width]`, `covariance` `[n, n]` over its n pixels, symmetric and not negative.
    pub fn new(mean: &Tensor, covariance: &Tensor) -> Result<Self, Error> {
        let n = mean.numel() as i64;
        if covariance.size() != [n, n] {
            let (what, want) = ("the covariance", format!("[{n}, {n}]"));
            return Err(Error::Shape { what, got: covariance.size(), want });
        }
        let (variances, basis) = covariance.f_linalg_eigh("L")?;
        let variances = variances.clamp_min(0.0);
        Ok(Self { mean: mean.shallow_clone(), basis, variances })
    }

    /// Fitted to images `[count, channels, height, width]`: their mean and their covariance.
    pub fn fit(images: &Tensor) -> Result<Self, Error> {
        let flat = images.flatten(1, -1);
        let mean = flat.mean_dim([0i64].as_slice(), false, None);
        let centred = &flat - &mean;
        let covariance = centred.tr().matmul(&centred) / flat.size()[0] as f64;
        Self::new(&mean.view_as(&images.get(0)), &covariance)
    }

    /// m, `[channels, height, width]`.
    pub fn mean(&self) -> &Tensor {
        &self.mean
    }

    /// The eigenvectors of C as columns, `[n, n]`, and the variance along each, `[n]`.
    pub fn spectrum(&self) -> (&Tensor, &Tensor) {
        (&self.basis, &self.variances)
    }
}

impl Denoiser for Gaussian {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        x + self.residual(x, sigma)
    }

    /// −σ² (C + σ² I)⁻¹ (x − m).
    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        let square = sigma * sigma;
        let gain = (&self.variances + square).reciprocal() * -square;
        let coordinates = (x - &self.mean).flatten(1, -1).matmul(&self.basis);
        (coordinates * gain).matmul(&self.basis.tr()).view_as(x)
    }
}

/// A mixture Σ wⱼ N(mⱼ, vⱼ I).
///
/// D(x, σ) = Σ pⱼ(x) (vⱼ x + σ² mⱼ)/(vⱼ + σ²), with pⱼ the chance that x came from component j.
#[derive(Debug)]
pub struct Mixture {
    pub(crate) weights: Tensor,
    pub(crate) means: Tensor,
    pub(crate) variances: Tensor,
}

impl Mixture {
    /// `weights` `[n]`, positive; `means` `[n, channels, height, width]`; `variances` `[n]`, 0 allowed.
    pub fn new(weights: &Tensor, means: &Tensor, variances: &Tensor) -> Result<Self, Error> {
        let n = means.size()[0];
        for (what, tensor) in [("the weights", weights), ("the variances", variances)] {
            if tensor.size() != [n] {
                return Err(Error::Shape { what, got: tensor.size(), want: format!("[{n}]") });
            }
        }
        Ok(Self {
            weights: weights / weights.sum(weights.kind()),
            means: means.flatten(1, -1),
            variances: variances.shallow_clone(),
        })
    }

    /// pⱼ(x), `[batch, n]`.
    pub fn responsibilities(&self, x: &Tensor, sigma: f64) -> Tensor {
        let flat = x.flatten(1, -1);
        let total = &self.variances + sigma * sigma;
        // ‖x − m‖² as ‖x‖² − 2⟨x, m⟩ + ‖m‖², so that no [batch, n, pixels] tensor is ever made.
        let own = flat.square().sum_dim_intlist([1i64].as_slice(), true, None);
        let theirs = self.means.square().sum_dim_intlist([1i64].as_slice(), false, None);
        let distance = own - flat.matmul(&self.means.tr()) * 2.0 + theirs;
        let logit = self.weights.log() - distance / (&total * 2.0) - total.log() * (flat.size()[1] as f64 / 2.0);
        logit.softmax(-1, None::<Kind>)
    }
}

impl Denoiser for Mixture {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        let chances = self.responsibilities(x, sigma);
        let total = &self.variances + sigma * sigma;
        let own = (&chances * (&self.variances / &total)).sum_dim_intlist([1i64].as_slice(), true, None);
        let theirs = (chances * (total.reciprocal() * (sigma * sigma))).matmul(&self.means);
        (x.flatten(1, -1) * own + theirs).view_as(x)
    }
}

/// A finite set of images: D(x, σ) is their mean, weighted by softmax(−‖x − xⱼ‖²/(2σ²)).
#[derive(Debug)]
pub struct DataSet(Mixture);

impl DataSet {
    /// `images` are `[count, channels, height, width]`, in data units.
    pub fn new(images: &Tensor) -> Result<Self, Error> {
        let count = [images.size()[0]];
        let options = (images.kind(), images.device());
        Ok(Self(Mixture::new(&Tensor::ones(count, options), images, &Tensor::zeros(count, options))?))
    }
}

impl Denoiser for DataSet {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.0.denoise(x, sigma)
    }
}
