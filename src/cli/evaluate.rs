//! `tweedie evaluate`: how far a set of images lies from another.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tweedie::{
    evaluation::features::{Evaluation, Figure, Metric, Resize},
    run::{
        evaluate::{Evaluated, EvaluationRequest},
        session::Session,
    },
};

use super::{
    flags::{OutputFlags, PlaceFlags, SeedFlag},
    target, thousands,
};

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
    /// Images that pass through the network together
    #[arg(long, default_value_t = 50, value_name = "N", help_heading = "Compute")]
    batch: u64,
    #[command(flatten)]
    place: PlaceFlags,
    #[command(flatten)]
    seed: SeedFlag,
    #[command(flatten)]
    output: OutputFlags,
}

impl Evaluate {
    pub fn run(&self) -> Result<()> {
        let session = Session { batch: Some(self.batch), ..self.place.session()? };
        let evaluated = self.request()?.run(&session, &self.output.observer())?;
        for warning in &evaluated.warnings {
            eprintln!("warning: {warning}");
        }
        lines(&evaluated).iter().for_each(|line| self.output.say(line));
        self.output.record(&evaluated.record())
    }

    fn request(&self) -> Result<EvaluationRequest> {
        Ok(EvaluationRequest {
            evaluation: self.evaluation()?,
            images: target(&self.images, "IMAGES")?,
            reference: self.reference.as_ref().map(|text| target(text, "--reference")).transpose()?,
            limit: self.limit,
            expect: self.expect,
            save_statistics: self.save_statistics.clone(),
        })
    }

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
            seed: self.seed.seed,
        })
    }
}

/// Every figure under its own name.
fn lines(evaluated: &Evaluated) -> Vec<String> {
    let Evaluated { network, images, accuracy, figures, reference, compared, .. } = evaluated;
    let all = thousands(*images);
    let accuracy_of = |share: f64| format!("accuracy of {network}: {:.2} % of {all} images", 100.0 * share);
    let mut lines: Vec<String> = accuracy.map(accuracy_of).into_iter().chain(figures.iter().map(figure)).collect();
    if *compared {
        let others = reference.map(|others| thousands(others as usize));
        let others = others.unwrap_or("statistics of an unknown number".to_owned());
        lines.push(format!("{all} images against {others}; figures depend on both numbers"));
    } else if lines.is_empty() {
        lines.push(format!("{all} images; --reference DATA tells how far they lie from others"));
    }
    lines
}

fn figure(Figure { name, value, spread, spread_of, .. }: &Figure) -> String {
    let spread = spread.zip(spread_of.as_ref()).map(|(spread, of)| format!(" ± {spread:.4} ({of})"));
    format!("{name}: {value:.4}{}", spread.unwrap_or_default())
}
