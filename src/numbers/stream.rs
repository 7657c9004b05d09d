//! Streams of random numbers that are the same, bit for bit, on every machine.
//!
//! The bits are ChaCha8's with the key (seed, step, draw); `libm` computes the logarithm and the sine, since the
//! platforms' own differ in the last bit. GPUs compute the same bits by a kernel of their own.

use std::{f64::consts::TAU, iter};

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};

fn bits(seed: u64, step: u64, draw: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([seed, step, draw]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

/// Uniform on (0, 1], on a grid of 2⁻⁵³.
pub fn uniform(seed: u64, step: u64, draw: u64) -> impl Iterator<Item = f64> {
    let mut bits = bits(seed, step, draw);
    iter::repeat_with(move || ((bits.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64)
}

/// Standard normal, by Box and Muller's transform.
pub fn normal(seed: u64, step: u64, draw: u64) -> impl Iterator<Item = f64> {
    let mut uniform = uniform(seed, step, draw);
    let pair = move || {
        let radius = (-2.0 * libm::log(uniform.next().unwrap_or(1.0))).sqrt();
        let (sine, cosine) = libm::sincos(TAU * uniform.next().unwrap_or(1.0));
        [radius * cosine, radius * sine]
    };
    iter::repeat_with(pair).flatten()
}

/// Whole numbers below `count`, in random order, each once [Fisher & Yates].
pub fn permutation(count: usize, seed: u64, step: u64, draw: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    for (i, u) in (1..count).rev().zip(uniform(seed, step, draw)) {
        order.swap(i, ((u * (i + 1) as f64) as usize).min(i));
    }
    order
}
