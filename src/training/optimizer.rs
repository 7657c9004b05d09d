//! AdamW [Loshchilov & Hutter 2019], with an exponential moving average of the weights.

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use crate::{Error, models::checkpoint::safetensors::Tensors};

/// The optimizer's numbers.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OptimizerConfig {
    /// The largest learning rate.
    pub rate: f64,
    /// Steps over which the learning rate rises from 0.
    #[serde(default)]
    pub warmup: u64,
    /// λ of the decoupled weight decay.
    #[serde(default)]
    pub weight_decay: f64,
    /// β₁ and β₂, the memories of gradient and squared gradient.
    #[serde(default = "betas")]
    pub betas: [f64; 2],
    /// ε.
    #[serde(default = "epsilon")]
    pub epsilon: f64,
    /// The largest norm of the whole gradient.
    #[serde(default = "one")]
    pub clip: f64,
    /// Memory of the moving average; in the first steps it is (1 + n)/(10 + n), where that is less.
    pub ema: f64,
}

fn betas() -> [f64; 2] {
    [0.9, 0.999]
}

fn epsilon() -> f64 {
    1e-8
}

fn one() -> f64 {
    1.0
}

/// All parameters in one flat tensor, of which the network's tensors are views: a step is a few operations, and its
/// whole state can be saved, which libtorch's own optimizers do not offer to Rust.
#[derive(Debug)]
pub struct Optimizer {
    config: OptimizerConfig,
    names: Vec<String>,
    leaves: Vec<Tensor>,
    first: Tensor,
    second: Tensor,
    average: Tensor,
    steps: f64,
}

impl Optimizer {
    /// Takes over a network's parameters: from now on they gather gradients.
    pub fn new(config: OptimizerConfig, parameters: Vec<(String, Tensor)>) -> Self {
        let (names, leaves): (Vec<_>, Vec<_>) = parameters.into_iter().unzip();
        let leaves: Vec<Tensor> = leaves.into_iter().map(|leaf| leaf.set_requires_grad(true)).collect();
        let average = flat(&leaves);
        Self { config, names, first: average.zeros_like(), second: average.zeros_like(), average, leaves, steps: 0.0 }
    }

    /// Device of the parameters.
    pub fn device(&self) -> Device {
        self.average.device()
    }

    /// The parameters themselves, by name.
    pub fn parameters(&self) -> Vec<(String, Tensor)> {
        self.names.iter().cloned().zip(self.leaves.iter().map(Tensor::shallow_clone)).collect()
    }

    /// One step down the gradient of `loss`.
    pub fn step(&mut self, loss: &Tensor, rate: f64) -> Result<(), Error> {
        self.descend(&gradient(loss, &self.leaves)?, rate);
        Ok(())
    }

    /// One step down a flat gradient, as [`Optimizer::step`] takes it.
    pub fn descend(&mut self, gradient: &Tensor, rate: f64) {
        tch::no_grad(|| self.update(gradient, rate));
    }

    fn update(&mut self, gradient: &Tensor, rate: f64) {
        let OptimizerConfig { betas: [beta1, beta2], epsilon, weight_decay, clip, ema, .. } = self.config;
        let gradient = gradient * (clip / (gradient.norm() + 1e-6)).clamp_max(1.0);
        self.steps += 1.0;
        let _ = self.first.lerp_(&gradient, 1.0 - beta1);
        let _ = self.second.lerp_(&gradient.square(), 1.0 - beta2);
        let first = &self.first / (1.0 - beta1.powf(self.steps));
        let second = &self.second / (1.0 - beta2.powf(self.steps));
        let step = first / (second.sqrt() + epsilon);
        let parameters = flat(&self.leaves);
        let parameters = &parameters * (1.0 - rate * weight_decay) - step * rate;
        let memory = ema.min((1.0 + self.steps) / (10.0 + self.steps));
        let _ = self.average.lerp_(&parameters, 1.0 - memory);
        let values: Vec<Tensor> = split(&parameters, &self.leaves).collect();
        for (leaf, value) in self.leaves.iter_mut().zip(values) {
            leaf.copy_(&value);
        }
    }

    /// The averaged parameters, by name.
    pub fn average(&self) -> impl Iterator<Item = (String, Tensor)> {
        self.names.iter().cloned().zip(split(&self.average, &self.leaves))
    }

    /// All that [`Optimizer::load`] needs to go on where this one stands.
    pub fn state(&self) -> Tensors {
        let state = [
            ("parameters", flat(&self.leaves)),
            ("average", self.average.shallow_clone()),
            ("first", self.first.shallow_clone()),
            ("second", self.second.shallow_clone()),
            ("steps", Tensor::from(self.steps)),
        ];
        state.map(|(name, tensor)| (name.to_owned(), tensor)).into()
    }

    /// Goes on from a saved state.
    pub fn load(&mut self, mut state: Tensors) -> Result<(), Error> {
        let device = self.device();
        let wanted = self.average.size();
        let mut take = |name: &str| match state.remove(name) {
            Some(tensor) if tensor.size() == wanted => Ok(tensor.to_device(device)),
            Some(tensor) => Err(Error::Keys(vec![format!("{name} is {:?}, not {wanted:?}", tensor.size())])),
            None => Err(Error::Keys(vec![format!("{name} is missing")])),
        };
        let parameters = take("parameters")?;
        (self.average, self.first, self.second) = (take("average")?, take("first")?, take("second")?);
        let steps = state.remove("steps").ok_or_else(|| Error::Keys(vec!["steps is missing".to_owned()]))?;
        self.steps = f64::try_from(steps)?;
        tch::no_grad(|| {
            let values: Vec<Tensor> = split(&parameters, &self.leaves).collect();
            for (leaf, value) in self.leaves.iter_mut().zip(values) {
                leaf.copy_(&value);
            }
        });
        Ok(())
    }
}

/// ∇ `loss` with respect to all of `leaves`, one after the other in one flat tensor.
pub fn gradient(loss: &Tensor, leaves: &[Tensor]) -> Result<Tensor, Error> {
    Ok(flat(&Tensor::f_run_backward(&[loss], leaves, false, false)?))
}

fn flat(tensors: &[Tensor]) -> Tensor {
    let flat: Vec<Tensor> = tensors.iter().map(|tensor| tensor.detach().reshape([-1])).collect();
    Tensor::cat(&flat, 0)
}

/// The pieces of a flat tensor, in the shapes of `like`.
fn split(flat: &Tensor, like: &[Tensor]) -> impl Iterator<Item = Tensor> + use<> {
    let shapes: Vec<Vec<i64>> = like.iter().map(Tensor::size).collect();
    let flat = flat.shallow_clone();
    let mut start = 0;
    shapes.into_iter().map(move |shape| {
        let count = shape.iter().product::<i64>();
        let piece = flat.narrow(0, start, count).view(shape.as_slice());
        start += count;
        piece
    })
}
