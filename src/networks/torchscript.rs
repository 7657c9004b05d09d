//! Networks that are TorchScript programs: any architecture that somebody exported.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tch::{CModule, IValue, Kind, Tensor};

use super::Network;
use crate::Error;

/// Inputs and outputs of a program: `forward(x, label)`, or `forward(x, label, class)`, to a tensor like x or to a
/// tuple that begins with one. x is `[batch, channels, height, width]`, pixels in −1 … 1; label, `[batch]`, is what the
/// card's preconditioning makes of σ.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TorchScriptConfig {
    /// Channels of the images.
    pub in_channels: i64,
    /// Height and width must be multiples of this.
    #[serde(default = "one")]
    pub stride: i64,
    /// The label is rounded, and an integer: for programs that look it up in a table.
    #[serde(default)]
    pub whole_labels: bool,
    /// Number of classes with which the network was trained; `class`, `[batch]`, is of integers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<i64>,
    /// The number that stood for no class in training; that after the last class is none of them at all.
    #[serde(default)]
    pub null_class: Option<i64>,
}

fn one() -> i64 {
    1
}

/// See [`TorchScriptConfig`].
#[derive(Debug)]
pub struct TorchScript {
    config: TorchScriptConfig,
    module: Arc<CModule>,
    kind: Kind,
}

impl TorchScript {
    /// A program that was loaded to its device and set to compute in `kind`.
    pub fn new(config: &TorchScriptConfig, module: Arc<CModule>, kind: Kind) -> Result<Self, Error> {
        if config.in_channels < 1 || config.stride < 1 {
            let want = "a program with at least one channel and a stride of at least 1";
            return Err(Error::parameter("network", want, super::shown(config)));
        }
        super::check_null(config.null_class, config.num_classes)?;
        Ok(Self { config: config.clone(), module, kind })
    }

    /// Checks that one image of this `[channels, height, width]` gives another of that shape.
    pub fn fits(&self, shape: [i64; 3], device: tch::Device) -> Result<(), String> {
        let [channels, height, width] = shape;
        let x = Tensor::f_zeros([1, channels, height, width], (Kind::Float, device)).map_err(|e| first_line(&e))?;
        let label = x.new_ones([1], (Kind::Float, device));
        let class = self.config.num_classes.map(|_| label.zeros_like().to_kind(Kind::Int64));
        let answer = tch::no_grad(|| self.answer(&x, &label, class.as_ref()))?;
        if answer.size() == x.size() {
            return Ok(());
        }
        Err(format!(
            "the program makes {:?} of {:?}, but an answer of the same size is wanted",
            answer.size(),
            x.size()
        ))
    }

    fn answer(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Result<Tensor, String> {
        let label =
            if self.config.whole_labels { label.round().to_kind(Kind::Int64) } else { label.to_kind(self.kind) };
        let given = [Some(x.to_kind(self.kind)), Some(label), class.map(Tensor::shallow_clone)];
        called(&self.module, given.into_iter().flatten())
    }
}

/// A program's answer, or the first of several.
pub(crate) fn called(module: &CModule, given: impl Iterator<Item = Tensor>) -> Result<Tensor, String> {
    let given: Vec<IValue> = given.map(IValue::Tensor).collect();
    let answer = module.forward_is(&given).map_err(|e| format!("the program failed: {}", first_line(&e)))?;
    let tensor = match answer {
        IValue::Tensor(tensor) => Some(tensor),
        IValue::Tuple(values) => match values.into_iter().next() {
            Some(IValue::Tensor(tensor)) => Some(tensor),
            _ => None,
        },
        _ => None,
    };
    tensor.ok_or_else(|| "the program gives neither a tensor nor a tuple that begins with one".to_owned())
}

/// The sentence of a TorchScript failure, without its stack.
fn first_line(error: &tch::TchError) -> String {
    let text = error.to_string();
    let error = text.lines().rev().find(|line| line.contains("Error"));
    error.or_else(|| text.lines().next()).unwrap_or_default().trim().to_owned()
}

impl Network for TorchScript {
    fn forward(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        match self.answer(x, label, class) {
            Ok(answer) => answer.to_kind(x.kind()).contiguous(),
            Err(cause) => panic!("{cause}"),
        }
    }

    fn check(&self, shape: [i64; 3]) -> Result<(), Error> {
        super::multiples(shape, self.config.in_channels, self.config.stride)
    }

    fn classes(&self) -> Option<i64> {
        self.config.num_classes
    }

    fn null_class(&self) -> Option<i64> {
        self.config.null_class
    }
}

/// A classifier of noisy images that is a TorchScript program, forward(x, label) → logits `[batch, classes]`; copies share it.
#[derive(Clone, Debug)]
pub struct ScriptClassifier {
    module: Arc<CModule>,
    kind: Kind,
    classes: i64,
}

impl ScriptClassifier {
    /// A program that was loaded to its device and set to compute in `kind`, tried on an image of this
    /// `[channels, height, width]`.
    pub fn new(module: Arc<CModule>, shape: [i64; 3], device: tch::Device, kind: Kind) -> Result<Self, String> {
        let [channels, height, width] = shape;
        let x = Tensor::f_zeros([1, channels, height, width], (Kind::Float, device)).map_err(|e| first_line(&e))?;
        let mut classifier = Self { module, kind, classes: 0 };
        let logits = tch::no_grad(|| classifier.forward(&x, &x.new_ones([1], (Kind::Float, device))))?;
        match *logits.size() {
            [1, classes] if classes > 0 => classifier.classes = classes,
            ref size => {
                return Err(format!("the program makes {size:?} of {:?}, but [1, classes] is wanted", x.size()));
            }
        }
        Ok(classifier)
    }

    /// Number of classes.
    pub fn classes(&self) -> i64 {
        self.classes
    }

    /// Logits, `[batch, classes]`, of what a network is given: input · x and its label, `[batch]`.
    pub fn forward(&self, x: &Tensor, label: &Tensor) -> Result<Tensor, String> {
        let logits = called(&self.module, [x, label].map(|given| given.to_kind(self.kind)).into_iter())?;
        Ok(logits.to_kind(x.kind()))
    }
}
