//! DPM-Solver++: the same flow with D expanded, which large steps bear better.

use serde::{Deserialize, Serialize};

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
    name: "dpm-plus-plus",
    what: "D expanded in ln σ; variant 2m, 2s, sde-2m",
    source: "Lu et al. 2022b",
    facts: { scores: "1 (2s: 2)", order: "2", random: "if sde-2m" },
    aliases: [
        "DPMSolverMultistepScheduler",
        "EDMDPMSolverMultistepScheduler",
        "dpmpp_2m" { "variant": "2m" },
        "sample_dpmpp_2m" { "variant": "2m" },
        "dpmpp_2s" { "variant": "2s" },
        "DPMSolverSinglestepScheduler" { "variant": "2s" },
        "dpmpp_2m_sde" { "variant": "sde-2m" },
        "sample_dpmpp_2m_sde" { "variant": "sde-2m" },
    ],
    /// Second-order steps [Lu et al. 2022b, Algorithms 1 and 2; §5 for the SDE].
    ///
    /// With h = ln(σ/σ′), h₋ the same for the step before, and D̄ = D + h/(2h₋) (D − D₋):
    ///
    /// ```text
    /// 2m       x ← (σ′/σ) x + (1 − σ′/σ) D̄
    /// 2s       u = (σ_½/σ) x + (1 − σ_½/σ) D,  x ← (σ′/σ) x + (1 − σ′/σ) D(u, σ_½)     σ_½ = √(σ σ′)
    /// sde-2m   x ← (σ′/σ)² x + (1 − (σ′/σ)²) D̄ + σ′ √(1 − (σ′/σ)²) n
    /// ```
    ///
    /// The first step of the multistep forms takes D̄ = D.
    #[derive(Copy)]
    pub struct DpmPlusPlus {
        /// Variant of the method.
        pub variant: Variant = Variant::Multistep => "2m, 2s, sde-2m",
    }
}

/// See [`DpmPlusPlus`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
pub enum Variant {
    /// Two steps remembered; one evaluation each.
    #[default]
    #[serde(rename = "2m")]
    Multistep,
    /// Two evaluations a step.
    #[serde(rename = "2s")]
    Singlestep,
    /// The multistep form for the reverse-time SDE.
    #[serde(rename = "sde-2m")]
    Sde,
}

impl Solver for DpmPlusPlus {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let mut before = None;
        Ok(hops(sigmas, |(sigma, next)| {
            let h = (sigma / next).ln();
            let lean = before.replace(h).map(|before| h / (2.0 * before));
            match self.variant {
                Variant::Singlestep => single(sigma, next),
                Variant::Multistep => multi(sigma, next / sigma, lean, 0.0),
                Variant::Sde => {
                    let kept = (next / sigma).powi(2);
                    multi(sigma, kept, lean, next * (1.0 - kept).sqrt())
                }
            }
        }))
    }
}

fn single(sigma: f64, next: f64) -> SolverStep {
    let (middle, kept) = ((sigma * next).sqrt(), next / sigma);
    let half = middle / sigma;
    SolverStep {
        stages: vec![
            Stage::denoised(LinearCombination::state(), sigma),
            Stage::denoised(LinearCombination::new(half, &[1.0 - half]), middle),
        ],
        next: LinearCombination::new(kept, &[1.0 - kept]),
    }
}

/// x ← kept x + (1 − kept) (D + lean (D − D₋)) + noise n.
fn multi(sigma: f64, kept: f64, lean: Option<f64>, noise: f64) -> SolverStep {
    let values = match lean {
        Some(lean) => vec![(1.0 - kept) * (1.0 + lean), -(1.0 - kept) * lean],
        None => vec![1.0 - kept],
    };
    let noise = if noise > 0.0 { vec![noise] } else { vec![] };
    SolverStep {
        stages: vec![Stage::denoised(LinearCombination::state(), sigma)],
        next: LinearCombination { state: kept, values, noise },
    }
}
