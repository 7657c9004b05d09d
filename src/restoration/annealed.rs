//! Annealed Langevin dynamics.

use serde::{Deserialize, Serialize};
use tch::Tensor;

use super::{Effort, Method, Posed, Seen, asked, sample};
use crate::{
    Error,
    likelihood::{self, GaussianLikelihood},
    plan::{Course, Plan},
};

/// The likelihood as broad as the noise of the level, exact from σ = η/‖A‖ on [Jalal et al. 2021]: see [`likelihood::Annealed`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Annealed {}

impl Method for Annealed {
    fn plan(&self) -> Option<Plan> {
        Some(Plan::annealed_posterior())
    }

    fn samples(&self) -> bool {
        true
    }

    fn check(&self, _: &GaussianLikelihood) -> Result<(), Error> {
        Ok(())
    }

    fn effort(&self, course: &Course) -> Effort {
        Effort { evaluations: asked(course), gradients: 0 }
    }

    fn run(&self, posed: &Posed, x: Tensor, seen: &mut Seen) -> Result<Tensor, Error> {
        sample(posed, &likelihood::Annealed { prior: &posed.prior, likelihood: posed.likelihood }, x, seen)
    }
}
