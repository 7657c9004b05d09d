//! Ways of walking down the noise levels. Pure arithmetic: no sampler touches a tensor.
//!
//! Each is a row of the paper's table [Random Walks, Table 1], or one that belongs there; σ is the level now, σ′ the
//! next, which is 0 after the last. Where σ′ = 0 no fresh noise is added.
//!
//! Score SDE's *reverse-diffusion* predictor for the variance-preserving SDE, x ← (2 − √(1 − β)) x + β s + √β n, is not
//! a row: brought to the σ frame, its coefficients of x and D sum to 1 − (1 − √(1 − β))², not to 1. Each step differs
//! from [`VpAncestral`] at order β²; carried along DDPM's own chain this comes to about one per cent of x.

use crate::{
    Error,
    numbers::{
        registry::{entries, modules},
        sigma::Sigmas,
        walk::{Step, Walk},
    },
};

/// The table of samplers that are rows: each file, and the structs in it that are samplers.
macro_rules! sampler_rows {
    ($then:ident $(, $($rest:tt)+)?) => {
        $then! { $($($rest)+,)? {
            langevin: AnnealedLangevin,
            flow: Churn ProbabilityFlow,
            ddim: Ddim,
            ddpm: Ddpm VpAncestral,
            exponential: ExponentialIntegrator,
            non_markovian: NonMarkovian,
            simplified: Simplified Consistent,
            snr: Snr,
            tcd: Tcd,
            ve: VeAncestral VeEulerMaruyama VeReverseDiffusion,
        } }
    };
}
pub(crate) use sampler_rows;

sampler_rows!(modules);
sampler_rows!(entries);

/// A rule that turns noise levels into a walk.
pub trait Sampler {
    /// The walk down `sigmas`.
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error>;
}

/// One step for each pair (σ, σ′).
fn rows(sigmas: &Sigmas, step: impl Fn(f64, f64) -> Step) -> Result<Walk, Error> {
    checked(sigmas.pairs().map(|(sigma, next)| step(sigma, next)))
}

/// The walk, if no parameter was so extreme that a step is zero, infinite or not a number.
fn checked(steps: impl Iterator<Item = Step>) -> Result<Walk, Error> {
    let usable = |step: Step| {
        if step.tau > 0.0 && step.noise().is_finite() {
            return Ok(step);
        }
        let value = format!("τ = {}, T = {} at σ = {}", step.tau, step.temperature, step.sigma);
        Err(Error::parameter("every step", "positive and finite (choose milder parameters)", value))
    };
    Ok(Walk(steps.map(usable).collect::<Result<_, _>>()?))
}
