//! Denoisers that know a measurement: E[X | x, y] by matching moments.

use std::fmt;

use tch::Tensor;

use crate::{
    inverse::{likelihood::LinearGaussian, operators::dot},
    scores::denoiser::Denoiser,
};

/// A denoiser conditioned on a measurement y = A X + η e [Rozet et al. 2024, MMPS].
///
/// The images that may hide behind x have the mean D(x, σ) and, by Tweedie's second formula, the covariance σ² J with
/// J = ∂D/∂x. If they were normal, then
///
/// ```text
/// E[X | x, y] = D + σ² Jᵀ Aᵀ (η² I + σ² A Jᵀ Aᵀ)⁻¹ (y − A D)
/// ```
///
/// which is exact for Gaussian images, and which is a denoiser again: any walk that samples images with D samples the
/// posterior with this one. Hidden pixels learn from those that are seen through J, at every level, where a likelihood
/// beside the score does not reach them before the network's next answer.
///
/// The system is solved by generalised conjugate residuals [Eisenstat, Elman & Schultz 1983]: the residual never grows,
/// although the Jacobian of a network is not quite symmetric. One evaluation costs `iterations` + 1 products with Jᵀ
/// besides the network itself, each about as much as one more evaluation, and the memory of one backward pass.
pub struct MomentMatching<'a> {
    /// The denoiser of the images.
    pub prior: &'a dyn Denoiser,
    /// The likelihood of the measurement.
    pub likelihood: LinearGaussian<'a>,
    /// Iterations of the solver, at least 1.
    pub iterations: usize,
}

impl fmt::Debug for MomentMatching<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MomentMatching").field("iterations", &self.iterations).finish_non_exhaustive()
    }
}

impl Denoiser for MomentMatching<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        x + self.residual(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        let LinearGaussian { operator, measurement, eta } = self.likelihood;
        let leaf = x.detach().set_requires_grad(true);
        let graph = tch::with_grad(|| self.prior.residual(&leaf, sigma));
        let residual = graph.detach();
        // σ² Jᵀ u, where ∂(D − x)/∂x = J − I.
        let covariance = |u: &Tensor| {
            let product = tch::with_grad(|| (&graph * u).sum(graph.kind()));
            (Tensor::run_backward(&[product], &[&leaf], true, false).remove(0) + u) * (sigma * sigma)
        };
        tch::no_grad(|| {
            let spread = |p: &Tensor| p * (eta * eta) + operator.apply(&covariance(&operator.adjoint(p)));
            let innovation = measurement - operator.apply(&(x + &residual));
            let weight = conjugate_residuals(&spread, innovation, self.iterations);
            residual + covariance(&operator.adjoint(&weight))
        })
    }
}

/// The solution of M z = `right` for each image of a batch, from z = 0.
fn conjugate_residuals(apply: &dyn Fn(&Tensor) -> Tensor, right: Tensor, iterations: usize) -> Tensor {
    let (mut solution, mut residual) = (right.zeros_like(), right);
    let mut directions: Vec<(Tensor, Tensor)> = Vec::with_capacity(iterations);
    for _ in 0..iterations.max(1) {
        let (mut direction, mut image) = (residual.copy(), apply(&residual));
        for (earlier, its_image) in &directions {
            let along = dot(&image, its_image);
            direction -= earlier * &along;
            image -= its_image * along;
        }
        // If nothing is left to solve, the image is 0 and so is the step.
        let norm = dot(&image, &image).sqrt().clamp_min(f64::from(f32::MIN_POSITIVE));
        let (direction, image) = (direction / &norm, image / norm);
        let along = dot(&residual, &image);
        solution += &direction * &along;
        residual -= &image * along;
        directions.push((direction, image));
    }
    solution
}
