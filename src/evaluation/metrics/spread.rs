//! Spread of a figure over other images, and its limit with more of them.

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::frechet::{Factored, Moments, Statistics};
use crate::Error;

/// Mean and standard deviation of a figure over subsets.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The mean.
    pub mean: f64,
    /// √ of the mean square around it, as `numpy.std` has it.
    pub deviation: f64,
}

impl Spread {
    /// Mean and deviation of these values.
    pub fn from_values(values: &[f64]) -> Self {
        let mean = |values: &mut dyn Iterator<Item = f64>, count: usize| values.sum::<f64>() / count as f64;
        let average = mean(&mut values.iter().copied(), values.len());
        let square = mean(&mut values.iter().map(|value| (value - average).powi(2)), values.len());
        Self { mean: average, deviation: square.sqrt() }
    }
}

/// Numbers 0 … `below` − 1, drawn by (seed, draw).
fn drawn(below: i64, seed: u64, draw: u64) -> impl FnMut() -> i64 {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(draw);
    move || (random.next_u64() % below as u64) as i64
}

/// The first `size` of a random order of 0 … `count` − 1, the same for the same (seed, draw).
pub fn subset(count: i64, size: i64, seed: u64, draw: u64) -> Tensor {
    let mut order: Vec<i64> = (0..count).collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(draw);
    for i in 0..size.min(count) as usize {
        order.swap(i, i + (random.next_u64() % (count as u64 - i as u64)) as usize);
    }
    order.truncate(size as usize);
    Tensor::from_slice(&order)
}

/// The spread of the Fréchet distance over `times` sets drawn from `features`, `[n, dimensions]`, with replacement
/// [Efron 1979]. Its mean is not the distance: a set with repetitions lies further off.
pub fn bootstrap(features: &Tensor, reference: &Statistics, times: u64, seed: u64) -> Result<Spread, Error> {
    let (count, reference) = (features.size()[0], reference.factored()?);
    let one = |draw: u64| {
        let mut index = drawn(count, seed, draw);
        let indices: Vec<i64> = (0..count).map(|_| index()).collect();
        of_some(features, &Tensor::from_slice(&indices), &reference)
    };
    Ok(Spread::from_values(&(0..times).map(one).collect::<Result<Vec<_>, _>>()?))
}

/// FID∞: the Fréchet distance at 1/n = 0 of a straight line through those of 15 subsets, of n images each from a tenth of
/// all to all of them [Chong & Forsyth 2020, §4]. A finite set's distance is too large by a term in 1/n.
pub fn extrapolated(features: &Tensor, reference: &Statistics, seed: u64) -> Result<f64, Error> {
    const POINTS: i64 = 15;
    let (count, reference) = (features.size()[0], reference.factored()?);
    let fewest = (count / 10).max(2);
    let point = |k: i64| {
        let size = fewest + (count - fewest) * k / (POINTS - 1);
        let value = of_some(features, &subset(count, size, seed, k as u64), &reference)?;
        Ok(((size as f64).recip(), value))
    };
    let points = (0..POINTS).map(point).collect::<Result<Vec<_>, Error>>()?;
    Ok(at_zero(&points))
}

/// Distance of chosen features, in pieces: f64 copies of all at once would be large.
fn of_some(features: &Tensor, indices: &Tensor, reference: &Factored) -> Result<f64, Error> {
    let mut moments = Moments::new(features.size()[1]);
    for piece in indices.to_device(Device::Cpu).split(4096, 0) {
        moments.push(&features.index_select(0, &piece).to_kind(Kind::Double));
    }
    reference.distance(&moments.statistics()?)
}

/// The least-squares line's value at 0.
fn at_zero(points: &[(f64, f64)]) -> f64 {
    let count = points.len() as f64;
    let (x, y) = points.iter().fold((0.0, 0.0), |(a, b), (x, y)| (a + x / count, b + y / count));
    let above: f64 = points.iter().map(|(a, b)| (a - x) * (b - y)).sum();
    let below: f64 = points.iter().map(|(a, _)| (a - x).powi(2)).sum();
    if below > 0.0 { y - above / below * x } else { y }
}
