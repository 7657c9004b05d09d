//! DPM-Solver: the probability flow in ln σ, with ε expanded around the beginning of a step.

use super::{Solver, hops, multistep, order};
use crate::{
    Error,
    numbers::{
        registry::entry,
        scheme::{LinearCombination, Scheme, SolverStep, Stage},
        sigma::Sigmas,
    },
};

entry! {
    name: "dpm",
    what: "ε expanded in ln σ; order 1 … 3",
    source: "Lu et al. 2022a",
    facts: { scores: "= order", order: "= order", random: "no" },
    aliases: ["dpm_2" { "order": "2" }, "sample_dpm_2" { "order": "2" }, "KDPM2DiscreteScheduler" { "order": "2" }],
    /// Single steps of order 1, 2 or 3, with as many evaluations each [Lu et al. 2022a, Algorithms 1 and 2].
    ///
    /// With h = ln(σ/σ′) and σ_r = σ exp(−r h):
    ///
    /// ```text
    /// 1   x ← x − (σ − σ′) ε₀
    /// 2   u = x − (σ − σ_½) ε₀                                              x ← x − (σ − σ′) ε(u, σ_½)
    /// 3   u = x − (σ − σ_⅓) ε₀                                              d₁ = ε(u, σ_⅓) − ε₀
    ///     w = x − (σ − σ_⅔) ε₀ − 2 σ_⅔ (expm1(⅔h)/(⅔h) − 1) d₁              d₂ = ε(w, σ_⅔) − ε₀
    ///     x ← x − (σ − σ′) ε₀ − (3/2) σ′ (expm1(h)/h − 1) d₂
    /// ```
    #[derive(Copy)]
    pub struct Dpm {
        /// 1, 2 or 3; 1 is DDIM.
        pub order: usize = 2 => "1, 2, 3",
    }
}

impl Solver for Dpm {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let step = match order(self.order, &[1, 2, 3], "1, 2 or 3")? {
            1 => first,
            2 => second,
            _ => third,
        };
        Ok(hops(sigmas, step))
    }
}

fn first((sigma, next): (f64, f64)) -> SolverStep {
    multistep(sigma, &[next - sigma])
}

fn second((sigma, next): (f64, f64)) -> SolverStep {
    let middle = (sigma * next).sqrt();
    SolverStep {
        stages: vec![
            Stage::epsilon(LinearCombination::state(), sigma),
            Stage::epsilon(LinearCombination::new(1.0, &[middle - sigma]), middle),
        ],
        next: LinearCombination::new(1.0, &[next - sigma]),
    }
}

fn third((sigma, next): (f64, f64)) -> SolverStep {
    let h = (sigma / next).ln();
    let level = |r: f64| sigma * (-r * h).exp();
    let (early, late) = (level(1.0 / 3.0), level(2.0 / 3.0));
    let curve = |h: f64| h.exp_m1() / h - 1.0;
    let bend = 2.0 * late * curve(2.0 * h / 3.0);
    let turn = 1.5 * next * curve(h);
    SolverStep {
        stages: vec![
            Stage::epsilon(LinearCombination::state(), sigma),
            Stage::epsilon(LinearCombination::new(1.0, &[early - sigma]), early),
            Stage::epsilon(LinearCombination::new(1.0, &[-bend, late - sigma + bend]), late),
        ],
        next: LinearCombination::new(1.0, &[-turn, 0.0, next - sigma + turn]),
    }
}
