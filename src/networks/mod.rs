//! Architectures: what stands between a noisy image and the network's raw output.

mod adm;
mod classifier;
mod efficientnet;
mod ffdnet;
mod folded;
mod graphed;
mod inception;
pub mod layers;
mod ncsnpp;
mod own;
mod refinenet;
mod torchscript;
mod unet;
pub mod weights;

use std::fmt;

pub use adm::{Adm, AdmConfig, Heads};
pub use classifier::{Classifier, ClassifierConfig};
pub use efficientnet::{EfficientNet, FEATURES as EFFICIENTNET_FEATURES, SIDE as EFFICIENTNET_SIDE};
pub use ffdnet::{Ffdnet, FfdnetConfig, FfdnetLayout};
pub use graphed::Graphed;
pub use inception::{Activations, Inception, SIDE as INCEPTION_SIDE};
pub use ncsnpp::{Embedding, Ncsnpp, NcsnppConfig, Progressive, ProgressiveInput};
pub use own::{FnNetwork, Own, OwnConfig};
pub use refinenet::{RefineNet, RefineNetConfig, RefineStage};
use serde::{Deserialize, Serialize};
use tch::Tensor;
pub(crate) use torchscript::called;
pub use torchscript::{ScriptClassifier, TorchScript, TorchScriptConfig};
pub use unet::{Activation, UNet, UNetConfig};

use crate::Error;
use weights::Weights;

/// F: the raw network. It may move to another thread, where a replica of it computes at the same time.
pub trait Network: fmt::Debug + Send {
    /// `x` is `[batch, channels, height, width]`; `label`, `[batch]`, is the network's noise label c_noise(σ); `class`, `[batch]`,
    /// is of integers, for networks that have classes. The answer has as many channels, or twice as many: the second half then
    /// says how much noise a step adds, see [`Network::spreads`].
    fn forward(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor;

    /// Checks that it takes images of this `[channels, height, width]`.
    fn check(&self, _shape: [i64; 3]) -> Result<(), Error> {
        Ok(())
    }

    /// Number of classes, one of which it needs with each image; `None` without classes.
    fn classes(&self) -> Option<i64> {
        None
    }

    /// The number that stands for no class, if classes were dropped in training: its answer is then that of all images.
    fn null_class(&self) -> Option<i64> {
        None
    }

    /// Whether the answer has a second half, of −1 … 1: the share of ln β, the rest being of ln β̃, in the variance of a step
    /// [Nichol & Dhariwal 2021, Eq. 15].
    fn spreads(&self) -> bool {
        false
    }

    /// Shapes of images whose evaluations are not replayed as others are, each with the reason; see [`Graphed`].
    fn refusals(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The entries that `network:` may name.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum AnyNetwork {
    /// See [`Adm`].
    Adm(AdmConfig),
    /// See [`Ffdnet`].
    Ffdnet(FfdnetConfig),
    /// See [`Ncsnpp`].
    Ncsnpp(NcsnppConfig),
    /// See [`Own`].
    Own(OwnConfig),
    /// See [`RefineNet`].
    #[serde(rename = "refinenet")]
    RefineNet(RefineNetConfig),
    /// See [`TorchScript`].
    #[serde(rename = "torchscript")]
    TorchScript(TorchScriptConfig),
    /// See [`UNet`].
    Unet(UNetConfig),
}

impl AnyNetwork {
    /// Whether a pixel of its answer depends on few pixels around it alone, so that images of any size are all alike to it.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Ffdnet(_))
    }

    /// The network, with its parameters taken from `weights`.
    pub fn build(&self, weights: &Weights) -> Result<Box<dyn Network>, Error> {
        match self {
            Self::Adm(config) => Ok(Box::new(Adm::new(config, weights)?)),
            Self::Ffdnet(config) => Ok(Box::new(Ffdnet::new(config, weights)?)),
            Self::Ncsnpp(config) => Ok(Box::new(Ncsnpp::new(config, weights)?)),
            Self::Own(_) => {
                let want = "of an architecture that a file can hold: own is for networks of the calling program";
                Err(Error::parameter("network", want, "own"))
            }
            Self::RefineNet(config) => Ok(Box::new(RefineNet::new(config, weights)?)),
            Self::TorchScript(_) => {
                let want = "of an architecture of ours for tensors alone: torchscript is for TorchScript programs";
                Err(Error::parameter("network", want, "torchscript"))
            }
            Self::Unet(config) => Ok(Box::new(UNet::new(config, weights)?)),
        }
    }
}

/// An error unless the number for no class, if there is one, is a class or the number after the last.
fn check_null(null: Option<i64>, classes: Option<i64>) -> Result<(), Error> {
    match null {
        Some(null) if !classes.is_some_and(|count| (0..=count).contains(&null)) => {
            let want = "one of the network's classes, or how many there are for no class at all";
            Err(Error::parameter("null_class", want, null))
        }
        _ => Ok(()),
    }
}

/// Default of flags that older cards leave out.
fn yes() -> bool {
    true
}

/// A value in messages, as a card has it.
fn shown(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

/// Default of sizes.
fn one<T: From<u8>>() -> T {
    T::from(1)
}

/// Whether a value need not be written: it is 1, as 1, 1.0 or true.
fn is_one<T: From<bool> + PartialEq>(value: &T) -> bool {
    *value == T::from(true)
}

/// An error unless `shape` has `channels` channels, and a height and width that `stride` divides.
fn multiples(shape: [i64; 3], channels: i64, stride: i64) -> Result<(), Error> {
    let [depth, height, width] = shape;
    if depth == channels && height % stride == 0 && width % stride == 0 && height.min(width) > 0 {
        return Ok(());
    }
    let want = format!("[{channels}, height, width] in multiples of {stride}");
    Err(Error::Shape { what: "the image", got: shape.to_vec(), want })
}
