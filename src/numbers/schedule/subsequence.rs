//! Times of a chain.

use serde::{Deserialize, Serialize};

use super::{AnyChain, LEVELS, LinearBeta, Schedule, count, grid};
use crate::{
    Error,
    numbers::{registry::entry, sigma::Sigmas},
};

entry! {
    name: "subsequence",
    what: "times of a chain as released programs pick them",
    source: "DDIM, App. D.2",
    example: "{kind: subsequence, spacing: quadratic}",
    /// Times of a chain, as released programs pick them [DDIM, Appendix D.2; improved-diffusion; diffusers].
    ///
    /// ```text
    /// uniform:    t = 0, ⌊N/K⌋, 2 ⌊N/K⌋, … below N, which are more than K where K does not divide N
    /// quadratic:  t = ⌊u²⌋, u = 0 … √(0.8 N) in K equal steps
    /// respaced:   t = the nearest of 0 … N − 1 in K equal steps
    /// leading:    t = k ⌊N/K⌋ + offset, k = 0 … K − 1
    /// trailing:   t = the nearest of N, N − N/K, … less 1
    /// linspace:   respaced; even: the same without rounding
    /// ```
    pub struct Subsequence {
        /// The chain.
        pub beta: AnyChain = AnyChain::LinearBeta(LinearBeta::default()) => "any chain",
        /// Spacing of the chosen times.
        pub spacing: Spacing = Spacing::Uniform => "uniform, quadratic, respaced, leading, trailing, linspace, even",
        /// Added to leading times, diffusers' `steps_offset`.
        pub offset: usize = 0 => "≥ 0",
        /// Takes K + 1 times and leaves out the last, as diffusers' DPM solvers do.
        pub open: bool = false => "true, false",
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
    /// Equal whole steps from 0 up: diffusers'.
    Leading,
    /// Equal steps from the last time down: diffusers'.
    Trailing,
    /// Equal steps between the ends: diffusers'.
    Linspace,
    /// Equal steps between the ends, of any fraction: diffusers' for Euler's and Heun's steps.
    Even,
}

impl Schedule for Subsequence {
    /// Times that fall together count once, so that quadratic levels may be fewer than `levels`.
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        let chain = self.beta.get().times()?;
        let (levels, all) = (count(LEVELS, levels)?, chain.levels());
        if levels > all.len() {
            return Err(Error::parameter(LEVELS, "at most the times of the chain", levels));
        }
        let last = chain.last();
        let points = levels + usize::from(self.open);
        let mut times: Vec<f64> = match self.spacing {
            Spacing::Uniform => (0..all.len()).step_by(all.len() / levels).map(|t| t as f64).collect(),
            Spacing::Quadratic => {
                let end = (0.8 * all.len() as f64).sqrt();
                grid(levels).map(|u| (u * end).powi(2).floor()).collect()
            }
            Spacing::Leading => {
                (0..points).map(|k| (k * (all.len() / points) + self.offset) as f64).map(|t| t.min(last)).collect()
            }
            Spacing::Trailing => {
                let step = all.len() as f64 / levels as f64;
                (0..levels).rev().map(|k| (all.len() as f64 - k as f64 * step).round_ties_even() - 1.0).collect()
            }
            Spacing::Respaced | Spacing::Linspace => grid(points).map(|u| (u * last).round_ties_even()).collect(),
            Spacing::Even => grid(points).map(|u| u * last).collect(),
        };
        times.dedup();
        if self.open && !matches!(self.spacing, Spacing::Trailing) {
            times.remove(0);
        }
        Sigmas::new(times.iter().rev().map(|&t| chain.sigma(t)).collect())
    }
}
