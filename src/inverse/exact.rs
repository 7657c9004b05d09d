//! Posteriors in closed form: of Gaussian images, and of mixtures of Gaussians.

use tch::{Kind, Tensor};

use super::{likelihood::LinearGaussian, operators::LinearOperator};
use crate::{
    Error,
    numbers::stream,
    scores::analytic::{Gaussian, Mixture},
};

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

impl Mixture {
    /// `count` samples of X given y = A X + η e, `[count, channels, height, width]`, for one measurement `[1, …]`.
    ///
    /// The posterior of a mixture is one: wⱼ′ ∝ wⱼ N(y; A mⱼ, Sⱼ) with Sⱼ = vⱼ AAᵀ + η² I, means mⱼ + vⱼ Aᵀ Sⱼ⁻¹ (y − A mⱼ)
    /// and covariances vⱼ I − vⱼ² Aᵀ Sⱼ⁻¹ A. Made for few pixels: matrices of all of them are set up for each component.
    pub fn posterior(
        &self,
        likelihood: &LinearGaussian,
        shape: [i64; 3],
        count: usize,
        seed: u64,
    ) -> Result<Tensor, Error> {
        let (n, options) = (self.means.size()[1], (self.means.kind(), self.means.device()));
        let images = |rows: &Tensor| rows.reshape([&[-1], shape.as_slice()].concat());
        let matrix = likelihood.operator.apply(&images(&Tensor::eye(n, options))).flatten(1, -1).tr();
        let v = self.variances.view([-1, 1, 1]);
        let system = matrix.matmul(&matrix.tr()) * &v
            + Tensor::eye(matrix.size()[0], options) * (likelihood.eta * likelihood.eta);
        let surprise = (likelihood.measurement.flatten(1, -1) - self.means.matmul(&matrix.tr())).unsqueeze(2);
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
