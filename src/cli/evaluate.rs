//! `tweedie evaluate`: how far a set of images lies from another.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use serde_json::{Map, Value, json};
use tweedie::evaluation::features::{Collected, Evaluation, Figure, Metric, Probe, Reference, Resize, collect};

use super::{Common, not_interrupted, target, thousands};

/// Measure a set of images: how far it lies from another, in the features of a network
///
/// The Fréchet distance, ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) in f64, is called FID only where the features are the 2048
/// of Inception; figures of different networks, and of different ways to resize, cannot be compared.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie evaluate out/samples --reference '{kind: idx, images: t10k-images-idx3-ubyte.gz, pad: 2}'
  tweedie evaluate '{kind: idx, images: t10k-images-idx3-ubyte.gz, labels: t10k-labels-idx1-ubyte.gz, pad: 2}'
  tweedie evaluate samples.npz --reference cifar10-32x32.npz --network inception:pt_inception-2015-12-05-6726825d.pth
  tweedie evaluate cifar-10-batches-bin --network inception:FILE --save-statistics cifar10-train.npz
Labelled images tell the classifier's accuracy as well.")]
pub struct Evaluate {
    /// A folder of images, a .zip, .npz or .bin (CIFAR) file of them, or '{kind: idx, images: FILE, pad: 2}'
    #[arg(value_name = "IMAGES")]
    images: String,
    /// The images that they should resemble, as IMAGES; or a .npz file of statistics (mu, sigma) or features (pool_3)
    #[arg(long, value_name = "DATA|STATISTICS.npz")]
    reference: Option<String>,
    /// Whose features to compare: inception:FILE (the weights of pytorch-fid or torch-fidelity, or NVIDIA's TorchScript),
    /// efficientnet-lite0:FILE, torchscript:FILE (pixels −1 … 1 to features), a card's name, a card (.yaml), a .safetensors file with a card inside
    #[arg(long, default_value = "fashion-classifier", value_name = "NAME|FILE")]
    network: String,
    /// What to measure: frechet (also called fid), kid, is, prdc (precision, recall, density, coverage), sfid, infinity,
    /// cmmd, mind; all but is and sfid keep features in memory (of frechet, --bootstrap does)
    #[arg(long, value_parser = Metric::parse, value_delimiter = ',', default_value = "frechet", value_name = "LIST")]
    metrics: Vec<Metric>,
    /// How images come to the network's size: tf1 (also adm), pytorch or clean [default: tf1; EfficientNet's: clean]
    #[arg(long, value_name = "WAY")]
    resize: Option<String>,
    /// How many of Inception's features: 64, 192, 768 or 2048 [default: 2048]
    #[arg(long, value_name = "N")]
    features: Option<i64>,
    /// Sets drawn with replacement for the spread of the Fréchet distance; 0 keeps no features in memory
    #[arg(long, default_value_t = 10, value_name = "N")]
    bootstrap: u64,
    /// Subsets for KID
    #[arg(long, default_value_t = 100, value_name = "N")]
    subsets: u64,
    /// Images in a subset for KID
    #[arg(long, default_value_t = 1000, value_name = "N")]
    subset_size: i64,
    /// Parts for the Inception Score
    #[arg(long, default_value_t = 10, value_name = "N")]
    parts: usize,
    /// Writes mean and covariance of IMAGES as pytorch-fid and EDM read them; with the metric sfid, as ADM's evaluator does
    #[arg(long, value_name = "FILE.npz")]
    save_statistics: Option<PathBuf>,
    /// Only the first so many of IMAGES
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// Refuses any other number of IMAGES
    #[arg(long, value_name = "N")]
    expect: Option<usize>,
    #[command(flatten)]
    common: Common,
}

impl Evaluate {
    pub fn run(&self) -> Result<()> {
        let device = self.common.device()?;
        let of = self.evaluation()?;
        let probe = of.open(None, device)?;
        let mut reader = target(&self.images, "IMAGES")?.data(probe.channels()).reader()?;
        let count = reader.count().min(self.limit.unwrap_or(usize::MAX));
        if let Some(expected) = self.expect.filter(|expected| *expected != count) {
            bail!("{} images are there, but --expect {expected} says how many there should be", thousands(count));
        }
        let batch = self.common.batch.unwrap_or(50) as usize;
        if batch == 0 {
            bail!("--batch must be at least 1, but is 0");
        }
        let bar = self.common.bar(count as u64, "measuring");
        let mut progress = |done: usize| {
            bar.inc(done as u64);
            not_interrupted()
        };
        let reference = self.reference.as_ref().map(|text| -> Result<Reference> {
            let mut more = |done: usize| {
                bar.inc_length(done as u64);
                progress(done)
            };
            Ok(of.reference(&probe, &target(text, "--reference")?, batch, &mut more)?)
        });
        let reference = reference.transpose()?;
        let wanted = of.wanted(reference.is_some());
        let images = collect(&probe, &mut reader, (count, batch), wanted, &mut progress)?;
        bar.finish_and_clear();
        if let Some(path) = &self.save_statistics {
            images.save(path)?;
        }
        self.tell(&of, &probe, &images, reference.as_ref())
    }

    /// What the flags say.
    fn evaluation(&self) -> Result<Evaluation> {
        Ok(Evaluation {
            network: self.network.clone(),
            resize: self.resize.as_deref().map(Resize::parse).transpose()?,
            features: self.features,
            metrics: self.metrics.clone(),
            bootstrap: self.bootstrap,
            subsets: self.subsets,
            subset_size: self.subset_size,
            parts: self.parts,
            seed: self.common.seed,
        })
    }

    /// Every figure under its own name, said and recorded.
    fn tell(&self, of: &Evaluation, probe: &Probe, images: &Collected, reference: Option<&Reference>) -> Result<()> {
        let count = images.moments.count() as usize;
        let warnings = of.warnings(probe, images, reference);
        for warning in &warnings {
            eprintln!("warning: {warning}");
        }
        let accuracy = images.right.map(|right| right as f64 / count as f64);
        let (name, all) = (&probe.name, thousands(count));
        if let Some(accuracy) = accuracy {
            self.common.say(format_args!("accuracy of {name}: {:.2} % of {all} images", 100.0 * accuracy));
        }
        let figures = of.figures(probe, images, reference)?;
        for Figure { name, value, spread, spread_of, .. } in &figures {
            let spread = spread.zip(spread_of.as_ref()).map(|(spread, of)| format!(" ± {spread:.4} ({of})"));
            self.common.say(format_args!("{name}: {value:.4}{}", spread.unwrap_or_default()));
        }
        if reference.is_none() && accuracy.is_none() && figures.is_empty() {
            self.common.say(format_args!("{all} images; --reference DATA tells how far they lie from others"));
        }
        let others = reference.and_then(|reference| reference.statistics.count);
        if reference.is_some() {
            let others =
                others.map_or("statistics of an unknown number".to_owned(), |others| thousands(others as usize));
            self.common.say(format_args!("{all} images against {others}; figures depend on both numbers"));
        }
        let figures: Map<String, Value> = figures.iter().map(|figure| (figure.key.to_owned(), json!(figure))).collect();
        self.common.record(&json!({
            "network": name, "sha256": probe.sha256, "resize": probe.resize.map(Resize::name),
            "features": images.moments.mean().size()[0], "images": count, "accuracy": accuracy, "reference": others,
            "frechet_distance": figures.get("frechet").map(|figure| &figure["value"]), "figures": figures,
            "warnings": warnings,
        }))
    }
}
