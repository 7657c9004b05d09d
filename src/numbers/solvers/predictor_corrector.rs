//! Predictor and corrector: any sampler from level to level, and Langevin steps at each.

use serde::{Deserialize, Serialize};

use super::Solver;
use crate::{
    Error,
    numbers::{
        plan::AnySampler,
        registry::entry,
        samplers::VeReverseDiffusion,
        schedule::count,
        scheme::{Langevin, Norms, Scheme, Update},
        sigma::{Sigmas, positive},
    },
};

entry! {
    name: "predictor-corrector",
    what: "any sampler, and Langevin steps of given snr",
    source: "Score SDE, Algorithm 4",
    facts: { scores: "1 + 1", order: "–", random: "yes" },
    example: "{kind: predictor-corrector, predictor: vp-ancestral, snr: 0.01, frame: vp}",
    /// At each level `corrections` Langevin steps, then a step of the predictor [Score SDE, Algorithms 4 and 5].
    ///
    /// ```text
    /// x ← x + τ s(x, σ) + √(2τ) n      τ = 2 a (snr ‖n‖/‖s‖)²      a = 1 (ve)  or  (1 + σ′²)/(1 + σ²) (vp)
    /// ```
    ///
    /// The published settings are snr 0.16 for VE and 0.01 to 0.05 for VP. As in the published code a level is corrected before
    /// it is left, and the last one before the image is denoised. The predictor may be any sampler of one step a level.
    pub struct PredictorCorrector {
        /// Sampler that goes from level to level.
        pub predictor: Box<AnySampler> = Box::new(AnySampler::VeReverseDiffusion(VeReverseDiffusion::default())) => "a sampler of one step a level",
        /// Langevin steps at each level.
        pub corrections: usize = 1 => "≥ 1" in "steps",
        /// Signal-to-noise ratio r of the corrections.
        pub snr: f64 = 0.16 => "> 0",
        /// Process that sets a.
        pub frame: Frame = Frame::Ve => "ve, vp",
        /// Scope of the lengths of score and noise.
        pub norms: Norms = Norms::Image => "image, batch",
    }
}

/// See [`PredictorCorrector`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frame {
    /// a = 1.
    #[default]
    Ve,
    /// a = 1 − β of the chain with these levels.
    Vp,
}

impl Solver for PredictorCorrector {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let (ratio, corrections) = (positive("snr", self.snr)?, count("corrections", self.corrections)?);
        let predictor = self.predictor.get().scheme(sigmas)?;
        if predictor.0.len() != sigmas.pairs().count() || !predictor.0.iter().all(|step| step.hop().is_some()) {
            return Err(Error::parameter("predictor", "a sampler of one step a level", "another"));
        }
        let corrected = |((sigma, next), step): ((f64, f64), Update)| {
            let scale = match self.frame {
                Frame::Ve => 1.0,
                Frame::Vp => (1.0 + next * next) / (1.0 + sigma * sigma),
            };
            let langevin = Langevin { sigma, scale, ratio, norms: self.norms };
            std::iter::repeat_n(Update::Langevin(langevin), corrections).chain([step])
        };
        Ok(Scheme(sigmas.pairs().zip(predictor.0).flat_map(corrected).collect()))
    }
}
