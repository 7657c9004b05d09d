//! Chains whose last time holds no signal.

use super::{AnyChain, Chain, LinearBeta, Schedule, along};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "zero-snr",
    what: "another chain, rescaled to end without signal",
    source: "Lin et al. 2024, Algorithm 1",
    /// Another chain with √ᾱ moved and scaled, so that the first stays and the last is 0 [Lin et al. 2024, Algorithm 1]:
    ///
    /// ```text
    /// √ᾱ ← (√ᾱ − √ᾱ_last) √ᾱ₀/(√ᾱ₀ − √ᾱ_last)
    /// ```
    ///
    /// σ would be infinite at the last time: there ᾱ is 2⁻²⁴, σ = 4096, as in most of diffusers' schedulers.
    pub struct ZeroSnr {
        /// The chain that is rescaled.
        pub beta: Box<AnyChain> = Box::new(AnyChain::LinearBeta(LinearBeta::default())) => "any chain",
    }
}

/// The smallest positive number of half precision.
const LAST: f64 = 1.0 / 16_777_216.0;

impl Chain for ZeroSnr {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let times = self.beta.get().times()?;
        let roots: Vec<f64> = times.levels().iter().map(|sigma| sigma.hypot(1.0).recip()).collect();
        let (first, last) = (roots[0], roots[roots.len() - 1]);
        if first == last {
            return Err(Error::parameter("beta", "a chain of at least 2 times", 1));
        }
        let count = roots.len();
        // Of a chain that ends near 0, several times fall below: they keep their order, and next to no distance.
        let least = |t: usize| LAST * (1.0 + 1e-9 * (count - 1 - t) as f64);
        let moved = |root: f64| ((root - last) * first / (first - last)).powi(2);
        let squares = roots.iter().enumerate().map(|(t, root)| moved(*root).max(least(t)));
        let mut before = 1.0;
        Ok(squares.map(|square| 1.0 - square / std::mem::replace(&mut before, square)).collect())
    }
}

impl Schedule for ZeroSnr {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}
