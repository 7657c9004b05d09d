//! DPM-Solver and DPM-Solver++ that remember earlier evaluations, in every form that diffusers offers.

use super::{
    Solver,
    exponential::{Expansion, SecondOrder, Weights, one},
    landing, order,
};
use crate::{
    Error,
    numbers::{registry::entry, scheme::Scheme, sigma::Sigmas},
};

entry! {
    name: "dpm-multistep",
    what: "D or ε expanded in ln σ, flow or SDE; order 1 … 3",
    source: "Lu et al. 2022b",
    facts: { scores: "1", order: "1, 2, 2", random: "if sde-*" },
    /// One evaluation a step; v, D or ε, is extrapolated through the last levels [Lu et al. 2022b; diffusers'
    /// DPMSolverMultistepScheduler].
    ///
    /// With h = ln(σ/σ′), a = exp(−h) for `denoised` and exp(−2h) for `sde-denoised`, H = −ln a, and the differences v′, v″
    /// through the last levels, multiplied by h and h²:
    ///
    /// ```text
    /// denoised   x ← (a/A) x + (1 − a) v + (½ (1 − a) or 1 − (1 − a)/H) v′ + (½ − (1 − (1 − a)/H)/H) v″
    /// noise      x ← x − c σ′ ((eʰ − 1) v + (½ (eʰ − 1) or (eʰ − 1)/h − 1) v′ + (((eʰ − 1)/h − 1)/h − ½) v″)     c = 1, sde 2
    /// sde-*      … + σ′ √(1 − exp(−2h)) n of D, + √(σ² − σ′²) n of ε     A = 1
    /// ```
    ///
    /// The first choice in brackets is `midpoint`, the second `heun` and that of order 3. The first steps take lower
    /// orders. As in the authors' program and in diffusers, v″ is half of h² D″: order 3 gains a smaller error than order 2, which
    /// falls as fast.
    #[derive(Copy)]
    pub struct DpmMultistep {
        /// 1 to 3; sde-noise has no order 3.
        pub order: usize = 2 => "1, 2, 3",
        /// Quantity that is expanded, along the flow or the SDE.
        pub expansion: Expansion = Expansion::Denoised => "denoised, noise, sde-denoised, sde-noise",
        /// Weight of the slope at order 2.
        pub second: SecondOrder = SecondOrder::Midpoint => "midpoint, heun",
        /// Of fewer than 15 steps, the last has order 1 and the one before it at most 2.
        pub lower_final: bool = true => "true, false",
        /// The last step has order 1.
        pub euler_final: bool = false => "true, false",
    }
}

impl Solver for DpmMultistep {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let known: &[usize] = if self.expansion == Expansion::SdeNoise { &[1, 2] } else { &[1, 2, 3] };
        let want = if known.len() == 2 { "1 or 2" } else { "1, 2 or 3" };
        let most = order(self.order, known, want)?;
        let levels: Vec<f64> = sigmas.iter().collect();
        let count = levels.len();
        let few = self.lower_final && count < 15;
        let inner = sigmas.pairs().enumerate().take_while(|(_, (_, next))| *next > 0.0);
        let inner = inner.map(|(k, (sigma, next))| {
            let most = match count - 1 - k {
                0 if few || self.euler_final => 1,
                1 if few => most.min(2),
                _ => most,
            };
            let weights = Weights::new(self.expansion, sigma, next);
            let steps = Steps::new(&levels[..=k], next);
            let mix = match most.min(k + 1) {
                1 => weights.first(0),
                2 => weights.second(self.second, 0, &steps.slope()),
                _ => {
                    let (slope, curve) = steps.slope_and_curve();
                    weights.third(0, &slope, &curve)
                }
            };
            one(self.expansion, sigma, weights.noisy(mix, 0))
        });
        Ok(inner.chain(landing(sigmas)).collect())
    }
}

/// Lengths of the last steps in ln σ over that of the one ahead, the newest first.
struct Steps(Vec<f64>);

impl Steps {
    fn new(levels: &[f64], next: f64) -> Self {
        let h = (levels[levels.len() - 1] / next).ln();
        Self(levels.windows(2).rev().map(|pair| (pair[0] / pair[1]).ln() / h).collect())
    }

    /// h v′ through the last two levels.
    fn slope(&self) -> [f64; 2] {
        [1.0 / self.0[0], -1.0 / self.0[0]]
    }

    /// h v′ and h² v″ through the last three.
    fn slope_and_curve(&self) -> ([f64; 3], [f64; 3]) {
        let (r0, r1) = (self.0[0], self.0[1]);
        let (near, far) = ([1.0 / r0, -1.0 / r0, 0.0], [0.0, 1.0 / r1, -1.0 / r1]);
        let curve: [f64; 3] = std::array::from_fn(|i| (near[i] - far[i]) / (r0 + r1));
        (std::array::from_fn(|i| near[i] + r0 * curve[i]), curve)
    }
}
