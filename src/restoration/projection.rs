//! Projection onto the measurement.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Effort, Method, Posed, Seen, ancestral, levels};
use crate::{
    Error,
    likelihood::{GaussianLikelihood, LinearGaussian},
    plan::{Course, Plan},
};

/// Ancestral steps, after each of which x is made to fit the measurement with noise of its level [Score SDE, §5].
///
/// x ← x + A⁺ (y + σ A n − A x). The noise of y itself is taken for signal, so η should be small; and what is hidden is
/// drawn without knowing what is seen but through the network.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Projection {}

/// x + A⁺ (y + σ A n − A x).
pub(super) fn projected(of: &LinearGaussian, x: &Tensor, sigma: f64, noise: &Tensor) -> Tensor {
    x + of.operator.pseudo_inverse(&(of.measurement + of.operator.apply(&(noise * sigma - x))))
}

impl Method for Projection {
    fn plan(&self) -> Option<Plan> {
        Some(Plan { steps: 100, ..Plan::ddim() })
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        likelihood.linear("projection").map(|_| ())
    }

    fn effort(&self, course: &Course) -> Effort {
        Effort { evaluations: levels(course), gradients: 0 }
    }

    fn run(&self, posed: &Posed, mut x: Tensor, seen: &mut Seen) -> Result<Tensor, Error> {
        let likelihood = posed.likelihood.linear("projection")?;
        for (k, (sigma, next)) in posed.course.sigmas.pairs().enumerate() {
            let noise = |draw| posed.noise.like(&x, k as u64 + 1, draw);
            let moved = ancestral(&x, &posed.prior.denoise(&x, sigma), (sigma, next), &noise(0));
            x = projected(&likelihood, &moved, next, &noise(1));
            seen(&x)?;
        }
        Ok(x)
    }
}
