//! The flags of `tweedie evaluate`.

use std::path::PathBuf;

use clap::Args;

use super::flags::{OutputFlags, PlaceFlags, SeedFlag};

/// Measure a set of images: its distance from another set, in the features of a network
///
/// The Fréchet distance, ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) in f64, is called FID only where the features are the
/// 2048 of Inception; figures of different networks, and of different ways to resize, cannot be compared.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie evaluate out/samples --reference '{kind: idx, images: t10k-images-idx3-ubyte.gz, pad: 2}'
  tweedie evaluate '{kind: idx, images: t10k-images-idx3-ubyte.gz, labels: t10k-labels-idx1-ubyte.gz, pad: 2}'
  tweedie evaluate samples.npz --reference cifar10-32x32.npz --network inception:pt_inception-2015-12-05-6726825d.pth
  tweedie evaluate photos/ --reference others/ --network inception:FILE --resize clean
  tweedie evaluate cifar-10-batches-bin --network inception:FILE --save-statistics cifar10-train.npz
Labelled images tell the classifier's accuracy as well.")]
pub struct EvaluateArgs {
    /// A folder of images with the folders in it, a .zip, .npz, .npy (bytes) or .bin (CIFAR) file of them, or '{kind: idx,
    /// images: FILE, pad: 2}'
    #[arg(value_name = "IMAGES")]
    pub images: String,
    /// Images that IMAGES should resemble, in the form of IMAGES; or a .npz file of statistics (mu, sigma) or features
    /// (pool_3)
    #[arg(long, value_name = "DATA|STATISTICS.npz")]
    pub reference: Option<String>,
    /// Network of the features to compare: inception:FILE (the weights of pytorch-fid or torch-fidelity, or NVIDIA's
    /// TorchScript), efficientnet-lite0:FILE, torchscript:FILE (pixels −1 … 1 to features), a card's name, a card
    /// (.yaml), a .safetensors file with a card inside
    #[arg(long, default_value = "fashion-classifier", value_name = "NAME|FILE")]
    pub network: String,
    /// Metrics to measure: frechet (also called fid), kid, is, prdc (precision, recall, density, coverage), sfid,
    /// infinity, cmmd, mind; all but is and sfid keep features in memory (of frechet, --bootstrap does)
    #[arg(long, value_delimiter = ',', default_value = "frechet", value_name = "LIST")]
    pub metrics: Vec<String>,
    /// Way to resize images to the network's size: tf1 (also adm), pytorch or clean; where it is given, images may be of
    /// many sizes, and each is resized on its own [default: tf1; EfficientNet's: clean]
    #[arg(long, value_name = "WAY")]
    pub resize: Option<String>,
    /// Number of Inception's features: 64, 192, 768 or 2048 [default: 2048]
    #[arg(long, value_name = "N")]
    pub features: Option<i64>,
    /// Number of sets drawn with replacement for the spread of the Fréchet distance; 0 keeps no features in memory
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub bootstrap: u64,
    /// Number of subsets for KID
    #[arg(long, default_value_t = 100, value_name = "N")]
    pub subsets: u64,
    /// Number of images in a subset for KID; fewer than either set has, or its spread is too small
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub subset_size: i64,
    /// Number of parts for the Inception Score, at most one for each image
    #[arg(long, default_value_t = 10, value_name = "N")]
    pub parts: usize,
    /// Turns images as their EXIF says; without it they are measured as their pixels lie, as published programs do
    #[arg(long)]
    pub exif: bool,
    /// Writes mean and covariance of IMAGES as pytorch-fid and EDM read them; with the metric sfid, as ADM's evaluator
    /// reads them
    #[arg(long, value_name = "FILE.npz")]
    pub save_statistics: Option<PathBuf>,
    /// Measures only the first N of IMAGES
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Refuses IMAGES unless there are N of them
    #[arg(long, value_name = "N")]
    pub expect: Option<usize>,
    /// Number of images that pass through the network together
    #[arg(long, default_value_t = 50, value_name = "N", help_heading = "Compute")]
    pub batch: u64,
    #[command(flatten)]
    pub place: PlaceFlags,
    #[command(flatten)]
    pub seed: SeedFlag,
    #[command(flatten)]
    pub output: OutputFlags,
}
