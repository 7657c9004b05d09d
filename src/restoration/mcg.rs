//! Manifold-constrained gradients.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Dps, Effort, Method, Posed, Seen, chain, levels, projection::projected};
use crate::{
    Error,
    likelihood::GaussianLikelihood,
    plan::{Course, Plan},
};

/// Manifold-constrained gradients [Chung et al. 2022]: a step of [`Dps`], then a [`Projection`](super::Projection).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Mcg {
    /// The first of the two.
    #[serde(default)]
    pub gradient: Dps,
}

impl Method for Mcg {
    fn plan(&self) -> Option<Plan> {
        Some(chain(1000))
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        self.gradient.check(likelihood)?;
        likelihood.linear("mcg").map(|_| ())
    }

    fn effort(&self, course: &Course) -> Effort {
        Effort { evaluations: levels(course), gradients: levels(course) }
    }

    fn run(&self, posed: &Posed, mut x: Tensor, seen: &mut Seen) -> Result<Tensor, Error> {
        let likelihood = posed.likelihood.linear("mcg")?;
        for (k, (sigma, next)) in posed.course.sigmas.pairs().enumerate() {
            let noise = |draw| posed.noise.like(&x, k as u64 + 1, draw);
            let moved = self.gradient.step(posed, &x, (sigma, next), &noise(0));
            x = projected(&likelihood, &moved, (sigma, next), &noise(1));
            seen(&x)?;
        }
        Ok(x)
    }
}
