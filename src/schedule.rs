//! Where the noise levels come from.

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    registry::one_of,
    sigma::{Sigmas, Times, from_alpha_bar},
};

/// A rule that lays out noise levels.
pub trait Schedule {
    /// `levels` noise levels, largest first. A single level is the largest.
    ///
    /// `range` is the model's smallest and largest σ, for schedules that fix no ends of their own.
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error>;
}

/// `levels` levels from `max` to `min`, both exact, at u = 0 … 1 in equal steps.
fn between(levels: usize, (min, max): (f64, f64), level: impl Fn(f64) -> f64) -> Result<Sigmas, Error> {
    Sigmas::new(grid(levels).map(|u| if u == 0.0 { max } else if u == 1.0 { min } else { level(u) }).collect())
}

/// 0, 1/(n−1), …, 1.
fn grid(n: usize) -> impl Iterator<Item = f64> {
    (0..n).map(move |k| k as f64 / n.saturating_sub(1).max(1) as f64)
}

macro_rules! with_ends {
    ($name:ident) => {
        impl $name {
            fn ends(&self, (min, max): (f64, f64)) -> (f64, f64) {
                (self.min.unwrap_or(min), self.max.unwrap_or(max))
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
        let (min, max) = self.ends(range);
        between(levels, (min, max), |u| max * (min / max).powf(u))
    }
}

/// σ = max + u (min − max) [RW, Fig. 1].
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
        let (min, max) = self.ends(range);
        between(levels, (min, max), |u| max + u * (min - max))
    }
}

/// σ = (max^{1/ρ} + u (min^{1/ρ} − max^{1/ρ}))^ρ [EDM, Eq. 5].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Karras {
    /// ρ; 7 unless said otherwise. 1 is linear, ∞ geometric.
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
        if self.rho.is_nan() || self.rho <= 0.0 {
            return Err(Error::parameter("rho", "positive", self.rho));
        }
        let (min, max) = self.ends(range);
        let (low, high) = (min.powf(1.0 / self.rho), max.powf(1.0 / self.rho));
        between(levels, (min, max), |u| (high + u * (low - high)).powf(self.rho))
    }
}

/// σ = min + g(u) (max − min), where g falls from 1 to 0 as a piece of the logistic curve [RW, §3; Chen 2023, Alg. 1].
///
/// g(u) = (S(end/τ) − S((u (end − start) + start)/τ)) / (S(end/τ) − S(start/τ)), held within 10⁻⁹ … 1.
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
        if self.tau.is_nan() || self.tau <= 0.0 {
            return Err(Error::parameter("tau", "positive", self.tau));
        }
        let (min, max) = self.ends(range);
        let logistic = |t: f64| 1.0 / (1.0 + (-t / self.tau).exp());
        let (from, to) = (logistic(self.start), logistic(self.end));
        let sigma = |u: f64| {
            let g = (to - logistic(self.start + u * (self.end - self.start))) / (to - from);
            min + g.clamp(1e-9, 1.0) * (max - min)
        };
        Sigmas::new(grid(levels).map(sigma).collect())
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
            return Err(Error::parameter("steps", "the length of the list of levels", levels));
        }
        Sigmas::new(self.sigmas.clone())
    }
}

/// A discrete chain x_t = √(1 − βₜ) x_{t−1} + √βₜ n [DDPM, Eq. 2].
pub trait Chain {
    /// βₜ for t = 0, 1, …
    fn betas(&self) -> Result<Vec<f64>, Error>;

    /// σₜ = √((1 − ᾱₜ) / ᾱₜ) with ᾱₜ = Π (1 − β).
    fn times(&self) -> Result<Times, Error> {
        let mut alpha_bar = 1.0;
        let sigma = |beta: &f64| {
            alpha_bar *= 1.0 - beta;
            from_alpha_bar(alpha_bar)
        };
        Times::new(self.betas()?.iter().map(sigma).collect())
    }
}

/// The chain's levels at `levels` times from the last to 0 in equal steps, fractional where need be.
fn along(chain: &dyn Chain, levels: usize) -> Result<Sigmas, Error> {
    let times = chain.times()?;
    Sigmas::new(grid(levels).map(|u| times.sigma(times.last() * (1.0 - u))).collect())
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
        Ok(grid(self.times).map(|u| self.first + u * (self.last - self.first)).collect())
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
        let (first, last) = (self.first.sqrt(), self.last.sqrt());
        Ok(grid(self.times).map(|u| (first + u * (last - first)).powi(2)).collect())
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

impl Chain for Cosine {
    fn betas(&self) -> Result<Vec<f64>, Error> {
        let alpha_bar = |t: usize| {
            let u = t as f64 / self.times as f64;
            ((u + self.offset) / (1.0 + self.offset) * std::f64::consts::FRAC_PI_2).cos().powi(2)
        };
        Ok((0..self.times).map(|t| (1.0 - alpha_bar(t + 1) / alpha_bar(t)).min(self.cap)).collect())
    }
}

impl Schedule for Cosine {
    fn sigmas(&self, levels: usize, _: (f64, f64)) -> Result<Sigmas, Error> {
        along(self, levels)
    }
}

one_of! {
    /// What `schedule:` may name.
    pub enum AnySchedule: Schedule { Cosine, Geometric, Karras, Linear, LinearBeta, List, ScaledLinear, Sigmoid }
}

one_of! {
    /// What `beta:` may name: the chain with which a network was trained.
    pub enum AnyChain: Chain { Cosine, LinearBeta, ScaledLinear }
}
