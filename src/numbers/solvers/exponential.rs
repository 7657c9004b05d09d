//! Exponential integrators in ln σ: what DPM-Solver and DPM-Solver++ have in common, with noise and without.

use serde::{Deserialize, Serialize};

use crate::numbers::scheme::{LinearCombination, SolverStep, Stage};

/// What is expanded around the beginning of a step, and whether the flow or the reverse-time SDE is followed.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Expansion {
    /// D along the flow: DPM-Solver++ [Lu et al. 2022b].
    #[default]
    Denoised,
    /// ε along the flow: DPM-Solver [Lu et al. 2022a].
    Noise,
    /// D along the SDE: SDE-DPM-Solver++ [Lu et al. 2022b, §5].
    SdeDenoised,
    /// ε along the SDE: SDE-DPM-Solver [Lu et al. 2022b, §5].
    SdeNoise,
}

/// How the second order weighs the slope.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecondOrder {
    /// By half the weight of the constant, as the papers' algorithms do.
    #[default]
    Midpoint,
    /// By its integral over the step.
    Heun,
}

impl Expansion {
    /// An evaluation of what is expanded.
    pub fn stage(self, at: LinearCombination, sigma: f64) -> Stage {
        match self {
            Self::Denoised | Self::SdeDenoised => Stage::denoised(at, sigma),
            Self::Noise | Self::SdeNoise => Stage::epsilon(at, sigma),
        }
    }
}

/// x′ = state x + constant v + (midpoint or slope) v′ + curve v″ + noise n, with v and its derivatives in −ln σ at the
/// beginning of a step of length h = ln(σ/σ′), those multiplied by h and h².
#[derive(Clone, Copy, Debug)]
pub struct Weights {
    state: f64,
    constant: f64,
    midpoint: f64,
    slope: f64,
    curve: f64,
    noise: f64,
}

impl Weights {
    /// The weights of a step from σ to σ′ > 0, or to 0 where nothing but the constant counts.
    pub fn new(expansion: Expansion, sigma: f64, next: f64) -> Self {
        let (h, ratio) = ((sigma / next).ln(), next / sigma);
        match expansion {
            Expansion::Denoised => Self::denoised(ratio, h, 0.0),
            Expansion::SdeDenoised => Self::denoised(ratio * ratio, 2.0 * h, next * (1.0 - ratio * ratio).sqrt()),
            Expansion::Noise => Self::epsilon(next, h, 1.0, 0.0),
            Expansion::SdeNoise => Self::epsilon(next, h, 2.0, ((sigma - next) * (sigma + next)).sqrt()),
        }
    }

    /// With D: `kept` = exp(−H).
    fn denoised(kept: f64, h: f64, noise: f64) -> Self {
        let constant = 1.0 - kept;
        let slope = 1.0 - constant / h;
        Self { state: kept, constant, midpoint: constant / 2.0, slope, curve: 0.5 - slope / h, noise }
    }

    /// With ε, `times` as strong as along the flow.
    fn epsilon(next: f64, h: f64, times: f64, noise: f64) -> Self {
        let grown = h.exp_m1();
        let weight = -times * next;
        let slope = grown / h - 1.0;
        Self {
            state: 1.0,
            constant: weight * grown,
            midpoint: weight * grown / 2.0,
            slope: weight * slope,
            curve: weight * (slope / h - 0.5),
            noise,
        }
    }

    /// Of first order: v alone, which stands behind `before` other values.
    pub fn first(&self, before: usize) -> LinearCombination {
        self.mix(vec![0.0; before].into_iter().chain([self.constant]).collect())
    }

    /// Of second order, with h v′ the given combination of values; v is the one at `place`.
    pub fn second(&self, kind: SecondOrder, place: usize, derivative: &[f64]) -> LinearCombination {
        let weight = match kind {
            SecondOrder::Midpoint => self.midpoint,
            SecondOrder::Heun => self.slope,
        };
        self.mix(self.expanded(place, &[(weight, derivative)]))
    }

    /// Of third order, with h v′ and h² v″.
    pub fn third(&self, place: usize, derivative: &[f64], second: &[f64]) -> LinearCombination {
        self.mix(self.expanded(place, &[(self.slope, derivative), (self.curve, second)]))
    }

    fn expanded(&self, place: usize, terms: &[(f64, &[f64])]) -> Vec<f64> {
        let count = terms.iter().map(|(_, values)| values.len()).max().unwrap_or(0);
        let at = |i: usize| terms.iter().map(|(weight, values)| weight * values.get(i).unwrap_or(&0.0)).sum::<f64>();
        (0..count).map(|i| at(i) + if i == place { self.constant } else { 0.0 }).collect()
    }

    fn mix(&self, values: Vec<f64>) -> LinearCombination {
        LinearCombination { state: self.state, values, noise: Vec::new() }
    }

    /// The combination with this step's noise as the `draw`-th draw, if there is any.
    pub fn noisy(&self, mix: LinearCombination, draw: usize) -> LinearCombination {
        if self.noise == 0.0 {
            return mix;
        }
        mix.with_noise(&vec![0.0; draw].into_iter().chain([self.noise]).collect::<Vec<_>>())
    }
}

/// One evaluation at the state, and what follows of it.
pub fn one(expansion: Expansion, sigma: f64, next: LinearCombination) -> SolverStep {
    SolverStep { stages: vec![expansion.stage(LinearCombination::state(), sigma)], next }
}
