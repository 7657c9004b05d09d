//! Upper bounds on the error of a reverse-time sampler, and the distances of normal distributions that they bound.
//!
//! All bounds are for continuous time: they count a start from noise in place of p_T, and a score that errs by ε, not the
//! steps [SDE tutorial, §6].

use crate::numbers::{quadrature::integral, sde::Sde};

/// A normal distribution on the line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Normal {
    /// Mean.
    pub mean: f64,
    /// Standard deviation.
    pub deviation: f64,
}

impl Normal {
    /// W₂² = (m₁ − m₂)² + (s₁ − s₂)²; W₂ is its root.
    pub fn wasserstein(&self, other: &Self) -> f64 {
        (self.mean - other.mean).hypot(self.deviation - other.deviation)
    }

    /// KL(self ‖ other) = ln(s₂/s₁) + (s₁² + (m₁ − m₂)²)/(2 s₂²) − ½.
    pub fn divergence(&self, other: &Self) -> f64 {
        let spread = (self.deviation.powi(2) + (self.mean - other.mean).powi(2)) / (2.0 * other.deviation.powi(2));
        (other.deviation / self.deviation).ln() + spread - 0.5
    }

    /// ½ ∫ |p − q|, between the places where the two densities cross.
    pub fn total_variation(&self, other: &Self) -> f64 {
        let (narrow, wide) = if self.deviation <= other.deviation { (self, other) } else { (other, self) };
        let gap = narrow.mean - wide.mean;
        // ln p − ln q = a x² + b x + c around the wide one's mean.
        let [sharp, broad] = [narrow, wide].map(|normal| normal.deviation.powi(-2));
        let a = (broad - sharp) / 2.0;
        let (b, c) = (sharp * gap, (wide.deviation / narrow.deviation).ln() - sharp * gap * gap / 2.0);
        if a.abs() < 1e-12 * sharp {
            // Equal widths: one crossing, half way.
            return libm::erf(gap.abs() / (2.0 * 2f64.sqrt() * narrow.deviation));
        }
        let root = (b * b - 4.0 * a * c).sqrt();
        let crossings = [(-b + root) / (2.0 * a), (-b - root) / (2.0 * a)];
        let within = |normal: &Self, centre: f64| {
            let below = |x: f64| libm::erfc((centre - x) / (normal.deviation * 2f64.sqrt())) / 2.0;
            (below(crossings[1]) - below(crossings[0])).abs()
        };
        within(narrow, gap) - within(wide, 0.0)
    }
}

/// 0 … `end` in thirty pieces, so that processes that run wild at one end are followed.
fn pieces(end: f64) -> impl Iterator<Item = (f64, f64)> {
    const PIECES: u32 = 30;
    let edge = move |i: u32| end * (f64::from(i) / f64::from(PIECES));
    (0..PIECES).map(move |i| (edge(i), edge(i + 1)))
}

/// TV ≤ TV(p_T, noise) + √(½ KL) with KL = (1 + ρ²)² ε²/(8 ρ²) ∫ g² [SDE tutorial, Theorem 5.1; Girsanov and Pinsker].
///
/// ε² bounds E|s − ∇ log p_t|² at every t. Without noise, at ρ = 0, there is no bound of this kind. For ρ = 1 the second term is (ε/2) √∫g², which is ε √(T/2) where g² = 2.
pub fn total_variation(sde: &dyn Sde, start: f64, epsilon: f64, rho: f64) -> f64 {
    let energy: f64 = pieces(sde.end()).map(|(from, to)| integral(|t| sde.diffusion(t), from, to)).sum();
    let divergence = (1.0 + rho * rho).powi(2) * epsilon * epsilon / (8.0 * rho * rho) * energy;
    start + (divergence / 2.0).sqrt()
}

/// W₂² ≤ W₂²(p_T, noise) e^U + ε²/(2h) ∫₀ᵀ g²(s) e^(u(s)) ds for the reverse SDE, ρ = 1 [SDE tutorial, Theorem 5.4].
///
/// u(s) = ∫₀ˢ (−2 f + (2L + 2h) g²), U = u(T): what a disturbance at time s has grown to when it arrives at 0. `lipschitz` is
/// L(t), one-sided: ⟨∇ log p_t(x) − ∇ log p_t(y), x − y⟩ ≤ L |x − y|². It is negative where p_t is log-concave: −1/V_t for
/// a normal distribution of variance V_t. h > 0 is free; the best one is the user's to find.
pub fn wasserstein(sde: &dyn Sde, start: f64, epsilon: f64, lipschitz: &dyn Fn(f64) -> f64, h: f64) -> f64 {
    let rate = |t: f64| -2.0 * sde.drift(t) + 2.0 * (lipschitz(t) + h) * sde.diffusion(t);
    let (mut u, mut disturbed) = (0.0, 0.0);
    for (from, to) in pieces(sde.end()) {
        disturbed += integral(|t| sde.diffusion(t) * (u + integral(rate, from, t)).exp(), from, to);
        u += integral(rate, from, to);
    }
    (start * start * u.exp() + epsilon * epsilon / (2.0 * h) * disturbed).sqrt()
}
