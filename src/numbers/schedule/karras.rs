//! Levels of EDM.

use super::{Schedule, between, ends};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sigma::{Sigmas, positive},
    },
};

entry! {
    name: "karras",
    what: "linear in σ^(1/ρ), ρ = 7",
    source: "EDM, Eq. 5",
    aliases: ["get_sigmas_karras"],
    /// σ = (max^{1/ρ} + u (min^{1/ρ} − max^{1/ρ}))^ρ [EDM, Eq. 5].
    pub struct Karras {
        /// ρ. 1 is linear; the larger, the nearer to geometric.
        pub rho: f64 = 7.0 => "> 0",
        /// The largest level.
        pub max: Option<f64> = None => "> min" in "data units" or "the model’s largest",
        /// The smallest level.
        pub min: Option<f64> = None => "> 0" in "data units" or "the model’s smallest",
    }
}

impl Schedule for Karras {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let rho = positive("rho", self.rho)?;
        let (min, max) = ends((self.min, self.max), range)?;
        // max (1 + u ((min/max)^{1/ρ} − 1))^ρ: the same, in a form that keeps its digits as ρ grows.
        let fall = ((min / max).ln() / rho).exp_m1();
        between(levels, (min, max), |u| max * (rho * (u * fall).ln_1p()).exp())
    }
}
