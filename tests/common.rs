//! What several test files share.

use proptest::prelude::*;
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use tweedie::{
    schedule::{LinearBeta, Schedule},
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
    let step = |(p, q): (&tweedie::walk::Step, &tweedie::walk::Step)| {
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
