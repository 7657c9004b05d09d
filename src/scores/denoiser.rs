//! Denoisers, and the scores that Tweedie's formula makes of them.

use std::{cell::OnceCell, fmt};

use tch::{Kind, Tensor};

use crate::{
    networks::Network,
    numbers::precondition::{Precondition, Scaling},
};

/// s(x, σ) ≈ ∇ₓ log f_σ(x): all that a walk needs to know about the images.
pub trait Score {
    /// `x` is `[batch, channels, height, width]`; one σ, in data units, serves the whole batch.
    fn score(&self, x: &Tensor, sigma: f64) -> Tensor;

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
}

impl<D: Denoiser + ?Sized> Denoiser for &D {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        (**self).denoise(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        (**self).residual(x, sigma)
    }
}

impl<D: Denoiser + ?Sized> Denoiser for Box<D> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        (**self).denoise(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        (**self).residual(x, sigma)
    }
}

/// D(x, σ), held within −limit … limit.
pub struct Clipped<'a> {
    denoiser: Box<dyn Denoiser + 'a>,
    limit: f64,
}

impl<'a> Clipped<'a> {
    /// The denoiser, held within −limit … limit if there is a limit.
    pub fn within(denoiser: Box<dyn Denoiser + 'a>, limit: Option<f64>) -> Box<dyn Denoiser + 'a> {
        match limit {
            Some(limit) => Box::new(Self { denoiser, limit }),
            None => denoiser,
        }
    }
}

impl fmt::Debug for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clipped").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl Denoiser for Clipped<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.denoiser.denoise(x, sigma).clamp(-self.limit, self.limit)
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
    /// out · F(input · x, label).
    fn output(&self, x: &Tensor, Scaling { out, input, label, .. }: Scaling) -> Tensor {
        let label = Tensor::full([x.size()[0]], label, (Kind::Float, x.device()));
        let class = self.classes.as_ref().map(|classes| self.placed.get_or_init(|| classes.to_device(x.device())));
        self.prior.network.forward(&(x * input), &label, class) * out
    }
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
}
