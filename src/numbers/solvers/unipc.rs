//! UniPC: one evaluation serves both to correct a step and to predict the next.

use serde::{Deserialize, Serialize};

use super::{Solver, order};
use crate::{
    Error,
    numbers::{
        registry::entry,
        scheme::{LinearCombination, Scheme, SolverStep, Stage},
        sigma::Sigmas,
    },
};

entry! {
    name: "unipc",
    what: "predicts and corrects; order 1 … 3, width bh1, bh2",
    source: "Zhao et al. 2023",
    facts: { scores: "1", order: "= order + 1", random: "no" },
    aliases: ["UniPCMultistepScheduler" { "order": "2", "width": "bh2" }],
    /// Unified predictor and corrector on D [Zhao et al. 2023, Algorithms 5 and 6 (data prediction)].
    ///
    /// With h = ln(σ/σ′), D₀ at σ, D₁, … at the levels before (in ln σ at distance rₘ h from σ, r < 0) and D′ at the predicted x:
    ///
    /// ```text
    /// x̄ = (σ′/σ) x + (1 − σ′/σ) D₀
    /// predict   x′ = x̄ − B Σₘ aₘ (Dₘ − D₀)/rₘ
    /// correct   x′ = x̄ − B (Σₘ cₘ (Dₘ − D₀)/rₘ + c′ (D′ − D₀))
    /// ```
    ///
    /// where a and c make the expansion right to the order wanted: Σₘ rₘᵏ⁻¹ aₘ = bₖ with bₖ = k! φₖ₊₁(−h)(−h)ᵏ⁻¹ … over B. The
    /// first steps and the last take the lower orders.
    #[derive(Copy)]
    pub struct Unipc {
        /// 1 to 3, of the predictor; the corrector has one more.
        pub order: usize = 2 => "1, 2, 3",
        /// B.
        pub width: Width = Width::Bh2 => "bh1, bh2",
    }
}

/// B(h), which matters at order 1 of the corrector's own term only by rounding, and to what order errors are.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Width {
    /// −h.
    Bh1,
    /// exp(−h) − 1.
    #[default]
    Bh2,
}

impl Solver for Unipc {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        let most = order(self.order, &[1, 2, 3], "1, 2 or 3")?;
        let levels: Vec<f64> = sigmas.iter().collect();
        let count = levels.len();
        let order_at = |k: usize| most.min(count - k).min(k + 1);
        // The first evaluation; then at each level one at the predicted state, which also corrects it.
        let mut hops = vec![SolverStep {
            stages: vec![Stage::denoised(LinearCombination::state(), levels[0])],
            next: LinearCombination::state(),
        }];
        for k in 1..count {
            let step = UniPcStep::new(&levels[..=k], order_at(k - 1), self.width);
            let stage = Stage::denoised(step.predicted(), levels[k]);
            hops.push(SolverStep { stages: vec![stage], next: step.corrected() });
        }
        hops.push(SolverStep { stages: vec![], next: LinearCombination::new(0.0, &[1.0]) });
        Ok(hops.into_iter().collect())
    }
}

/// A step from level σ to σ′.
struct UniPcStep {
    /// σ′/σ.
    ratio: f64,
    /// B.
    width: f64,
    /// r₁, …, then 1 for σ′ itself.
    places: Vec<f64>,
    /// b₁, b₂, ….
    moments: Vec<f64>,
}

impl UniPcStep {
    /// `levels` end with σ, σ′.
    fn new(levels: &[f64], order: usize, width: Width) -> Self {
        let (earlier, next) = levels.split_at(levels.len() - 1);
        let sigma = earlier[earlier.len() - 1];
        let h = (sigma / next[0]).ln();
        let before = earlier.iter().rev().skip(1).take(order - 1);
        let places = before.map(|level| (sigma / level).ln() / h).chain([1.0]).collect();
        let width = match width {
            Width::Bh1 => -h,
            Width::Bh2 => (-h).exp_m1(),
        };
        // φ: expm1(x)/x − 1, then each over x less the next inverse factorial.
        let (mut phi, mut factorial, mut moments) = ((-h).exp_m1() / -h - 1.0, 1.0, Vec::new());
        for k in 1..=order {
            moments.push(phi * factorial / width);
            factorial *= (k + 1) as f64;
            phi = phi / -h - 1.0 / factorial;
        }
        Self { ratio: next[0] / sigma, width, places, moments }
    }

    /// The weights of (Dₘ − D₀)/rₘ that match the first `count` moments.
    fn weights(&self, count: usize) -> Vec<f64> {
        if count == 1 {
            return vec![0.5];
        }
        let row = |k: usize| self.places[..count].iter().map(|r| r.powi(k as i32)).collect();
        solve((0..count).map(row).collect(), self.moments[..count].to_vec())
    }

    /// x̄ less B times the weighted differences; `own` is the weight of D′, the newest value where there is one.
    fn mix(&self, weights: &[f64], own: Option<f64>) -> LinearCombination {
        let terms: Vec<f64> = weights.iter().zip(&self.places).map(|(w, r)| -self.width * w / r).collect();
        let new = own.map(|own| -self.width * own);
        let centre = 1.0 - self.ratio - terms.iter().sum::<f64>() - new.unwrap_or(0.0);
        LinearCombination::new(self.ratio, &new.into_iter().chain([centre]).chain(terms).collect::<Vec<_>>())
    }

    fn predicted(&self) -> LinearCombination {
        let count = self.places.len() - 1;
        self.mix(&if count == 0 { vec![] } else { self.weights(count) }, None)
    }

    fn corrected(&self) -> LinearCombination {
        let mut weights = self.weights(self.places.len());
        let own = weights.pop();
        self.mix(&weights, own)
    }
}

/// The solution of a small linear system, by elimination with pivots.
fn solve(mut rows: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let n = right.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&a, &b| rows[a][i].abs().total_cmp(&rows[b][i].abs())).unwrap_or(i);
        rows.swap(i, pivot);
        right.swap(i, pivot);
        for j in i + 1..n {
            let factor = rows[j][i] / rows[i][i];
            let upper = rows[i].clone();
            rows[j].iter_mut().zip(&upper).for_each(|(x, y)| *x -= factor * y);
            right[j] -= factor * right[i];
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| rows[i][j] * right[j]).sum();
        right[i] = (right[i] - known) / rows[i][i];
    }
    right
}
