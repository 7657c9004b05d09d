//! The training template: L(θ) = E[w(σ) ‖X − D_θ(X + σN, σ)‖²], and the small classifier beside it.

mod objective;
mod optimizer;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

pub use objective::{
    AnyDistribution, AnyObjective, Classify, Denoise, Discrete, Lognormal, Loguniform, NoiseDistribution, Objective,
    Uniform, Weight,
};
pub use optimizer::{Optimizer, OptimizerConfig};

use crate::{
    Error,
    files::data::{AnyData, Images},
    models::checkpoint::safetensors::{self, Metadata, Tensors},
    networks::weights::Weights,
    numbers::stream,
};

/// One training run, as a file states it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Training {
    /// The objective.
    pub objective: AnyObjective,
    /// The images.
    pub data: AnyData,
    /// Images in a step.
    pub batch: usize,
    /// Images whose gradient is computed at once [default: all of the step]; those of a step are spread over the CPU's
    /// threads, or follow one another on a GPU, and are then averaged.
    #[serde(default)]
    pub micro_batch: Option<usize>,
    /// Steps in all.
    pub steps: u64,
    /// The last steps, over which the learning rate falls to 0.
    #[serde(default)]
    pub cooldown: u64,
    /// AdamW's numbers.
    pub optimizer: OptimizerConfig,
    /// Steps between checkpoints; a run that is killed loses no more than these.
    pub checkpoint_every: u64,
    /// Seed of the first weights, the order of the images and the noise.
    #[serde(default)]
    pub seed: u64,
    /// A model (.safetensors) of the same architecture to begin with, in place of weights drawn from the seed.
    #[serde(default)]
    pub init: Option<PathBuf>,
    /// The model is written in f16, half the size, and not in f32; checkpoints stay exact.
    #[serde(default)]
    pub half: bool,
    /// The folder of checkpoints, curve and model.
    pub out: PathBuf,
}

impl Training {
    /// The settings that a resumed run may not change.
    fn identity(&self) -> Self {
        Self {
            micro_batch: None,
            steps: 0,
            cooldown: 0,
            checkpoint_every: 1,
            half: false,
            out: PathBuf::new(),
            ..self.clone()
        }
    }

    /// The learning rate of step n: it rises over `warmup`, stays, and falls to 0 over the last `cooldown` steps.
    fn rate(&self, step: u64) -> f64 {
        let rise = (step + 1) as f64 / self.optimizer.warmup.max(1) as f64;
        let fall = self.steps.saturating_sub(step) as f64 / self.cooldown.max(1) as f64;
        self.optimizer.rate * rise.min(fall).min(1.0)
    }

    /// Micro-batches in a step.
    pub fn micro_batches(&self) -> usize {
        self.batch.div_ceil(self.micro_batch.unwrap_or(self.batch).max(1))
    }

    fn checkpoint(&self) -> PathBuf {
        self.out.join("checkpoint.safetensors")
    }
}

/// The objective with its network, in a thread of its own; all replicas share their parameters.
#[derive(Debug)]
struct Replica {
    objective: Box<dyn Objective>,
    leaves: Vec<Tensor>,
}

/// Images and classes of one micro-batch, and their share of the step.
struct MicroBatch {
    x: Tensor,
    classes: Option<Tensor>,
    number: u64,
    share: f64,
}

impl Replica {
    /// The loss and its gradient, each times the micro-batch's share.
    fn gradient(&self, batch: &MicroBatch, seed: u64) -> Result<(Tensor, Tensor), Error> {
        let loss = self.objective.loss(&batch.x, batch.classes.as_ref(), seed, batch.number)? * batch.share;
        let gradient = optimizer::gradient(&loss, &self.leaves)?;
        Ok((loss.detach(), gradient))
    }
}

/// A training run in memory.
#[derive(Debug)]
pub struct Trainer {
    config: Training,
    images: Images,
    replicas: Vec<Replica>,
    optimizer: Optimizer,
    step: u64,
    epoch: Option<(u64, Vec<usize>)>,
}

impl Trainer {
    /// A run from the beginning. The network computes in `kind`; its parameters, their averages and the loss are f32.
    ///
    /// Up to `threads` micro-batches are computed at the same time; their number does not change a bit of the result.
    pub fn new(config: Training, device: Device, kind: Kind, threads: usize) -> Result<Self, Error> {
        if config.batch == 0 || config.checkpoint_every == 0 || config.micro_batch == Some(0) {
            return Err(Error::parameter("batch, micro_batch and checkpoint_every", "at least 1", 0));
        }
        let images = config.data.load()?;
        if images.count() < config.batch {
            return Err(Error::parameter("batch", "at most the number of images", config.batch));
        }
        let weights = match &config.init {
            Some(path) => begun(path, device, kind)?,
            None => Weights::fresh(config.seed, device, kind),
        };
        config.objective.build(&weights)?;
        let named = |e| match &config.init {
            Some(path) => Error::file(path, e),
            None => e,
        };
        let optimizer = Optimizer::new(config.optimizer.clone(), weights.finish().map_err(named)?);
        let parameters = optimizer.parameters();
        let replica = |_| {
            let weights = Weights::shared(&parameters, device, kind);
            let objective = config.objective.build(&weights)?;
            Ok(Replica { objective, leaves: weights.finish()?.into_iter().map(|(_, leaf)| leaf).collect() })
        };
        let replicas = (0..threads.clamp(1, config.micro_batches())).map(replica).collect::<Result<_, Error>>()?;
        Ok(Self { config, images, replicas, optimizer, step: 0, epoch: None })
    }

    /// A run from its last checkpoint.
    pub fn resume(config: Training, device: Device, kind: Kind, threads: usize) -> Result<Self, Error> {
        let path = config.checkpoint();
        let (tensors, metadata) = safetensors::read(&path)?;
        let mut trainer = Self::new(config, device, kind, threads)?;
        let stored = metadata.get("training").map_or("", String::as_str);
        let stored: Training =
            serde_json::from_str(stored).map_err(|e| Error::file(&path, format!("holds no training run: {e}")))?;
        if stored.identity() != trainer.config.identity() {
            let cause = "belongs to a run with other settings: give this one another `out`";
            return Err(Error::file(&path, cause));
        }
        let step = metadata.get("step").and_then(|step| step.parse().ok());
        trainer.step = step.ok_or_else(|| Error::file(&path, "does not say at which step it was written"))?;
        trainer.optimizer.load(tensors).map_err(|e| Error::file(&path, e))?;
        Ok(trainer)
    }

    /// Steps done.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// The learning rate of the next step.
    pub fn rate(&self) -> f64 {
        self.config.rate(self.step)
    }

    /// Settings of this run.
    pub fn config(&self) -> &Training {
        &self.config
    }

    /// One step; returns its loss, still on the device.
    pub fn advance(&mut self) -> Result<Tensor, Error> {
        let (seed, threads) = (self.config.seed, self.replicas.len());
        let mut queues: Vec<Vec<MicroBatch>> = (0..threads).map(|_| Vec::new()).collect();
        for (i, batch) in self.batches().into_iter().enumerate() {
            queues[i % threads].push(batch);
        }
        let each = |(replica, queue): (&mut Replica, Vec<MicroBatch>)| {
            queue.iter().map(|batch| replica.gradient(batch, seed)).collect::<Result<Vec<_>, Error>>()
        };
        let gradients: Vec<Vec<(Tensor, Tensor)>> =
            self.replicas.par_iter_mut().zip(queues).map(each).collect::<Result<_, _>>()?;
        // Summed in the order of the micro-batches, whoever computed them.
        let mut gradients: Vec<_> = gradients.into_iter().map(Vec::into_iter).collect();
        let in_order = (0..self.config.micro_batches()).filter_map(|i| gradients[i % threads].next());
        let sum = in_order.reduce(|(loss, gradient), next| (loss + next.0, gradient + next.1));
        let (loss, gradient) = sum.ok_or_else(|| Error::parameter("batch", "at least 1", 0))?;
        self.optimizer.descend(&gradient, self.config.rate(self.step));
        self.step += 1;
        Ok(loss)
    }

    /// The micro-batches of the next step. Each has a number of its own, from which its randomness comes.
    fn batches(&mut self) -> Vec<MicroBatch> {
        let (indices, device) = (self.indices(), self.optimizer.device());
        let number = self.step * self.config.micro_batches() as u64;
        let micro = self.config.micro_batch.unwrap_or(indices.len());
        let batch = |(i, part): (usize, &[usize])| MicroBatch {
            x: self.images.batch(part).to_device(device),
            classes: self.images.classes(part).map(|classes| classes.to_device(device)),
            number: number + i as u64,
            share: part.len() as f64 / indices.len() as f64,
        };
        indices.chunks(micro).enumerate().map(batch).collect()
    }

    /// Every image once in each epoch, in an order that seed and epoch determine.
    fn indices(&mut self) -> Vec<usize> {
        let count = self.images.count();
        let first = self.step * self.config.batch as u64;
        (first..first + self.config.batch as u64)
            .map(|i| {
                let (epoch, place) = (i / count as u64, (i % count as u64) as usize);
                if self.epoch.as_ref().is_none_or(|(current, _)| *current != epoch) {
                    self.epoch = Some((epoch, stream::permutation(count, self.config.seed, epoch, ORDER)));
                }
                self.epoch.as_ref().map_or(0, |(_, order)| order[place])
            })
            .collect()
    }

    /// Writes what [`Trainer::resume`] reads.
    pub fn save(&self) -> Result<(), Error> {
        let path = self.config.checkpoint();
        let training = serde_json::to_string(&self.config).map_err(|e| Error::file(&path, e))?;
        let metadata = Metadata::from([("training".to_owned(), training), ("step".to_owned(), self.step.to_string())]);
        safetensors::write(&path, &self.optimizer.state(), &metadata)
    }

    /// The averaged (EMA) parameters, by name.
    pub fn average(&self) -> Tensors {
        self.optimizer.average().collect::<BTreeMap<_, _>>()
    }

    /// Writes the averaged parameters with `card` in the header: a model that loads by itself.
    pub fn export(&self, path: &Path, card: &str) -> Result<(), Error> {
        let metadata = Metadata::from([("card".to_owned(), card.to_owned())]);
        let kind = if self.config.half { Kind::Half } else { Kind::Float };
        let tensors = self.average().into_iter().map(|(name, tensor)| (name, tensor.to_kind(kind))).collect();
        safetensors::write(path, &tensors, &metadata)
    }
}

/// The weights of a model, in f32, for a network that computes in `kind`.
fn begun(path: &Path, device: Device, kind: Kind) -> Result<Weights, Error> {
    let (tensors, _) = safetensors::read(path)?;
    let float = |(name, tensor): (String, Tensor)| (name, tensor.to_device(device).to_kind(Kind::Float));
    let tensors: Vec<_> = tensors.into_iter().map(float).collect();
    Ok(Weights::shared(&tensors, device, kind))
}

/// Draws of the training stream: the order of the images, the noise levels, the noise.
const ORDER: u64 = 0;
