//! Likelihood and information: how much a noisy image determines of the clean one, and how likely images are.
//!
//! Through the channel z = x + σ n of signal-to-noise ratio λ = 1/σ², a denoiser D that errs by
//! mmse(x, λ) = E‖x − D(x + σ n, σ)‖² gains
//!
//! ```text
//! KL(q(z|x) ‖ p(z)) = ½ ∫₀^λ mmse(x, λ′) dλ′,   I(λ) = E_x KL = ½ ∫₀^λ MMSE(λ′) dλ′
//! −ln p(x) = d/2 ln(2πe) − ½ ∫₀^∞ [d/(1 + λ) − mmse(x, λ)] dλ
//! ```
//!
//! [Guo, Shamai & Verdú 2005; Kong, Brekelmans & Ver Steeg 2023; S2N, Theorem 6]. With E\[x|z\] for D these are equalities;
//! any other denoiser errs more, and so gives upper bounds of I and of the mean of −ln p, in nats.
//!
//! A network answers for levels from σ₀ to σ₁ only; beyond both ends the integrals are known in closed form:
//!
//! - below λ₀ = 1/σ₀², D is that of x ~ N(0, s² − σ₀²), where s = `start(σ₀)` is where samplers begin: [`prior`];
//! - above λ₁ = 1/σ₁², what is unknown of x at σ₁ is taken for normal with one variance v, the mean of mmse(λ₁)/d, so that
//!   mmse(λ) = d/(λ − λ₁ + 1/v). For a density that is smooth on the scale of σ₁, v is σ₁² and this is d/λ; where pixels are
//!   known better than to σ₁, it goes on from there.
//!
//! The second costs no validity: with it −ln p(x) = KL(q(z₁|x) ‖ p(z₁)) − E ln N(x; D(z₁, σ₁), v I), the bound of a
//! variational model that decodes z₁ by a normal distribution of variance v [Kingma et al. 2021], which is one whatever v is.

mod cells;
mod flow;

pub use cells::Cells;
pub use flow::{Flow, State, Trace, probes};
use tch::{Kind, Tensor};

use crate::{
    numbers::{
        quadrature::running,
        sigma::{Sigmas, snr},
    },
    scores::{denoiser::Denoiser, noise::Noise},
};

/// A mean over independent images, and its standard error (NaN for a single image).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
pub struct Mean {
    /// The mean over the images.
    pub value: f64,
    /// The standard deviation over images, divided by the root of their number.
    pub error: f64,
}

impl Mean {
    /// The mean of one value for each image, and its error.
    pub fn from_values(values: &[f64]) -> Self {
        let count = values.len() as f64;
        let value = values.iter().sum::<f64>() / count;
        let spread = values.iter().map(|v| (v - value).powi(2)).sum::<f64>() / (count - 1.0);
        Self { value, error: (spread / count).sqrt() }
    }

    /// Both in another unit.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self { value: self.value * factor, error: self.error * factor.abs() }
    }
}

/// ‖x − D(x + σ n, σ)‖², averaged over `draws` noises n, for each image and level: `[batch, levels]`, f64.
///
/// The noise of level k is that of step k, so that it depends on nothing but seed, level and draw.
pub fn squared_errors(denoiser: &dyn Denoiser, x: &Tensor, sigmas: &Sigmas, noise: &dyn Noise, draws: u64) -> Tensor {
    let _guard = tch::no_grad_guard();
    let one = |sigma: f64, level: usize, draw: u64| {
        let shift = noise.like(x, level as u64, draw) * sigma;
        // x − D = −σ n − (D − z), which loses no digits at small σ.
        square(&(denoiser.residual(&(x + &shift), sigma) + shift))
    };
    let mean = |(level, sigma)| {
        let total: Tensor = (0..draws.max(1)).map(|draw| one(sigma, level, draw)).sum();
        total / draws.max(1) as f64
    };
    Tensor::stack(&sigmas.iter().enumerate().map(mean).collect::<Vec<_>>(), 1)
}

/// ‖x‖² of each image of a batch: `[batch]`, f64.
pub fn square(x: &Tensor) -> Tensor {
    x.flatten(1, -1).to_kind(Kind::Double).square().sum_dim_intlist([1i64].as_slice(), false, None)
}

/// KL(N(x, σ² I) ‖ N(0, s² I)) in nats for x of d numbers with ‖x‖² = `square` [Kingma & Welling 2014, Appendix B].
///
/// This is the information of the channel of level σ about an image before any network is asked.
pub fn prior(square: f64, numbers: usize, sigma: f64, start: f64) -> f64 {
    let ratio = (sigma / start).powi(2);
    // ln ratio through ratio − 1 keeps the digits of s close to σ.
    (square / (start * start) + numbers as f64 * ((ratio - 1.0) - (ratio - 1.0).ln_1p())) / 2.0
}

/// Squared errors of a denoiser on some images at each level.
#[derive(Clone, Debug)]
pub struct Curve {
    sigmas: Sigmas,
    numbers: usize,
    errors: Vec<Vec<f64>>,
    divergences: Vec<Vec<f64>>,
}

impl Curve {
    /// Creates a curve from [`squared_errors`] at these levels and [`square`], for each image, of d = `numbers` numbers
    /// each.
    ///
    /// `start` is the standard deviation of z at the largest level, from which samplers begin. The integral goes over ln λ,
    /// where the integrand λ mmse(λ), the squared error in units of the noise, lies between 0 and d and bends slowly, and it
    /// is that of cubics through neighbouring levels: for levels in geometric progression its error falls as the fourth
    /// power of their distance. A denoiser is asked at fixed levels and not at random ones, since this error is far below
    /// that of the noise.
    pub fn new(sigmas: Sigmas, numbers: usize, start: f64, squares: &[f64], errors: Vec<Vec<f64>>) -> Self {
        let logarithms: Vec<f64> = sigmas.iter().map(|sigma| snr(sigma).ln()).collect();
        let divergence = |(square, errors): (&f64, &Vec<f64>)| {
            let scaled: Vec<f64> = sigmas.iter().zip(errors).map(|(sigma, error)| error * snr(sigma)).collect();
            let first = prior(*square, numbers, sigmas.max(), start);
            running(&logarithms, &scaled).into_iter().map(|integral| first + integral / 2.0).collect()
        };
        let divergences = squares.iter().zip(&errors).map(divergence).collect();
        Self { sigmas, numbers, errors, divergences }
    }

    /// The levels, largest first.
    pub fn sigmas(&self) -> &Sigmas {
        &self.sigmas
    }

    /// d.
    pub fn numbers(&self) -> usize {
        self.numbers
    }

    /// MMSE(λ) = E‖x − D‖² at each level, in squared data units.
    pub fn mmse(&self) -> Vec<Mean> {
        self.at_each_level(&self.errors)
    }

    /// I(λ) in nats at each level.
    pub fn information(&self) -> Vec<Mean> {
        self.at_each_level(&self.divergences)
    }

    /// KL(q(z|x) ‖ p(z)) in nats at each level, for each image.
    pub fn divergences(&self) -> &[Vec<f64>] {
        &self.divergences
    }

    /// Divergences at the smallest level.
    pub fn last_divergences(&self) -> Vec<f64> {
        last(&self.divergences)
    }

    /// v = MMSE(λ₁)/d: the variance of each number of x when z is known at the smallest level.
    pub fn unknown(&self) -> f64 {
        Mean::from_values(&last(&self.errors)).value / self.numbers as f64
    }

    /// −E ln N(x; D(z₁, σ₁), v I) in nats, for each image: d/2 ln(2πv) + mmse(x, λ₁)/(2v).
    pub fn decoding(&self) -> Vec<f64> {
        let (variance, numbers) = (self.unknown(), self.numbers as f64);
        let constant = numbers / 2.0 * (std::f64::consts::TAU * variance).ln();
        last(&self.errors).into_iter().map(|error| constant + error / (2.0 * variance)).collect()
    }

    /// −ln p(x) in nats, for each image.
    pub fn surprise(&self) -> Vec<f64> {
        self.last_divergences().into_iter().zip(self.decoding()).map(|(known, left)| known + left).collect()
    }

    /// Nats by which the mean of −ln p would be larger, had every other level been left out: about sixteen times the
    /// error of the integral. `None` for an even number of levels, which has no such half, or for fewer than 7.
    pub fn halved(&self) -> Option<f64> {
        let (at, values): (Vec<f64>, Vec<f64>) = self
            .sigmas
            .iter()
            .zip(self.mmse())
            .map(|(sigma, mmse)| (snr(sigma).ln(), mmse.value * snr(sigma) / 2.0))
            .unzip();
        let half = |all: &[f64]| all.iter().copied().step_by(2).collect::<Vec<_>>();
        let fine = running(&at, &values).pop()?;
        let coarse = running(&half(&at), &half(&values)).pop()?;
        (at.len() >= 7 && !at.len().is_multiple_of(2)).then_some(coarse - fine)
    }

    fn at_each_level(&self, rows: &[Vec<f64>]) -> Vec<Mean> {
        let column = |k: usize| Mean::from_values(&rows.iter().map(|row| row[k]).collect::<Vec<_>>());
        (0..self.sigmas.iter().len()).map(column).collect()
    }
}

fn last(rows: &[Vec<f64>]) -> Vec<f64> {
    rows.iter().filter_map(|row| row.last().copied()).collect()
}
