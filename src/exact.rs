//! Denoisers known in closed form: Gaussians, their mixtures, and finite sets of images.
//!
//! They are the yardstick for every sampler and the baseline for every restoration.

use tch::{Kind, Tensor};

use crate::{Error, denoiser::Denoiser, likelihood::LinearGaussian, noise::stream, operators::LinearOperator};

/// The Wiener filter: images X ~ N(m, C) of any covariance.
///
/// D(x, σ) = m + C (C + σ² I)⁻¹ (x − m), computed in the eigenbasis of C [SDE tutorial, §2].
#[derive(Debug)]
pub struct Gaussian {
    mean: Tensor,
    basis: Tensor,
    variances: Tensor,
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

impl Gaussian {
    /// E[X | y] for y = A X + η n: m + C Aᵀ (A C Aᵀ + η² I)⁻¹ (y − A m), for each measurement `[batch, …]`.
    ///
    /// This is the best linear estimate, and the baseline that a learnt prior has to beat.
    pub fn posterior_mean(
        &self,
        operator: &dyn LinearOperator,
        measurement: &Tensor,
        eta: f64,
    ) -> Result<Tensor, Error> {
        let shape = self.mean.size();
        let images = |rows: &Tensor| rows.reshape([&[-1], shape.as_slice()].concat());
        let covariance = (&self.basis * &self.variances).matmul(&self.basis.tr());
        // The rows of C, seen through A, are C Aᵀ; its columns, seen through A again, are A C Aᵀ.
        let seen = operator.apply(&images(&covariance)).flatten(1, -1);
        let system = operator.apply(&images(&seen.tr().contiguous())).flatten(1, -1);
        let system = &system + Tensor::eye(system.size()[0], (system.kind(), system.device())) * (eta * eta);
        let surprise = (measurement - operator.apply(&self.mean.unsqueeze(0))).flatten(1, -1);
        let weights = Tensor::f_linalg_solve(&system, &surprise.tr(), true)?;
        Ok(&self.mean + images(&seen.matmul(&weights).tr()))
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
    weights: Tensor,
    means: Tensor,
    variances: Tensor,
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

impl Mixture {
    /// `count` samples of X given y = A X + η e, `[count, channels, height, width]`, for one measurement `[1, …]`.
    ///
    /// The posterior of a mixture is one: wⱼ′ ∝ wⱼ N(y; A mⱼ, Sⱼ) with Sⱼ = vⱼ AAᵀ + η² I, means mⱼ + vⱼ Aᵀ Sⱼ⁻¹ (y − A mⱼ)
    /// and covariances vⱼ I − vⱼ² Aᵀ Sⱼ⁻¹ A. Made for few pixels: matrices of all of them are set up for each component.
    pub fn posterior(&self, of: &LinearGaussian, shape: [i64; 3], count: usize, seed: u64) -> Result<Tensor, Error> {
        let (n, options) = (self.means.size()[1], (self.means.kind(), self.means.device()));
        let images = |rows: &Tensor| rows.reshape([&[-1], shape.as_slice()].concat());
        let matrix = of.operator.apply(&images(&Tensor::eye(n, options))).flatten(1, -1).tr();
        let v = self.variances.view([-1, 1, 1]);
        let system = matrix.matmul(&matrix.tr()) * &v + Tensor::eye(matrix.size()[0], options) * (of.eta * of.eta);
        let surprise = (of.measurement.flatten(1, -1) - self.means.matmul(&matrix.tr())).unsqueeze(2);
        let weighed = Tensor::f_linalg_solve(&system, &surprise, true)?;
        let misfit = (&surprise * &weighed).sum_dim_intlist([1i64, 2].as_slice(), false, None);
        let log = self.weights.log() - (misfit + system.logdet()) / 2.0;
        let means = self.means.unsqueeze(2) + matrix.tr().matmul(&weighed) * &v;
        let known =
            matrix.tr().matmul(&Tensor::f_linalg_solve(&system, &matrix.expand_as(&system.matmul(&matrix)), true)?);
        let (variances, basis) = (Tensor::eye(n, options) * &v - known * v.square()).f_linalg_eigh("L")?;
        let roots = basis * variances.clamp_min(0.0).sqrt().unsqueeze(1);
        let chances = Vec::<f64>::try_from(log.softmax(0, None::<Kind>).to_kind(Kind::Double))?;
        let mut uniform = stream::uniform(seed, 0, CHOICE);
        let chosen: Vec<i64> = (0..count).map(|_| choose(&chances, uniform.next().unwrap_or(1.0))).collect();
        let chosen = Tensor::from_slice(&chosen);
        let normal: Vec<f64> = stream::normal(seed, 0, SPREAD).take(count * n as usize).collect();
        let normal = Tensor::from_slice(&normal).view([count as i64, n, 1]).to_kind(self.means.kind());
        Ok(images(&(means.index_select(0, &chosen) + roots.index_select(0, &chosen).matmul(&normal)).squeeze_dim(2)))
    }
}

/// The place at which `u` of 0 … 1 is used up by chances that sum to 1.
fn choose(chances: &[f64], mut u: f64) -> i64 {
    let found = chances.iter().position(|chance| {
        u -= chance;
        u <= 0.0
    });
    found.unwrap_or(chances.len() - 1) as i64
}

const CHOICE: u64 = u64::from_be_bytes(*b"choice\0\0");
const SPREAD: u64 = u64::from_be_bytes(*b"spread\0\0");

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
