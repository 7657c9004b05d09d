//! RePaint.

use tch::Tensor;

use super::{Effort, InverseProblem, Method, OnState, Spectral, ancestral, decomposed, levels};
use crate::{
    Error,
    inverse::likelihood::GaussianLikelihood,
    numbers::{
        plan::{Plan, ResolvedPlan},
        registry::entry,
    },
};

entry! {
    name: "repaint",
    what: "seen coordinates replaced at every step, steps repeated",
    source: "Lugmayr et al. 2022",
    facts: { cost: "10", tasks: "svd", spread: "near it" },
    /// RePaint [Lugmayr et al. 2022, Algorithm 1]: what is seen is put in place at every level, and steps are taken again.
    ///
    /// After an ancestral step to σ′ the coordinates that y determines are replaced by ȳ with noise up to σ′. So that
    /// the rest comes to fit them, `jump` levels at a time are gone down, then up again by adding noise, `repeats`
    /// times. Made for inpainting without noise; here the coordinates are A's singular vectors, whatever A, and those
    /// of y are taken as long as they are better than x itself, η/s ≤ σ: below that the network removes what noise they
    /// brought.
    pub struct Repaint {
        /// Levels that are taken again together; the paper's j.
        pub jump: usize = 10 => "≥ 1" in "levels",
        /// Times that they are gone down; the paper's r.
        pub repeats: usize = 10 => "≥ 1",
    }
}

impl Method for Repaint {
    fn plan(&self) -> Option<Plan> {
        Some(Plan { steps: 50, ..Plan::ddim() })
    }

    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error> {
        for (name, count) in [("jump", self.jump), ("repeats", self.repeats)] {
            if count == 0 {
                return Err(Error::parameter(name, "at least 1", count));
            }
        }
        decomposed(&likelihood.linear("repaint")?, "repaint").map(|_| ())
    }

    fn effort(&self, plan: &ResolvedPlan) -> Effort {
        Effort { evaluations: levels(plan) * self.repeats, gradients: 0 }
    }

    fn run(&self, problem: &InverseProblem, mut x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
        let likelihood = problem.likelihood.linear("repaint")?;
        let Spectral { svd, measured, width, .. } = Spectral::new(&likelihood, x.kind(), 0.0, "repaint")?;
        let pairs: Vec<(f64, f64)> = problem.plan.sigmas.pairs().collect();
        let mut step = 0;
        for piece in pairs.chunks(self.jump) {
            let (first, last) = (piece[0].0, piece[piece.len() - 1].1);
            for repeat in 0..self.repeats {
                for &(sigma, next) in piece {
                    step += 1;
                    let noise = |draw| problem.noise.like(&x, step, draw);
                    let moved = ancestral(&x, &problem.prior.denoise(&x, sigma), (sigma, next), &noise(0));
                    let missing = (next * next - width.square()).clamp_min(0.0).sqrt();
                    let seen_now = &measured + svd.coordinates(&noise(1)) * missing;
                    x = svd.image(&seen_now.where_self(&width.le(sigma), &svd.coordinates(&moved)));
                    seen(&mut x)?;
                }
                if repeat + 1 < self.repeats {
                    x = &x + problem.noise.like(&x, step, 2) * (first * first - last * last).sqrt();
                }
            }
        }
        Ok(x)
    }
}
