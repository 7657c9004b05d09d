//! DDPM with a variance of the network's choice.

use super::Solver;
use crate::{
    Error,
    numbers::{
        registry::entry,
        scheme::{Scheme, SolverStep, Spread, Update},
        sigma::Sigmas,
    },
};

entry! {
    name: "ddpm-learned",
    what: "DDPM, its variance between β̃ and β by the network",
    source: "Nichol & Dhariwal 2021, Eq. 15",
    facts: { scores: "1", order: "1", random: "yes" },
    /// x ← x + (σ² − σ′²) s + e n with e² = exp(f ln β + (1 − f) ln β̃) in the σ frame, f = (F₂ + 1)/2 for each number by the second
    /// half F₂ of the network's answer [Nichol & Dhariwal 2021, Eq. 15; diffusers' `learned_range`].
    ///
    /// ```text
    /// β̃: e² = σ′² (σ² − σ′²)/σ²      β: e² = (σ² − σ′²) (1 + σ′²)/(1 + σ²)
    /// ```
    ///
    /// Networks without a second half are refused.
    #[derive(Copy)]
    pub struct DdpmLearned {}
}

impl Solver for DdpmLearned {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let step = |(sigma, next): (f64, f64)| {
            if next == 0.0 {
                return Update::SolverStep(SolverStep::denoise(sigma));
            }
            let tau = (sigma - next) * (sigma + next);
            let (least, most) = (next / sigma * tau.sqrt(), (tau * (1.0 + next * next) / (1.0 + sigma * sigma)).sqrt());
            Update::Spread(Spread { sigma, tau, least, most })
        };
        Ok(Scheme(sigmas.pairs().map(step).collect()))
    }
}
