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
    /// distilled:  t = j ⌊N/S⌋ − 1 with j = S − ⌊k S/K⌋: K of the S times of a distillation
    /// ```
    pub struct Subsequence {
        /// The chain.
        pub beta: AnyChain = AnyChain::LinearBeta(LinearBeta::default()) => "any chain",
        /// Spacing of the chosen times.
        pub spacing: Spacing = Spacing::Uniform => "uniform, quadratic, respaced, leading, trailing, linspace, even, distilled",
        /// Added to leading times, diffusers' `steps_offset`.
        pub offset: usize = 0 => "≥ 0",
        /// Takes K + 1 times and leaves out the last, as diffusers' DPM solvers do.
        pub open: bool = false => "true, false",
        /// S of distilled times, diffusers' `original_inference_steps`.
        pub distilled: usize = 50 => "≥ 1, at most N",
        /// Times of higher levels are left out, and N is the number of the others: exp(−λ) of diffusers' `lambda_min_clipped`.
        pub max: Option<f64> = None => "> 0" in "data units" or "no limit",
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
    /// Some of the times of a distillation: diffusers' for LCM and TCD.
    Distilled,
}

impl Schedule for Subsequence {
    /// Times that fall together count once, so that quadratic levels may be fewer than `levels`.
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        let chain = self.beta.get().times()?;
        let all = chain.levels().len();
        let below = self.max.map_or(all, |max| chain.levels().partition_point(|level| *level <= max));
        if count(LEVELS, levels)? > below {
            return Err(Error::parameter(LEVELS, "at most the times of the chain", levels));
        }
        let mut times = self.times(levels, below, all)?;
        times.dedup();
        if self.open && !matches!(self.spacing, Spacing::Trailing) {
            times.remove(0);
        }
        Sigmas::new(times.iter().rev().map(|&t| chain.sigma(t)).collect())
    }
}

impl Subsequence {
    /// The chosen ones of `count` times of a chain that has `all`, smallest first.
    fn times(&self, levels: usize, count: usize, all: usize) -> Result<Vec<f64>, Error> {
        let last = (count - 1) as f64;
        let points = levels + usize::from(self.open);
        Ok(match self.spacing {
            Spacing::Uniform => (0..count).step_by(count / levels).map(|t| t as f64).collect(),
            Spacing::Quadratic => {
                let end = (0.8 * count as f64).sqrt();
                grid(levels).map(|u| (u * end).powi(2).floor()).collect()
            }
            Spacing::Leading => {
                (0..points).map(|k| (k * (count / points) + self.offset) as f64).map(|t| t.min(last)).collect()
            }
            Spacing::Trailing => {
                let step = all as f64 / levels as f64;
                let times = (0..levels).map(|k| count as f64 - k as f64 * step).take_while(|t| *t > 0.0);
                let mut times: Vec<f64> = times.map(|t| t.round_ties_even() - 1.0).collect();
                times.reverse();
                times
            }
            Spacing::Respaced | Spacing::Linspace => grid(points).map(|u| (u * last).round_ties_even()).collect(),
            Spacing::Even => grid(points).map(|u| u * last).collect(),
            Spacing::Distilled => {
                let of = self.distilled;
                if !(levels..=all).contains(&of) {
                    return Err(Error::parameter(
                        "distilled",
                        "from the number of levels to the times of the chain",
                        of,
                    ));
                }
                (0..levels).rev().map(|k| ((of - k * of / levels) * (all / of) - 1) as f64).collect()
            }
        })
    }
}
