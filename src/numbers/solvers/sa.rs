//! SA-Solver: stochastic Adams methods, which correct each step by the evaluation of the next.

use super::{Solver, order};
use crate::{
    Error,
    numbers::{
        quadrature::integral,
        registry::entry,
        scheme::{LinearCombination, Scheme, SolverStep, Stage},
        sigma::{Sigmas, at_least_zero},
    },
};

entry! {
    name: "sa",
    what: "stochastic Adams: predicts and corrects with noise τ",
    source: "Xue et al. 2023",
    facts: { scores: "1", order: "–", random: "if τ > 0" },
    /// The SDE with noise τ integrated with D, or ε, a polynomial in λ = −ln σ [Xue et al. 2023, SA-Solver; diffusers'
    /// SASolverScheduler].
    ///
    /// With c = 1 + τ², h = ln(σ/σ′) and Lⱼ the Lagrange polynomials through the last levels (predictor), or through σ′ as well
    /// (corrector, with the same noise):
    ///
    /// ```text
    /// D   x ← exp(−c h) x + Σⱼ Dⱼ c ∫ exp(c (λ − λ′)) Lⱼ dλ + σ′ √(1 − exp(−2 τ² h)) n
    /// ε   x ← x − Σⱼ εⱼ c ∫ exp(−λ) Lⱼ dλ + τ √(σ² − σ′²) n
    /// ```
    ///
    /// At order 2 of D the weights are moved as in the authors' code, which makes h² exact. First and last steps take lower
    /// orders.
    #[derive(Copy)]
    pub struct Sa {
        /// 1 to 3, of the predictor.
        pub predictor: usize = 2 => "1, 2, 3",
        /// 1 to 4, of the corrector, with the new level among its points.
        pub corrector: usize = 2 => "1, 2, 3, 4",
        /// Whether ε is the polynomial in place of D.
        pub noise: bool = false => "true, false",
        /// τ: 0 follows the probability flow, 1 the reverse-time SDE.
        pub tau: f64 = 1.0 => "≥ 0",
        /// The smallest σ with noise.
        pub tau_min: f64 = 0.0 => "≥ 0" in "data units",
        /// The largest σ with noise.
        pub tau_max: f64 = f64::MAX => "≥ tau_min" in "data units",
        /// The last steps take the lower orders.
        pub lower_final: bool = true => "true, false",
    }
}

impl Solver for Sa {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        order(self.predictor, &[1, 2, 3], "1, 2 or 3")?;
        order(self.corrector, &[1, 2, 3, 4], "1, 2, 3 or 4")?;
        at_least_zero("tau", self.tau)?;
        let mut levels: Vec<f64> = sigmas.iter().collect();
        let count = levels.len();
        let left = |k: usize, more: usize| if self.lower_final { count - k + more } else { count };
        let predicted = |levels: &[f64]| {
            let k = levels.len() - 2;
            self.predicted(levels, self.predictor.min(left(k, 0)).min(k + 1))
        };
        let first = self.stage(LinearCombination::state(), levels[0]);
        let mut hops = vec![SolverStep { stages: vec![first], next: LinearCombination::state() }];
        for k in 1..count {
            let known = &levels[..=k];
            let next = self.corrected(known, self.corrector.min(left(k - 1, 1)).min(k + 1));
            hops.push(SolverStep { stages: vec![self.stage(predicted(known), levels[k])], next });
        }
        if sigmas.end() == 0.0 {
            let values = if self.noise { (1.0, -sigmas.min()) } else { (0.0, 1.0) };
            hops.push(SolverStep { stages: vec![], next: LinearCombination::new(values.0, &[values.1]) });
        } else if sigmas.end() < sigmas.min() {
            levels.push(sigmas.end());
            hops.push(SolverStep { stages: vec![], next: predicted(&levels) });
        }
        Ok(hops.into_iter().collect())
    }
}

impl Sa {
    fn stage(&self, at: LinearCombination, sigma: f64) -> Stage {
        if self.noise { Stage::epsilon(at, sigma) } else { Stage::denoised(at, sigma) }
    }

    /// c of a step from this level.
    fn rate(&self, sigma: f64) -> f64 {
        // Levels of whole times may be off by a rounding.
        let within = sigma >= self.tau_min * (1.0 - 1e-9) && sigma <= self.tau_max * (1.0 + 1e-9);
        if within { 1.0 + self.tau * self.tau } else { 1.0 }
    }

    /// `levels` end with σ, σ′; through the last of those before σ′.
    fn predicted(&self, levels: &[f64], order: usize) -> LinearCombination {
        let k = levels.len() - 2;
        let points: Vec<f64> = (0..order).map(|j| -levels[k - j].ln()).collect();
        let mut weights = self.weights(levels, &points);
        if order == 2 && !self.noise {
            let h = (levels[k] / levels[k + 1]).ln();
            let moved = self.moved(levels[k], h) * h / (points[0] - points[1]);
            (weights[0], weights[1]) = (weights[0] + moved, weights[1] - moved);
        }
        self.step(levels, weights)
    }

    /// Through σ′ as well, the newest value.
    fn corrected(&self, levels: &[f64], order: usize) -> LinearCombination {
        let k = levels.len() - 1;
        let points: Vec<f64> = (0..order).map(|j| -levels[k - j].ln()).collect();
        let mut weights = self.weights(levels, &points);
        if order == 2 && !self.noise {
            let moved = self.moved(levels[k - 1], (levels[k - 1] / levels[k]).ln());
            (weights[0], weights[1]) = (weights[0] + moved, weights[1] - moved);
        }
        self.step(levels, weights)
    }

    /// c (h/2 − (c h − 1 + exp(−c h))/(c² h)).
    fn moved(&self, sigma: f64, h: f64) -> f64 {
        let c = self.rate(sigma);
        c * (h / 2.0 - (c * h + (-c * h).exp_m1()) / (c * c * h))
    }

    /// Weights of the values at these λ.
    fn weights(&self, levels: &[f64], points: &[f64]) -> Vec<f64> {
        let k = levels.len() - 2;
        let (from, to, c) = (-levels[k].ln(), -levels[k + 1].ln(), self.rate(levels[k]));
        let weigh = |lambda: f64| if self.noise { -c * (-lambda).exp() } else { c * (c * (lambda - to)).exp() };
        let basis = |j: usize, lambda: f64| {
            let others = points.iter().enumerate().filter(|(i, _)| *i != j);
            others.map(|(_, point)| (lambda - point) / (points[j] - point)).product::<f64>()
        };
        (0..points.len()).map(|j| integral(|lambda| weigh(lambda) * basis(j, lambda), from, to)).collect()
    }

    fn step(&self, levels: &[f64], values: Vec<f64>) -> LinearCombination {
        let k = levels.len() - 2;
        let (sigma, next) = (levels[k], levels[k + 1]);
        let (h, square) = ((sigma / next).ln(), self.rate(sigma) - 1.0);
        let (state, noise) = if self.noise {
            (1.0, (square * (sigma - next) * (sigma + next)).sqrt())
        } else {
            ((-(1.0 + square) * h).exp(), next * (-(-2.0 * square * h).exp_m1()).sqrt())
        };
        let noise = if noise > 0.0 { vec![noise] } else { vec![] };
        LinearCombination { state, values, noise }
    }
}
