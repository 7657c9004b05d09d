//! DPM-Solver and DPM-Solver++ that evaluate within a step, at the levels of the schedule.

use super::{
    Solver,
    exponential::{Expansion, SecondOrder, Weights},
    landing, order,
};
use crate::{
    Error,
    numbers::{
        registry::entry,
        scheme::{LinearCombination, Scheme, SolverStep},
        sigma::Sigmas,
    },
};

entry! {
    name: "dpm-singlestep",
    what: "D or ε expanded in ln σ within blocks of order 1 … 3",
    source: "Lu et al. 2022b",
    facts: { scores: "1", order: "= order", random: "if sde-*" },
    /// Blocks of as many levels as the order: within a block each level is reached from its beginning, with one order more
    /// than the last [Lu et al. 2022b; diffusers' DPMSolverSinglestepScheduler].
    ///
    /// The weights are those of `dpm-multistep`, with differences from the beginning of the block. Levels that do not fill a
    /// block are walked by smaller ones; with `lower_final` the last block is of order 1.
    #[derive(Copy)]
    pub struct DpmSinglestep {
        /// 1 to 3; sde-noise has no order 3.
        pub order: usize = 2 => "1, 2, 3",
        /// Quantity that is expanded, along the flow or the SDE.
        pub expansion: Expansion = Expansion::Denoised => "denoised, noise, sde-denoised, sde-noise",
        /// Weight of the slope; at order 3, whether the third point counts.
        pub second: SecondOrder = SecondOrder::Midpoint => "midpoint, heun",
        /// The last block has order 1, whatever the number of levels.
        pub lower_final: bool = false => "true, false",
    }
}

impl DpmSinglestep {
    /// Lengths of the blocks for so many steps.
    fn blocks(&self, steps: usize, to_images: bool) -> Vec<usize> {
        let most = self.order;
        let lower = self.lower_final || !steps.is_multiple_of(most) || to_images;
        let mut blocks = vec![most; steps / most];
        blocks.extend((!steps.is_multiple_of(most)).then_some(steps % most));
        // The last block of full length becomes one less and 1.
        if let Some(last) = blocks.last_mut().filter(|last| lower && **last == most && most > 1) {
            *last -= 1;
            blocks.push(1);
        }
        match blocks.last_mut() {
            // To images the last step alone is of order 1.
            Some(last) if to_images && *last > 1 => {
                *last -= 1;
                blocks.push(1);
            }
            _ => {}
        }
        blocks
    }

    fn block(&self, levels: &[f64]) -> SolverStep {
        let reached = |count: usize| self.reached(&levels[..=count]);
        let stages = (0..levels.len() - 1).map(|i| {
            let at = if i == 0 { LinearCombination::state() } else { reached(i) };
            self.expansion.stage(at, levels[i])
        });
        SolverStep { stages: stages.collect(), next: reached(levels.len() - 1) }
    }

    /// The state at the last of the levels, from that at the first, with an evaluation at each of the others.
    fn reached(&self, levels: &[f64]) -> LinearCombination {
        let (sigma, next) = (levels[0], levels[levels.len() - 1]);
        let weights = Weights::new(self.expansion, sigma, next);
        let part = |level: f64| (sigma / level).ln() / (sigma / next).ln();
        let mix = match levels.len() {
            2 => weights.first(0),
            3 => {
                let slope = 1.0 / part(levels[1]);
                weights.second(self.second, 1, &[slope, -slope])
            }
            _ => {
                let (early, late) = (part(levels[1]), part(levels[2]));
                let (near, far) = ([0.0, 1.0 / early, -1.0 / early], [1.0 / late, 0.0, -1.0 / late]);
                if self.second == SecondOrder::Midpoint {
                    weights.second(SecondOrder::Heun, 2, &far)
                } else {
                    let slope: [f64; 3] = std::array::from_fn(|i| (late * near[i] - early * far[i]) / (late - early));
                    let curve: [f64; 3] = std::array::from_fn(|i| 2.0 * (far[i] - near[i]) / (late - early));
                    weights.third(2, &slope, &curve)
                }
            }
        };
        weights.noisy(mix, levels.len() - 2)
    }
}

impl Solver for DpmSinglestep {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let known: &[usize] = if self.expansion == Expansion::SdeNoise { &[1, 2] } else { &[1, 2, 3] };
        order(self.order, known, if known.len() == 2 { "1 or 2" } else { "1, 2 or 3" })?;
        let levels: Vec<f64> = sigmas.iter().chain([sigmas.end()]).collect();
        let mut first = 0;
        let mut steps = Vec::new();
        for length in self.blocks(levels.len() - 1, sigmas.end() == 0.0) {
            let block = &levels[first..=first + length];
            first += length;
            // Where the walk ends at its last level, a longer block still comes back to it.
            let moves = block[length] > 0.0 && block[length] < block[0];
            steps.extend(moves.then(|| self.block(block)));
        }
        Ok(steps.into_iter().chain(landing(sigmas)).collect())
    }
}
