//! Networks whose features measure how far apart two sets of images lie.

mod collect;
mod evaluation;
mod probe;
mod resize;
mod statistics;

use std::{fmt, path::PathBuf};

pub use collect::{CollectOptions, Collected, Collector, Met, Progress, collect};
pub use evaluation::{Evaluation, Figure, Metric, Reference, Target};
pub use probe::{Probe, Taken};
pub use resize::Resize;
use serde::{Deserialize, Serialize};
pub use statistics::{Published, save as save_statistics};
use tch::{Device, Kind, Tensor};

use crate::{
    Error,
    evaluation::metrics::Moments,
    files::data::Images,
    models::card::{OpenedSource, find, sha256},
    networks::{Classifier, ClassifierConfig, weights::Weights},
};

/// The cards and weights of `models/features/`.
mod shipped {
    include!(concat!(env!("OUT_DIR"), "/features.rs"));
}

/// Images that pass through the network together.
const BATCH: usize = 250;

/// A feature network, as a card file states it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureCard {
    /// Name on the command line.
    pub name: String,
    /// One line about it.
    pub about: String,
    /// Training data.
    #[serde(default)]
    pub data: String,
    /// Licence of the weights.
    #[serde(default)]
    pub licence: String,
    /// Training: command, duration, accuracy.
    #[serde(default)]
    pub training: String,
    /// `[channels, height, width]`; pixels are −1 … 1.
    pub image: [i64; 3],
    /// A classifier; its features are those of the last hidden layer.
    pub network: ClassifierConfig,
}

impl FeatureCard {
    /// The card as YAML.
    pub fn text(&self) -> Result<String, Error> {
        serde_yaml::to_string(self).map_err(|e| Error::file("card", e))
    }
}

/// A card with its weights.
pub struct Features {
    /// The card.
    pub card: FeatureCard,
    /// File of the weights.
    pub source: PathBuf,
    /// SHA-256 of the file of weights, in hexadecimal.
    pub sha256: String,
    classifier: Classifier,
    device: Device,
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Features").field("card", &self.card).field("source", &self.source).finish_non_exhaustive()
    }
}

impl Features {
    /// Opens a shipped name, a card file or a .safetensors file with a card inside; computes in f32.
    pub fn open(name: &str, device: Device) -> Result<Self, Error> {
        let OpenedSource { card: (card, path), source, tensors } = find(name, shipped::SHIPPED)?;
        let card: FeatureCard = crate::files::yaml::parse(&card, &path)?;
        let weights = Weights::stored(tensors, device, Kind::Float);
        let classifier = Classifier::new(&card.network, &weights)?;
        weights.finish().map_err(|e| Error::file(source.path(), e))?;
        let sha256 = sha256(source.bytes());
        Ok(Self { card, source: source.path().to_owned(), sha256, classifier, device })
    }

    /// ‖f/‖f‖ − g/‖g‖‖² of the features f and g of each image and its truth, both `[count, channels, height, width]`: between
    /// 0 and 2, what LPIPS would be of this one layer [Zhang et al. 2018, Eq. 1, w = 1].
    pub fn distance(&self, x: &Tensor, truth: &Tensor) -> Result<Vec<f64>, Error> {
        self.check(&x.size()[1..])?;
        let unit = |x: &Tensor| {
            let (features, _) = self.forward(&x.to_kind(Kind::Float));
            &features / features.square().sum_dim_intlist([1i64].as_slice(), true, None).sqrt().clamp_min(1e-10)
        };
        let apart = (unit(x) - unit(truth)).square().sum_dim_intlist([1i64].as_slice(), false, None);
        Ok(Vec::try_from(apart.to_device(Device::Cpu).to_kind(Kind::Double))?)
    }

    /// Features and logits of images in −1 … 1.
    fn forward(&self, x: &Tensor) -> (Tensor, Tensor) {
        let x = x.to_device(self.device);
        tch::no_grad(|| {
            let features = self.classifier.features(&x);
            let logits = self.classifier.logits(&features);
            (features, logits)
        })
    }

    /// Checks that it takes images of this `[channels, height, width]`.
    fn check(&self, size: &[i64]) -> Result<(), Error> {
        if *size == self.card.image {
            return Ok(());
        }
        let want = format!("{:?} for the features of {}", self.card.image, self.card.name);
        Err(Error::Shape { what: "an image", got: size.to_vec(), want })
    }

    /// Count, mean and covariance of the features of a set of images, and the share of them that is classified as
    /// labelled, where there are labels.
    pub fn measure(&self, images: &Images) -> Result<(Moments, Option<f64>), Error> {
        self.check(&images.pixels.size()[1..])?;
        let mut moments = Moments::new(self.card.network.features);
        let mut right = 0;
        let all: Vec<usize> = (0..images.count()).collect();
        for indices in all.chunks(BATCH) {
            let (features, logits) = self.forward(&images.batch(indices));
            let classes = logits.argmax(1, false).to_device(Device::Cpu);
            moments.push(&features);
            if let Some(labels) = images.classes(indices) {
                right += i64::try_from(classes.eq_tensor(&labels).sum(Kind::Int64))?;
            }
        }
        let accuracy = images.labels.as_ref().map(|_| right as f64 / images.count() as f64);
        Ok((moments, accuracy))
    }
}

/// The names of the shipped feature networks.
pub fn names() -> impl Iterator<Item = &'static str> {
    shipped::SHIPPED.iter().map(|(name, ..)| *name)
}
