//! Ways of walking down the noise levels. Pure arithmetic: no sampler touches a tensor.
//!
//! Each is a row of the paper's table [RW, §1.4, §1.7]; σ is the level now, σ′ the next (0 after the last), r = σ′/σ.
//! Where σ′ = 0 no fresh noise is added.
//!
//! Score SDE's *reverse-diffusion* predictor for the variance-preserving SDE, x ← (2 − √(1 − β)) x + β s + √β n, is not
//! a row: brought to the σ frame, its coefficients of x and D do not sum to one, and it differs from
//! [`VpAncestral`] at order β² (2.7 % in the worst step of DDPM's own chain).

mod ddim;
mod ddpm;
mod flow;
mod langevin;
mod simplified;
mod ve;

pub use ddim::Ddim;
pub use ddpm::{Ddpm, Variance, VpAncestral};
pub use flow::{Churn, ProbabilityFlow};
pub use langevin::{AnnealedLangevin, Reference};
pub use simplified::{Consistent, Ramp, Simplified};
pub use ve::{VeAncestral, VeEulerMaruyama, VeReverseDiffusion};

use crate::{
    Error,
    sigma::Sigmas,
    walk::{Step, Walk},
};

/// A rule that turns noise levels into a walk.
pub trait Sampler {
    /// The walk down `sigmas`.
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error>;
}

/// One step for each pair (σ, σ′).
fn rows(sigmas: &Sigmas, step: impl Fn(f64, f64) -> Step) -> Walk {
    Walk(sigmas.pairs().map(|(sigma, next)| step(sigma, next)).collect())
}

/// `value` if it is a finite number of at least `least`.
fn at_least(name: &'static str, value: f64, least: f64) -> Result<f64, Error> {
    if value.is_finite() && value >= least {
        return Ok(value);
    }
    let want = if least == 0.0 { "0 or more" } else { "finite and within its range" };
    Err(Error::parameter(name, want, value))
}

/// `value` if it is a positive, finite number.
fn positive(name: &'static str, value: f64) -> Result<f64, Error> {
    if value.is_finite() && value > 0.0 { Ok(value) } else { Err(Error::parameter(name, "positive", value)) }
}
