//! Steps of order 2 to a lower level, and fresh noise back up.

use super::{Solver, hops};
use crate::{
    Error,
    numbers::{
        registry::entry,
        scheme::{LinearCombination, Scheme, SolverStep, Stage},
        sigma::Sigmas,
    },
};

entry! {
    name: "dpm-ancestral",
    what: "DPM-Solver-2 to σ↓, and noise back to σ′",
    source: "k-diffusion",
    facts: { scores: "2", order: "–", random: "yes" },
    /// A step of DPM-Solver-2 from σ to σ↓ = σ′²/σ by way of √(σ σ↓) = σ′, then noise of √(σ′² − σ↓²) [k-diffusion's
    /// dpm_2_ancestral; diffusers' KDPM2AncestralDiscreteScheduler].
    ///
    /// ```text
    /// u = x + (σ′ − σ) ε(x, σ)      x ← x + (σ↓ − σ) ε(u, σ′) + √(σ′² − σ↓²) n
    /// ```
    #[derive(Copy)]
    pub struct DpmAncestral {}
}

impl Solver for DpmAncestral {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        Ok(hops(sigmas, |(sigma, next)| {
            let down = next * next / sigma;
            let noise = ((next - down) * (next + down)).sqrt();
            SolverStep {
                stages: vec![
                    Stage::epsilon(LinearCombination::state(), sigma),
                    Stage::epsilon(LinearCombination::new(1.0, &[next - sigma]), next),
                ],
                next: LinearCombination::new(1.0, &[down - sigma]).with_noise(&[noise]),
            }
        }))
    }
}

entry! {
    name: "dpm-plus-plus-sde",
    what: "D at the middle of a step, on one path of noise",
    source: "k-diffusion",
    facts: { scores: "2", order: "–", random: "yes" },
    /// Two ancestral steps from the same state: to σ_½ = √(σ σ′), and with D from there to σ′ [k-diffusion's dpmpp_sde;
    /// diffusers' DPMSolverSDEScheduler].
    ///
    /// ```text
    /// a(σ′) = (σ′/σ)²      u = a(σ_½) x + (1 − a(σ_½)) D + σ_½ √(1 − a(σ_½)) n₁      x ← a(σ′) x + (1 − a(σ′)) D(u) + σ′ √(1 − a(σ′)) n₂
    /// ```
    ///
    /// n₁ and n₂ are increments of one Brownian path in σ, over σ … σ_½ and σ … σ′, each of unit variance.
    #[derive(Copy)]
    pub struct DpmPlusPlusSde {}
}

impl Solver for DpmPlusPlusSde {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        Ok(hops(sigmas, |(sigma, next)| {
            let middle = (sigma * next).sqrt();
            let step = |to: f64, values: &[f64], draws: &[f64]| {
                let kept = (to / sigma).powi(2);
                let values: Vec<f64> = values.iter().map(|v| v * (1.0 - kept)).collect();
                let noise: Vec<f64> = draws.iter().map(|n| n * to * (1.0 - kept).sqrt()).collect();
                LinearCombination::new(kept, &values).with_noise(&noise)
            };
            let shared = (sigma - middle) / (sigma - next);
            SolverStep {
                stages: vec![
                    Stage::denoised(LinearCombination::state(), sigma),
                    Stage::denoised(step(middle, &[1.0], &[1.0]), middle),
                ],
                next: step(next, &[1.0], &[shared.sqrt(), (1.0 - shared).sqrt()]),
            }
        }))
    }
}
