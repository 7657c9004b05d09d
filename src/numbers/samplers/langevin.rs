//! Annealed Langevin dynamics [NCSN, Algorithm 1].

use std::iter;

use serde::{Deserialize, Serialize};

use super::{Sampler, checked};
use crate::{
    Error,
    numbers::{
        registry::entry,
        schedule::count,
        sigma::{Sigmas, positive},
        walk::{Step, Walk},
    },
};

entry! {
    name: "annealed-langevin",
    what: "τ = ε σ²/(2 σ_min²), T = 1, each level many times",
    source: "NCSN, Algorithm 1",
    facts: { scores: "1", order: "–", random: "yes" },
    /// τ = ε σ² / (2 σ_ref²), T = 1, several steps at each level.
    pub struct AnnealedLangevin {
        /// ε. The authors' released code leaves out the ½: its `step_lr` is ε/2.
        pub epsilon: f64 = 2e-5 => "> 0",
        /// Steps at each level.
        pub repeats: usize = 100 => "≥ 1" in "steps",
        /// σ_ref.
        pub reference: ReferenceLevel = ReferenceLevel::Min => "min, max",
        /// Ends with a denoising step, as the code released with NCSNv2 does.
        pub denoise: bool = false => "true, false",
    }
}

/// The level to which ε refers.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReferenceLevel {
    /// The smallest, as the NCSN paper and its code have it.
    #[default]
    Min,
    /// The largest, as Table 1 of the random-walk paper prints it; with NCSN's ε the walk then hardly moves.
    Max,
}

impl Sampler for AnnealedLangevin {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let epsilon = positive("epsilon", self.epsilon)?;
        let repeats = count("repeats", self.repeats)?;
        count("the number of steps", sigmas.iter().len().saturating_mul(repeats))?;
        let reference = match self.reference {
            ReferenceLevel::Min => sigmas.min(),
            ReferenceLevel::Max => sigmas.max(),
        };
        let step = |sigma: f64| Step { sigma, tau: epsilon / 2.0 * (sigma / reference).powi(2), temperature: 1.0 };
        let langevin = sigmas.iter().flat_map(|sigma| iter::repeat_n(step(sigma), repeats));
        let last = self.denoise.then(|| Step::denoise(sigmas.min()));
        checked(langevin.chain(last))
    }
}
