//! From noise to images: the one loop.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use crate::{
    Error,
    denoiser::Score,
    noise::Noise,
    scheme::{Mix, Scheme},
};

/// States of a run, each computed when asked for; the last is the image.
pub type States<'a> = Box<dyn Iterator<Item = Tensor> + 'a>;

/// Carries out a scheme, or a walk, from `x`, `[batch, channels, height, width]` in the σ frame.
///
/// Memory does not grow with the number of steps, and nothing waits for the device. Steps are not capped here: see
/// [`crate::plan::Plan::course`].
pub fn follow<'a>(scheme: impl Into<Scheme>, x: Tensor, score: &'a dyn Score, noise: &'a dyn Noise) -> States<'a> {
    let scheme = scheme.into();
    let reach = scheme.reach();
    Box::new(scheme.0.into_iter().enumerate().scan((x, Vec::new()), move |(x, values), (k, hop)| {
        let _guard = tch::no_grad_guard();
        let drawn: Vec<Tensor> = (0..hop.draws()).map(|i| noise.like(x, k as u64 + 1, i as u64)).collect();
        for stage in &hop.stages {
            let at = sum(&stage.at, x, values, &drawn);
            let gained = score.score(&at, stage.sigma) * stage.gain;
            values.insert(0, if stage.keep == 0.0 { gained } else { gained + at * stage.keep });
        }
        *x = sum(&hop.next, x, values, &drawn);
        values.truncate(reach);
        Some(x.shallow_clone())
    }))
}

/// state · x + Σ values · v + Σ noise · n, from left to right, without what is not there.
fn sum(mix: &Mix, x: &Tensor, values: &[Tensor], drawn: &[Tensor]) -> Tensor {
    let terms = [(&mix.state, x)].into_iter().chain(mix.values.iter().zip(values)).chain(mix.noise.iter().zip(drawn));
    let scaled = |(factor, tensor): (&f64, &Tensor)| match *factor {
        1.0 => tensor.shallow_clone(),
        factor => tensor * factor,
    };
    let present = terms.filter(|(factor, _)| **factor != 0.0).map(scaled);
    present.reduce(|total, term| total + term).unwrap_or_else(|| x.zeros_like())
}

/// A score that remembers, on the device, when it first was not finite.
///
/// The loop needs no answer from the device, so it is asked once, at the end, by [`Watched::check`].
pub struct Watched<'a> {
    score: &'a dyn Score,
    seen: RefCell<Seen>,
}

#[derive(Default)]
struct Seen {
    sigmas: Vec<f64>,
    /// For each image the first evaluation that was not finite, or the number of evaluations so far.
    first: Option<Tensor>,
}

impl std::fmt::Debug for Watched<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watched").field("evaluations", &self.evaluations()).finish_non_exhaustive()
    }
}

impl<'a> Watched<'a> {
    /// Watches `score`.
    pub fn new(score: &'a dyn Score) -> Self {
        Self { score, seen: RefCell::default() }
    }

    /// How often the score was asked for.
    pub fn evaluations(&self) -> usize {
        self.seen.borrow().sigmas.len()
    }

    /// An error that names step, σ and `seeds` (one for each image of the batch) where a score was not finite.
    pub fn check(&self, seeds: &[u64]) -> Result<(), Error> {
        let seen = self.seen.borrow();
        let Some(first) = &seen.first else { return Ok(()) };
        let first = Vec::<i64>::try_from(first)?;
        let evaluation = first.iter().map(|&k| k as usize).min().unwrap_or(usize::MAX);
        let Some(&sigma) = seen.sigmas.get(evaluation) else { return Ok(()) };
        let lost = first.iter().zip(seeds).filter(|(k, _)| (**k as usize) < seen.sigmas.len());
        Err(Error::NotFinite { evaluation, sigma, seeds: lost.map(|(_, &seed)| seed).collect() })
    }
}

impl Score for Watched<'_> {
    fn score(&self, x: &Tensor, sigma: f64) -> Tensor {
        let score = self.score.score(x, sigma);
        let seen = &mut *self.seen.borrow_mut();
        let now = seen.sigmas.len() as i64;
        // A sum is finite only if all its terms are; images cannot come near the largest f32.
        let finite = score.flatten(1, -1).sum_dim_intlist([1i64].as_slice(), false, None).isfinite();
        let alive =
            seen.first.take().unwrap_or_else(|| Tensor::full(finite.size(), now, (Kind::Int64, finite.device())));
        // Images alive so far hold `now`; those still finite move on to `now + 1`.
        let still = alive.eq(now).logical_and(&finite);
        seen.first = Some(alive + still.to_kind(Kind::Int64));
        seen.sigmas.push(sigma);
        score
    }

    fn step_limit(&self) -> f64 {
        self.score.step_limit()
    }
}
