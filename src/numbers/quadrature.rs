//! Integrals of smooth functions.

use std::{f64::consts::PI, sync::LazyLock};

/// Points of Gauss and Legendre's rule: exact for polynomials of degree 39.
const POINTS: usize = 20;

/// ∫ f from `a` to `b`, which may be smaller than `a`.
pub fn integral(f: impl Fn(f64) -> f64, a: f64, b: f64) -> f64 {
    let (middle, half) = (f64::midpoint(a, b), (b - a) / 2.0);
    NODES.iter().map(|(x, weight)| weight * f(middle + half * x)).sum::<f64>() * half
}

/// ∫ f from the first of `at` to each of them, where only `values` of f are known there: 0 comes first.
///
/// Between two points f is the cubic through them and their neighbours, so that cubics come out exact on any points; where
/// there are fewer than four, the polynomial through all.
pub fn running(at: &[f64], values: &[f64]) -> Vec<f64> {
    let mut total = vec![0.0];
    for k in 1..at.len() {
        let first = k.saturating_sub(2).min(at.len().saturating_sub(4));
        let near = first..(first + 4).min(at.len());
        let piece = integral(|x| lagrange(&at[near.clone()], &values[near.clone()], x), at[k - 1], at[k]);
        total.push(total[k - 1] + piece);
    }
    total
}

/// The polynomial through some points, at x.
fn lagrange(at: &[f64], values: &[f64], x: f64) -> f64 {
    let weight = |i: usize| (0..at.len()).filter(|&j| j != i).map(|j| (x - at[j]) / (at[i] - at[j])).product::<f64>();
    values.iter().enumerate().map(|(i, value)| value * weight(i)).sum()
}

/// The roots of the Legendre polynomial on −1 … 1, with their weights 2/((1 − x²) P′(x)²).
static NODES: LazyLock<[(f64, f64); POINTS]> = LazyLock::new(|| std::array::from_fn(node));

/// The i-th of them, by Newton's method.
fn node(i: usize) -> (f64, f64) {
    let mut x = (PI * (i as f64 + 0.75) / (POINTS as f64 + 0.5)).cos();
    // From this start Newton's method is at the last digit after four steps.
    for _ in 0..6 {
        let (value, slope) = legendre(x);
        x -= value / slope;
    }
    let (_, slope) = legendre(x);
    (x, 2.0 / ((1.0 - x * x) * slope * slope))
}

/// P(x) and P′(x) by the three-term recurrence.
fn legendre(x: f64) -> (f64, f64) {
    let (mut before, mut value) = (1.0, x);
    for n in 2..=POINTS {
        let n = n as f64;
        (before, value) = (value, ((2.0 * n - 1.0) * x * value - (n - 1.0) * before) / n);
    }
    (value, POINTS as f64 * (x * value - before) / (x * x - 1.0))
}
