//! Decoupled annealing.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, between, levels};
use crate::{
    Error,
    inverse::likelihood::{GaussianLikelihood, Likelihood},
    numbers::{
        plan::{AnySampler, Plan, ResolvedPlan},
        registry::entry,
        samplers::Ddim,
        schedule::{AnySchedule, Karras, Schedule},
        sigma::positive,
    },
};

entry! {
    name: "daps",
    what: "flow, Langevin steps on the clean image, noise again",
    source: "Zhang et al. 2024",
    facts: { cost: "5", tasks: "any", spread: "posterior" },
    /// Decoupled annealing posterior sampling [Zhang et al. 2024, Algorithm 1].
    ///
    /// At each level the flow carries x to a clean image x̂; there Langevin steps draw z from
    ///
    /// ```text
    /// N(z; x̂, σ² I) · N(y; A z, η² I)
    /// ```
    ///
    /// and x′ = z + σ′ n begins the next level, however far it lies from x.
    pub struct Daps {
        /// Evaluations of the flow at each level.
        pub ode_steps: usize = 5 => "≥ 1",
        /// Langevin steps at each level; 0 draws z exactly, for linear A.
        pub langevin_steps: usize = 100 => "≥ 0",
        /// Length of the Langevin steps over the longest that does not overshoot, 1/(1/σ² + ‖A‖²/η²). The released code
        /// has 10⁻⁴ at η = 10⁻², whatever the noise: 1 for that η.
        pub step: f64 = 0.5 => "> 0",
    }
}

impl Daps {
    /// Euler's steps of the flow on Karras' levels from σ down to the network's smallest, then D.
    fn flow(&self, problem: &InverseProblem, x: &Tensor, sigma: f64) -> Result<Tensor, Error> {
        // The last level is its own end.
        let low = (problem.plan.sigmas.min() * 0.1).min(0.5 * sigma);
        let karras = Karras { rho: 7.0, max: Some(sigma), min: Some(low) };
        let levels = if self.ode_steps == 1 { None } else { Some(karras.sigmas(self.ode_steps, (low, sigma))?) };
        let Some(levels) = levels else { return Ok(problem.prior.denoise(x, sigma)) };
        let step = |x: Tensor, (sigma, next): (f64, f64)| {
            let share = next / sigma;
            &x * share + problem.prior.denoise(&x, sigma) * (1.0 - share)
        };
        Ok(levels.pairs().fold(x.shallow_clone(), step))
    }

    fn draw(&self, problem: &InverseProblem, clean: &Tensor, sigma: f64, step: u64) -> Result<Tensor, Error> {
        let noise = |draw: usize| problem.noise.like(clean, step, draw as u64 + 1);
        if self.langevin_steps == 0 {
            let linear = problem.likelihood.linear("daps with langevin_steps: 0")?;
            let theirs = problem.noise.like(&linear.operator.apply(clean), step, 2);
            return Ok(between(&linear, clean, sigma, [noise(0), theirs]));
        }
        let square = sigma * sigma;
        let length = self.step / (1.0 / square + 1.0 / problem.likelihood.step_limit());
        let mut z = clean.shallow_clone();
        for i in 0..self.langevin_steps {
            let score = (clean - &z) / square + problem.likelihood.score(&z);
            z = &z + score * length + noise(i) * (2.0 * length).sqrt();
        }
        Ok(z)
    }
}

impl Method for Daps {
    fn plan(&self) -> Option<Plan> {
        let schedule = AnySchedule::Karras(Karras { rho: 7.0, max: Some(100.0), min: Some(0.1) });
        Some(Plan { schedule, steps: 200, sampler: AnySampler::Ddim(Ddim { eta: 0.0 }) })
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        positive("step", self.step)?;
        if self.ode_steps == 0 {
            return Err(Error::parameter("ode_steps", "at least 1", 0));
        }
        if self.langevin_steps == 0 {
            likelihood.linear("daps with langevin_steps: 0")?;
        }
        Ok(())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan) * self.ode_steps, gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, mut x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        for (k, (sigma, next)) in problem.plan.sigmas.pairs().enumerate() {
            let step = k as u64 + 1;
            let clean = self.flow(problem, &x, sigma)?;
            x = self.draw(problem, &clean, sigma, step)? + problem.noise.like(&clean, step, 0) * next;
            seen(&mut x)?;
        }
        Ok(x)
    }
}
