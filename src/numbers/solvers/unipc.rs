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
    /// first steps and the last take the lower orders. With `noise` ε is expanded: x̄ = x − σ′ (eʰ − 1) ε₀, B of the other sign
    /// of h, and σ′ B in place of B.
    pub struct Unipc {
        /// 1 to 3, of the predictor; the corrector has one more.
        pub order: usize = 2 => "1, 2, 3",
        /// B.
        pub width: Width = Width::Bh2 => "bh1, bh2",
        /// Whether ε is expanded in place of D.
        pub noise: bool = false => "true, false",
        /// The last steps take the lower orders.
        pub lower_final: bool = true => "true, false",
        /// Steps that are not corrected, diffusers' `disable_corrector`.
        pub uncorrected: Vec<usize> = Vec::new() => "0 … K − 2",
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
        let mut levels: Vec<f64> = sigmas.iter().collect();
        let count = levels.len();
        let order_at = |k: usize| most.min(if self.lower_final { count - k } else { most }).min(k + 1);
        // The first evaluation; then at each level one at the predicted state, which also corrects it.
        let mut hops = vec![SolverStep {
            stages: vec![self.stage(LinearCombination::state(), levels[0])],
            next: LinearCombination::state(),
        }];
        for k in 1..count {
            let step = UniPcStep::new(self, &levels[..=k], order_at(k - 1));
            let next = if self.uncorrected.contains(&(k - 1)) { step.kept() } else { step.corrected() };
            hops.push(SolverStep { stages: vec![self.stage(step.predicted(), levels[k])], next });
        }
        if sigmas.end() == 0.0 {
            hops.push(self.landing(sigmas.min()));
        } else if sigmas.end() < sigmas.min() {
            levels.push(sigmas.end());
            let next = UniPcStep::new(self, &levels, order_at(count - 1)).predicted();
            hops.push(SolverStep { stages: vec![], next });
        }
        Ok(hops.into_iter().collect())
    }
}

impl Unipc {
    fn stage(&self, at: LinearCombination, sigma: f64) -> Stage {
        if self.noise { Stage::epsilon(at, sigma) } else { Stage::denoised(at, sigma) }
    }

    /// x ← D, of the newest value.
    fn landing(&self, sigma: f64) -> SolverStep {
        let next =
            if self.noise { LinearCombination::new(1.0, &[-sigma]) } else { LinearCombination::new(0.0, &[1.0]) };
        SolverStep { stages: vec![], next }
    }
}

/// A step from level σ to σ′.
struct UniPcStep {
    /// Coefficient of x in x̄.
    state: f64,
    /// Coefficient of the value at σ in x̄.
    first: f64,
    /// B, times σ′ for ε.
    width: f64,
    /// r₁, …, then 1 for σ′ itself.
    places: Vec<f64>,
    /// b₁, b₂, ….
    moments: Vec<f64>,
}

impl UniPcStep {
    /// `levels` end with σ, σ′.
    fn new(method: &Unipc, levels: &[f64], order: usize) -> Self {
        let (earlier, next) = levels.split_at(levels.len() - 1);
        let (sigma, next) = (earlier[earlier.len() - 1], next[0]);
        let h = (sigma / next).ln();
        let before = earlier.iter().rev().skip(1).take(order - 1);
        let places = before.map(|level| (sigma / level).ln() / h).chain([1.0]).collect();
        let (h, state, scale) = if method.noise { (h, 1.0, next) } else { (-h, next / sigma, 1.0) };
        let width = match method.width {
            Width::Bh1 => h,
            Width::Bh2 => h.exp_m1(),
        };
        // φ: expm1(x)/x − 1, then each over x less the next inverse factorial.
        let (mut phi, mut factorial, mut moments) = (h.exp_m1() / h - 1.0, 1.0, Vec::new());
        for k in 1..=order {
            moments.push(phi * factorial / width);
            factorial *= (k + 1) as f64;
            phi = phi / h - 1.0 / factorial;
        }
        Self { state, first: -scale * h.exp_m1(), width: scale * width, places, moments }
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
        let centre = self.first - terms.iter().sum::<f64>() - new.unwrap_or(0.0);
        LinearCombination::new(self.state, &new.into_iter().chain([centre]).chain(terms).collect::<Vec<_>>())
    }

    fn predicted(&self) -> LinearCombination {
        self.mix(&self.prediction(), None)
    }

    /// The predicted state, after the evaluation there.
    fn kept(&self) -> LinearCombination {
        self.mix(&self.prediction(), Some(0.0))
    }

    fn prediction(&self) -> Vec<f64> {
        let count = self.places.len() - 1;
        if count == 0 { vec![] } else { self.weights(count) }
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
