//! The variance-exploding SDE, discretised three ways [Score SDE].

use super::{Sampler, rows};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sigma::Sigmas,
        walk::{Step, Walk},
    },
};

entry! {
    name: "ve-reverse-diffusion",
    what: "τ = σ²−σ′², T = ½",
    source: "Score SDE, Appendix E",
    facts: { scores: "1", order: "1", random: "yes" },
    /// τ = σ² − σ′², T = ½ [Score SDE, Appendix E].
    pub struct VeReverseDiffusion {}
}

impl Sampler for VeReverseDiffusion {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        rows(sigmas, |sigma, next| Step {
            sigma,
            tau: (sigma - next) * (sigma + next),
            temperature: if next > 0.0 { 0.5 } else { 0.0 },
        })
    }
}

entry! {
    name: "ve-ancestral",
    what: "τ = σ²−σ′², T = σ′²/(2σ²)",
    source: "Score SDE, Appendix F",
    facts: { scores: "1", order: "1", random: "yes" },
    aliases: ["euler_a", "euler_ancestral", "sample_euler_ancestral", "EulerAncestralDiscreteScheduler"],
    /// τ = σ² − σ′², T = σ′²/(2σ²) [Score SDE, Appendix F].
    pub struct VeAncestral {}
}

impl Sampler for VeAncestral {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        rows(sigmas, |sigma, next| Step {
            sigma,
            tau: (sigma - next) * (sigma + next),
            temperature: next * next / (2.0 * sigma * sigma),
        })
    }
}

entry! {
    name: "ve-euler-maruyama",
    what: "τ = 2 ln(σ_max/σ_min) σ²/K, T = ½",
    source: "Score SDE, §2.4",
    facts: { scores: "1", order: "1", random: "yes" },
    /// τ = g² Δt = 2 ln(σ₀/σ_{K−1}) σ² / K, T = ½: Euler and Maruyama on dx = g dw with σ(t) geometric, Δt = 1/K.
    pub struct VeEulerMaruyama {}
}

impl Sampler for VeEulerMaruyama {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let levels = sigmas.iter().len();
        if levels == 1 {
            return Err(Error::parameter("steps", "at least 2 for a sampler that needs a range of levels", levels));
        }
        let rate = 2.0 * (sigmas.max() / sigmas.min()).ln() / levels as f64;
        rows(sigmas, |sigma, next| Step {
            sigma,
            tau: rate * sigma * sigma,
            temperature: if next > 0.0 { 0.5 } else { 0.0 },
        })
    }
}
