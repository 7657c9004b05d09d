//! Methods for the reverse-time SDE, in the time of any process.

use super::{Solver, hops, time::in_time};
use crate::{
    Error,
    numbers::{
        registry::entry,
        scheme::{LinearCombination, Scheme, SolverStep, Stage},
        sde::{AnySde, Vp, reaches},
        sigma::Sigmas,
    },
};

fn vp() -> AnySde {
    AnySde::Vp(Vp::default())
}

entry! {
    name: "euler-maruyama",
    what: "in the time of any sde; ρ",
    source: "SDE tutorial, §4",
    facts: { scores: "1", order: "1", random: "if ρ > 0" },
    /// Euler and Maruyama's method [SDE tutorial, §4]: z ← z − h (f z − ½ (1 + ρ²) g² s) + ρ g √h n.
    ///
    /// Strong order 1 (the noise is additive), weak order 1.
    pub struct EulerMaruyama {
        /// ρ: 0 follows the probability flow, 1 the reverse-time SDE.
        pub rho: f64 = 1.0 => "≥ 0",
        /// The process whose z and t are meant.
        pub sde: AnySde = vp() => "any process",
    }
}

impl Solver for EulerMaruyama {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        in_time(self.sde.get(), self.rho, sigmas, |step| {
            let noise = step.noise(step.from) * step.h().sqrt();
            SolverStep { stages: vec![step.first()], next: step.mix(step.to, &[step.h()], &[noise]) }
        })
    }
}

entry! {
    name: "stochastic-heun",
    what: "in the time of any sde",
    source: "SDE tutorial, §4",
    facts: { scores: "2", order: "2", random: "if ρ > 0" },
    /// Heun's method with the same noise in both halves [SDE tutorial, §4]; weak order 2, two evaluations a step.
    ///
    /// ```text
    /// ḡ = ½ (g(t) + g(t′))     u = z + h k + ḡ √h n     z ← z + ½ h (k + k(u, t′)) + ḡ √h n
    /// ```
    pub struct StochasticHeun {
        /// ρ: 0 follows the probability flow, 1 the reverse-time SDE.
        pub rho: f64 = 1.0 => "≥ 0",
        /// The process whose z and t are meant.
        pub sde: AnySde = vp() => "any process",
    }
}

impl Solver for StochasticHeun {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        in_time(self.sde.get(), self.rho, sigmas, |step| {
            let (h, noise) = (step.h(), (step.noise(step.from) + step.noise(step.to)) / 2.0 * step.h().sqrt());
            let euler = step.mix(step.to, &[h], &[noise]);
            SolverStep {
                stages: vec![step.first(), step.slope(euler, step.to)],
                next: step.mix(step.to, &[h / 2.0, h / 2.0], &[noise]),
            }
        })
    }
}

entry! {
    name: "sra1",
    what: "in the time of any sde; strong order 1.5",
    source: "Rößler 2010",
    facts: { scores: "2", order: "2", random: "if ρ > 0" },
    /// Rößler's SRA1 [Rößler 2010]; strong order 1.5, weak order 2, two evaluations and two draws a step.
    ///
    /// ```text
    /// I₁ = √h n₀     I₁₀ = ½ h (I₁ + √h n₁/√3)
    /// u = z + ¾ h k + (3/2) g(t′) I₁₀/h, at t − ¾ h
    /// z ← z + h (⅓ k + ⅔ k(u)) + g(t′) I₁ + (g(t) − g(t′)) I₁₀/h
    /// ```
    pub struct Sra1 {
        /// ρ: 0 follows the probability flow, 1 the reverse-time SDE.
        pub rho: f64 = 1.0 => "≥ 0",
        /// The process whose z and t are meant.
        pub sde: AnySde = vp() => "any process",
    }
}

impl Solver for Sra1 {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        in_time(self.sde.get(), self.rho, sigmas, |step| {
            let (h, root) = (step.h(), step.h().sqrt());
            let (early, late) = (step.noise(step.from), step.noise(step.to));
            // I₁₀/h = ½ √h (n₀ + n₁/√3).
            let area = [root / 2.0, root / 12f64.sqrt()];
            let inner = step.from - 0.75 * h;
            let u = step.mix(inner, &[0.75 * h], &area.map(|a| 1.5 * late * a));
            let noise = [late * root + (early - late) * area[0], (early - late) * area[1]];
            SolverStep {
                stages: vec![step.first(), step.slope(u, inner)],
                next: step.mix(step.to, &[2.0 * h / 3.0, h / 3.0], &noise),
            }
        })
    }
}

entry! {
    name: "reverse-diffusion",
    what: "Score SDE’s predictor, of any sde",
    source: "Score SDE, Eq. 46",
    facts: { scores: "1", order: "1", random: "yes" },
    /// Score SDE's reverse-diffusion predictor [Score SDE, Eq. 46]: z ← z − (a − 1) z + G² s + G n.
    ///
    /// a = α_t/α_t′ and G² = s_t² − a² s_t′² belong to the forward chain z = a z′ + G n. For the variance-preserving one this
    /// is x ← (2 − √(1 − β)) x + β s + √β n, for the variance-exploding one the row of the same name.
    pub struct ReverseDiffusion {
        /// The process whose z is meant.
        pub sde: AnySde = vp() => "any process",
    }
}

impl Solver for ReverseDiffusion {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let sde = self.sde.get();
        reaches(sde, sigmas)?;
        Ok(hops(sigmas, |(sigma, next)| {
            let scale = sde.alpha(sde.time(sigma)) / sde.alpha(sde.time(next));
            // G² = α_t² (σ² − σ′²), and ∇ log p_t(z) is the score of the σ frame over α_t.
            let gain = (sigma - next) * (sigma + next);
            SolverStep {
                stages: vec![Stage { at: LinearCombination::state(), sigma, keep: 2.0 - scale, gain }],
                next: LinearCombination::new(0.0, &[scale]).with_noise(&[scale * gain.sqrt()]),
            }
        }))
    }
}
