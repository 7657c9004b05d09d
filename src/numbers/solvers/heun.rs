//! EDM's own sampler.

use super::{Solver, landing};
use crate::{
    Error,
    numbers::{
        registry::entry,
        scheme::{LinearCombination, Scheme, SolverStep, Stage},
        sigma::{Sigmas, at_least_zero, positive},
    },
};

entry! {
    name: "heun",
    what: "dx/dσ = ε, with churn",
    source: "EDM, Algorithm 2",
    facts: { scores: "2", order: "2", random: "if churn > 0" },
    aliases: ["sample_heun", "HeunDiscreteScheduler"],
    example: "{kind: heun, churn: 40, churn_min: 0.05, churn_max: 50, churn_noise: 1.003}",
    /// Heun's method on dx/dσ = ε, after noise that lifts σ to σ̂ = (1 + γ) σ [EDM, Algorithm 2]; order 2, 2K − 1 evaluations.
    ///
    /// ```text
    /// x̂ = x + √(σ̂² − σ²) S_noise n      u = x̂ + (σ′ − σ̂) ε(x̂, σ̂)      x ← x̂ + (σ′ − σ̂)/2 (ε(x̂, σ̂) + ε(u, σ′))
    /// γ = min(churn/K, √2 − 1) where churn_min ≤ σ ≤ churn_max, else 0
    /// ```
    #[derive(Copy)]
    pub struct Heun {
        /// S_churn; 0 is deterministic.
        pub churn: f64 = 0.0 => "≥ 0",
        /// The smallest σ that is lifted.
        pub churn_min: f64 = 0.0 => "≥ 0" in "data units",
        /// The largest.
        pub churn_max: f64 = f64::MAX => "≥ churn_min" in "data units",
        /// S_noise.
        pub churn_noise: f64 = 1.0 => "> 0",
    }
}

impl Solver for Heun {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let churn = at_least_zero("churn", self.churn)? / sigmas.iter().len() as f64;
        positive("churn_noise", self.churn_noise)?;
        let lifted = |sigma: f64| {
            let within = (self.churn_min..=self.churn_max).contains(&sigma);
            sigma * (1.0 + if within { churn.min(std::f64::consts::SQRT_2 - 1.0) } else { 0.0 })
        };
        let noise = |sigma: f64| match (lifted(sigma).powi(2) - sigma * sigma).sqrt() * self.churn_noise {
            0.0 => vec![],
            noise => vec![noise],
        };
        let first = |sigma: f64| LinearCombination::state().with_noise(&noise(sigma));
        let inner = |(sigma, next): (f64, f64)| {
            let (lifted, noise) = (lifted(sigma), noise(sigma));
            let gap = next - lifted;
            let euler = LinearCombination::new(1.0, &[gap]).with_noise(&noise);
            SolverStep {
                stages: vec![Stage::epsilon(first(sigma), lifted), Stage::epsilon(euler, next)],
                next: LinearCombination::new(1.0, &[gap / 2.0, gap / 2.0]).with_noise(&noise),
            }
        };
        let steps = sigmas.pairs().take_while(|(_, next)| *next > 0.0).map(inner);
        let last = landing(sigmas).map(|landing| SolverStep {
            stages: vec![Stage::denoised(first(sigmas.min()), lifted(sigmas.min()))],
            ..landing
        });
        Ok(steps.chain(last).collect())
    }
}
