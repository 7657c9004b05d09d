//! Objectives of training: a loss for each batch.

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::{Kind, Reduction, Tensor};

use crate::{
    Error,
    networks::{AnyNetwork, Classifier, ClassifierConfig, Network, weights::Weights},
    numbers::{
        precondition::{AnyPrecondition, Precondition, Scaling},
        registry::{entry, one_of},
        stream,
    },
    scores::noise::{Noise, Seeded},
};

/// Draws of one training step.
const LEVELS: u64 = 1;
const NOISE: u64 = 2;
const SHIFTS: u64 = 3;

/// A loss to descend. It may move to another thread, where a replica of it computes at the same time.
pub trait Objective: fmt::Debug + Send {
    /// The mean loss over a batch `[batch, channels, height, width]` in data units: a scalar.
    ///
    /// The randomness of the loss is a pure function of `seed` and `step`.
    fn loss(&self, x: &Tensor, classes: Option<&Tensor>, seed: u64, step: u64) -> Result<Tensor, Error>;
}

/// The entries that `objective:` may name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
#[expect(clippy::large_enum_variant, reason = "a run has one objective")]
pub enum AnyObjective {
    /// See [`Denoise`].
    Denoise(Denoise),
    /// See [`Classify`].
    Classify(Classify),
}

impl AnyObjective {
    /// The objective, with a network drawn afresh.
    pub fn build(&self, weights: &Weights) -> Result<Box<dyn Objective>, Error> {
        Ok(match self {
            Self::Denoise(config) => Box::new(Denoising {
                network: config.network.build(weights)?,
                precondition: config.precondition.build()?,
                config: config.clone(),
            }),
            Self::Classify(config) => {
                let network = Classifier::new(&config.network, weights)?;
                Box::new(Classifying { network, shift: config.shift })
            }
        })
    }
}

/// The training template [Random Walks, Table 1 of version 1]: E[w(σ) ‖X − D(X + σN, σ)‖²].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Denoise {
    /// F.
    pub network: AnyNetwork,
    /// Preconditioning that makes D of F.
    pub precondition: AnyPrecondition,
    /// Distribution of σ.
    pub sigma: AnyDistribution,
    /// w(σ).
    #[serde(default)]
    pub weight: Weight,
}

/// w(σ) = σ^−p + floor.
///
/// p = 2 with no floor is DDPM's and score_sde's loss, p = 4 the unweighted score matching of the paper's table;
/// p = 2 and floor = 1 is the loss ‖F − v‖² of a network that predicts v, or EDM's for data of unit variance.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Weight {
    /// p.
    pub power: f64,
    /// Weight of every level, in addition to the other term.
    #[serde(default)]
    pub floor: f64,
}

impl Default for Weight {
    fn default() -> Self {
        Self { power: 2.0, floor: 0.0 }
    }
}

impl Weight {
    /// w(σ).
    pub fn at(&self, sigma: f64) -> f64 {
        sigma.powf(-self.power) + self.floor
    }
}

/// A distribution from which training draws σ.
pub trait NoiseDistribution {
    /// The σ of a uniform number u in (0, 1] and a standard normal z; which one is used is the distribution's affair.
    fn sigma(&self, u: f64, z: f64, precondition: &dyn Precondition) -> f64;
}

entry! {
    name: "uniform",
    what: "σ uniform",
    source: "Random Walks",
    /// σ uniform between the ends of the model's range [Random Walks, SGM row].
    pub struct Uniform {}
}

impl NoiseDistribution for Uniform {
    fn sigma(&self, u: f64, _: f64, precondition: &dyn Precondition) -> f64 {
        let (min, max) = precondition.range();
        min + u * (max - min)
    }
}

entry! {
    name: "loguniform",
    what: "ln σ uniform",
    source: "Score SDE, Appendix C",
    /// ln σ uniform between the ends of the model's range [Score SDE, Appendix C].
    pub struct Loguniform {}
}

impl NoiseDistribution for Loguniform {
    fn sigma(&self, u: f64, _: f64, precondition: &dyn Precondition) -> f64 {
        let (min, max) = precondition.range();
        min * (max / min).powf(u)
    }
}

entry! {
    name: "discrete",
    what: "σ of a discrete time of the chain",
    source: "DDPM, Algorithm 1",
    /// The σ of one of the chain's discrete times, each as likely as any other [DDPM, Algorithm 1; RW, DDPM row].
    pub struct Discrete {}
}

impl NoiseDistribution for Discrete {
    fn sigma(&self, u: f64, z: f64, precondition: &dyn Precondition) -> f64 {
        precondition.times().map_or_else(
            || Loguniform {}.sigma(u, z, precondition),
            |times| times.sigma((u * (times.last() + 1.0)).ceil() - 1.0),
        )
    }
}

entry! {
    name: "lognormal",
    what: "ln σ normal",
    source: "EDM, Table 1",
    /// ln σ normal [EDM, Table 1], held within the model's range.
    pub struct Lognormal {
        /// P_mean, of ln σ.
        pub mean: f64 = -1.2 => "any number",
        /// P_std, of ln σ.
        pub std: f64 = 1.2 => "> 0",
    }
}

impl NoiseDistribution for Lognormal {
    fn sigma(&self, _: f64, z: f64, precondition: &dyn Precondition) -> f64 {
        let (min, max) = precondition.range();
        (self.mean + self.std * z).exp().clamp(min, max)
    }
}

one_of! {
    {
        /// The entries that `sigma:` of a training file may name.
        pub enum AnyDistribution: NoiseDistribution = "distribution of σ"
    },
    { objective: Discrete Lognormal Loguniform Uniform }
}

#[derive(Debug)]
struct Denoising {
    network: Box<dyn Network>,
    precondition: Box<dyn Precondition>,
    config: Denoise,
}

impl Denoising {
    /// The noise levels of a batch.
    fn sigmas(&self, batch: usize, seed: u64, step: u64) -> Vec<f64> {
        let uniform = stream::uniform(seed, step, LEVELS);
        let normal = stream::normal(seed, step, LEVELS + SHIFTS);
        let sigma = |(u, z)| self.config.sigma.get().sigma(u, z, &*self.precondition);
        uniform.zip(normal).take(batch).map(sigma).collect()
    }
}

impl Objective for Denoising {
    fn loss(&self, x: &Tensor, _: Option<&Tensor>, seed: u64, step: u64) -> Result<Tensor, Error> {
        let size = x.size();
        self.network.check([size[1], size[2], size[3]])?;
        let sigmas = self.sigmas(size[0] as usize, seed, step);
        let noise = Seeded(vec![seed]).like(&x.unsqueeze(0), step, NOISE).squeeze_dim(0);
        let scalings: Vec<Scaling> = sigmas.iter().map(|&sigma| self.precondition.at(sigma)).collect();
        let column = |values: Vec<f64>| {
            Tensor::from_slice(&values).to_kind(Kind::Float).to_device(x.device()).view([-1, 1, 1, 1])
        };
        let each = |pick: fn(&Scaling) -> f64| column(scalings.iter().map(pick).collect());
        let noisy = x + column(sigmas.clone()) * noise;
        let output = self.network.forward(&(&noisy * each(|s| s.input)), &each(|s| s.label).view([-1]), None);
        let output = output.narrow(1, 0, x.size()[1]);
        let error = &noisy * each(|s| 1.0 + s.skip_minus_one) + output * each(|s| s.out) - x;
        let weight = column(sigmas.iter().map(|&sigma| self.config.weight.at(sigma)).collect());
        Ok((error.square() * weight).mean(Kind::Float))
    }
}

/// Cross entropy of a small classifier on clean images.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Classify {
    /// The classifier.
    pub network: ClassifierConfig,
    /// Images are moved by up to so many pixels, black coming in.
    #[serde(default)]
    pub shift: i64,
}

#[derive(Debug)]
struct Classifying {
    network: Classifier,
    shift: i64,
}

impl Objective for Classifying {
    fn loss(&self, x: &Tensor, classes: Option<&Tensor>, seed: u64, step: u64) -> Result<Tensor, Error> {
        let classes =
            classes.ok_or_else(|| Error::parameter("data", "labelled, for a classifier", "without labels"))?;
        let x = if self.shift > 0 { moved(x, self.shift, seed, step) } else { x.shallow_clone() };
        let logits = self.network.logits(&self.network.features(&x));
        Ok(logits.cross_entropy_loss(classes, None::<&Tensor>, Reduction::Mean, -100, 0.0))
    }
}

/// Each image moved by its own whole number of pixels, at most `most` in each direction.
fn moved(x: &Tensor, most: i64, seed: u64, step: u64) -> Tensor {
    let size = x.size();
    let padded = x.constant_pad_nd([most; 4]) + pad_value(x, most);
    let mut offsets = stream::uniform(seed, step, SHIFTS).map(|u| ((u * (2 * most + 1) as f64).ceil() as i64) - 1);
    let mut offset = || offsets.next().unwrap_or(most);
    let images: Vec<Tensor> =
        (0..size[0]).map(|i| padded.get(i).narrow(1, offset(), size[2]).narrow(2, offset(), size[3])).collect();
    Tensor::stack(&images, 0)
}

/// −1 (black) on the border that padding added, 0 elsewhere.
fn pad_value(x: &Tensor, most: i64) -> Tensor {
    x.ones_like().constant_pad_nd([most; 4]) - 1.0
}
