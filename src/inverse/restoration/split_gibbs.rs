//! Split Gibbs sampling.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, ancestral, between, levels};
use crate::{
    Error,
    inverse::likelihood::GaussianLikelihood,
    numbers::{
        plan::{AnySampler, Plan, ResolvedPlan},
        registry::entry,
        samplers::Ddim,
        schedule::{AnySchedule, Geometric, Karras, Schedule},
        sigma::Sigmas,
    },
};

entry! {
    name: "split-gibbs",
    what: "image and copy drawn in turn, PnP-DM",
    source: "Wu et al. 2024",
    facts: { cost: "10", tasks: "linear", spread: "posterior" },
    aliases: ["pnp-dm"],
    /// Split Gibbs sampling with a diffusion prior, PnP-DM [Wu et al. 2024; Xu & Chi 2024].
    ///
    /// Two variables that differ by N(0, ρ² I) are drawn in turn,
    ///
    /// ```text
    /// z ~ N(z; x, ρ² I) · N(y; A z, η² I)   exactly,      x ~ p(x) N(z; x, ρ² I)   by the reverse process from σ = ρ
    /// ```
    ///
    /// while ρ falls along the levels, each `repeats` times. As ρ → 0 and with many rounds this is exact, whatever the prior.
    pub struct SplitGibbs {
        /// Levels of the reverse process from ρ.
        pub steps: usize = 10 => "≥ 2" in "levels",
        /// Rounds at each ρ.
        pub repeats: usize = 1 => "≥ 1",
    }
}

impl SplitGibbs {
    /// Karras' levels from ρ down to its hundredth.
    fn reverse(&self, rho: f64) -> Result<Sigmas, Error> {
        let low = 0.01 * rho;
        Karras { rho: 7.0, max: Some(rho), min: Some(low) }.sigmas(self.steps, (low, rho))
    }
}

impl Method for SplitGibbs {
    fn plan(&self) -> Option<Plan> {
        let schedule = AnySchedule::Geometric(Geometric { max: Some(5.0), min: Some(0.1) });
        Some(Plan { schedule, steps: 40, sampler: AnySampler::Ddim(Ddim { eta: 0.0 }) })
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        if self.steps < 2 {
            return Err(Error::parameter("steps", "at least 2", self.steps));
        }
        if self.repeats == 0 {
            return Err(Error::parameter("repeats", "at least 1", 0));
        }
        likelihood.linear("split-gibbs").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan) * self.repeats * self.steps, gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, mut x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("split-gibbs")?;
        let like = likelihood.operator.apply(&x);
        let rounds = problem.plan.sigmas.iter().flat_map(|rho| std::iter::repeat_n(rho, self.repeats));
        for (k, rho) in rounds.enumerate() {
            let step = k as u64 + 1;
            let noise = [problem.noise.like(&x, step, 0), problem.noise.like(&like, step, 1)];
            let mut state = between(&likelihood, &x, rho, noise);
            for (i, levels) in self.reverse(rho)?.pairs().enumerate() {
                let noise = problem.noise.like(&x, step, i as u64 + 2);
                state = ancestral(&state, &problem.prior.denoise(&state, levels.0), levels, &noise);
            }
            x = state;
            seen(&mut x)?;
        }
        Ok(x)
    }
}
