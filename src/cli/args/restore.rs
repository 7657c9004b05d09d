//! The flags of `tweedie restore`.

use std::path::PathBuf;

use clap::Args;

use super::{
    classes::{ClassFlags, GuidanceFlags},
    flags::{BatchFlags, DeviceFlags, ModelFlags, OutputFlags, SeedFlag},
    plan::PlanFlags,
};

/// Restore damaged images: samples of the posterior, their mean and their standard deviation
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie restore fashion-mnist --image photo.png --task inpaint-random --samples 8
  tweedie restore fashion-mnist --image photos/ --task '{kind: inpaint-random, hidden: 0.9}' --noise 0.1
  tweedie restore fashion-mnist --image photos/ --task deblur-gaussian --noise 0.05
  tweedie restore fashion-mnist --measurement y.npy --mask mask.png --noise 0.05
Images are damaged first (y = A x + η n), so that PSNR can be measured; --measurement takes damaged images as they are.
The same command with more --samples keeps the finished samples and adds to them.")]
pub struct RestoreArgs {
    #[arg(help = super::MODEL)]
    pub model: String,
    #[command(flatten)]
    pub problem: ProblemFlags,
    /// Method: a name that `tweedie methods` lists, or '{kind: NAME, …}' [default: mmps]
    #[arg(long, value_name = "NAME")]
    pub method: Option<String>,
    /// Configuration released with Random Walks with Tweedie: its task, η, walk and first state
    #[arg(long, value_name = "FILE.yaml", conflicts_with_all = ["measurement", "task", "mask", "kernel", "noise", "method"])]
    pub config: Option<PathBuf>,
    /// Number of samples of each image's posterior; their spread is shown as the uncertainty
    #[arg(long, default_value_t = 8, value_name = "S")]
    pub samples: usize,
    #[command(flatten)]
    pub plan: PlanFlags,
    #[command(flatten)]
    pub class: ClassFlags,
    #[command(flatten)]
    pub guidance: GuidanceFlags,
    /// Compare with the linear estimate of a Gaussian prior fitted to these images: DIR or '{kind: idx, …}'
    #[arg(long, value_name = "DATA")]
    pub baseline: Option<String>,
    /// Folder for the results
    #[arg(long, default_value = "out/restored", value_name = "DIR")]
    pub out: PathBuf,
    #[command(flatten)]
    pub results: ResultFlags,
    #[command(flatten)]
    pub source: ModelFlags,
    #[command(flatten)]
    pub device: DeviceFlags,
    #[command(flatten)]
    pub batch: BatchFlags,
    #[command(flatten)]
    pub seed: SeedFlag,
    #[command(flatten)]
    pub output: OutputFlags,
}

/// The images, and their degradation.
#[derive(Args, Debug)]
pub struct ProblemFlags {
    /// Images to damage and restore: an image, a folder, a .npy (bytes, 16 bits, or real numbers −1 … 1), or '{kind: idx,
    /// images: FILE, pad: 2}'
    #[arg(long, value_name = "FILE|DIR", required_unless_present_any = ["measurement", "config"], conflicts_with = "measurement")]
    pub image: Option<String>,
    /// Restores only the first N images of --image
    #[arg(long, value_name = "N")]
    pub limit: Option<usize>,
    /// Measurement that is damaged already: .npy (complex: k-space), an image, or the measurement.npz of a restoration,
    /// with its task, noise and seed
    #[arg(long, value_name = "FILE")]
    pub measurement: Option<PathBuf>,
    /// Pixels that a .npy is a measurement of: 0 … 1, or −1 … 1 as the networks have them [default: -1-1]
    #[arg(long, value_name = "0-1|-1-1", value_parser = ["0-1", "-1-1"], allow_hyphen_values = true, requires = "measurement")]
    pub units: Option<String>,
    /// Degradation of the images: a name that `tweedie tasks` lists, or '{kind: NAME, …}'
    #[arg(long, value_name = "NAME", required_unless_present_any = ["mask", "kernel", "config", "measurement"])]
    pub task: Option<String>,
    /// Inpaints with this mask, a picture or .npy: white (255), or 1, marks the pixels that are seen
    #[arg(long, value_name = "FILE", conflicts_with_all = ["task", "kernel"])]
    pub mask: Option<PathBuf>,
    /// Deblurs with this kernel: a grey image, or .npy [height, width]; it is scaled to sum 1
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    pub kernel: Option<PathBuf>,
    /// η: standard deviation of the measurement's noise, for pixels 0 … 1 (it is twice as large in data units −1 … 1)
    /// [default: 0.05]
    #[arg(long, value_name = "ETA")]
    pub noise: Option<f64>,
    /// Other noise: '{kind: poisson, rate: 1}' (photons) or '{kind: salt-and-pepper, share: 0.05}'; methods treat it as
    /// Gaussian noise of the same variance
    #[arg(long, value_name = "NAME", conflicts_with_all = ["noise", "measurement"])]
    pub detector: Option<String>,
}

/// Figures in addition to PSNR and SSIM, and files in addition to pictures.
#[expect(clippy::struct_excessive_bools, reason = "each is a flag")]
#[derive(Args, Debug)]
pub struct ResultFlags {
    /// Measure the PSNR of images scaled to 0 … 1 by their smallest and largest values as well, as [Random Walks] does
    #[arg(long)]
    pub min_max: bool,
    /// Measure LPIPS with these weights: torchvision's AlexNet or VGG16, and v0.1/alex.pth or v0.1/vgg.pth of the
    /// package lpips
    #[arg(long, num_args = 2, value_names = ["BACKBONE.pth", "LINEAR.pth"])]
    pub lpips: Option<Vec<PathBuf>>,
    /// Measure the distance from the truth in the features of a classifier: a card's name, a card or a .safetensors
    /// file
    #[arg(long, value_name = "NAME|FILE")]
    pub features: Option<String>,
    /// Draw the walk of each image's first sample as well: IMAGE-walk.png, an animated PNG
    #[arg(long)]
    pub animate: bool,
    /// Write each sample as well, unclipped: IMAGE-sample-000.npy, [channels, height, width], f32
    #[arg(long)]
    pub states: bool,
    /// Remove the results of another run from --out, and begin
    #[arg(long)]
    pub overwrite: bool,
}
