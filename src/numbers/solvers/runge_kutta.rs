//! Classical one-step methods on the probability flow, in the time of any process.

use super::{Solver, order, time::in_time};
use crate::{
    Error,
    numbers::{
        registry::entry,
        scheme::{Scheme, SolverStep},
        sde::{AnySde, Edm},
        sigma::Sigmas,
    },
};

entry! {
    name: "runge-kutta",
    what: "the flow in the time of any sde; order 1, 2, 4",
    source: "Score SDE, §4.3",
    facts: { scores: "= order", order: "= order", random: "no" },
    aliases: [
        "FlowMatchEulerDiscreteScheduler" { "order": "1", "sde": "flow-matching" },
        "FlowMatchHeunDiscreteScheduler" { "order": "2", "sde": "flow-matching" },
    ],
    /// Runge and Kutta's methods on dz/dt = f z − ½ g² ∇ log p_t(z) [Score SDE, Eq. 13; SDE tutorial, §4].
    ///
    /// Order 1 is Euler's method, 2 Heun's, 4 the classical one, with as many evaluations a step. Where α = 1 and t = σ, the
    /// default, order 1 is DDIM.
    pub struct RungeKutta {
        /// 1, 2 or 4.
        pub order: usize = 4 => "1, 2, 4",
        /// The process whose z and t are meant.
        pub sde: AnySde = AnySde::Edm(Edm::default()) => "any process",
    }
}

/// Butcher's tableau: for each stage where in the step it lies and what it adds of the slopes before it; then the weights.
struct Tableau {
    stages: &'static [(f64, &'static [f64])],
    weights: &'static [f64],
}

const EULER: Tableau = Tableau { stages: &[(0.0, &[])], weights: &[1.0] };
const HEUN: Tableau = Tableau { stages: &[(0.0, &[]), (1.0, &[1.0])], weights: &[0.5, 0.5] };
const CLASSICAL: Tableau = Tableau {
    stages: &[(0.0, &[]), (0.5, &[0.5]), (0.5, &[0.0, 0.5]), (1.0, &[0.0, 0.0, 1.0])],
    weights: &[1.0 / 6.0, 1.0 / 3.0, 1.0 / 3.0, 1.0 / 6.0],
};

impl Solver for RungeKutta {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let tableau = match order(self.order, &[1, 2, 4], "1, 2 or 4")? {
            1 => EULER,
            2 => HEUN,
            _ => CLASSICAL,
        };
        in_time(self.sde.get(), 0.0, sigmas, |step| {
            let mix = |t: f64, weights: &[f64]| {
                let newest_first: Vec<f64> = weights.iter().rev().map(|w| w * step.h()).collect();
                step.mix(t, &newest_first, &[])
            };
            let stage = |(part, weights): &(f64, &[f64])| {
                let t = step.from - part * step.h();
                step.slope(mix(t, weights), t)
            };
            SolverStep { stages: tableau.stages.iter().map(stage).collect(), next: mix(step.to, tableau.weights) }
        })
    }
}
