//! PNDM: the classical linear multistep method, with a start of its own.

use serde::{Deserialize, Serialize};

use super::{Solver, ipndm::WEIGHTS};
use crate::{
    Error,
    numbers::{
        registry::entry,
        schedule::{AnyChain, LinearBeta},
        scheme::{LinearCombination, Scheme, SolverStep, Stage},
        sigma::{Sigmas, alpha_bar},
    },
};

entry! {
    name: "pndm",
    what: "Adams–Bashforth of order 4 after a start of its own",
    source: "Liu et al. 2022",
    facts: { scores: "1 (start: 4 or 2)", order: "4", random: "no" },
    /// x ← x + (σ′ − σ) Σⱼ wⱼ εⱼ with the weights of order 4 for equal steps [Liu et al. 2022, PNDM; diffusers' PNDMScheduler].
    ///
    /// runge-kutta: the first three steps are the classical method's, with evaluations at the time half way. heun: the first step
    /// is Heun's, whose second evaluation is not remembered; those after it take the orders 2, 3, 4. A step to 0 extrapolates ε
    /// like the others. With `v` each evaluation gives v, and ε is that of the extrapolated v at the beginning of the step.
    pub struct Pndm {
        /// First steps.
        pub start: PndmStart = PndmStart::RungeKutta => "runge-kutta, heun",
        /// Whether v is extrapolated in place of ε, as diffusers does for networks that predict it.
        pub v: bool = false => "true, false",
        /// The chain that knows the times half way.
        pub beta: AnyChain = AnyChain::LinearBeta(LinearBeta::default()) => "any chain",
    }
}

/// See [`Pndm`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PndmStart {
    /// Three steps with four evaluations each.
    #[default]
    RungeKutta,
    /// One step with two evaluations: diffusers' `skip_prk_steps`.
    Heun,
}

impl PndmStart {
    /// Number of evaluations in step k, and the order of its weights if it is one of the multistep method.
    fn step(self, k: usize) -> (usize, Option<usize>) {
        match self {
            Self::RungeKutta if k < 3 => (4, None),
            Self::Heun if k < 1 => (2, None),
            Self::RungeKutta => (1, Some(4)),
            Self::Heun => (1, Some((k + 1).min(4))),
        }
    }

    /// Σ wⱼ εⱼ in step k: those εⱼ that are the first of their step.
    fn weights(self, k: usize, order: usize) -> Vec<f64> {
        let mut weights = Vec::new();
        for (j, weight) in WEIGHTS[order - 1].iter().enumerate() {
            let (evaluations, _) = self.step(k - j);
            weights.extend(std::iter::repeat_n(0.0, evaluations - 1).chain([*weight]));
        }
        weights
    }
}

impl Solver for Pndm {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let times = self.beta.get().times()?;
        let step = |(k, (sigma, next)): (usize, (f64, f64))| {
            let from = Beginning { sigma, v: self.v };
            match self.start.step(k) {
                (_, Some(order)) => from.step(&[], next, &self.start.weights(k, order)),
                (2, None) => from.step(&[(next, &[1.0])], next, &[0.5, 0.5]),
                _ => {
                    // The classical method, with steps of the flow, which are straight in σ, in place of its own.
                    let middle = times.sigma(f64::midpoint(times.time(sigma), times.time(next)));
                    let stages: [(f64, &[f64]); 3] = [(middle, &[1.0]), (middle, &[1.0]), (next, &[1.0])];
                    from.step(&stages, next, &[1.0, 2.0, 2.0, 1.0].map(|w| w / 6.0))
                }
            }
        };
        Ok(sigmas.pairs().enumerate().map(step).collect())
    }
}

/// The beginning of a step.
struct Beginning {
    sigma: f64,
    v: bool,
}

impl Beginning {
    /// An evaluation here, others at these levels, and the step to σ′; each by its weights of the values, newest first.
    fn step(&self, others: &[(f64, &[f64])], next: f64, weights: &[f64]) -> SolverStep {
        let first = self.stage(LinearCombination::state(), self.sigma);
        let others = others.iter().map(|(sigma, weights)| self.stage(self.reached(*sigma, weights), *sigma));
        SolverStep { stages: [first].into_iter().chain(others).collect(), next: self.reached(next, weights) }
    }

    /// x + (σ′ − σ) ε, with ε = α V + σ α² x where the weights make V.
    fn reached(&self, next: f64, weights: &[f64]) -> LinearCombination {
        let gap = next - self.sigma;
        let square = alpha_bar(self.sigma);
        let (scale, tilt) = if self.v { (square.sqrt(), self.sigma * square) } else { (1.0, 0.0) };
        let values: Vec<f64> = weights.iter().map(|w| w * gap * scale).collect();
        LinearCombination::new(1.0 + gap * tilt, &values)
    }

    /// ε, or v = −α σ x − (σ/α) s.
    fn stage(&self, at: LinearCombination, sigma: f64) -> Stage {
        if !self.v {
            return Stage::epsilon(at, sigma);
        }
        let alpha = alpha_bar(sigma).sqrt();
        Stage { at, sigma, keep: -alpha * sigma, gain: -sigma / alpha }
    }
}
