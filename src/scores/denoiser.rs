//! Denoisers, and the scores that Tweedie's formula makes of them.

use std::{cell::OnceCell, fmt};

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    networks::Network,
    numbers::precondition::{Precondition, Scaling},
};

/// s(x, σ) ≈ ∇ₓ log f_σ(x): all that a walk needs to know about the images.
pub trait Score {
    /// `x` is `[batch, channels, height, width]`; one σ, in data units, serves the whole batch.
    fn score(&self, x: &Tensor, sigma: f64) -> Tensor;

    /// s(x, σ), and what is known of the noise that a step adds: see [`Denoiser::residual_and_spread`].
    fn score_and_spread(&self, x: &Tensor, sigma: f64) -> (Tensor, Option<Tensor>) {
        (self.score(x, sigma), None)
    }

    /// Whether anything is known of that noise.
    fn knows_spread(&self) -> bool {
        false
    }

    /// The largest τ for which a step along this score does not overshoot, in squared data units.
    fn step_limit(&self) -> f64 {
        f64::INFINITY
    }
}

/// D(x, σ) ≈ E[clean | clean + σ n = x], the minimum mean-squared-error denoiser.
pub trait Denoiser {
    /// The mean of the clean images that may hide behind `x`, `[batch, channels, height, width]`.
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor;

    /// D(x, σ) − x. Denoisers override it where the difference would lose digits at small σ.
    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.denoise(x, sigma) - x
    }

    /// D(x, σ) − x, and the second half of a network's answer, where it has one: see [`Network::spreads`].
    fn residual_and_spread(&self, x: &Tensor, sigma: f64) -> (Tensor, Option<Tensor>) {
        (self.residual(x, sigma), None)
    }

    /// Whether there is such a second half.
    fn spreads(&self) -> bool {
        false
    }
}

impl<D: Denoiser + ?Sized> Denoiser for &D {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        (**self).denoise(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        (**self).residual(x, sigma)
    }

    fn residual_and_spread(&self, x: &Tensor, sigma: f64) -> (Tensor, Option<Tensor>) {
        (**self).residual_and_spread(x, sigma)
    }

    fn spreads(&self) -> bool {
        (**self).spreads()
    }
}

impl<D: Denoiser + ?Sized> Denoiser for Box<D> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        (**self).denoise(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        (**self).residual(x, sigma)
    }

    fn residual_and_spread(&self, x: &Tensor, sigma: f64) -> (Tensor, Option<Tensor>) {
        (**self).residual_and_spread(x, sigma)
    }

    fn spreads(&self) -> bool {
        (**self).spreads()
    }
}

/// How D is held within the range of images.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Clip {
    /// D ← clamp(D, −limit, limit).
    Limit(f64),
    /// Dynamic thresholding: D ← clamp(D, −s, s)/s with s the quantile of |D| over an image, held within 1 … max [Saharia et
    /// al. 2022, Imagen, §2.3].
    Quantile {
        /// Share of the pixels that lie below s.
        quantile: f64,
        /// The largest s.
        max: f64,
    },
}

impl Clip {
    /// D within its range.
    fn apply(self, denoised: &Tensor) -> Tensor {
        match self {
            Self::Limit(limit) => denoised.clamp(-limit, limit),
            Self::Quantile { quantile, max } => {
                let lengths = denoised.abs().flatten(1, -1).to_kind(Kind::Float);
                let s = lengths.quantile_scalar(quantile, 1, true, "linear").clamp(1.0, max);
                let s = s.reshape([-1].into_iter().chain(vec![1; denoised.dim() - 1]).collect::<Vec<_>>());
                let s = s.to_kind(denoised.kind());
                denoised.maximum(&-&s).minimum(&s) / s
            }
        }
    }
}

/// D(x, σ), held within the range of images.
pub struct Clipped<'a> {
    denoiser: Box<dyn Denoiser + 'a>,
    clip: Clip,
}

impl<'a> Clipped<'a> {
    /// The denoiser, held within a range if there is one.
    pub fn within(denoiser: Box<dyn Denoiser + 'a>, clip: Option<Clip>) -> Box<dyn Denoiser + 'a> {
        match clip {
            Some(clip) => Box::new(Self { denoiser, clip }),
            None => denoiser,
        }
    }
}

impl fmt::Debug for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clipped").field("clip", &self.clip).finish_non_exhaustive()
    }
}

impl Denoiser for Clipped<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.clip.apply(&self.denoiser.denoise(x, sigma))
    }

    fn residual_and_spread(&self, x: &Tensor, sigma: f64) -> (Tensor, Option<Tensor>) {
        let (residual, spread) = self.denoiser.residual_and_spread(x, sigma);
        (self.clip.apply(&(x + residual)) - x, spread)
    }

    fn spreads(&self) -> bool {
        self.denoiser.spreads()
    }
}

/// D(x, σ) by a closure.
pub struct FnDenoiser<F>(pub F);

impl<F> fmt::Debug for FnDenoiser<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FnDenoiser")
    }
}

impl<F: Fn(&Tensor, f64) -> Tensor> Denoiser for FnDenoiser<F> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        (self.0)(x, sigma)
    }
}

/// Tweedie's formula [Random Walks, Eq. 8]: s(x, σ) = (D(x, σ) − x) / σ².
impl<D: Denoiser + ?Sized> Score for D {
    fn score(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.residual(x, sigma) / (sigma * sigma)
    }

    fn score_and_spread(&self, x: &Tensor, sigma: f64) -> (Tensor, Option<Tensor>) {
        let (residual, spread) = self.residual_and_spread(x, sigma);
        (residual / (sigma * sigma), spread)
    }

    fn knows_spread(&self) -> bool {
        self.spreads()
    }
}

/// A network with its preconditioning: D(x, σ) = skip · x + out · F(input · x, label).
#[derive(Debug)]
pub struct Pretrained {
    /// F.
    pub network: Box<dyn Network>,
    /// The conventions of the network.
    pub precondition: Box<dyn Precondition>,
}

impl Pretrained {
    /// D(x, σ | class): the images of a batch are known to be of these classes, one for each, if the network has any.
    pub fn for_classes(&self, classes: Option<&[i64]>) -> ForClasses<'_> {
        ForClasses { prior: self, classes: classes.map(Tensor::from_slice), placed: OnceCell::new() }
    }
}

impl Denoiser for Pretrained {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.for_classes(None).denoise(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.for_classes(None).residual(x, sigma)
    }

    fn residual_and_spread(&self, x: &Tensor, sigma: f64) -> (Tensor, Option<Tensor>) {
        self.for_classes(None).residual_and_spread(x, sigma)
    }

    fn spreads(&self) -> bool {
        self.network.spreads()
    }
}

/// See [`Pretrained::for_classes`].
#[derive(Debug)]
pub struct ForClasses<'a> {
    prior: &'a Pretrained,
    classes: Option<Tensor>,
    /// The classes on the device of the images: a copy makes the device wait, so it is made once.
    placed: OnceCell<Tensor>,
}

impl ForClasses<'_> {
    /// F(input · x, label), whole.
    fn answer(&self, x: &Tensor, Scaling { input, label, .. }: Scaling) -> Tensor {
        let label = Tensor::full([x.size()[0]], label, (Kind::Float, x.device()));
        let class = self.classes.as_ref().map(|classes| self.placed.get_or_init(|| classes.to_device(x.device())));
        self.prior.network.forward(&(x * input), &label, class)
    }

    /// out · F(input · x, label).
    fn output(&self, x: &Tensor, scaling: Scaling) -> Tensor {
        first_half(&self.answer(x, scaling), x) * scaling.out
    }
}

/// As many channels of an answer as x has.
fn first_half(answer: &Tensor, x: &Tensor) -> Tensor {
    let channels = x.size()[1];
    if answer.size()[1] == channels { answer.shallow_clone() } else { answer.narrow(1, 0, channels).contiguous() }
}

impl Denoiser for ForClasses<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        let scaling = self.prior.precondition.at(sigma);
        x * (1.0 + scaling.skip_minus_one) + self.output(x, scaling)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        let scaling = self.prior.precondition.at(sigma);
        self.output(x, scaling) + x * scaling.skip_minus_one
    }

    fn residual_and_spread(&self, x: &Tensor, sigma: f64) -> (Tensor, Option<Tensor>) {
        let (scaling, channels) = (self.prior.precondition.at(sigma), x.size()[1]);
        let answer = self.answer(x, scaling);
        let spread = (answer.size()[1] == 2 * channels).then(|| answer.narrow(1, channels, channels));
        (first_half(&answer, x) * scaling.out + x * scaling.skip_minus_one, spread)
    }

    fn spreads(&self) -> bool {
        self.prior.network.spreads()
    }
}
