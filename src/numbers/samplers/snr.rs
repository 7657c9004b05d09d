//! Steps in signal-to-noise space [S2N, Eq. 7].

use serde::{Deserialize, Serialize};

use super::{Sampler, rows};
use crate::{
    Error,
    numbers::{
        registry::entry,
        sigma::{Sigmas, at_least_zero},
        walk::{GaussianPixel, PixelMoments, Step, Walk},
    },
};

entry! {
    name: "snr",
    what: "powers γ, δ of the SNR frozen; ρ",
    source: "S2N, Eq. 7",
    facts: { scores: "1", order: "1", random: "if ρ > 0" },
    example: "{kind: snr, gamma: 0.03}",
    /// The generalised backward SDE, with SNR^γ ε held constant during a step, and SNR^δ in the noise.
    ///
    /// With r = SNR/SNR′ = (σ′/σ)²:
    ///
    /// ```text
    /// x ← x − (1 + ρ²) σ φ ε + ρ σ √ψ n      φ = (1 − r^(½+γ))/(1 + 2γ)      ψ = (1 − r^(1+δ))/(1 + δ)  or  r^δ (1 − r)
    /// τ = σ² (1 + ρ²) φ                      2 τ T = ρ² σ² ψ
    /// ```
    ///
    /// ρ = 0 follows the probability flow and ρ = 1 the reverse-time SDE. γ = δ = 0 integrates both exactly with ε frozen: with
    /// ρ = 0 that is DDIM. ρ = 1, γ = ½ and the scaled δ = 1 is DDPM's ancestral step.
    ///
    /// This is a reconstruction: the paper's own text was not at hand, only what its reviews and summaries say of γ and δ.
    /// Where they leave a reading open there is a choice: of ψ by `fresh`, of γ by `convention`. What is proven is that the
    /// family contains the steps that the paper says it contains, that the marginals are kept to first order for all γ and δ,
    /// and to second order, at every data variance, on the ridge δ = (1 + ρ²) γ/ρ².
    #[derive(Copy)]
    pub struct Snr {
        /// ρ.
        pub rho: f64 = 0.0 => "≥ 0",
        /// γ; about 0.03 to 0.05 suits images at ρ = 0, see [`Snr::gamma_for`].
        pub gamma: f64 = 0.0 => "any number",
        /// δ.
        pub delta: f64 = 0.0 => "any number",
        /// ψ.
        pub fresh: Fresh = Fresh::Power => "power, scaled",
        /// Convention of γ.
        pub convention: Convention = Convention::Snr => "snr, noise, opposite, multiplier",
    }
}

/// Two readings of ψ, which agree to first order where the power's δ is twice the other's.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fresh {
    /// (1 − r^(1+δ))/(1 + δ); at δ = −1 it is −ln r.
    #[default]
    Power,
    /// r^δ (1 − r).
    Scaled,
}

/// Readings of γ.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Convention {
    /// The power of the SNR that is held constant with ε.
    #[default]
    Snr,
    /// The power of α/s instead, which is twice as large.
    Noise,
    /// The power of 1/SNR.
    Opposite,
    /// No power: the step with γ = 0, times 1 − γ.
    Multiplier,
}

impl Snr {
    /// The probability flow with this γ.
    pub fn flow(gamma: f64) -> Self {
        Self { gamma, ..Self::default() }
    }

    /// φ.
    fn drift(&self, log_r: f64) -> f64 {
        match self.convention {
            Convention::Snr => power(log_r, 0.5 + self.gamma) / 2.0,
            Convention::Noise => power(log_r, 0.5 + self.gamma / 2.0) / 2.0,
            Convention::Opposite => power(log_r, 0.5 - self.gamma) / 2.0,
            Convention::Multiplier => (1.0 - self.gamma) * power(log_r, 0.5) / 2.0,
        }
    }

    /// ψ.
    fn fresh(&self, log_r: f64) -> f64 {
        match self.fresh {
            Fresh::Power => power(log_r, 1.0 + self.delta),
            Fresh::Scaled => (self.delta * log_r).exp() * power(log_r, 1.0),
        }
    }

    /// γ for which the flow keeps the variance v of Gaussian images to first order, on levels in equal steps of ln σ.
    ///
    /// γ = (1 − v/V)/(2 ln(V/v)) with V = v + σ_max², if the last level is far below √v: 0.027 to 0.05 for the variances of
    /// images and σ_max = 80.
    pub fn gamma_for(v: f64, max: f64) -> f64 {
        let total = v + max * max;
        (1.0 - v / total) / (2.0 * (total / v).ln())
    }

    /// γ for which the flow down these very levels carries variance v + σ_max² to v + σ_min² exactly.
    ///
    /// The variance grows with γ, so that bisection finds it; an error where it does not lie between −0.4 and 2.
    pub fn gamma_on(v: f64, sigmas: &Sigmas) -> Result<f64, Error> {
        let start = PixelMoments { mean: 0.0, variance: v + sigmas.max().powi(2) };
        let excess = |gamma: f64| -> Result<f64, Error> {
            let mut walk = Self::flow(gamma).walk(sigmas)?;
            // The last step, which denoises, is left out.
            walk.0.pop();
            let end = walk.moments(&GaussianPixel::prior(0.0, v), start).last();
            Ok(end.map_or(f64::NAN, |end| end.variance) - v - sigmas.min().powi(2))
        };
        let (mut low, mut high) = (-0.4, 2.0);
        if !(excess(low)? < 0.0 && excess(high)? > 0.0) {
            let want = "such that some γ between −0.4 and 2 keeps it on these levels";
            return Err(Error::parameter("the variance of the images", want, v));
        }
        // Sixty halvings of an interval of 2.4 leave less than the last digit.
        for _ in 0..60 {
            let middle = f64::midpoint(low, high);
            if excess(middle)? < 0.0 { low = middle } else { high = middle }
        }
        Ok(f64::midpoint(low, high))
    }

    /// The power δ on the ridge, where the variance is kept to second order whatever that of the images is.
    pub fn ridge(rho: f64, gamma: f64) -> f64 {
        (1.0 + rho * rho) * gamma / (rho * rho)
    }
}

/// (1 − r^p)/p, with its limit −ln r at p = 0.
fn power(log_r: f64, p: f64) -> f64 {
    if p == 0.0 { -log_r } else { -(p * log_r).exp_m1() / p }
}

impl Sampler for Snr {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let rho = at_least_zero("rho", self.rho)?;
        for (name, value) in [("gamma", self.gamma), ("delta", self.delta)] {
            if !value.is_finite() {
                return Err(Error::parameter(name, "finite", value));
            }
        }
        rows(sigmas, |sigma, next| {
            if next == 0.0 {
                return Step::denoise(sigma);
            }
            let log_r = 2.0 * (next / sigma).ln();
            let drift = (1.0 + rho * rho) * self.drift(log_r);
            Step { sigma, tau: sigma * sigma * drift, temperature: rho * rho * self.fresh(log_r) / (2.0 * drift) }
        })
    }
}
