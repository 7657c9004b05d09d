//! Steps in the time of a process, seen from the σ frame.

use super::hops;
use crate::{
    Error,
    numbers::{
        scheme::{LinearCombination, Scheme, SolverStep, Stage},
        sde::{Sde, reaches},
        sigma::{Sigmas, at_least_zero},
    },
};

/// One step backwards in time, from t to t′, of the reversals that all keep the marginals [S2N, Eq. 4].
///
/// ```text
/// dz = (f z − ½ (1 + ρ²) g² ∇ log p_t(z)) dt + ρ g dw
/// ```
///
/// The state of the σ frame is z/α, and its score is α ∇ log p_t(z).
pub struct Interval<'a> {
    sde: &'a dyn Sde,
    rho: f64,
    /// t.
    pub from: f64,
    /// t′.
    pub to: f64,
}

impl Interval<'_> {
    /// h = t − t′.
    pub fn h(&self) -> f64 {
        self.from - self.to
    }

    /// ρ g(t).
    pub fn noise(&self, t: f64) -> f64 {
        self.rho * self.sde.diffusion(t).sqrt()
    }

    /// v = −dz/dt without the noise, at x̃ = `at` and time t.
    pub fn slope(&self, at: LinearCombination, t: f64) -> Stage {
        let alpha = self.sde.alpha(t);
        let gain = (1.0 + self.rho * self.rho) / 2.0 * self.sde.diffusion(t) / alpha;
        Stage { at, sigma: self.sde.level(t), keep: -self.sde.drift(t) * alpha, gain }
    }

    /// The slope where the step begins.
    pub fn first(&self) -> Stage {
        self.slope(LinearCombination::state(), self.from)
    }

    /// z + Σ slopes · v (the newest first) + Σ noise · n, as a state of the σ frame at time t.
    pub fn mix(&self, t: f64, slopes: &[f64], noise: &[f64]) -> LinearCombination {
        let (start, scale) = (self.sde.alpha(self.from), self.sde.alpha(t));
        let scaled = |weights: &[f64]| weights.iter().map(|w| w / scale).collect();
        let noise = if self.rho > 0.0 { scaled(noise) } else { Vec::new() };
        LinearCombination { state: start / scale, values: scaled(slopes), noise }
    }
}

/// The scheme of a rule for such steps.
pub fn in_time(
    sde: &dyn Sde,
    rho: f64,
    sigmas: &Sigmas,
    hop: impl Fn(Interval) -> SolverStep,
) -> Result<Scheme, Error> {
    let rho = at_least_zero("rho", rho)?;
    reaches(sde, sigmas)?;
    Ok(hops(sigmas, |(sigma, next)| hop(Interval { sde, rho, from: sde.time(sigma), to: sde.time(next) })))
}
