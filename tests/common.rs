//! What several test files share.

use proptest::prelude::*;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use tweedie::numbers::{
    schedule::{LinearBeta, Schedule},
    scheme::{LinearCombination, Scheme},
    sigma::Sigmas,
    walk::Walk,
};

/// |a − b| relative to the larger of the two.
pub fn relative(a: f64, b: f64) -> f64 {
    if a == b { 0.0 } else { (a - b).abs() / a.abs().max(b.abs()) }
}

/// The largest relative difference between the steps of two walks; infinite if they differ in length.
///
/// Temperatures are compared absolutely: they lie between 0 and 1, and 0 is an exact value.
pub fn difference(a: &Walk, b: &Walk) -> f64 {
    if a.0.len() != b.0.len() {
        return f64::INFINITY;
    }
    let step = |(p, q): (&tweedie::numbers::walk::Step, &tweedie::numbers::walk::Step)| {
        let temperature = (p.temperature - q.temperature).abs();
        relative(p.sigma, q.sigma).max(relative(p.tau, q.tau)).max(temperature)
    };
    a.0.iter().zip(&b.0).map(step).fold(0.0, f64::max)
}

/// The same walk without its last step, where conventions differ.
pub fn body(mut walk: Walk) -> Walk {
    walk.0.pop();
    walk
}

/// 2 … 40 random levels, each 1.001 to 3 times the next, the smallest between 10⁻³ and 1.
pub fn levels() -> impl Strategy<Value = Sigmas> {
    (1e-3..1.0, prop::collection::vec(1.001..3.0, 1..40)).prop_map(|(min, ratios): (f64, Vec<f64>)| {
        let grow = |level: &mut f64, ratio: f64| {
            *level *= ratio;
            Some(*level)
        };
        let mut levels: Vec<f64> = [1.0].into_iter().chain(ratios).scan(min, grow).collect();
        levels.reverse();
        Sigmas::new(levels).unwrap()
    })
}

/// A range with which some model was trained, (smallest, largest) level.
pub fn ranges() -> impl Strategy<Value = (f64, f64)> {
    (1e-4..1.0, 1.5..1e5).prop_map(|(min, ratio): (f64, f64)| (min, min * ratio))
}

/// The levels of DDPM's own chain, σ from 157.4 to 0.01 in 1000 times.
pub fn ddpm_levels() -> Sigmas {
    LinearBeta::default().sigmas(1000, (0.0, 0.0)).unwrap()
}

/// Independent draws from N(0, 1), the same for the same seed.
pub fn normals(seed: u64) -> impl FnMut() -> f64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = move || ((random.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    move || (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos()
}

/// A mixture of normal distributions on the line, whose score is known at every level.
pub struct Line {
    /// Weight, mean and standard deviation of each component.
    pub components: Vec<[f64; 3]>,
}

impl Line {
    /// The mixture of the golden tables: 0.3 N(−2, 0.4²) + 0.7 N(1.5, 0.6²).
    pub fn golden() -> Self {
        Self { components: vec![[0.3, -2.0, 0.4], [0.7, 1.5, 0.6]] }
    }

    /// ∂ₓ log f_σ(x).
    pub fn score(&self, x: f64, sigma: f64) -> f64 {
        let terms = self.components.iter().map(|[weight, mean, deviation]| {
            let variance = deviation * deviation + sigma * sigma;
            (weight.ln() - (x - mean).powi(2) / (2.0 * variance) - variance.ln() / 2.0, (mean - x) / variance)
        });
        let terms: Vec<(f64, f64)> = terms.collect();
        let largest = terms.iter().map(|term| term.0).fold(f64::NEG_INFINITY, f64::max);
        let (mut total, mut score) = (0.0, 0.0);
        for (log, slope) in terms {
            total += (log - largest).exp();
            score += (log - largest).exp() * slope;
        }
        score / total
    }

    /// The `count` quantiles at (i + ½)/count of f_σ, by bisection.
    pub fn quantiles(&self, count: usize, sigma: f64) -> Vec<f64> {
        let chance = |x: f64| -> f64 {
            let below = |[weight, mean, deviation]: &[f64; 3]| {
                weight * libm::erfc((mean - x) / (deviation.hypot(sigma) * std::f64::consts::SQRT_2)) / 2.0
            };
            self.components.iter().map(below).sum()
        };
        let widest = self.components.iter().map(|[_, mean, deviation]| mean.abs() + 9.0 * deviation.hypot(sigma));
        let widest = widest.fold(0.0, f64::max);
        let quantile = |i: usize| {
            let (p, mut low, mut high) = ((i as f64 + 0.5) / count as f64, -widest, widest);
            for _ in 0..80 {
                let middle = f64::midpoint(low, high);
                if chance(middle) < p { low = middle } else { high = middle }
            }
            f64::midpoint(low, high)
        };
        (0..count).map(quantile).collect()
    }
}

/// The states of a scheme on the line, with the i-th draw of step k as `noise(k, i)`.
pub fn carry_out(
    scheme: &Scheme,
    mut x: f64,
    score: &dyn Fn(f64, f64) -> f64,
    noise: &mut dyn FnMut(usize, usize) -> f64,
) -> Vec<f64> {
    let mut values: Vec<f64> = Vec::new();
    let mut states = Vec::new();
    for (k, hop) in scheme.0.iter().enumerate() {
        let hop = hop.hop().expect("coefficients known beforehand");
        let mut drawn: Vec<f64> = Vec::new();
        let mut mix = |mix: &LinearCombination, values: &[f64]| {
            while drawn.len() < mix.noise.len() {
                drawn.push(noise(k, drawn.len()));
            }
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            mix.state * x + dot(&mix.values, values) + dot(&mix.noise, &drawn)
        };
        for stage in &hop.stages {
            let at = mix(&stage.at, &values);
            values.insert(0, stage.keep * at + stage.gain * score(at, stage.sigma));
        }
        x = mix(&hop.next, &values);
        values.truncate(scheme.reach());
        states.push(x);
    }
    states
}

/// Without fresh noise.
pub fn quiet(_: usize, _: usize) -> f64 {
    0.0
}

/// The slope of ln(error) over ln(1/n) by least squares: the measured order.
pub fn slope(counts: &[usize], errors: &[f64]) -> f64 {
    let (x, y): (Vec<f64>, Vec<f64>) = counts.iter().zip(errors).map(|(n, e)| (-(*n as f64).ln(), e.ln())).unzip();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let (mx, my) = (mean(&x), mean(&y));
    let above: f64 = x.iter().zip(&y).map(|(x, y)| (x - mx) * (y - my)).sum();
    above / x.iter().map(|x| (x - mx).powi(2)).sum::<f64>()
}
