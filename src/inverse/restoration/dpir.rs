//! Half-quadratic splitting.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, levels, proximal};
use crate::{
    Error,
    inverse::likelihood::GaussianLikelihood,
    numbers::{
        plan::{AnySampler, Plan, ResolvedPlan},
        registry::entry,
        samplers::Ddim,
        schedule::{AnySchedule, Geometric},
        sigma::positive,
    },
};

entry! {
    name: "dpir",
    what: "half-quadratic splitting, σ falling",
    source: "Zhang et al. 2021",
    facts: { cost: "1", tasks: "linear", spread: "one image" },
    /// Deep plug-and-play restoration, by half-quadratic splitting [Zhang et al. 2021, DPIR, Eq. 6].
    ///
    /// x = argmin ‖y − A x‖² + w ‖x − z‖² with w = λ η²/σ², then z = D(x, σ), as σ falls. It seeks one image.
    pub struct Dpir {
        /// λ, the weight of the prior.
        pub lambda: f64 = 0.23 => "> 0",
    }
}

/// Plan from 49/255 of the pixel range down, as in the paper, to about the noise of a measurement.
pub(super) fn falling(steps: usize) -> Plan {
    let schedule = AnySchedule::Geometric(Geometric { max: Some(98.0 / 255.0), min: Some(0.05) });
    Plan { schedule, steps, sampler: AnySampler::Ddim(Ddim { eta: 0.0 }) }
}

impl Method for Dpir {
    fn plan(&self) -> Option<Plan> {
        Some(falling(24))
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        positive("lambda", self.lambda)?;
        likelihood.linear("dpir").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan), gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, mut x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("dpir")?;
        for sigma in problem.plan.sigmas.iter() {
            let fitted = proximal(&likelihood, &x, self.lambda * (likelihood.eta / sigma).powi(2));
            x = problem.prior.denoise(&fitted, sigma);
            seen(&mut x)?;
        }
        Ok(x)
    }
}
