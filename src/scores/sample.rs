//! The one loop from noise to images.

use std::cell::RefCell;

use tch::{Kind, Tensor};

use crate::{
    Error,
    backend::host_copy::HostCopy,
    numbers::{
        scheme::{Adaptive, Langevin, LinearCombination, Norms, Scheme, SolverStep, Spread, Update},
        solvers::DORMAND_PRINCE,
    },
    scores::{
        denoiser::{Denoiser, Score},
        noise::Noise,
    },
};

/// States of a run, each computed when asked for; the last is the image.
pub type States<'a> = Box<dyn Iterator<Item = Tensor> + 'a>;

/// Carries out a scheme, or a walk, from `x`, `[batch, channels, height, width]` in the σ frame.
///
/// Memory does not grow with the number of steps, and nothing waits for the device, but for adaptive steps. Those are the
/// same for all images of a batch, short enough for the hardest of them: to let each have its own, give it alone. Steps are
/// not capped here: see [`crate::numbers::plan::Plan::resolve`].
pub fn sample<'a>(scheme: impl Into<Scheme>, x: Tensor, score: &'a dyn Score, noise: &'a dyn Noise) -> States<'a> {
    let scheme = scheme.into();
    let run = SolverRun::new(&scheme, score, noise);
    Box::new(scheme.0.into_iter().enumerate().scan((x, run), |(x, run), (k, step)| {
        let _guard = tch::no_grad_guard();
        *x = run.step(&step, x, k);
        Some(x.shallow_clone())
    }))
}

/// Carries out a scheme to its end; `seen` hears of every state and may change it, and its error ends the run.
pub fn sample_to_end(
    scheme: &Scheme,
    mut x: Tensor,
    score: &dyn Score,
    noise: &dyn Noise,
    seen: &mut dyn FnMut(&mut Tensor) -> Result<(), Error>,
) -> Result<Tensor, Error> {
    check_spread(scheme, score.knows_spread())?;
    let _guard = tch::no_grad_guard();
    let mut run = SolverRun::new(scheme, score, noise);
    for (k, step) in scheme.0.iter().enumerate() {
        x = run.step(step, &x, k);
        seen(&mut x)?;
    }
    Ok(x)
}

/// An error if a scheme leaves noise to a network that says nothing of it.
pub fn check_spread(scheme: &Scheme, known: bool) -> Result<(), Error> {
    if known || !scheme.asks_for_spread() {
        return Ok(());
    }
    let want = "one with a variance of its own: neither network nor guidance says how much noise a step adds";
    Err(Error::parameter("the sampler", want, "ddpm-learned"))
}

/// State of the loop from step to step, besides x.
struct SolverRun<'a> {
    score: &'a dyn Score,
    noise: &'a dyn Noise,
    reach: usize,
    /// The newest first.
    values: Vec<Tensor>,
    /// Longest next adaptive step, in ln σ.
    pace: f64,
}

impl<'a> SolverRun<'a> {
    fn new(scheme: &Scheme, score: &'a dyn Score, noise: &'a dyn Noise) -> Self {
        Self { score, noise, reach: scheme.reach(), values: Vec::new(), pace: f64::INFINITY }
    }

    /// The state after the k-th step.
    fn step(&mut self, step: &Update, x: &Tensor, k: usize) -> Tensor {
        match step {
            Update::SolverStep(hop) => self.hop(hop, x, k),
            Update::Langevin(langevin) => self.langevin(langevin, x, k),
            Update::Spread(spread) => self.spread(spread, x, k),
            Update::Adaptive(adaptive) => self.adaptive(adaptive, x),
        }
    }

    fn hop(&mut self, hop: &SolverStep, x: &Tensor, k: usize) -> Tensor {
        let drawn: Vec<Tensor> = (0..hop.draws()).map(|i| self.noise.like(x, k as u64 + 1, i as u64)).collect();
        for stage in &hop.stages {
            let at = sum(&stage.at, x, &self.values, &drawn);
            let gained = self.score.score(&at, stage.sigma) * stage.gain;
            self.values.insert(0, if stage.keep == 0.0 { gained } else { gained + at * stage.keep });
        }
        let next = sum(&hop.next, x, &self.values, &drawn);
        self.values.truncate(self.reach);
        next
    }

    fn spread(&self, Spread { sigma, tau, least, most }: &Spread, x: &Tensor, k: usize) -> Tensor {
        let (score, share) = self.score.score_and_spread(x, *sigma);
        let noise = self.noise.like(x, k as u64 + 1, 0);
        // −1 … 1 stands for the share of ln most.
        let noise = match share {
            Some(share) => noise * ((share + 1.0) * (0.5 * (most / least).ln())).exp() * *least,
            None => noise * *least,
        };
        x + score * *tau + noise
    }

    fn langevin(&self, Langevin { sigma, scale, ratio, norms }: &Langevin, x: &Tensor, k: usize) -> Tensor {
        let (score, noise) = (self.score.score(x, *sigma), self.noise.like(x, k as u64 + 1, 0));
        let rest: Vec<i64> = (1..x.dim() as i64).collect();
        let length = |x: &Tensor| {
            let each = x.square().sum_dim_intlist(rest.as_slice(), true, None::<Kind>).sqrt();
            if *norms == Norms::Image { each } else { each.mean(None::<Kind>) }
        };
        // No length is right for a score of 0; the largest finite one does no harm.
        let quotient = length(&noise) / length(&score).clamp_min(f64::from(f32::MIN_POSITIVE));
        let tau = (quotient * *ratio).square() * (2.0 * scale);
        x + &tau * score + (tau * 2.0).sqrt() * noise
    }

    fn adaptive(&mut self, adaptive: &Adaptive, x: &Tensor) -> Tensor {
        let (mut at, end) = (adaptive.from.ln(), adaptive.to.ln());
        let mut x = x.shallow_clone();
        let mut slope = self.slope(&x, at);
        while at > end {
            let left = at - end;
            let step = self.pace.min(left);
            let (next, last, error) = self.attempt(adaptive, (&x, &slope), (at, step));
            // NaN ends the attempts: the state is lost, and whoever watches the score says so.
            if error < 1.0 || error.is_nan() || step < SHORTEST {
                at = if step < left { at - step } else { end };
                (x, slope) = (next, last);
            }
            let change = SAFETY * error.powf(-0.2);
            // A step that was cut short to land on the level says little about how long the next may be.
            let grown = step * change.clamp(0.2, 10.0);
            self.pace = if step < self.pace && error < 1.0 { self.pace.max(grown) } else { grown };
        }
        x
    }

    /// The state a step further down, the slope there, and the estimated error over the tolerance, of the hardest image.
    fn attempt(
        &self,
        adaptive: &Adaptive,
        (x, first): (&Tensor, &Tensor),
        (at, step): (f64, f64),
    ) -> (Tensor, Tensor, f64) {
        let mut slopes = vec![first.shallow_clone()];
        let mut next = x.shallow_clone();
        let dot = |weights: &[f64], slopes: &[Tensor]| {
            let mix = LinearCombination::new(0.0, &weights.iter().map(|w| w * -step).collect::<Vec<_>>());
            sum(&mix, x, slopes, &[])
        };
        for (place, weights) in &DORMAND_PRINCE.stages[1..] {
            next = x + dot(weights, &slopes);
            slopes.push(self.slope(&next, at - place * step));
        }
        let scale = x.abs().maximum(&next.abs()) * adaptive.relative + adaptive.absolute;
        let error = (dot(&DORMAND_PRINCE.error, &slopes) / scale).flatten(1, -1).square();
        let error = error.mean_dim([1i64].as_slice(), false, None::<Kind>).max().double_value(&[]).sqrt();
        (next, slopes.remove(6), error)
    }

    /// dx/du = −σ² s(x, σ) at σ = exp(u).
    fn slope(&self, x: &Tensor, u: f64) -> Tensor {
        let sigma = u.exp();
        self.score.score(x, sigma) * -(sigma * sigma)
    }
}

/// The factor by which a step is shorter than its error would allow.
const SAFETY: f64 = 0.9;

/// A step of this length in ln σ is taken whatever its error: in f32 a shorter one would not move the state.
const SHORTEST: f64 = 1e-6;

/// state · x + Σ values · v + Σ noise · n, from left to right, without what is not there.
fn sum(mix: &LinearCombination, x: &Tensor, values: &[Tensor], drawn: &[Tensor]) -> Tensor {
    let terms = [(&mix.state, x)].into_iter().chain(mix.values.iter().zip(values)).chain(mix.noise.iter().zip(drawn));
    let scaled = |(factor, tensor): (&f64, &Tensor)| match *factor {
        1.0 => tensor.shallow_clone(),
        factor => tensor * factor,
    };
    let present = terms.filter(|(factor, _)| **factor != 0.0).map(scaled);
    present.reduce(|total, term| total + term).unwrap_or_else(|| x.zeros_like())
}

/// A denoiser that remembers, on the device, whether its answers were finite: one number for each image and evaluation.
///
/// The loop needs no answer from the device, so it is asked once, at the end, by [`FiniteGuard::check`].
pub struct FiniteGuard<'a> {
    prior: &'a dyn Denoiser,
    seen: RefCell<WalkSums>,
    keeps: bool,
}

#[derive(Default)]
struct WalkSums {
    sigmas: Vec<f64>,
    /// Sums of each evaluation, `[batch]`. A sum is finite only if all its terms are; images cannot come near the
    /// largest f32.
    sums: Vec<Tensor>,
    /// The first σ and D since somebody asked, where they are kept.
    first: Option<(f64, Tensor)>,
}

impl std::fmt::Debug for FiniteGuard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FiniteGuard").field("evaluations", &self.evaluations()).finish_non_exhaustive()
    }
}

impl<'a> FiniteGuard<'a> {
    /// Watches `prior`.
    pub fn new(prior: &'a dyn Denoiser) -> Self {
        Self { prior, seen: RefCell::default(), keeps: false }
    }

    /// Sets whether the first answer after each call of [`FiniteGuard::first_answer`] is kept.
    pub fn keep_answers(&mut self, keeps: bool) {
        self.keeps = keeps;
    }

    /// σ and D(x, σ) of the first evaluation since the last call.
    pub fn first_answer(&self) -> Option<(f64, Tensor)> {
        self.seen.borrow_mut().first.take()
    }

    /// Number of evaluations.
    pub fn evaluations(&self) -> usize {
        self.seen.borrow().sigmas.len()
    }

    /// Levels σ of the evaluations, in order.
    pub fn sigmas(&self) -> Vec<f64> {
        self.seen.borrow().sigmas.clone()
    }

    /// Check of the images of `seeds`, each of which may stand for several particles.
    pub fn check(&self, seeds: &[u64]) -> FiniteCheck {
        let WalkSums { sigmas, sums, .. } = &*self.seen.borrow();
        let sums = (!sums.is_empty()).then(|| HostCopy::start(&Tensor::stack(sums, 1)));
        FiniteCheck { sums, sigmas: sigmas.clone(), seeds: seeds.to_vec() }
    }
}

/// Result of a [`FiniteGuard`], on its way from the device.
#[derive(Debug)]
pub struct FiniteCheck {
    /// `[batch, evaluations]`.
    sums: Option<HostCopy>,
    sigmas: Vec<f64>,
    seeds: Vec<u64>,
}

impl FiniteCheck {
    /// An error that names step, σ and seeds where an answer was not finite.
    pub fn check(self) -> Result<(), Error> {
        let Self { sums: Some(sums), sigmas, seeds } = self else { return Ok(()) };
        let sums = Vec::<f64>::try_from(sums.wait()?.to_kind(Kind::Double).flatten(0, -1))?;
        let first: Vec<Option<usize>> =
            sums.chunks(sigmas.len()).map(|image| image.iter().position(|sum| !sum.is_finite())).collect();
        let Some(&evaluation) = first.iter().flatten().min() else { return Ok(()) };
        let particles = first.chunks((first.len() / seeds.len().max(1)).max(1));
        let lost = particles.zip(seeds).filter(|(particles_of, _)| particles_of.iter().any(Option::is_some));
        Err(Error::NotFinite { evaluation, sigma: sigmas[evaluation], seeds: lost.map(|(_, seed)| seed).collect() })
    }
}

impl Denoiser for FiniteGuard<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        x + self.residual(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        let residual = self.prior.residual(x, sigma);
        self.note(x, sigma, &residual);
        residual
    }

    fn residual_and_spread(&self, x: &Tensor, sigma: f64) -> (Tensor, Option<Tensor>) {
        let (residual, spread) = self.prior.residual_and_spread(x, sigma);
        self.note(x, sigma, &residual);
        (residual, spread)
    }

    fn spreads(&self) -> bool {
        self.prior.spreads()
    }
}

impl FiniteGuard<'_> {
    fn note(&self, x: &Tensor, sigma: f64, residual: &Tensor) {
        let sum = residual.detach().flatten(1, -1).sum_dim_intlist([1i64].as_slice(), false, None);
        let seen = &mut *self.seen.borrow_mut();
        if self.keeps && seen.first.is_none() {
            seen.first = Some((sigma, x.detach() + residual.detach()));
        }
        seen.sums.push(sum);
        seen.sigmas.push(sigma);
    }
}
