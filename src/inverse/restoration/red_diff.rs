//! Regularisation by denoising diffusion.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, chain, fitted, levels};
use crate::{
    Error,
    inverse::likelihood::GaussianLikelihood,
    numbers::{
        plan::{Plan, ResolvedPlan},
        registry::entry,
        sigma::positive,
    },
};

entry! {
    name: "red-diff",
    what: "Adam’s steps to one image",
    source: "Mardani et al. 2023",
    facts: { cost: "1", tasks: "any", spread: "one image" },
    /// RED-diff [Mardani et al. 2023, Algorithm 1]: one image μ that fits y and that the prior would hardly change.
    ///
    /// Adam's steps along ∇ ½‖y − A μ‖² + λ σ (ε̂ − ε), where x = μ + σ ε and ε̂ = (x − D(x, σ))/σ, as σ falls. It seeks a peak:
    /// its samples do not spread as the posterior does.
    pub struct RedDiff {
        /// λ.
        pub lambda: f64 = 0.25 => "> 0",
        /// Length of Adam's steps, in data units.
        pub rate: f64 = 0.1 => "> 0" in "data units",
    }
}

impl Method for RedDiff {
    fn plan(&self) -> Option<Plan> {
        Some(chain(1000))
    }

    fn check(&self, _: &GaussianLikelihood) -> Result<(), Error> {
        positive("lambda", self.lambda)?;
        positive("rate", self.rate).map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan), gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let (operator, y) = (&problem.likelihood.operator, &problem.likelihood.measurement);
        // A⁺ y is the published start; for a noisy y the start is the most likely image under unit variance.
        let mut image = match problem.likelihood.linear("red-diff") {
            Ok(linear) => fitted(&linear, &x.zeros_like(), y, 1.0),
            Err(_) => x.zeros_like(),
        };
        let (mut first, mut second) = (x.zeros_like(), x.zeros_like());
        for (k, sigma) in problem.plan.sigmas.iter().enumerate() {
            let noise = problem.noise.like(&x, k as u64 + 1, 0);
            let implied = problem.prior.residual(&(&image + &noise * sigma), sigma) / -sigma;
            let misfit = operator.pull(&image, |seen| seen - y);
            let gradient = misfit + (implied - noise) * (self.lambda * sigma);
            first = first * FIRST + &gradient * (1.0 - FIRST);
            second = second * SECOND + gradient.square() * (1.0 - SECOND);
            let [one, two] = [FIRST, SECOND].map(|rate| 1.0 - rate.powi(k as i32 + 1));
            image -= &first * (self.rate / one) / ((&second / two).sqrt() + 1e-8);
            seen(&mut image)?;
        }
        Ok(image)
    }
}

/// Adam's rates of forgetting [Kingma & Ba 2015].
const FIRST: f64 = 0.9;
const SECOND: f64 = 0.999;
