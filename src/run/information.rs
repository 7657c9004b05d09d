//! Measurements with a network: the information of noisy images about clean ones, and the likelihood of images.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Serialize;
use tch::{Device, Kind, Tensor};

use super::{
    classes::{ClassList, Classes},
    engine::spread,
    fingerprint::Origin,
    observer::{Observer, go_on},
    prior::Prior,
    sample::range_note,
    session::Session,
};
use crate::{
    Error,
    backend::libtorch,
    files::{
        data::{AnyData, Images},
        images,
    },
    models::card::Model,
    numbers::{
        schedule::{AnySchedule, Geometric},
        sigma::{Sigmas, snr},
    },
    report::sheet,
    scores::{
        analytic::Gaussian,
        denoiser::Denoiser,
        information::{Cells, Curve, Flow, Mean, Trace, probes, square, squared_errors},
        noise::{Noise, Seeded},
    },
};

/// Maximum number of images to which the Gaussian is fitted, and of numbers in each of them: larger fits take more than
/// seconds.
const FITTED: usize = 10_000;
const LARGEST: usize = 2048;

/// Maximum number of numbers in an image for which the trace is exact by default.
const SMALL: usize = 16;

/// Minimum number of levels of a curve.
const FEWEST: usize = 5;

/// A request to measure MMSE(λ) = E‖x − D(x + σn, σ)‖² over λ = 1/σ², the information I(λ) = ½∫MMSE, and −log₂ p.
#[derive(Clone, Debug)]
pub struct InformationRequest {
    /// Maximum number of images: only the first ones are measured.
    pub limit: Option<usize>,
    /// Number of noise levels: the integral over them is of fourth order.
    pub levels: usize,
    /// Number of noises for each image and level.
    pub draws: u64,
    /// Schedule of the noise levels of the curve and of the flow; geometric over the network's own range if left out.
    pub schedule: AnySchedule,
    /// Settings of the probability flow, whose density is some 20 times the work; `None` leaves it out.
    pub flow: Option<FlowRequest>,
    /// Classes that images take in turn, for networks with classes.
    pub classes: Option<ClassList>,
}

/// Settings of the probability flow from an image to noise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FlowRequest {
    /// Number of noise levels: each step between two of them takes four evaluations with their gradients.
    pub steps: usize,
    /// Number of random signs that estimate the divergence; 0 computes it exactly, by one gradient for each number of
    /// an image. If left out, 1, or 0 for images of up to 16 numbers.
    pub probes: Option<u64>,
}

impl Default for InformationRequest {
    /// Creates a request with 33 geometric levels, one noise for each image and level, and no flow.
    fn default() -> Self {
        let schedule = AnySchedule::Geometric(Geometric::default());
        Self { limit: None, levels: 33, draws: 1, schedule, flow: None, classes: None }
    }
}

impl FlowRequest {
    /// Refuses a flow without a step.
    pub fn check(&self) -> Result<(), Error> {
        if self.steps < 2 { Err(Error::parameter("`steps`", "at least 2", self.steps)) } else { Ok(()) }
    }
}

impl Default for FlowRequest {
    fn default() -> Self {
        Self { steps: 25, probes: None }
    }
}

/// One level of the curve.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct InformationLevel {
    /// σ, in data units.
    pub sigma: f64,
    /// Signal-to-noise ratio λ = 1/σ².
    pub snr: f64,
    /// ln λ.
    pub log_snr: f64,
    /// MMSE(λ)/d.
    pub mmse_per_dimension: Mean,
    /// I(λ)/d, in nats.
    pub information_nats_per_dimension: Mean,
    /// I(λ)/d, in bits.
    pub information_bits_per_dimension: Mean,
    /// MMSE(λ)/d of the best linear estimate, where it is known.
    pub gaussian_mmse_per_dimension: Option<f64>,
}

/// Bits per dimension, −log₂ p(x)/d.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BitsPerDimension {
    /// Bits per dimension from the squared errors.
    pub i_mmse: Mean,
    /// Standard deviation over the images.
    pub spread: f64,
    /// Change of the bits if only half of the levels were used.
    pub halved: Option<f64>,
    /// Bits per dimension from the probability flow.
    pub flow: Option<Mean>,
    /// Difference of the two estimates, image by image.
    pub flow_minus_i_mmse: Option<Mean>,
    /// Bits per dimension of a Gaussian with the mean and covariance of the data.
    pub gaussian: Option<f64>,
}

/// Everything on which the figures depend.
#[derive(Clone, Debug, Serialize)]
pub struct InformationFingerprint {
    version: &'static str,
    model: String,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<String>,
    set: Vec<String>,
    classes: Vec<i64>,
    data: String,
    images: usize,
    cells: Cells,
    schedule: AnySchedule,
    levels: usize,
    draws: u64,
    steps: Option<usize>,
    probes: Option<u64>,
    seed: u64,
    device: &'static str,
    precision: String,
}

/// Figures of a set of images.
#[derive(Clone, Debug)]
pub struct Information {
    /// Name of the model.
    pub model: String,
    /// Number of measured images.
    pub images: usize,
    /// Number d of numbers in an image.
    pub numbers: usize,
    /// Levels of the curve, largest σ first.
    pub levels: Vec<InformationLevel>,
    /// −log₂ p of the images in bits per dimension.
    pub bits_per_dimension: BitsPerDimension,
    /// Seconds that the measurement took.
    pub seconds: f64,
    fingerprint: InformationFingerprint,
}

/// Folder of the figures, and the entries of its record on their origin.
#[derive(Clone, Debug, Default)]
pub struct InformationFolder {
    /// Path of the folder for information.csv, information.png and information.json.
    pub out: PathBuf,
    /// Card and settings that replaced the model's own.
    pub origin: Origin,
    /// User's name for the images.
    pub data: String,
}

/// Record of the figures, with its folder.
#[derive(Clone, Debug, Serialize)]
pub struct InformationRecord {
    /// Everything on which the figures depend.
    #[serde(rename = "identity")]
    pub fingerprint: InformationFingerprint,
    /// Bits per dimension; see [`Information::bits_per_dimension`].
    pub bits_per_dimension: BitsPerDimension,
    /// Levels of the curve; see [`Information::levels`].
    pub levels: Vec<InformationLevel>,
    /// Seconds that the measurement took.
    pub seconds: f64,
    /// Path of the folder.
    pub out: PathBuf,
}

/// Settings shared by all images.
struct Estimation<'a> {
    /// Number d of numbers in an image.
    numbers: usize,
    cells: Cells,
    classes: &'a Classes,
    device: Device,
    levels: Sigmas,
    flow: Option<Sigmas>,
    /// Standard deviations of the noisy images at the largest level of the curve and of the flow.
    starts: (f64, f64),
    draws: u64,
    probes: u64,
    seed: u64,
    observer: &'a dyn Observer,
}

/// Figures of one image.
#[derive(Clone, Debug)]
struct ImageEstimates {
    index: usize,
    square: f64,
    errors: Vec<f64>,
    divergence: Option<f64>,
}

impl InformationRequest {
    /// Refuses invalid settings before anything is opened.
    pub fn check(&self) -> Result<(), Error> {
        if self.levels < FEWEST {
            return Err(Error::parameter("`levels`", "at least 5", self.levels));
        }
        self.flow.iter().try_for_each(FlowRequest::check)?;
        if self.draws == 0 {
            return Err(Error::parameter("`draws`", "at least 1", 0));
        }
        if self.limit.is_some_and(|limit| limit < 2) {
            let cause =
                "`limit` must be at least 2, since the spread over images tells how far the mean can be trusted";
            return Err(Error::request(cause));
        }
        Ok(())
    }

    /// Measures the figures of the images in `data`.
    pub fn run<'a>(
        &self,
        prior: impl Into<Prior<'a>>,
        data: &AnyData,
        session: &Session,
        observer: &dyn Observer,
    ) -> Result<Information, Error> {
        self.check()?;
        let prior = prior.into();
        let classes = Classes::new(self.classes.as_ref(), &prior)?;
        let all = load(data, prior.model)?;
        let gaussian = gaussian(&all)?;
        let data = all.first(self.limit.unwrap_or(usize::MAX));
        let measurement = self.measurement(prior.model, numbers(&data), &classes, (session, observer))?;
        let start = Instant::now();
        let found = measurement.all(&prior, &data, session)?;
        let seconds = start.elapsed().as_secs_f64();
        let (squares, errors) =
            found.iter().map(|found| (found.square, found.errors.clone())).unzip::<_, _, Vec<_>, _>();
        let curve = Curve::new(measurement.levels.clone(), measurement.numbers, measurement.starts.0, &squares, errors);
        Ok(Information {
            model: prior.model.card.name.clone(),
            images: data.count(),
            numbers: measurement.numbers,
            levels: levels(&curve, gaussian.as_deref()),
            bits_per_dimension: bits(&curve, &found, measurement.cells, gaussian.as_deref()),
            seconds,
            fingerprint: self.fingerprint(prior.model, &measurement, session, data.count())?,
        })
    }

    fn measurement<'a>(
        &self,
        model: &Model,
        numbers: usize,
        classes: &'a Classes,
        (session, observer): (&Session, &'a dyn Observer),
    ) -> Result<Estimation<'a>, Error> {
        let schedule = self.schedule.get();
        let levels = schedule.sigmas(self.levels, model.range())?;
        let flow = self.flow.map(|flow| schedule.sigmas(flow.steps, model.range())).transpose()?;
        if let Some(note) = range_note(model, &levels) {
            observer.said(&note);
        }
        let start = |sigmas: &Sigmas| model.denoiser.precondition.start(sigmas.max());
        let probes = self.flow.and_then(|flow| flow.probes);
        Ok(Estimation {
            numbers,
            cells: Cells::default(),
            classes,
            device: session.device,
            starts: (start(&levels), start(flow.as_ref().unwrap_or(&levels))),
            levels,
            flow,
            draws: self.draws,
            probes: probes.unwrap_or(u64::from(numbers > SMALL)),
            seed: session.seed,
            observer,
        })
    }

    fn fingerprint(
        &self,
        model: &Model,
        measurement: &Estimation,
        session: &Session,
        images: usize,
    ) -> Result<InformationFingerprint, Error> {
        Ok(InformationFingerprint {
            version: env!("CARGO_PKG_VERSION"),
            model: model.card.name.clone(),
            sha256: model.sha256()?,
            card: None,
            set: Vec::new(),
            classes: measurement.classes.list().to_vec(),
            data: String::new(),
            images,
            cells: measurement.cells,
            schedule: self.schedule.clone(),
            levels: self.levels,
            draws: self.draws,
            steps: self.flow.map(|flow| flow.steps),
            probes: self.flow.map(|_| measurement.probes),
            seed: session.seed,
            device: libtorch::kind(session.device),
            precision: session.arithmetic(),
        })
    }
}

impl Estimation<'_> {
    /// Measures every image, in blocks on several threads; returns the results in the order of the data.
    fn all(&self, prior: &Prior, data: &Images, session: &Session) -> Result<Vec<ImageEstimates>, Error> {
        let count = data.count();
        let batch = if session.deterministic { 1 } else { session.batch_for(count)? as usize };
        let all: Vec<usize> = (0..count).collect();
        let blocks: Vec<&[usize]> = all.chunks(batch).collect();
        let each = 1 + self.flow.as_ref().map_or(0, |levels| levels.iter().len() - 1);
        self.observer.begun("measuring", (count * each) as u64);
        let mut found = Vec::with_capacity(count);
        let threads = session.workers(blocks.len());
        let jobs = blocks.into_iter().map(|block| {
            let indices = Tensor::from_slice(&block.iter().map(|&index| index as i64).collect::<Vec<_>>());
            Ok((block, data.pixels.index_select(0, &indices)))
        });
        let measure = |prior: &Prior, (block, bytes): (&[usize], Tensor)| self.block(prior.model, block, &bytes);
        spread(prior, threads, jobs, measure, |some| {
            found.extend(some);
            Ok(())
        })?;
        self.observer.ended();
        found.sort_by_key(|found| found.index);
        Ok(found)
    }

    fn block(&self, model: &Model, block: &[usize], bytes: &Tensor) -> Result<Vec<ImageEstimates>, Error> {
        go_on(self.observer)?;
        let seeds: Vec<u64> = block.iter().map(|&index| (self.seed << 32) + index as u64).collect();
        let x = self.cells.dequantise(bytes, &seeds).to_device(self.device);
        let classes = self.classes.rows(block.iter().map(|&index| index as u64));
        let denoiser = model.denoiser.for_classes(classes.as_deref());
        let noise = Seeded(seeds);
        let errors: Vec<Vec<f64>> = Vec::try_from(squared_errors(&denoiser, &x, &self.levels, &noise, self.draws))?;
        if errors.iter().flatten().any(|error| !error.is_finite()) {
            return Err(Error::request("the network's answer is not finite: try `precision` f32"));
        }
        self.observer.advanced(block.len() as u64);
        let divergences = match &self.flow {
            None => vec![None; block.len()],
            Some(levels) => self.divergences(&denoiser, &x, &noise, levels)?.into_iter().map(Some).collect(),
        };
        let squares = Vec::<f64>::try_from(square(&x))?;
        let all = block.iter().zip(squares).zip(errors).zip(divergences);
        let each = |(((&index, square), errors), divergence)| ImageEstimates { index, square, errors, divergence };
        Ok(all.map(each).collect())
    }

    /// Computes ln q(z|x) − ln p(z) at z = x + σ n for each image, where σ is the smallest level: its mean over n is
    /// the KL divergence that the squared errors bound.
    fn divergences(
        &self,
        denoiser: &dyn Denoiser,
        x: &Tensor,
        noise: &dyn Noise,
        levels: &Sigmas,
    ) -> Result<Vec<f64>, Error> {
        let n = noise.like(x, self.levels.iter().len() as u64 - 1, 0);
        let z = x + &n * levels.min();
        let trace = if self.probes == 0 { Trace::Exact } else { probes(x, noise, self.probes) };
        let flow = Flow { denoiser, start: self.starts.1, trace };
        let mut end = None;
        for state in flow.ascend(&z, levels) {
            go_on(self.observer)?;
            if end.replace(state).is_some() {
                self.observer.advanced(x.size()[0] as u64);
            }
        }
        let end = end.ok_or_else(|| Error::request("the flow has no levels"))?;
        let constant = self.numbers as f64 / 2.0 * (std::f64::consts::TAU * levels.min().powi(2)).ln();
        let found = square(&n) / -2.0 - constant - flow.from_end(&end);
        let found = Vec::<f64>::try_from(found)?;
        if found.iter().any(|value| !value.is_finite()) {
            return Err(Error::request("the flow is not finite: more `steps`, or `precision` f32"));
        }
        Ok(found)
    }
}

impl Information {
    /// Writes information.csv, information.png and information.json.
    pub fn write(&self, folder: &InformationFolder) -> Result<InformationRecord, Error> {
        let InformationFolder { out, origin, data } = folder;
        let fingerprint = InformationFingerprint {
            card: origin.card.clone(),
            set: origin.set.clone(),
            data: data.clone(),
            ..self.fingerprint.clone()
        };
        let record = InformationRecord {
            fingerprint,
            bits_per_dimension: self.bits_per_dimension,
            levels: self.levels.clone(),
            seconds: self.seconds,
            out: out.clone(),
        };
        let path = |extension: &str| out.join("information").with_extension(extension);
        images::write_whole(&path("csv"), self.csv().as_bytes())?;
        images::write_png(&path("png"), &self.plot()?)?;
        images::write_whole(&path("json"), &json(&path("json"), &record)?)?;
        Ok(record)
    }

    /// Formats the curve as comma-separated values.
    pub fn csv(&self) -> String {
        let mut text = String::from(
            "sigma,snr,log_snr,mmse_per_dimension,mmse_standard_error,information_nats_per_dimension,\
             information_bits_per_dimension,information_bits_standard_error,gaussian_mmse_per_dimension\n",
        );
        for row in &self.levels {
            let (mmse, bits) = (row.mmse_per_dimension, row.information_bits_per_dimension);
            let _ = writeln!(
                text,
                "{},{},{},{},{},{},{},{},{}",
                row.sigma,
                row.snr,
                row.log_snr,
                mmse.value,
                mmse.error,
                row.information_nats_per_dimension.value,
                bits.value,
                bits.error,
                row.gaussian_mmse_per_dimension.map_or_else(String::new, |linear| linear.to_string()),
            );
        }
        text
    }

    /// Plots the squared error against ln λ for the network, for the best linear estimate, and for the noisy image
    /// itself, where the last does not exceed the largest error of the first two.
    pub fn plot(&self) -> Result<Tensor, Error> {
        let points = |y: &dyn Fn(&InformationLevel) -> Option<f64>| -> Vec<(f64, f64)> {
            self.levels.iter().filter_map(|row| Some((row.log_snr, y(row)?))).collect()
        };
        let network = points(&|row| Some(row.mmse_per_dimension.value));
        let linear = points(&|row| row.gaussian_mmse_per_dimension);
        let top = network.iter().chain(&linear).map(|point| point.1).fold(0.0, f64::max);
        let itself = points(&|row| Some(1.0 / row.snr).filter(|error| *error <= top));
        let curves = [
            (self.model.clone(), network),
            ("the best linear estimate (Wiener)".to_owned(), linear),
            ("the noisy image itself, 1/λ".to_owned(), itself),
        ];
        let shown: Vec<_> = curves.into_iter().filter(|(_, points)| !points.is_empty()).collect();
        sheet::curves(
            "squared error per dimension",
            "ln λ, the logarithm of the signal-to-noise ratio 1/σ²",
            (800, 480),
            &shown,
        )
    }
}

fn json(path: &Path, record: &InformationRecord) -> Result<Vec<u8>, Error> {
    serde_json::to_vec_pretty(record).map_err(|e| Error::file(path, e))
}

fn load(data: &AnyData, model: &Model) -> Result<Images, Error> {
    let images = data.load()?;
    if images.pixels.size()[1..] != model.card.image {
        let (size, name) = (&images.pixels.size()[1..], &model.card.name);
        let cause = format!("`data`: images are {size:?}, but {name} knows {:?}", model.card.image);
        return Err(Error::request(cause));
    }
    if images.count() < 2 {
        return Err(Error::request("`data`: holds one image, but at least 2 are wanted"));
    }
    Ok(images)
}

/// Returns d, the number of numbers in an image.
fn numbers(images: &Images) -> usize {
    images.pixels.size()[1..].iter().product::<i64>() as usize
}

/// Computes the variances, along the principal axes, of a Gaussian with the covariance of the images spread over their
/// cells; `None` if the images are too large for a quick fit, or too few for full rank.
fn gaussian(images: &Images) -> Result<Option<Vec<f64>>, Error> {
    let count = images.count().min(FITTED);
    if numbers(images) > LARGEST || count <= numbers(images) {
        return Ok(None);
    }
    let cells = Cells::default();
    let fitted = Gaussian::fit(&(images.pixels.narrow(0, 0, count as i64).to_kind(Kind::Double) / cells.per_unit))?;
    let (_, variances) = fitted.spectrum();
    Ok(Some(Vec::try_from(variances + cells.variance())?))
}

fn levels(curve: &Curve, gaussian: Option<&[f64]>) -> Vec<InformationLevel> {
    let each = 1.0 / curve.numbers() as f64;
    let row = |((sigma, mmse), information): ((f64, Mean), Mean)| {
        let snr = snr(sigma);
        // The best linear estimate of images with these variances has the squared error Σ v/(1 + λ v).
        let linear = |variances: &[f64]| variances.iter().map(|v| v / (1.0 + snr * v)).sum::<f64>() * each;
        InformationLevel {
            sigma,
            snr,
            log_snr: snr.ln(),
            mmse_per_dimension: mmse.times(each),
            information_nats_per_dimension: information.times(each),
            information_bits_per_dimension: information.times(each / std::f64::consts::LN_2),
            gaussian_mmse_per_dimension: gaussian.map(linear),
        }
    };
    curve.sigmas().iter().zip(curve.mmse()).zip(curve.information()).map(row).collect()
}

fn bits(curve: &Curve, found: &[ImageEstimates], cells: Cells, gaussian: Option<&[f64]>) -> BitsPerDimension {
    let bits = |nats: f64| cells.bits(nats, curve.numbers());
    let by_errors: Vec<f64> = curve.surprise().into_iter().map(bits).collect();
    // Both estimates decode the smallest level alike, so they differ only in the density of its noisy images.
    let along = |(found, left): (&ImageEstimates, f64)| found.divergence.map(|divergence| bits(divergence + left));
    let by_flow: Option<Vec<f64>> = found.iter().zip(curve.decoding()).map(along).collect();
    let apart = |flow: &Vec<f64>| flow.iter().zip(&by_errors).map(|(flow, errors)| flow - errors).collect::<Vec<_>>();
    let i_mmse = Mean::from_values(&by_errors);
    BitsPerDimension {
        i_mmse,
        spread: i_mmse.error * (by_errors.len() as f64).sqrt(),
        halved: curve.halved().map(|nats| bits(nats) - bits(0.0)),
        flow_minus_i_mmse: by_flow.as_ref().map(|flow| Mean::from_values(&apart(flow))),
        flow: by_flow.as_deref().map(Mean::from_values),
        gaussian: gaussian.map(|variances| {
            let twice: f64 = variances.iter().map(|v| (std::f64::consts::TAU * v).ln() + 1.0).sum();
            bits(twice / 2.0)
        }),
    }
}
