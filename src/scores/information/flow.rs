//! The density of the probability flow.

use std::{fmt, ops::Add};

use tch::{Kind, Tensor};

use super::square;
use crate::{
    numbers::sigma::Sigmas,
    scores::{denoiser::Denoiser, noise::Noise},
};

/// Marks the draws of [`probes`]; levels are numbered from 0.
const PROBES: u64 = u64::MAX - 1;

/// Method for the trace of ∂D/∂x.
#[derive(Debug)]
pub enum Trace {
    /// The exact trace, by one backward pass for each number of an image.
    Exact,
    /// E[vᵀ J v] over probes v with E[v vᵀ] = I, each shaped like x [Hutchinson 1990; FFJORD, §3.1].
    ///
    /// The same probes serve the whole way, so that the way stays smooth; the log-density is linear in v vᵀ, and so has no
    /// bias whatever their number.
    Probes(Vec<Tensor>),
}

/// `count` probes of independent signs ±1, a pure function of the noise's seeds.
pub fn probes(x: &Tensor, noise: &dyn Noise, count: u64) -> Trace {
    let signs = |draw| noise.like(x, PROBES, draw).ge(0.0).to_kind(x.kind()) * 2.0 - 1.0;
    Trace::Probes((0..count).map(signs).collect())
}

/// ln p(x) along the probability flow, whose states have the same distribution as clean + σ n at every level
/// [Score SDE, §4.3 and Appendix D].
///
/// ```text
/// dx/d ln σ = x − D(x, σ)     d ln p(x, σ)/d ln σ = tr ∂D/∂x − d     x(σ_max) ~ N(0, start² I)
/// ```
///
/// In ln σ both slopes are bounded at all levels, and an image of variance v moves from one regime to the other as a
/// logistic curve, 1/(1 + v/σ²), of the same width wherever it lies; so steps that are even in ln σ serve all scales alike.
pub struct Flow<'a> {
    /// D.
    pub denoiser: &'a dyn Denoiser,
    /// The standard deviation of the images of the largest level, as samplers take it.
    pub start: f64,
    /// See [`Trace`].
    pub trace: Trace,
}

impl fmt::Debug for Flow<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").field("start", &self.start).field("trace", &self.trace).finish_non_exhaustive()
    }
}

/// Images on their way along the flow.
#[derive(Debug)]
pub struct State {
    /// `[batch, channels, height, width]`.
    pub x: Tensor,
    /// Growth of ln p on the way, `[batch]`, f64; mostly negative.
    pub grown: Tensor,
}

impl State {
    /// This, moved by `step` along `slope`.
    fn along(&self, slope: &Self, step: f64) -> Self {
        Self { x: &self.x + &slope.x * step, grown: &self.grown + &slope.grown * step }
    }
}

impl Add for State {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { x: self.x + other.x, grown: self.grown + other.grown }
    }
}

impl Flow<'_> {
    /// Carries `x` from the smallest level up to the largest, with one step of Runge and Kutta's fourth-order method
    /// between neighbours: four evaluations, each with as many backward passes as the trace asks for.
    pub fn ascend<'a>(&'a self, x: &Tensor, sigmas: &Sigmas) -> impl Iterator<Item = State> + 'a {
        let mut levels: Vec<f64> = sigmas.iter().collect();
        levels.reverse();
        let start = State { x: x.shallow_clone(), grown: Tensor::zeros(x.size()[0], (Kind::Double, x.device())) };
        let mut pairs = levels.clone().into_iter().zip(levels.into_iter().skip(1));
        std::iter::successors(Some(start), move |state| pairs.next().map(|pair| self.step(state, pair)))
    }

    /// ln p(x, σ_min) in nats: `[batch]`, f64.
    pub fn log_density(&self, x: &Tensor, sigmas: &Sigmas) -> Tensor {
        let end = self.ascend(x, sigmas).last();
        end.map_or_else(|| square(x).zeros_like(), |end| self.from_end(&end))
    }

    /// ln p of the images that the flow carried to `end`: ln N(x; 0, start² I) there, less what it grew on the way.
    pub fn from_end(&self, end: &State) -> Tensor {
        let numbers: i64 = end.x.size()[1..].iter().product();
        let variance = self.start * self.start;
        let constant = numbers as f64 / 2.0 * (std::f64::consts::TAU * variance).ln();
        square(&end.x) / (-2.0 * variance) - constant - &end.grown
    }

    /// The level in the middle of a step is the geometric mean, which is the middle in ln σ.
    fn step(&self, state: &State, (below, above): (f64, f64)) -> State {
        let (step, middle) = ((above / below).ln(), (below * above).sqrt());
        let first = self.slope(&state.x, below);
        let second = self.slope(&state.along(&first, step / 2.0).x, middle);
        let third = self.slope(&state.along(&second, step / 2.0).x, middle);
        let fourth = self.slope(&state.along(&third, step).x, above);
        let _guard = tch::no_grad_guard();
        let inner = state.along(&(second + third), step / 3.0);
        inner.along(&(first + fourth), step / 6.0)
    }

    /// d/d ln σ of both.
    fn slope(&self, x: &Tensor, sigma: f64) -> State {
        let leaf = x.detach().set_requires_grad(true);
        let graph = tch::with_grad(|| self.denoiser.residual(&leaf, sigma));
        // vᵀ (∂D/∂x − I) v for each image.
        let quadratic = |v: &Tensor| {
            let product = tch::with_grad(|| (&graph * v).sum(graph.kind()));
            let row = Tensor::run_backward(&[product], &[&leaf], true, false).remove(0);
            (row * v).flatten(1, -1).to_kind(Kind::Double).sum_dim_intlist([1i64].as_slice(), false, None)
        };
        let grown = match &self.trace {
            Trace::Exact => units(x).map(|v| quadratic(&v)).sum(),
            Trace::Probes(probes) => probes.iter().map(quadratic).sum::<Tensor>() / probes.len() as f64,
        };
        State { x: -graph.detach(), grown }
    }
}

/// The unit vectors, each `[1, channels, height, width]`.
fn units(x: &Tensor) -> impl Iterator<Item = Tensor> {
    let size = [&[1], &x.size()[1..]].concat();
    let numbers = size.iter().product::<i64>();
    let basis = Tensor::eye(numbers, (x.kind(), x.device()));
    (0..numbers).map(move |i| basis.get(i).view(size.as_slice()))
}
