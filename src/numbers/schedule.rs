//! Where the noise levels come from.

use std::f64::consts::FRAC_PI_2;

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    numbers::{
        registry::one_of,
        sde::AnySde,
        sigma::{Sigmas, Times, at_least_zero, positive},
    },
};

/// A rule that lays out noise levels.
pub trait Schedule {
    /// `levels` noise levels, largest first. A single level is the largest.
    ///
    /// `range` is the model's smallest and largest σ, for schedules that fix no ends of their own.
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error>;

    /// What a user who picks this schedule has to know.
    fn caveat(&self) -> Option<String> {
        None
    }
}

/// `levels` levels from `max` to `min`, both exact, at u = 0 … 1 in equal steps.
fn between(levels: usize, (min, max): (f64, f64), level: impl Fn(f64) -> f64) -> Result<Sigmas, Error> {
    let level = |u| match u {
        0.0 => max,
        1.0 => min,
        _ => level(u),
    };
    Sigmas::new(grid(count(LEVELS, levels)?).map(level).collect())
}

/// What a schedule's `levels` are called in errors.
const LEVELS: &str = "the number of noise levels";

/// `n` if it is at least 1, and not so large that a slip of the pen fills the memory.
pub(crate) fn count(name: &'static str, n: usize) -> Result<usize, Error> {
    match n {
        0 => Err(Error::parameter(name, "at least 1", n)),
        1..=10_000_000 => Ok(n),
        _ => Err(Error::parameter(name, "at most 10000000", n)),
    }
}

/// (`min`, `max`) if they are levels, and in this order.
fn ordered(min: f64, max: f64) -> Result<(f64, f64), Error> {
    if !min.is_finite() || min <= 0.0 {
        return Err(Error::parameter("min", "positive and finite", min));
    }
    if !max.is_finite() || max <= min {
        return Err(Error::parameter("max", "finite and larger than min", format!("{max} (min is {min})")));
    }
    Ok((min, max))
}

/// `value` if it can be a β.
fn fraction(name: &'static str, value: f64) -> Result<f64, Error> {
    if 0.0 < value && value < 1.0 {
        return Ok(value);
    }
    Err(Error::parameter(name, "larger than 0 and smaller than 1", value))
}

/// 0, 1/(n−1), …, 1.
fn grid(n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |k| k as f64 / n.saturating_sub(1).max(1) as f64)
}

macro_rules! with_ends {
    ($name:ident) => {
        impl $name {
            fn ends(&self, (min, max): (f64, f64)) -> Result<(f64, f64), Error> {
                ordered(self.min.unwrap_or(min), self.max.unwrap_or(max))
            }
        }
    };
}

/// σ = max (min / max)^u, the levels of the variance-exploding SDE [NCSN, §4.3; Score SDE, Appendix C].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Geometric {
    /// The largest level; the model's if left out.
    pub max: Option<f64>,
    /// The smallest level; the model's if left out.
    pub min: Option<f64>,
}
with_ends!(Geometric);

impl Schedule for Geometric {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let (min, max) = self.ends(range)?;
        between(levels, (min, max), |u| max * (min / max).powf(u))
    }
}

/// σ = max + u (min − max) [Random Walks, Fig. 1].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// The largest level; the model's if left out.
    pub max: Option<f64>,
    /// The smallest level; the model's if left out.
    pub min: Option<f64>,
}
with_ends!(Linear);

impl Schedule for Linear {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let (min, max) = self.ends(range)?;
        between(levels, (min, max), |u| max + u * (min - max))
    }
}

/// σ = (max^{1/ρ} + u (min^{1/ρ} − max^{1/ρ}))^ρ [EDM, Eq. 5].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Karras {
    /// ρ; 7 unless said otherwise. 1 is linear; the larger, the nearer to geometric.
    #[serde(default = "seven")]
    pub rho: f64,
    /// The largest level; the model's if left out.
    pub max: Option<f64>,
    /// The smallest level; the model's if left out.
    pub min: Option<f64>,
}
with_ends!(Karras);

fn seven() -> f64 {
    7.0
}

impl Schedule for Karras {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let rho = positive("rho", self.rho)?;
        let (min, max) = self.ends(range)?;
        // max (1 + u ((min/max)^{1/ρ} − 1))^ρ: the same, in a form that keeps its digits as ρ grows.
        let fall = ((min / max).ln() / rho).exp_m1();
        between(levels, (min, max), |u| max * (rho * (u * fall).ln_1p()).exp())
    }
}

/// σ = min + g(u) (max − min), where g falls from 1 to 0 as a piece of the logistic curve
/// [Random Walks; Chen 2023, Alg. 1].
///
/// g(u) = (S(end/τ) − S((u (end − start) + start)/τ)) / (S(end/τ) − S(start/τ)), held within 10⁻⁹ … 1, so that the last
/// level is min + 10⁻⁹ (max − min). The code released with the paper then moves each level to the nearest of a million
/// points between the trained levels; here the levels stay as they are, and the network is told a fractional t.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sigmoid {
    /// Where on the logistic curve the levels begin.
    #[serde(default)]
    pub start: f64,
    /// Where they end.
    #[serde(default = "three")]
    pub end: f64,
    /// The width of the curve.
    #[serde(default = "three_tenths")]
    pub tau: f64,
    /// The largest level; the model's if left out.
    pub max: Option<f64>,
    /// The smallest level; the model's if left out.
    pub min: Option<f64>,
}
with_ends!(Sigmoid);

fn three() -> f64 {
    3.0
}

fn three_tenths() -> f64 {
    0.3
}

impl Schedule for Sigmoid {
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error> {
        let (start, end, tau) = (self.start, self.end, positive("tau", self.tau)?);
        let length = end - start;
        if !length.is_finite() || length == 0.0 {
            let value = format!("{end} (start is {start})");
            return Err(Error::parameter("end", "finite and different from start", value));
        }
        let (min, max) = self.ends(range)?;
        let logistic = |t: f64| 1.0 / (1.0 + (-t / tau).exp());
        let (from, to) = (logistic(start), logistic(end));
        let sigma = |u: f64| {
            let g = ((to - logistic(start + u * length)) / (to - from)).clamp(1e-9, 1.0);
            g * max + (1.0 - g) * min
        };
        // Where the curve is flat to the last digit, neighbours fall together.
        let flat = |_| Error::parameter("tau", "large enough for all levels to differ (or take fewer steps)", tau);
        Sigmas::new(grid(count(LEVELS, levels)?).map(sigma).collect()).map_err(flat)
    }
}

/// Levels written out, largest first.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// σ₀ > σ₁ > … > 0.
    pub sigmas: Vec<f64>,
}

impl Schedule for List {
    /// All of the list; `levels` must be its length.
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        if levels != self.sigmas.len() {
            let value = format!("{levels} (the list has {})", self.sigmas.len());
            return Err(Error::parameter("steps", "the length of the list of levels", value));
        }
        Sigmas::new(self.sigmas.clone())
    }
}

/// A discrete chain x_t = √(1 − βₜ) x_{t−1} + √βₜ n [DDPM, Eq. 2].
pub trait Chain {
    /// βₜ for t = 0, 1, …, each between 0 and 1.
    fn betas(&self) -> Result<Vec<f64>, Error>;

    /// σₜ = √((1 − ᾱₜ) / ᾱₜ) with ᾱₜ = Π (1 − β).
    fn times(&self) -> Result<Times, Error> {
        // σₜ² = (σₜ₋₁² + βₜ)/(1 − βₜ) is the same, and loses no digits to 1 − ᾱ.
        let grow = |square: &mut f64, beta: f64| {
            *square = (*square + beta) / (1.0 - beta);
            Some(square.sqrt())
        };
        Times::new(self.betas()?.into_iter().scan(0.0, grow).collect())
    }
}

/// The chain's levels at `levels` times from the last to 0 in equal steps, fractional where need be.
fn along(chain: &dyn Chain, levels: usize) -> Result<Sigmas, Error> {
    let (times, gaps) = (chain.times()?, count(LEVELS, levels)?.max(2) - 1);
    let last = times.last();
    if last == 0.0 && levels > 1 {
        return Err(Error::parameter(LEVELS, "1 for a chain of a single time", levels));
    }
    // In this order of operations whole times come out whole.
    Sigmas::new((0..levels).map(|k| times.sigma(last - last * k as f64 / gaps as f64)).collect())
}

fn thousand() -> usize {
    1000
}

/// β grows linearly from `first` to `last`: the "pretrained" schedule of DDPM [DDPM, §4].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LinearBeta {
    /// β₀.
    #[serde(default = "first_beta")]
    pub first: f64,
    /// The last β.
    #[serde(default = "last_beta")]
    pub last: f64,
    /// How many times the chain has.
    #[serde(default = "thousand")]
    pub times: usize,
}

fn first_beta() -> f64 {
    1e-4
}

fn last_beta() -> f64 {
    0.02
}

impl Default for LinearBeta {
    fn default() -> Self {
        Self { first: first_beta(), last: last_beta(), times: thousand() }
    }
}

impl Chain for LinearBeta {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let (first, last) = (fraction("first", self.first)?, fraction("last", self.last)?);
        Ok(grid(count("times", self.times)?).map(|u| first + u * (last - first)).collect())
    }
}

impl Schedule for LinearBeta {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}

/// √β grows linearly [Rombach et al. 2022]; diffusers' `scaled_linear`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ScaledLinear {
    /// β₀.
    #[serde(default = "first_scaled")]
    pub first: f64,
    /// The last β.
    #[serde(default = "last_scaled")]
    pub last: f64,
    /// How many times the chain has.
    #[serde(default = "thousand")]
    pub times: usize,
}

fn first_scaled() -> f64 {
    0.00085
}

fn last_scaled() -> f64 {
    0.012
}

impl Chain for ScaledLinear {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let (first, last) = (fraction("first", self.first)?.sqrt(), fraction("last", self.last)?.sqrt());
        Ok(grid(count("times", self.times)?).map(|u| (first + u * (last - first)).powi(2)).collect())
    }
}

impl Schedule for ScaledLinear {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}

/// ᾱ(u) = cos²(π/2 · (u + s)/(1 + s)), βₜ = min(1 − ᾱ((t+1)/N)/ᾱ(t/N), cap) [Nichol & Dhariwal 2021, Eq. 17].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Cosine {
    /// s.
    #[serde(default = "offset")]
    pub offset: f64,
    /// The largest β allowed.
    #[serde(default = "cap")]
    pub cap: f64,
    /// N, how many times the chain has.
    #[serde(default = "thousand")]
    pub times: usize,
}

fn offset() -> f64 {
    0.008
}

fn cap() -> f64 {
    0.999
}

impl Default for Cosine {
    fn default() -> Self {
        Self { offset: offset(), cap: cap(), times: thousand() }
    }
}

impl Chain for Cosine {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let (offset, cap) = (at_least_zero("offset", self.offset)?, fraction("cap", self.cap)?);
        let times = count("times", self.times)?;
        let quarter = FRAC_PI_2 / (1.0 + offset);
        let (angle, gap) = (|t: usize| (t as f64 / times as f64 + offset) * quarter, (quarter / times as f64).sin());
        // 1 − cos² b / cos² a = sin(b − a) sin(b + a) / cos² a, which loses no digits where a and b are close.
        let beta = |t: usize| gap * (angle(t + 1) + angle(t)).sin() / angle(t).cos().powi(2);
        Ok((0..times).map(|t| beta(t).min(cap)).collect())
    }
}

impl Schedule for Cosine {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}

/// β grows along the logistic curve, from u = −6 to 6: β = first + S(u) (last − first); diffusers' `sigmoid`.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SigmoidBeta {
    /// The level of β far to the left, which β₀ exceeds by a four-hundredth of the whole.
    #[serde(default = "first_beta")]
    pub first: f64,
    /// The level of β far to the right.
    #[serde(default = "last_beta")]
    pub last: f64,
    /// How many times the chain has.
    #[serde(default = "thousand")]
    pub times: usize,
}

impl Chain for SigmoidBeta {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let (first, last) = (fraction("first", self.first)?, fraction("last", self.last)?);
        let logistic = |u: f64| 1.0 / (1.0 + (6.0 - 12.0 * u).exp());
        Ok(grid(count("times", self.times)?).map(|u| first + logistic(u) * (last - first)).collect())
    }
}

impl Schedule for SigmoidBeta {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}

/// βₜ written out.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Betas {
    /// β₀, β₁, ….
    pub betas: Vec<f64>,
}

impl Chain for Betas {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        count("the number of betas", self.betas.len())?;
        self.betas.iter().map(|beta| fraction("beta", *beta)).collect()
    }
}

impl Schedule for Betas {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}

/// The levels of a process at equal steps of its time, from T to `epsilon`.
///
/// With it a network goes along a process that it was not trained on: s(x, σ) is the same for all of them [S2N, Theorem 5].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InTime {
    /// The process.
    pub sde: AnySde,
    /// The last time.
    #[serde(default = "thousandth")]
    pub epsilon: f64,
}

fn thousandth() -> f64 {
    1e-3
}

impl Schedule for InTime {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        let sde = self.sde.get();
        sde.check()?;
        let (epsilon, end) = (positive("epsilon", self.epsilon)?, sde.end());
        if epsilon >= end {
            return Err(Error::parameter("epsilon", "earlier than the end of the process", epsilon));
        }
        between(levels, (sde.level(epsilon), sde.level(end)), |u| sde.level(end + u * (epsilon - end)))
    }

    fn caveat(&self) -> Option<String> {
        self.sde.get().caveat()
    }
}

/// Whole times of a chain, as released programs pick them [DDIM, Appendix D.2; improved-diffusion]; 0 is always among them.
///
/// ```text
/// uniform:    t = 0, ⌊N/K⌋, 2 ⌊N/K⌋, … below N, which are more than K where K does not divide N
/// quadratic:  t = ⌊u²⌋, u = 0 … √(0.8 N) in K equal steps
/// respaced:   t = the nearest of 0 … N − 1 in K equal steps
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Subsequence {
    /// The chain.
    #[serde(default = "ddpm_chain")]
    pub beta: AnyChain,
    /// Which of its times.
    pub spacing: Spacing,
}

fn ddpm_chain() -> AnyChain {
    AnyChain::LinearBeta(LinearBeta::default())
}

/// See [`Subsequence`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Spacing {
    /// Equal steps of t: DDIM's for CelebA and LSUN.
    Uniform,
    /// Equal steps of √t: DDIM's for CIFAR-10.
    Quadratic,
    /// Equal steps of t that reach the last time: ADM's.
    Respaced,
}

impl Schedule for Subsequence {
    /// Times that fall together count once, so that quadratic levels may be fewer than `levels`.
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        let chain = self.beta.get().times()?;
        let (levels, all) = (count(LEVELS, levels)?, chain.levels());
        if levels > all.len() {
            return Err(Error::parameter(LEVELS, "at most the times of the chain", levels));
        }
        let mut times: Vec<usize> = match self.spacing {
            Spacing::Uniform => (0..all.len()).step_by(all.len() / levels).collect(),
            Spacing::Quadratic => {
                let last = (0.8 * all.len() as f64).sqrt();
                grid(levels).map(|u| (u * last).powi(2) as usize).collect()
            }
            Spacing::Respaced => grid(levels).map(|u| (u * chain.last()).round_ties_even() as usize).collect(),
        };
        times.dedup();
        Sigmas::new(times.iter().rev().map(|&t| all[t]).collect())
    }
}

one_of! {
    /// What `schedule:` may name.
    pub enum AnySchedule: Schedule {
        Betas, Cosine, Geometric, InTime, Karras, Linear, LinearBeta, List, ScaledLinear, Sigmoid, SigmoidBeta, Subsequence
    }
}

one_of! {
    /// What `beta:` may name: the chain with which a network was trained.
    pub enum AnyChain: Chain { Betas, Cosine, LinearBeta, ScaledLinear, SigmoidBeta }
}
