//! The sampling template as data: a walk is a list of steps, and a step is three numbers.
//!
//! ```text
//! x ← x + τ s(x, σ) + √(2 τ T) n,   n ~ N(0, I)       [Random Walks]
//! ```

use std::fmt;

use serde::Serialize;

/// One step of the template.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Step {
    /// σ, the noise level at which the score is asked for, in data units.
    pub sigma: f64,
    /// τ, the step size, in squared data units.
    pub tau: f64,
    /// T, the temperature; 1 for Langevin dynamics, 0 for none.
    pub temperature: f64,
}

impl Step {
    /// √(2 τ T), the standard deviation of the fresh noise.
    pub fn noise(&self) -> f64 {
        (2.0 * self.tau * self.temperature).sqrt()
    }

    /// The step that lands on the denoised image: τ = σ², T = 0.
    pub fn denoise(sigma: f64) -> Self {
        Self { sigma, tau: sigma * sigma, temperature: 0.0 }
    }
}

/// A sequence of steps.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Walk(pub Vec<Step>);

impl Walk {
    /// The walk with every τ at most `limit`: the conditional rule τ = min(τ, limit) [Random Walks].
    #[must_use]
    pub fn capped(mut self, limit: f64) -> Self {
        for step in &mut self.0 {
            step.tau = step.tau.min(limit);
        }
        self
    }

    /// The exact mean and variance after each step, where the images are Gaussian.
    ///
    /// ```text
    /// a = τ (1/(v + σ²) + h²/η²)
    /// M ← M + τ ((m − M)/(v + σ²) + h (y − h M)/η²),   V ← (1 − a)² V + 2 τ T
    /// ```
    pub fn moments(&self, pixel: &GaussianPixel, start: PixelMoments) -> impl Iterator<Item = PixelMoments> {
        self.0.iter().scan(start, move |state, step| {
            let prior = step.tau / (pixel.variance + step.sigma * step.sigma);
            let data = step.tau * pixel.gain * pixel.gain / (pixel.eta * pixel.eta);
            let drift = pixel.gain * (pixel.measurement - pixel.gain * state.mean) / (pixel.eta * pixel.eta);
            state.mean += prior * (pixel.mean - state.mean) + step.tau * drift;
            state.variance = (1.0 - prior - data).powi(2) * state.variance + 2.0 * step.tau * step.temperature;
            Some(*state)
        })
    }
}

/// A mean and a variance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PixelMoments {
    /// M.
    pub mean: f64,
    /// V.
    pub variance: f64,
}

/// One pixel X ~ N(m, v), and perhaps a measurement y = h X + η e of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GaussianPixel {
    /// m.
    pub mean: f64,
    /// v.
    pub variance: f64,
    /// h; 0 where nothing is measured.
    pub gain: f64,
    /// y.
    pub measurement: f64,
    /// η.
    pub eta: f64,
}

impl GaussianPixel {
    /// N(m, v), not measured.
    pub fn prior(mean: f64, variance: f64) -> Self {
        Self { mean, variance, gain: 0.0, measurement: 0.0, eta: 1.0 }
    }

    /// Mean and variance of X given y: M = m + v h (y − h m)/(h² v + η²), V = v η²/(h² v + η²).
    pub fn posterior(&self) -> PixelMoments {
        let evidence = self.gain * self.gain * self.variance + self.eta * self.eta;
        let surprise = self.measurement - self.gain * self.mean;
        let mean = self.mean + self.variance * self.gain * surprise / evidence;
        PixelMoments { mean, variance: self.variance * self.eta * self.eta / evidence }
    }
}

impl fmt::Display for Walk {
    /// The paper's table: k, σ, τ, T and τ/σ².
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:>6} {:>14} {:>14} {:>9} {:>9}", "k", "σ", "τ", "T", "τ/σ²")?;
        for (k, Step { sigma, tau, temperature }) in self.0.iter().enumerate() {
            let relative = tau / (sigma * sigma);
            writeln!(f, "{k:>6} {sigma:>14.7} {tau:>14.6e} {temperature:>9.6} {relative:>9.6}")?;
        }
        Ok(())
    }
}
