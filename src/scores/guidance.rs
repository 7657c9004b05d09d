//! Denoisers that go further towards a class than the network does.
//!
//! All of them add w ∇ₓ log p(y | x, σ) to the score; what differs is who knows p. They are denoisers again, so that every
//! walk, solver and posterior takes them as it takes the network.

use std::fmt;

use serde::Serialize;
use tch::{Kind, Tensor};

use crate::{
    Error,
    networks::ScriptClassifier,
    numbers::precondition::{Precondition, Scaling},
    scores::denoiser::{Denoiser, ForClasses, Pretrained},
};

/// w, and where it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Guidance {
    weight: f64,
    range: Option<[f64; 2]>,
}

impl Guidance {
    /// `weight` is w. With a `range` [low, high], in data units, w is 0 but for low < σ ≤ high
    /// [Kynkäänniemi et al. 2024].
    pub fn new(weight: f64, range: Option<[f64; 2]>) -> Result<Self, Error> {
        if !weight.is_finite() {
            return Err(Error::parameter("the weight of guidance", "finite", weight));
        }
        match range {
            Some([low, high]) if !(0.0 <= low && low < high && high.is_finite()) => {
                let want = "two finite levels, the smaller one first, which may be 0";
                Err(Error::parameter("the range of guidance", want, format!("{low} … {high}")))
            }
            _ => Ok(Self { weight, range }),
        }
    }

    /// w at σ.
    pub fn at(&self, sigma: f64) -> f64 {
        let within = self.range.is_none_or(|[low, high]| low < sigma && sigma <= high);
        if within { self.weight } else { 0.0 }
    }

    /// Number of answers that [`ClassifierFree`] needs at σ.
    pub fn answers(&self, sigma: f64) -> usize {
        if [0.0, -1.0].contains(&self.at(sigma)) { 1 } else { 2 }
    }
}

/// The two answers of which classifier-free guidance makes one, as D − x.
pub trait Answers {
    /// D(x, σ | y) − x.
    fn conditional(&self, x: &Tensor, sigma: f64) -> Tensor;

    /// D(x, σ) − x, whatever the class.
    fn unconditional(&self, x: &Tensor, sigma: f64) -> Tensor;

    /// Both.
    fn both(&self, x: &Tensor, sigma: f64) -> [Tensor; 2] {
        [self.conditional(x, sigma), self.unconditional(x, sigma)]
    }
}

/// Answers of a denoiser that knows the class, and of one that does not.
impl<C: Denoiser, U: Denoiser> Answers for (C, U) {
    fn conditional(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.0.residual(x, sigma)
    }

    fn unconditional(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.1.residual(x, sigma)
    }
}

/// Answers of one network with a null class; both come from one pass of twice the batch.
#[derive(Debug)]
pub struct OneNetwork<'a> {
    conditional: ForClasses<'a>,
    unconditional: ForClasses<'a>,
    both: ForClasses<'a>,
}

impl<'a> OneNetwork<'a> {
    /// `classes` has one for each image of a batch; `null` stands for none.
    pub fn new(prior: &'a Pretrained, classes: &[i64], null: i64) -> Self {
        let none = vec![null; classes.len()];
        let both = [classes, &none].concat();
        Self {
            conditional: prior.for_classes(Some(classes)),
            unconditional: prior.for_classes(Some(&none)),
            both: prior.for_classes(Some(&both)),
        }
    }
}

impl Answers for OneNetwork<'_> {
    fn conditional(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.conditional.residual(x, sigma)
    }

    fn unconditional(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.unconditional.residual(x, sigma)
    }

    fn both(&self, x: &Tensor, sigma: f64) -> [Tensor; 2] {
        let count = x.size()[0];
        let answers = self.both.residual(&Tensor::cat(&[x, x], 0), sigma);
        [answers.narrow(0, 0, count), answers.narrow(0, count, count)]
    }
}

/// Classifier-free guidance [Ho & Salimans 2022, Eq. 6]: D(x, σ) + (1 + w) (D(x, σ | y) − D(x, σ)).
///
/// Its score is that of y with w ∇ log p(y | x, σ) added, p being what Bayes' rule makes of the two answers. w = 0 asks
/// for the class alone and w = −1 for none, at the cost of one evaluation; any other w costs two.
#[derive(Debug)]
pub struct ClassifierFree<A> {
    /// The answers with the class, and without.
    pub answers: A,
    /// w.
    pub guidance: Guidance,
}

impl<A: Answers> Denoiser for ClassifierFree<A> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        x + self.residual(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        let weight = self.guidance.at(sigma);
        if weight == 0.0 {
            return self.answers.conditional(x, sigma);
        }
        if weight == -1.0 {
            return self.answers.unconditional(x, sigma);
        }
        let [conditional, unconditional] = self.answers.both(x, sigma);
        &unconditional + (conditional - &unconditional) * (1.0 + weight)
    }
}

/// A classifier of noisy images: log p(y | x, σ) of every class, but for a constant.
pub trait Logits {
    /// `[batch, classes]`, in a way that automatic differentiation can follow to `x`.
    fn logits(&self, x: &Tensor, sigma: f64) -> Tensor;
}

/// A program that was trained beside a network, and is given what that is given: logits(input · x, label).
#[derive(Debug)]
pub struct Beside<'a> {
    /// The program.
    pub classifier: &'a ScriptClassifier,
    /// The preconditioning of the network.
    pub precondition: &'a dyn Precondition,
}

impl Logits for Beside<'_> {
    fn logits(&self, x: &Tensor, sigma: f64) -> Tensor {
        let Scaling { input, label, .. } = self.precondition.at(sigma);
        let label = Tensor::full([x.size()[0]], label, (Kind::Float, x.device()));
        match self.classifier.forward(&(x * input), &label) {
            Ok(logits) => logits,
            Err(cause) => panic!("{cause}"),
        }
    }
}

/// Classifier guidance [Dhariwal & Nichol 2021, Algorithm 1]: D(x, σ) + w σ² ∇ₓ log p(y | x, σ).
///
/// Bayes' rule has w = 1 for a denoiser that does not know the class. A denoiser that does, and w, are the two parts of
/// [`ClassifierFree`].
pub struct ClassifierGuided<D, L> {
    /// D.
    pub prior: D,
    /// log p.
    pub classifier: L,
    /// y, one for each image of a batch, `[batch]`.
    pub classes: Tensor,
    /// w.
    pub guidance: Guidance,
}

impl<D, L> fmt::Debug for ClassifierGuided<D, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClassifierGuided").field("guidance", &self.guidance).finish_non_exhaustive()
    }
}

impl<D, L: Logits> ClassifierGuided<D, L> {
    /// D − x with w σ² ∇ₓ log p(y | x, σ) added.
    fn guided(&self, residual: Tensor, x: &Tensor, sigma: f64) -> Tensor {
        match self.guidance.at(sigma) {
            0.0 => residual,
            weight => residual + self.gradient(x, sigma) * (weight * sigma * sigma),
        }
    }

    /// ∇ₓ log p(y | x, σ). Who differentiates the answer, as [`MomentMatching`](crate::inverse::moment_matching::MomentMatching) does, has
    /// the curvature of log p in it.
    fn gradient(&self, x: &Tensor, sigma: f64) -> Tensor {
        let again = x.requires_grad();
        let leaf = if again { x.shallow_clone() } else { x.detach().set_requires_grad(true) };
        let classes = self.classes.to_device(x.device()).unsqueeze(1);
        let total = tch::with_grad(|| {
            let chances = self.classifier.logits(&leaf, sigma).log_softmax(-1, None::<Kind>);
            chances.gather(1, &classes, false).sum(None::<Kind>)
        });
        Tensor::run_backward(&[total], &[leaf], again, again).remove(0)
    }
}

impl<D: Denoiser, L: Logits> Denoiser for ClassifierGuided<D, L> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        x + self.residual(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.guided(self.prior.residual(x, sigma), x, sigma)
    }

    fn residual_and_spread(&self, x: &Tensor, sigma: f64) -> (Tensor, Option<Tensor>) {
        let (residual, spread) = self.prior.residual_and_spread(x, sigma);
        (self.guided(residual, x, sigma), spread)
    }

    fn spreads(&self) -> bool {
        self.prior.spreads()
    }
}
