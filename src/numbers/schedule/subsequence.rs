//! Whole times of a chain.

use serde::{Deserialize, Serialize};

use super::{AnyChain, LEVELS, LinearBeta, Schedule, count, grid};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "subsequence",
    what: "whole times: uniform, quadratic, respaced",
    source: "DDIM, App. D.2",
    example: "{kind: subsequence, spacing: quadratic}",
    /// Whole times of a chain, as released programs pick them [DDIM, Appendix D.2; improved-diffusion]; 0 is always among them.
    ///
    /// ```text
    /// uniform:    t = 0, ⌊N/K⌋, 2 ⌊N/K⌋, … below N, which are more than K where K does not divide N
    /// quadratic:  t = ⌊u²⌋, u = 0 … √(0.8 N) in K equal steps
    /// respaced:   t = the nearest of 0 … N − 1 in K equal steps
    /// ```
    pub struct Subsequence {
        /// The chain.
        pub beta: AnyChain = AnyChain::LinearBeta(LinearBeta::default()) => "any chain",
        /// Spacing of the chosen times.
        pub spacing: Spacing = Spacing::Uniform => "uniform, quadratic, respaced",
    }
}

/// See [`Subsequence`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spacing {
    /// Equal steps of t: DDIM's for CelebA and LSUN.
    Uniform,
    /// Equal steps of √t: DDIM's for CIFAR-10.
    Quadratic,
    /// Equal steps of t that reach the last time: ADM's.
    Respaced,
}

impl Schedule for Subsequence {
    /// Times that fall together count once, so that quadratic levels may be fewer than `levels`.
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        let chain = self.beta.get().times()?;
        let (levels, all) = (count(LEVELS, levels)?, chain.levels());
        if levels > all.len() {
            return Err(Error::parameter(LEVELS, "at most the times of the chain", levels));
        }
        let mut times: Vec<usize> = match self.spacing {
            Spacing::Uniform => (0..all.len()).step_by(all.len() / levels).collect(),
            Spacing::Quadratic => {
                let last = (0.8 * all.len() as f64).sqrt();
                grid(levels).map(|u| (u * last).powi(2) as usize).collect()
            }
            Spacing::Respaced => grid(levels).map(|u| (u * chain.last()).round_ties_even() as usize).collect(),
        };
        times.dedup();
        Sigmas::new(times.iter().rev().map(|&t| all[t]).collect())
    }
}
