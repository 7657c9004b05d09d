//! Figures of restored images: PSNR, SSIM, LPIPS, distances of features, and the calibration of the spread.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

use super::problem::Problem;
use crate::{
    Error,
    evaluation::{
        features::Features,
        metrics::{Lpips, Window, psnr, psnr_min_max, ssim},
    },
    files::{depth::Depth, images},
    models::card::{sha256, sha256_of},
};

/// Number of rows of windows for which SSIM is computed at once.
const BAND: i64 = 256;

/// Figures wanted in addition to PSNR and SSIM.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct FigureRequest {
    /// Whether to measure the PSNR of images scaled to 0 … 1 by their smallest and largest values as well, as in
    /// [Random Walks].
    pub min_max: bool,
    /// Weights for LPIPS: a backbone of torchvision and the linear layer of the package lpips.
    pub lpips: Option<[PathBuf; 2]>,
    /// Classifier in whose features to measure the distance: a card's name, a card or a .safetensors file.
    pub features: Option<String>,
}

/// Figures of one image, in NAME.json.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct RestoredRow {
    /// Name of the image.
    pub name: String,
    /// Number of the image's samples.
    #[serde(default)]
    pub samples: usize,
    /// ‖y − A x‖ / (η √m) over the m entries of y that A sees, averaged over the samples: 1 where the samples fit the
    /// measurement as they should.
    pub residual: f64,
    /// Figures, where the truth is known.
    pub truth: Option<Comparison>,
    /// Network of LPIPS, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<String>,
    /// Network of features, where they were asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<String>,
}

/// Distance of an image's samples and of their mean from the truth, and the calibration of their spread.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Comparison {
    /// Figures of the measurement, as an image.
    pub measurement: ImageFigures,
    /// Figures averaged over the samples.
    pub sample: ImageFigures,
    /// Figures of the mean of the samples.
    pub mean: ImageFigures,
    /// Figures of the linear estimate, where it was asked for.
    pub baseline: Option<ImageFigures>,
    /// Share of the pixels that lie within two standard deviations of the mean.
    pub coverage: f64,
}

/// Figures of one image, or averages over several; infinite figures are left out.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct ImageFigures {
    /// PSNR in dB.
    pub psnr: Option<f64>,
    /// PSNR in dB of images scaled to 0 … 1, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub psnr_min_max: Option<f64>,
    /// SSIM by Gaussian windows; `None` for images smaller than a window.
    pub ssim: Option<f64>,
    /// SSIM by uniform windows.
    pub ssim_uniform: Option<f64>,
    /// LPIPS, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lpips: Option<f64>,
    /// ‖f/‖f‖ − g/‖g‖‖² of a classifier's features, where it was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features: Option<f64>,
}

/// A network that measures perceptual distances, and its identity.
pub(crate) struct PerceptualMetric {
    network: PerceptualNetwork,
    /// Name of the network, and the SHA-256 of its weights.
    pub identity: String,
}

enum PerceptualNetwork {
    Lpips(Lpips),
    Features(Box<Features>),
}

impl PerceptualMetric {
    fn features(name: &str, device: Device) -> Result<Self, Error> {
        let features = Features::open(name, device)?;
        let identity = format!("{} {}", features.card.name, features.sha256);
        Ok(Self { network: PerceptualNetwork::Features(Box::new(features)), identity })
    }

    fn lpips([backbone, linear]: &[PathBuf; 2], device: Device) -> Result<Self, Error> {
        let lpips = Lpips::open(backbone, linear, device)?;
        let hashes = [sha256_of(backbone)?, sha256_of(linear)?].concat();
        let identity = format!("{} {}", lpips.backbone().name(), sha256(hashes.as_bytes()));
        Ok(Self { network: PerceptualNetwork::Lpips(lpips), identity })
    }

    /// Measures the distance of each image from the truth, both `[count, channels, height, width]`.
    fn distance(&self, x: &Tensor, truth: &Tensor) -> Result<Vec<f64>, Error> {
        match &self.network {
            PerceptualNetwork::Lpips(lpips) => lpips.distance(x, truth),
            PerceptualNetwork::Features(features) => features.distance(x, truth),
        }
    }
}

/// Settings and networks that measure the figures.
pub(crate) struct Metrics {
    pub min_max: bool,
    pub lpips: Option<PerceptualMetric>,
    pub features: Option<PerceptualMetric>,
    /// Depth of the pictures that are measured.
    pub depth: Depth,
}

impl Metrics {
    /// Opens the networks, and tries each of them on the first image, so that unsuitable sizes are refused before
    /// anything is restored.
    pub fn open(request: &FigureRequest, problem: &Problem) -> Result<Self, Error> {
        let device = problem.measurement.device();
        let lpips = request.lpips.as_ref().map(|weights| PerceptualMetric::lpips(weights, device)).transpose()?;
        let features = request.features.as_ref().map(|name| PerceptualMetric::features(name, device)).transpose()?;
        for (name, metric) in [("lpips", &lpips), ("features", &features)] {
            let Some(metric) = metric else { continue };
            let Some(truth) = &problem.truth else {
                let cause = format!("`{name}` compares with the truth, which a measurement alone does not hold");
                return Err(Error::request(cause));
            };
            let first = truth.narrow(0, 0, 1);
            metric.distance(&first, &first)?;
        }
        Ok(Self { min_max: request.min_max, lpips, features, depth: problem.depth })
    }

    /// Measures the figures of `x`, `[count, channels, height, width]`, averaged over the images: those of the pictures that
    /// are written, but for the PSNR by smallest and largest values, which Random Walks measures before clipping.
    fn figures(&self, x: &Tensor, truth: &Tensor) -> Result<ImageFigures, Error> {
        let truth = truth.unsqueeze(0).expand_as(x);
        let unclipped = x;
        let x = &self.depth.written(x);
        let unit = (images::to_unit(x), images::to_unit(&truth));
        // An image that is smaller than the window has no SSIM, but still has the other figures.
        let ssim = |window| average(similarity(&unit.0, &unit.1, window).unwrap_or_default());
        let measured = |metric: &Option<PerceptualMetric>| -> Result<Option<f64>, Error> {
            Ok(metric.as_ref().map(|metric| metric.distance(x, &truth)).transpose()?.and_then(average))
        };
        Ok(ImageFigures {
            psnr: average(psnr(&unit.0, &unit.1)),
            psnr_min_max: self.min_max.then(|| average(psnr_min_max(unclipped, &truth))).flatten(),
            ssim: ssim(Window::Gaussian),
            ssim_uniform: ssim(Window::Uniform),
            lpips: measured(&self.lpips)?,
            features: measured(&self.features)?,
        })
    }
}

/// Statistics and figures of the samples of one image.
#[derive(Debug)]
pub(crate) struct Summary {
    pub mean: Tensor,
    /// Standard deviation of each pixel.
    pub std: Tensor,
    /// ‖y − A x‖ / (η √m) over the seen entries, averaged over the samples.
    pub residual: f64,
    pub comparison: Option<Comparison>,
}

impl Summary {
    /// Summarises `samples`, `[samples, channels, height, width]`, of image `i`.
    pub fn new(
        problem: &Problem,
        (i, samples): (usize, &Tensor),
        metrics: &Metrics,
        baseline: Option<&Tensor>,
    ) -> Result<Self, Error> {
        let (mean, std) = moments(samples);
        let y = problem.measurement.narrow(0, i as i64, 1);
        let truth = problem.truth.as_ref().map(|truth| truth.get(i as i64).to_device(Device::Cpu));
        let compare = |truth: &Tensor| -> Result<Comparison, Error> {
            let within = (&mean - truth).abs().le_tensor(&(&std * 2.0)).to_kind(Kind::Double);
            let one = |x: &Tensor| metrics.figures(&x.unsqueeze(0), truth);
            Ok(Comparison {
                measurement: metrics.figures(&as_image(problem, &y)?.to_device(Device::Cpu), truth)?,
                sample: metrics.figures(samples, truth)?,
                mean: one(&mean)?,
                baseline: baseline.map(one).transpose()?,
                coverage: f64::try_from(within.mean(Kind::Double)).unwrap_or(f64::NAN),
            })
        };
        let comparison = truth.as_ref().map(compare).transpose()?;
        let residual = residual(problem, &y, samples)?;
        Ok(Self { mean, std, residual, comparison })
    }
}

/// Returns mean and standard deviation over the samples; the standard deviation of one sample is 0.
fn moments(samples: &Tensor) -> (Tensor, Tensor) {
    let mean = samples.mean_dim([0i64].as_slice(), false, None);
    let count = samples.size()[0];
    let squares = (samples - &mean).square().sum_dim_intlist([0i64].as_slice(), false, None);
    (mean, (squares / (count - 1).max(1) as f64).sqrt())
}

fn residual(problem: &Problem, y: &Tensor, samples: &Tensor) -> Result<f64, Error> {
    let square = problem.pool.lend(|likelihood| {
        let misfit = y - likelihood.operator.apply(&samples.to_device(y.device()));
        likelihood.seen.mean(&misfit.square())
    })??;
    Ok(square.sqrt() / problem.eta)
}

/// Converts a measurement y, `[1, …]`, to an image: y itself, y enlarged by repeated pixels, or A⁺ y where y is no
/// image.
fn as_image(problem: &Problem, y: &Tensor) -> Result<Tensor, Error> {
    let [channels, height, width] = problem.shape;
    if y.size()[1..] == problem.shape {
        return Ok(y.shallow_clone());
    }
    if (!is_picture(y, problem.shape) || y.size()[1] != channels)
        && let Some(image) = problem.linear(|linear| linear.pseudo_inverse(y))?
    {
        return Ok(image);
    }
    Ok(y.upsample_nearest2d([height, width], None, None))
}

/// Reports whether a measurement `[1, …]` of images of `shape` can be shown as a picture: it is grey or has their
/// channels, and its size is theirs divided by a whole number.
pub(crate) fn is_picture(y: &Tensor, [channels, height, width]: [i64; 3]) -> bool {
    let size = y.size();
    let &[_, c, h, w] = size.as_slice() else { return false };
    (c == 1 || c == channels) && height % h == 0 && width % w == 0 && height / h == width / w
}

/// Returns the mean; `None` without values, or if the mean is not finite, since JSON has no infinity.
fn average(values: Vec<f64>) -> Option<f64> {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    mean.is_finite().then_some(mean)
}

/// Computes the SSIM of each image band by band: each window within the image belongs to one band, so a photograph of
/// 30 megapixels takes no more memory than one band.
fn similarity(x: &Tensor, truth: &Tensor, window: Window) -> Result<Vec<f64>, Error> {
    let lines = x.size()[2] - window.side() + 1;
    if lines <= BAND {
        return ssim(x, truth, window);
    }
    let mut total = vec![0.0; x.size()[0] as usize];
    for first in (0..lines).step_by(BAND as usize) {
        let count = BAND.min(lines - first);
        let band = |x: &Tensor| x.narrow(2, first, count + window.side() - 1);
        let share = count as f64 / lines as f64;
        for (total, part) in total.iter_mut().zip(ssim(&band(x), &band(truth), window)?) {
            *total += part * share;
        }
    }
    Ok(total)
}
