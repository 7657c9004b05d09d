//! Consistency distilled from a chain.

use super::Solver;
use crate::{
    Error,
    numbers::{
        registry::entry,
        schedule::{AnyChain, ScaledLinear},
        scheme::{LinearCombination, Scheme, SolverStep, Stage},
        sigma::{Sigmas, alpha_bar, positive},
    },
};

entry! {
    name: "lcm",
    what: "latent consistency: D with a skip, noise all fresh",
    source: "Luo et al. 2023",
    facts: { scores: "1", order: "–", random: "yes" },
    /// x ← f + σ′ n with f = c_out D + c_skip √ᾱ x [Luo et al. 2023, Eq. 9; diffusers' LCMScheduler], where
    ///
    /// ```text
    /// c_skip = s²/((k t)² + s²)      c_out = k t/√((k t)² + s²)
    /// ```
    pub struct Lcm {
        /// The chain with t.
        pub beta: AnyChain = AnyChain::ScaledLinear(ScaledLinear::default()) => "any chain",
        /// k, diffusers' `timestep_scaling`.
        pub scaling: f64 = 10.0 => "> 0",
        /// s.
        pub sigma_data: f64 = 0.5 => "> 0",
    }
}

impl Solver for Lcm {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let (scaling, data) = (positive("scaling", self.scaling)?, positive("sigma_data", self.sigma_data)?);
        let times = self.beta.get().times()?;
        let step = |(sigma, next): (f64, f64)| {
            let time = scaling * times.time(sigma);
            let total = time.hypot(data);
            let (skip, out) = ((data / total).powi(2), time / total);
            let keep = out + skip * alpha_bar(sigma).sqrt();
            let stage = Stage { at: LinearCombination::state(), sigma, keep, gain: out * sigma * sigma };
            let noise = if next > 0.0 { vec![next] } else { vec![] };
            SolverStep { stages: vec![stage], next: LinearCombination::new(0.0, &[1.0]).with_noise(&noise) }
        };
        Ok(sigmas.pairs().map(step).collect())
    }
}
