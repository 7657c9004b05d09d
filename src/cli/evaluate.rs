//! `tweedie evaluate`: how far a set of images lies from another.

use anyhow::Result;
use clap::Args;
use tweedie::{features::Features, metrics::frechet};

use super::{Common, data, thousands};

/// Measure a set of images: its Fréchet distance from another, in the features of a classifier
///
/// ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) of the features of the last hidden layer, in f64. It is called FID only where
/// the features are Inception's; these are not, and figures of different networks cannot be compared.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie evaluate out/samples --reference '{kind: idx, images: t10k-images-idx3-ubyte.gz, pad: 2}'
  tweedie evaluate '{kind: idx, images: t10k-images-idx3-ubyte.gz, labels: t10k-labels-idx1-ubyte.gz, pad: 2}'
Labelled images tell the classifier's accuracy as well.")]
pub struct Evaluate {
    /// A folder of images, or '{kind: idx, images: FILE, pad: 2}'
    #[arg(value_name = "IMAGES")]
    images: String,
    /// The images that they should resemble: a folder or '{kind: idx, …}'
    #[arg(long, value_name = "DATA")]
    reference: Option<String>,
    /// Whose features to compare: a card's name, a card (.yaml) or a .safetensors file with a card inside
    #[arg(long, default_value = "fashion-classifier", value_name = "NAME|FILE")]
    network: String,
    /// Only the first so many of IMAGES
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    #[command(flatten)]
    common: Common,
}

impl Evaluate {
    pub fn run(&self) -> Result<()> {
        let device = self.common.device()?;
        let network = Features::open(&self.network, device)?;
        let channels = network.card.image[0];
        let images = data(&self.images, channels, "IMAGES")?.load()?.first(self.limit.unwrap_or(usize::MAX));
        let reference = match &self.reference {
            Some(text) => Some(data(text, channels, "--reference")?.load()?),
            None => None,
        };
        let (moments, accuracy) = network.measure(&images)?;
        let name = &network.card.name;
        let count = thousands(images.count());
        if let Some(accuracy) = accuracy {
            self.common.say(format_args!("accuracy of {name}: {:.2} % of {count} images", 100.0 * accuracy));
        }
        let mut distance = None;
        if let Some(reference) = &reference {
            let value = frechet(&moments, &network.measure(reference)?.0)?;
            let (features, others) = (network.card.network.features, thousands(reference.count()));
            self.common.say(format_args!(
                "Fréchet distance in the {features} features of {name} (not FID): {value:.4}\n\
                 {count} images against {others}; the distance depends on both numbers"
            ));
            distance = Some(value);
        } else if accuracy.is_none() {
            self.common.say(format_args!("{count} images; --reference DATA tells how far they lie from others"));
        }
        self.common.record(&serde_json::json!({
            "network": name, "sha256": network.sha256, "images": images.count(), "accuracy": accuracy,
            "reference": reference.map(|reference| reference.count()), "frechet_distance": distance,
        }))
    }
}
