//! The squared-cosine chain.

use std::f64::consts::FRAC_PI_2;

use super::{Chain, Schedule, along, count, fraction};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sigma::{Sigmas, at_least_zero},
    },
};

entry! {
    name: "cosine",
    what: "squared-cosine chain",
    source: "Nichol & Dhariwal 2021, Eq. 17",
    aliases: ["squaredcos_cap_v2"],
    /// ᾱ(u) = cos²(π/2 · (u + s)/(1 + s)), βₜ = min(1 − ᾱ((t+1)/N)/ᾱ(t/N), cap) [Nichol & Dhariwal 2021, Eq. 17].
    pub struct Cosine {
        /// s.
        pub offset: f64 = 0.008 => "≥ 0",
        /// The largest β allowed.
        pub cap: f64 = 0.999 => "0 … 1, open",
        /// N, how many times the chain has.
        pub times: usize = 1000 => "≥ 1",
    }
}

impl Chain for Cosine {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let (offset, cap) = (at_least_zero("offset", self.offset)?, fraction("cap", self.cap)?);
        let times = count("times", self.times)?;
        let quarter = FRAC_PI_2 / (1.0 + offset);
        let (angle, gap) = (|t: usize| (t as f64 / times as f64 + offset) * quarter, (quarter / times as f64).sin());
        // 1 − cos² b / cos² a = sin(b − a) sin(b + a) / cos² a, which loses no digits where a and b are close.
        let beta = |t: usize| gap * (angle(t + 1) + angle(t)).sin() / angle(t).cos().powi(2);
        Ok((0..times).map(|t| beta(t).min(cap)).collect())
    }
}

impl Schedule for Cosine {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}
