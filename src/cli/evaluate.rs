//! `tweedie evaluate`: how far a set of images lies from another.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use tweedie::{
    data::Reader,
    features::{Collected, Probe, Published, Resize, Wanted, collect, save_statistics},
    metrics::{Moments, Statistics, bootstrap, cmmd, extrapolated, kid, neighbours},
    npz,
};

use super::{Common, data, not_interrupted, thousands};

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
    /// What to measure: frechet (also called fid), kid, is, prdc, sfid, infinity, cmmd; all but is and
    /// sfid keep features in memory (of frechet, --bootstrap does)
    #[arg(long, value_enum, value_delimiter = ',', default_value = "frechet", value_name = "LIST")]
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

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Metric {
    /// The Fréchet distance
    #[value(alias = "fid")]
    Frechet,
    /// The kernel distance, over subsets
    Kid,
    /// The Inception Score, over parts
    Is,
    /// Precision and recall (k = 3), density and coverage (k = 5)
    Prdc,
    /// The Fréchet distance in spatial features
    Sfid,
    /// The Fréchet distance of infinitely many images, extrapolated
    Infinity,
    /// The mean discrepancy of features of length one, such as CLIP's
    Cmmd,
}

/// What is known of the reference.
struct Reference {
    statistics: Statistics,
    spatial: Option<Statistics>,
    features: Option<tch::Tensor>,
    /// Where its images were here.
    images: Option<Collected>,
}

impl Evaluate {
    pub fn run(&self) -> Result<()> {
        let device = self.common.device()?;
        let resize = self.resize.as_deref().map(Resize::parse).transpose()?;
        let probe = Probe::open(&self.network, resize, self.features, device)?;
        let mut reader = data(&self.images, probe.channels(), "IMAGES")?.reader()?;
        let count = reader.count().min(self.limit.unwrap_or(usize::MAX));
        if let Some(expected) = self.expect.filter(|expected| *expected != count) {
            bail!("{} images are there, but --expect {expected} says how many there should be", thousands(count));
        }
        let reference = self.reference.as_ref().map(|text| self.reference(&probe, text)).transpose()?;
        let images = self.collect(&probe, &mut reader, count, self.wanted()[0])?;
        let statistics = images.moments.statistics();
        if let Some(path) = &self.save_statistics {
            let spatial = images.spatial.as_ref().map(Moments::statistics).transpose()?;
            save_statistics(path, statistics.as_ref().map_err(told)?, spatial.as_ref())?;
        }
        let warnings = self.warnings(&probe, &images, count, reference.as_ref());
        for warning in &warnings {
            eprintln!("warning: {warning}");
        }
        let accuracy = images.right.map(|right| right as f64 / count as f64);
        let name = &probe.name;
        if let Some(accuracy) = accuracy {
            self.common.say(format_args!(
                "accuracy of {name}: {:.2} % of {} images",
                100.0 * accuracy,
                thousands(count)
            ));
        }
        let figures = self.figures(&probe, &images, reference.as_ref())?;
        if reference.is_none() && accuracy.is_none() && figures.is_empty() {
            self.common
                .say(format_args!("{} images; --reference DATA tells how far they lie from others", thousands(count)));
        }
        let others = reference.as_ref().and_then(|reference| reference.statistics.count);
        if reference.is_some() {
            let others =
                others.map_or("statistics of an unknown number".to_owned(), |others| thousands(others as usize));
            self.common
                .say(format_args!("{} images against {others}; figures depend on both numbers", thousands(count)));
        }
        self.common.record(&json!({
            "network": name, "sha256": probe.sha256, "resize": probe.resize.map(Resize::name),
            "features": images.moments.mean().size()[0], "images": count, "accuracy": accuracy, "reference": others,
            "frechet_distance": figures.get("frechet").map(|figure| &figure["value"]), "figures": figures,
            "warnings": warnings,
        }))
    }

    fn has(&self, metric: Metric) -> bool {
        self.metrics.contains(&metric)
    }

    /// Whether mean and covariance of the reference are not enough.
    fn needs_images(&self) -> bool {
        [Metric::Kid, Metric::Prdc, Metric::Cmmd].iter().any(|metric| self.has(*metric))
    }

    /// What is to be kept of IMAGES, and of the reference.
    fn wanted(&self) -> [Wanted; 2] {
        let (both, spatial) = (self.needs_images(), self.has(Metric::Sfid));
        let spread = self.has(Metric::Infinity) || (self.has(Metric::Frechet) && self.bootstrap > 1);
        let score = self.has(Metric::Is).then_some(self.parts);
        let images = Wanted { spatial, score, features: self.reference.is_some() && (both || spread) };
        [images, Wanted { spatial, score: None, features: both }]
    }

    fn collect(&self, probe: &Probe, reader: &mut Reader, count: usize, wanted: Wanted) -> Result<Collected> {
        let batch = self.common.batch.unwrap_or(50) as usize;
        if batch == 0 {
            bail!("--batch must be at least 1, but is 0");
        }
        let bar = self.common.bar(count as u64, "measuring");
        let mut progress = |done: usize| {
            bar.inc(done as u64);
            not_interrupted()
        };
        let collected = collect(probe, reader, (count, batch), wanted, &mut progress)?;
        bar.finish_and_clear();
        Ok(collected)
    }

    fn reference(&self, probe: &Probe, text: &str) -> Result<Reference> {
        let path = Path::new(text);
        let archive = path.extension().is_some_and(|extension| extension == "npz");
        let published = if archive { Published::read(path)? } else { None };
        // ADM's files hold statistics of the whole set, and some of its images for precision and recall.
        let has_images = archive && npz::names(path)?.iter().any(|name| name == "arr_0");
        let reference = match published {
            Some(published) if !(self.needs_images() && has_images && published.features.is_none()) => Reference {
                statistics: published.statistics,
                spatial: published.spatial,
                features: published.features,
                images: None,
            },
            published => self.measured(probe, text, published)?,
        };
        if self.needs_images() && reference.features.is_none() {
            bail!(
                "{text}: kid, prdc and cmmd need the images of the reference: its mean and covariance are not enough"
            );
        }
        if self.has(Metric::Sfid) && reference.spatial.is_none() {
            bail!("{text}: sfid needs mu_s and sigma_s, as ADM's files have them, or the images of the reference");
        }
        Ok(reference)
    }

    /// By its images; statistics that were published beside them count for more, since they may be of more images.
    fn measured(&self, probe: &Probe, text: &str, published: Option<Published>) -> Result<Reference> {
        let mut reader = data(text, probe.channels(), "--reference")?.reader()?;
        let count = reader.count();
        let mut images = self.collect(probe, &mut reader, count, self.wanted()[1])?;
        let spatial = images.spatial.as_ref().map(Moments::statistics).transpose()?;
        let (statistics, spatial) = match published {
            Some(published) => (published.statistics, published.spatial.or(spatial)),
            None => (images.moments.statistics()?, spatial),
        };
        Ok(Reference { statistics, spatial, features: images.features.take(), images: Some(images) })
    }

    /// Every figure under its own name, said and recorded.
    fn figures(&self, probe: &Probe, images: &Collected, reference: Option<&Reference>) -> Result<Map<String, Value>> {
        let mut figures = Map::new();
        for metric in &self.metrics {
            let found = match (metric, reference) {
                (Metric::Is, _) => self.score(probe, images)?,
                (_, None) => continue,
                (Metric::Frechet, Some(reference)) => self.frechet(probe, images, reference)?,
                (Metric::Sfid, Some(reference)) => self.sfid(images, reference)?,
                (Metric::Kid, Some(reference)) => self.kid(probe, images, reference)?,
                (Metric::Prdc, Some(reference)) => self.prdc(images, reference)?,
                (Metric::Cmmd, Some(reference)) => {
                    let name = format!("CMMD's formula in {}", probe.name);
                    self.figure(&name, cmmd(kept(images)?, others(reference)?)?, None)
                }
                (Metric::Infinity, Some(reference)) => self.infinity(probe, images, reference)?,
            };
            let key = metric.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
            figures.insert(key, found);
        }
        Ok(figures)
    }

    /// Says `name value ± spread`.
    fn figure(&self, name: &str, value: f64, spread: Option<(f64, &str)>) -> Value {
        let said = spread.map(|(spread, of)| format!(" ± {spread:.4} ({of})")).unwrap_or_default();
        self.common.say(format_args!("{name}: {value:.4}{said}"));
        json!({ "name": name, "value": value, "spread": spread.map(|spread| spread.0), "spread_of": spread.map(|s| s.1) })
    }

    fn frechet(&self, probe: &Probe, images: &Collected, reference: &Reference) -> Result<Value> {
        let value = images.moments.statistics()?.distance(&reference.statistics)?;
        let spread = match &images.features {
            Some(features) if self.bootstrap > 1 => {
                Some(bootstrap(features, &reference.statistics, self.bootstrap, self.common.seed)?.deviation)
            }
            _ => None,
        };
        let of = format!("bootstrap of {}", self.bootstrap);
        Ok(self.figure(&title(probe, images), value, spread.map(|spread| (spread, of.as_str()))))
    }

    fn infinity(&self, probe: &Probe, images: &Collected, reference: &Reference) -> Result<Value> {
        let value = extrapolated(kept(images)?, &reference.statistics, self.common.seed)?;
        Ok(self.figure(&format!("{}, extrapolated to infinitely many images", title(probe, images)), value, None))
    }

    fn sfid(&self, images: &Collected, reference: &Reference) -> Result<Value> {
        let (Some(own), Some(others)) = (&images.spatial, &reference.spatial) else {
            bail!("sfid needs spatial features, which only Inception's state dict gives");
        };
        Ok(self.figure("sFID", own.statistics()?.distance(others)?, None))
    }

    fn kid(&self, probe: &Probe, images: &Collected, reference: &Reference) -> Result<Value> {
        let found = kid(kept(images)?, others(reference)?, self.subsets, self.subset_size, self.common.seed)?;
        let of = format!("{} subsets", self.subsets);
        let name = if probe.is_fid() { "KID".to_owned() } else { format!("kernel distance in {}", probe.name) };
        Ok(self.figure(&name, found.mean, Some((found.deviation, of.as_str()))))
    }

    fn score(&self, probe: &Probe, images: &Collected) -> Result<Value> {
        let Some(score) = &images.score else { bail!("is needs logits, which this network has not") };
        let (found, of) = (score.value()?, format!("{} parts in order", self.parts));
        let own = || format!("Inception Score's formula by the classes of {} (not IS)", probe.name);
        let name = if probe.is_inception() { "Inception Score".to_owned() } else { own() };
        Ok(self.figure(&name, found.mean, Some((found.deviation, of.as_str()))))
    }

    fn prdc(&self, images: &Collected, reference: &Reference) -> Result<Value> {
        let (own, others) = (kept(images)?, others(reference)?);
        let (three, five) = (neighbours(own, others, 3)?, neighbours(own, others, 5)?);
        let (precision, recall, density, coverage) = (three.precision, three.recall, five.density, five.coverage);
        self.common.say(format_args!(
            "precision: {precision:.4}, recall: {recall:.4} (k = 3); density: {density:.4}, coverage: {coverage:.4} (k = 5)"
        ));
        Ok(json!({ "precision": precision, "recall": recall, "density": density, "coverage": coverage }))
    }

    /// What makes figures wrong or incomparable, and what every such figure depends on.
    fn warnings(&self, probe: &Probe, images: &Collected, count: usize, reference: Option<&Reference>) -> Vec<String> {
        let mut warnings = Vec::new();
        let dimensions = images.moments.mean().size()[0] as usize;
        if images.duplicates > 0 {
            let (same, all) = (thousands(images.duplicates), thousands(count));
            warnings.push(format!(
                "{same} of {all} images are the same as one before: was a run resumed with the same seeds?"
            ));
        }
        let Some(reference) = reference else { return warnings };
        if count <= dimensions {
            let count = thousands(count);
            warnings.push(format!(
                "{count} images for {dimensions} features: their covariance is singular, and a distance mostly bias"
            ));
        }
        if probe.is_fid() && self.has(Metric::Frechet) && count != 50_000 {
            warnings.push(format!(
                "published FIDs are of 50,000 images; these are {}, and fewer give more",
                thousands(count)
            ));
        }
        if let Some(others) = &reference.images {
            warnings.extend(unlike(images, others, count));
        }
        warnings
    }
}

/// How images differ from the reference's before anything is measured.
fn unlike(images: &Collected, others: &Collected, count: usize) -> Vec<String> {
    let mut warnings = Vec::new();
    if images.size != others.size {
        let (own, other) = (&images.size, &others.size);
        warnings.push(format!(
            "images are {own:?}, those of the reference {other:?}: resized differently, both look different"
        ));
    }
    let share = |jpegs: usize, all: usize| jpegs as f64 / all.max(1) as f64;
    let (own, other) = (share(images.jpegs, count), share(others.jpegs, others.moments.count() as usize));
    if (own - other).abs() > 0.01 {
        warnings.push(format!(
            "{:.0} % of the images are JPEG, and {:.0} % of the reference: its losses alone make a distance",
            100.0 * own,
            100.0 * other
        ));
    }
    warnings
}

/// FID is the name of one distance only.
fn title(probe: &Probe, images: &Collected) -> String {
    if probe.is_fid() {
        return format!("FID ({})", probe.resize.map_or("", Resize::name));
    }
    let dimensions = images.moments.mean().size()[0];
    format!("Fréchet distance in the {dimensions} features of {} (not FID)", probe.name)
}

fn kept(images: &Collected) -> Result<&tch::Tensor> {
    images.features.as_ref().ok_or_else(|| anyhow::anyhow!("the features of the images were not kept"))
}

fn others(reference: &Reference) -> Result<&tch::Tensor> {
    reference.features.as_ref().ok_or_else(|| anyhow::anyhow!("the features of the reference were not kept"))
}

fn told(error: &tweedie::Error) -> anyhow::Error {
    anyhow::anyhow!("{error}")
}
