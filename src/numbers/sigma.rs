//! Noise levels in the variance-exploding frame x = clean + σ n, and their other names.
//!
//! ```text
//! ᾱ = 1 / (1 + σ²),   σ = √((1 − ᾱ) / ᾱ),   SNR = 1 / σ² = ᾱ / (1 − ᾱ)     [Random Walks]
//! ```

use crate::Error;

/// Noise levels σ₀ > σ₁ > … > σ_{K−1} > 0, in data units, and the level at which a walk down them ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Sigmas {
    levels: Vec<f64>,
    end: f64,
}

impl Sigmas {
    /// Checks once that the levels are finite, positive and strictly decreasing, so that nobody else has to. A walk down them
    /// ends with images, at σ = 0.
    pub fn new(levels: Vec<f64>) -> Result<Self, Error> {
        if levels.is_empty() {
            return Err(Error::parameter("the number of noise levels", "at least 1", 0));
        }
        let mut above = f64::INFINITY;
        for (index, &value) in levels.iter().enumerate() {
            if !(0.0 < value && value < above) {
                return Err(Error::Levels { index, value });
            }
            above = value;
        }
        Ok(Self { levels, end: 0.0 })
    }

    /// The same levels for a walk that ends at σ = `end`, with noise left; levels below it are left out.
    pub fn ending(mut self, end: f64) -> Result<Self, Error> {
        self.levels.retain(|level| *level >= end);
        if at_least_zero("at", end).is_err() || self.levels.is_empty() {
            return Err(Error::parameter("at", "from 0 to the largest level", end));
        }
        Ok(Self { end, ..self })
    }

    /// The first and largest level.
    pub fn max(&self) -> f64 {
        self.levels[0]
    }

    /// The last and smallest level.
    pub fn min(&self) -> f64 {
        self.levels[self.levels.len() - 1]
    }

    /// The level at which the walk ends: 0 for images.
    pub fn end(&self) -> f64 {
        self.end
    }

    /// Every level, largest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f64> + '_ {
        self.levels.iter().copied()
    }

    /// Pairs (σ, σ′) of neighbours; the last pair ends at σ′ = 0, or where the walk ends, if that is not the last level.
    pub fn pairs(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.iter().zip(self.iter().skip(1).chain([self.end])).filter(|(sigma, next)| next < sigma)
    }
}

/// ᾱ = 1 / (1 + σ²), the squared scale of the variance-preserving frame √ᾱ x.
pub fn alpha_bar(sigma: f64) -> f64 {
    1.0 / (1.0 + sigma * sigma)
}

/// σ = √((1 − ᾱ) / ᾱ), the inverse of [`alpha_bar`].
pub fn from_alpha_bar(alpha_bar: f64) -> f64 {
    ((1.0 - alpha_bar) / alpha_bar).sqrt()
}

/// SNR = 1 / σ².
pub fn snr(sigma: f64) -> f64 {
    1.0 / (sigma * sigma)
}

/// σ = 1 / √SNR, the inverse of [`snr`].
pub fn from_snr(snr: f64) -> f64 {
    1.0 / snr.sqrt()
}

/// The levels σ₀ < σ₁ < … < σ_{N−1} of a chain that was trained in N discrete times, and the levels between.
///
/// Between whole times σ is linear in t, as in the code released with the paper [Random Walks].
#[derive(Clone, Debug, PartialEq)]
pub struct Times(Vec<f64>);

impl Times {
    /// Creates a chain from the levels at t = 0, 1, …, which must increase.
    pub fn new(ascending: Vec<f64>) -> Result<Self, Error> {
        if ascending.is_empty() {
            return Err(Error::parameter("the number of times", "at least 1", 0));
        }
        let mut below = 0.0;
        for (time, &value) in ascending.iter().enumerate() {
            if !(below < value && value < f64::INFINITY) {
                let want = "positive, finite and growing with t";
                return Err(Error::parameter("the σ of a chain", want, format!("{value} at t = {time}")));
            }
            below = value;
        }
        Ok(Self(ascending))
    }

    /// The last time, N − 1.
    pub fn last(&self) -> f64 {
        (self.0.len() - 1) as f64
    }

    /// σ at time t, which is held within 0 … N − 1.
    pub fn sigma(&self, time: f64) -> f64 {
        let time = time.clamp(0.0, self.last());
        let below = time.floor() as usize;
        let above = (below + 1).min(self.0.len() - 1);
        let part = time - below as f64;
        self.0[below] + part * (self.0[above] - self.0[below])
    }

    /// t at level σ, which is held within the chain's own levels.
    pub fn time(&self, sigma: f64) -> f64 {
        self.between(sigma, |sigma| sigma)
    }

    /// t at level σ, linear in ln σ between whole times, as in k-diffusion and diffusers.
    pub fn time_in_log(&self, sigma: f64) -> f64 {
        self.between(sigma, f64::ln)
    }

    fn between(&self, sigma: f64, place: impl Fn(f64) -> f64) -> f64 {
        let above = self.0.partition_point(|level| *level < sigma);
        if above == 0 {
            return 0.0;
        }
        if above == self.0.len() {
            return self.last();
        }
        let (low, high) = (place(self.0[above - 1]), place(self.0[above]));
        (above - 1) as f64 + (place(sigma) - low) / (high - low)
    }

    /// The smallest and the largest level.
    pub fn range(&self) -> (f64, f64) {
        (self.0[0], self.0[self.0.len() - 1])
    }

    /// Every level, smallest first.
    pub fn levels(&self) -> &[f64] {
        &self.0
    }
}

/// `value` if it is finite and at least 0.
pub(crate) fn at_least_zero(name: &'static str, value: f64) -> Result<f64, Error> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(Error::parameter(name, "finite and at least 0", value))
}

/// `value` if it is finite and positive.
pub(crate) fn positive(name: &'static str, value: f64) -> Result<f64, Error> {
    if value.is_finite() && value > 0.0 {
        return Ok(value);
    }
    Err(Error::parameter(name, "finite and positive", value))
}
