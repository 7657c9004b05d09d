//! Schedules of noise levels.

use crate::{
    Error,
    numbers::{
        registry::{modules, one_of},
        sigma::{self, Sigmas},
    },
};

/// The table of schedules that fix levels of their own: each file, and the struct in it.
macro_rules! schedule_rows {
    ($then:ident $(, $($rest:tt)+)?) => {
        $then! { $($($rest)+,)? {
            beta_quantiles: BetaQuantiles,
            ending: Ending,
            flow_times: FlowTimes,
            geometric: Geometric,
            in_time: InTime,
            karras: Karras,
            linear: Linear,
            list: List,
            sigmoid: Sigmoid,
            subsequence: Subsequence,
            times: Times,
            within: Within,
        } }
    };
}

/// The table of chains, with which networks are trained; each is a schedule as well.
macro_rules! chain_rows {
    ($then:ident $(, $($rest:tt)+)?) => {
        $then! { $($($rest)+,)? {
            betas: Betas,
            cosine: Cosine,
            falling: Falling,
            linear_beta: LinearBeta,
            scaled_linear: ScaledLinear,
            sigmoid_beta: SigmoidBeta,
            zero_snr: ZeroSnr,
        } }
    };
}

schedule_rows!(modules);
chain_rows!(modules);

schedule_rows!(chain_rows, one_of, {
    /// The entries that `schedule:` may name; a bare list of numbers is the schedule `list`.
    pub enum AnySchedule: Schedule = "schedule", others: OTHERS, sequence: ("list", "sigmas")
});

chain_rows!(one_of, {
    /// The entries that `beta:` may name: the chain with which a network was trained.
    pub enum AnyChain: Chain = "chain", others: CHAINS
});

/// Schedules of diffusers and k-diffusion that are not quite any of ours.
const OTHERS: &[(&str, &str)] = &[
    ("polyexponential", "`geometric` is k-diffusion's with rho = 1"),
    ("leading", "{kind: subsequence, spacing: leading} is diffusers' spacing of times"),
    ("linspace", "{kind: subsequence, spacing: linspace} is diffusers' spacing of times"),
    ("trailing", "{kind: subsequence, spacing: trailing} is diffusers' spacing of times"),
];

/// Chains of diffusers by names that mean something else here.
const CHAINS: &[(&str, &str)] = &[("linear", "diffusers' chain of that name is `linear-beta`")];

/// A rule that lays out noise levels.
pub trait Schedule {
    /// `levels` noise levels, largest first. A single level is the largest.
    ///
    /// `range` is the model's smallest and largest σ, for schedules that fix no ends of their own.
    fn sigmas(&self, levels: usize, range: (f64, f64)) -> Result<Sigmas, Error>;

    /// Number of levels, where the schedule itself fixes it.
    fn levels(&self) -> Option<usize> {
        None
    }

    /// Warning for a user who picks this schedule.
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

/// Words for a schedule's `levels` in errors.
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

/// The ends of levels, those of the model where a schedule has none.
fn ends(own: (Option<f64>, Option<f64>), (min, max): (f64, f64)) -> Result<(f64, f64), Error> {
    ordered(own.0.unwrap_or(min), own.1.unwrap_or(max))
}

/// Checks that as many `levels` are asked for as are written out.
fn written(levels: usize, count: usize, what: &'static str) -> Result<(), Error> {
    if levels == count {
        return Ok(());
    }
    Err(Error::parameter("steps", what, format!("{levels} (the list has {count})")))
}

/// A discrete chain x_t = √(1 − βₜ) x_{t−1} + √βₜ n [DDPM, Eq. 2].
pub trait Chain {
    /// βₜ for t = 0, 1, …, each between 0 and 1.
    fn betas(&self) -> Result<Vec<f64>, Error>;

    /// σₜ = √((1 − ᾱₜ) / ᾱₜ) with ᾱₜ = Π (1 − β).
    fn times(&self) -> Result<sigma::Times, Error> {
        // σₜ² = (σₜ₋₁² + βₜ)/(1 − βₜ) is the same, and loses no digits to 1 − ᾱ.
        let grow = |square: &mut f64, beta: f64| {
            *square = (*square + beta) / (1.0 - beta);
            Some(square.sqrt())
        };
        sigma::Times::new(self.betas()?.into_iter().scan(0.0, grow).collect())
    }
}

/// The chain's levels at `levels` times from the last to 0 in equal steps, fractional where need be.
fn along(chain: &dyn Chain, levels: usize) -> Result<Sigmas, Error> {
    let (times, gaps) = (chain.times()?, count(LEVELS, levels)?.max(2) - 1);
    let last = times.last();
    if last == 0.0 && levels > 1 {
        return Err(Error::parameter(LEVELS, "1 for a chain of a single time", levels));
    }
    // This order of operations keeps whole times whole.
    Sigmas::new((0..levels).map(|k| times.sigma(last - last * k as f64 / gaps as f64)).collect())
}
