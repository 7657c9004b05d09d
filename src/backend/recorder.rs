//! Recorders, which record an evaluation of a network and replay it: CUDA graphs implement them, networks use them.

use std::fmt;

use tch::{Kind, Tensor};

/// Inputs of a network.
#[derive(Debug)]
pub struct Inputs {
    /// `[batch, channels, height, width]`.
    pub x: Tensor,
    /// `[batch]`.
    pub label: Tensor,
    /// `[batch]`, where the network takes classes.
    pub class: Option<Tensor>,
}

impl Inputs {
    pub(crate) fn each(&self) -> impl Iterator<Item = &Tensor> {
        [Some(&self.x), Some(&self.label), self.class.as_ref()].into_iter().flatten()
    }

    /// The key that distinguishes recordings.
    pub(crate) fn form(&self) -> Form {
        self.each().map(|tensor| (tensor.size(), tensor.kind())).collect()
    }

    /// Zeros of the same form.
    pub(crate) fn blank(&self) -> Self {
        Self {
            x: self.x.zeros_like(),
            label: self.label.zeros_like(),
            class: self.class.as_ref().map(Tensor::zeros_like),
        }
    }

    pub(crate) fn set(&mut self, given: &Self) {
        self.x.copy_(&given.x);
        self.label.copy_(&given.label);
        if let (Some(own), Some(class)) = (&mut self.class, &given.class) {
            own.copy_(class);
        }
    }
}

/// Sizes and kinds.
pub(crate) type Form = Vec<(Vec<i64>, Kind)>;

/// A device that can record an evaluation.
pub trait Recorder: fmt::Debug + Send {
    /// Records `evaluate` of `inputs`; says why if it cannot.
    fn record(&self, inputs: &Inputs, evaluate: &mut dyn FnMut(&Inputs) -> Tensor) -> Result<Recording, String>;
}

/// A recorded evaluation.
#[derive(Debug)]
pub struct Recording {
    /// The tensor that receives the answer.
    pub output: Tensor,
    /// Computes the answer again, from what its inputs hold by then.
    pub replay: Box<dyn Replay>,
}

/// See [`Recording::replay`].
pub trait Replay: fmt::Debug + Send {
    /// Once, in the order of the device's work; says why if it cannot.
    fn replay(&mut self) -> Result<(), String>;
}
