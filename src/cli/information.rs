//! `tweedie information`: what noisy images tell of clean ones, and how likely images are.

use std::{fmt::Write as _, path::PathBuf, time::Instant};

use anyhow::{Result, bail};
use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;
use tch::{Device, Kind, Tensor};
use tweedie::{
    backend::libtorch,
    files::{data::Images, images},
    models::card::Model,
    numbers::{
        schedule::{AnySchedule, Geometric},
        sigma::{Sigmas, snr},
    },
    report::sheet,
    scores::{
        analytic::Gaussian,
        information::{Cells, Curve, Flow, Mean, Trace, probes, square, squared_errors},
        noise::{Noise, Seeded},
    },
};

use super::{
    Common, INTERRUPTED, choice,
    classes::{ClassArgs, Classes},
    data,
    guidance::Prior,
    images::spread,
    sample, thousands, workers,
};

/// Images to which the Gaussian is fitted, and numbers in each of them, for which that takes seconds.
const FITTED: usize = 10_000;
const LARGEST: usize = 2048;

/// Up to this many numbers in an image the trace is exact unless `--probes` says otherwise.
const SMALL: usize = 16;

/// Fewer levels than these make no curve.
const FEWEST: usize = 5;

/// Measure how well a network denoises at every level, and with it how likely images are
///
/// MMSE(λ) = E‖x − D(x + σn, σ)‖² over λ = 1/σ², the information I(λ) = ½∫MMSE that the noisy image has of the clean one,
/// and −log₂ p in bits per dimension: for bytes b as x = (b + u)/128 − 1 with u uniform on 0…1, so that it bounds the length
/// to which they could be compressed.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie information fashion-mnist --data '{kind: idx, images: t10k-images-idx3-ubyte.gz, pad: 2}' --limit 256
  tweedie information fashion-mnist --data photos/ --levels 65 --draws 4 --flow --out out/information")]
pub struct Information {
    #[arg(help = super::MODEL)]
    model: String,
    /// The images: a folder, or '{kind: idx, images: FILE, pad: 2}'
    #[arg(long, value_name = "DATA")]
    data: String,
    /// Only the first so many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// How many noise levels: the integral over them is of fourth order
    #[arg(long, value_name = "K", default_value_t = 33)]
    levels: usize,
    /// Noises for each image and level
    #[arg(long, value_name = "N", default_value_t = 1)]
    draws: u64,
    /// Where the levels lie, those of the flow too [default: geometric, over the network's own range]
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// The density of the probability flow as well: some 20 times the work
    #[arg(long)]
    flow: bool,
    /// Noise levels of the flow: four evaluations with their gradients between two of them
    #[arg(long, value_name = "K", default_value_t = 25)]
    steps: usize,
    /// Signs that estimate the flow's divergence; 0 is exact, by one gradient for each number of an image
    /// [default: 1, or 0 for images of up to 16 numbers]
    #[arg(long, value_name = "N")]
    probes: Option<u64>,
    #[command(flatten)]
    class: ClassArgs,
    /// Where information.csv, information.png and information.json go
    #[arg(long, default_value = "out/information", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// All that the result depends on.
#[derive(Serialize)]
struct Identity<'a> {
    version: &'static str,
    model: &'a str,
    sha256: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    card: Option<String>,
    set: &'a [String],
    classes: &'a [i64],
    data: &'a str,
    images: usize,
    cells: Cells,
    schedule: &'a AnySchedule,
    levels: usize,
    draws: u64,
    steps: Option<usize>,
    probes: Option<u64>,
    seed: u64,
    device: &'static str,
    precision: String,
}

/// A row of the table.
#[derive(Serialize)]
struct Row {
    sigma: f64,
    snr: f64,
    log_snr: f64,
    mmse_per_dimension: Mean,
    information_nats_per_dimension: Mean,
    information_bits_per_dimension: Mean,
    gaussian_mmse_per_dimension: Option<f64>,
}

/// Bits per dimension.
#[derive(Serialize)]
struct Bits {
    i_mmse: Mean,
    /// The standard deviation over the images.
    spread: f64,
    /// What half the levels would add.
    halved: Option<f64>,
    flow: Option<Mean>,
    flow_minus_i_mmse: Option<Mean>,
    /// Of a Gaussian with the mean and covariance of the data.
    gaussian: Option<f64>,
}

/// What is the same for all images.
struct Task<'a> {
    /// d.
    numbers: usize,
    cells: Cells,
    classes: &'a Classes,
    device: Device,
    levels: Sigmas,
    flow: Option<Sigmas>,
    /// Standard deviations of the noisy images of the largest level, for both.
    starts: (f64, f64),
    draws: u64,
    probes: u64,
    seed: u64,
}

/// What was found of an image.
#[derive(Clone, Debug)]
struct Found {
    index: usize,
    square: f64,
    errors: Vec<f64>,
    divergence: Option<f64>,
}

impl Information {
    pub fn run(&self) -> Result<()> {
        self.check()?;
        let (model, device) = self.common.open(&self.model)?;
        let prior = Prior::from(model);
        let (model, classes) = (&prior.model, self.class.of(&prior)?);
        let all = self.load(model)?;
        let gaussian = gaussian(&all)?;
        let data = all.first(self.limit.unwrap_or(usize::MAX));
        let schedule = self.schedule()?;
        let task = self.task(model, numbers(&data), &classes, &schedule, device)?;
        let start = Instant::now();
        let found = self.measure(&prior, &data, &task)?;
        let seconds = start.elapsed().as_secs_f64();
        let (squares, errors) =
            found.iter().map(|found| (found.square, found.errors.clone())).unzip::<_, _, Vec<_>, _>();
        let curve = Curve::new(task.levels.clone(), task.numbers, task.starts.0, &squares, errors);
        let rows = rows(&curve, gaussian.as_deref());
        let bits = bits(&curve, &found, task.cells, gaussian.as_deref());
        let identity = self.identity(model, &task, &schedule, data.count())?;
        self.common.say(table(&rows));
        self.common.say(summary(&bits, data.count(), curve.numbers(), seconds));
        let record = serde_json::json!({
            "identity": identity, "bits_per_dimension": bits, "levels": rows, "seconds": seconds, "out": self.out,
        });
        self.write(&rows, &record, &model.card.name)?;
        self.common.record(&record)
    }

    /// Refuses what makes no sense before anything is opened.
    fn check(&self) -> Result<()> {
        if self.levels < FEWEST {
            bail!("--levels must be at least {FEWEST}, but is {}", self.levels);
        }
        if self.steps < 2 {
            bail!("--steps must be at least 2, but is {}", self.steps);
        }
        if self.draws == 0 {
            bail!("--draws must be at least 1, but is 0");
        }
        if self.limit.is_some_and(|limit| limit < 2) {
            bail!("--limit must be at least 2, since the spread over images tells how far the mean can be trusted");
        }
        Ok(())
    }

    fn load(&self, model: &Model) -> Result<Images> {
        let [channels, height, width] = model.card.image;
        let images = data(&self.data, channels, "--data")?.load()?;
        if images.pixels.size()[1..] != model.card.image {
            let size = &images.pixels.size()[1..];
            bail!("--data: images are {size:?}, but {} knows [{channels}, {height}, {width}]", model.card.name);
        }
        if images.count() < 2 {
            bail!("--data: holds one image, but at least 2 are wanted");
        }
        Ok(images)
    }

    fn schedule(&self) -> Result<AnySchedule> {
        let own = || Ok(AnySchedule::Geometric(Geometric::default()));
        self.schedule.as_ref().map_or_else(own, |text| choice(text, "--schedule"))
    }

    fn task<'a>(
        &self,
        model: &Model,
        numbers: usize,
        classes: &'a Classes,
        schedule: &AnySchedule,
        device: Device,
    ) -> Result<Task<'a>> {
        let levels = schedule.get().sigmas(self.levels, model.range())?;
        let flow = self.flow.then(|| schedule.get().sigmas(self.steps, model.range())).transpose()?;
        sample::warn_range(&self.common, model, &levels);
        let start = |sigmas: &Sigmas| model.denoiser.precondition.start(sigmas.max());
        Ok(Task {
            numbers,
            cells: Cells::default(),
            classes,
            device,
            starts: (start(&levels), start(flow.as_ref().unwrap_or(&levels))),
            levels,
            flow,
            draws: self.draws,
            probes: self.probes.unwrap_or(u64::from(numbers > SMALL)),
            seed: self.common.seed,
        })
    }

    fn identity<'a>(
        &'a self,
        model: &'a Model,
        task: &'a Task,
        schedule: &'a AnySchedule,
        images: usize,
    ) -> Result<Identity<'a>> {
        Ok(Identity {
            version: env!("CARGO_PKG_VERSION"),
            model: &model.card.name,
            sha256: model.sha256()?,
            card: self.common.card_hash()?,
            set: &self.common.set,
            classes: task.classes.list(),
            data: &self.data,
            images,
            cells: task.cells,
            schedule,
            levels: self.levels,
            draws: self.draws,
            steps: self.flow.then_some(self.steps),
            probes: self.flow.then_some(task.probes),
            seed: self.common.seed,
            device: libtorch::kind(task.device),
            precision: self.common.arithmetic(),
        })
    }

    /// Every image, block by block and each block in a thread of its own, in the order of the data.
    fn measure(&self, prior: &Prior, data: &Images, task: &Task) -> Result<Vec<Found>> {
        let count = data.count();
        let batch = if self.common.deterministic { 1 } else { self.common.batch(task.device, count)? as usize };
        let all: Vec<usize> = (0..count).collect();
        let blocks: Vec<&[usize]> = all.chunks(batch).collect();
        let each = 1 + task.flow.as_ref().map_or(0, |levels| levels.iter().len() - 1);
        let bar = self.common.bar((count * each) as u64, "measuring");
        let mut found = Vec::with_capacity(count);
        let threads = workers(task.device, blocks.len());
        let jobs = blocks.into_iter().map(|block| {
            let indices = Tensor::from_slice(&block.iter().map(|&index| index as i64).collect::<Vec<_>>());
            Ok((block, data.pixels.index_select(0, &indices)))
        });
        spread(
            prior,
            threads,
            jobs,
            |prior, (block, bytes)| task.block(&prior.model, block, &bytes, &bar),
            |some| {
                found.extend(some);
                Ok(())
            },
        )?;
        bar.finish_and_clear();
        found.sort_by_key(|found| found.index);
        Ok(found)
    }

    fn write(&self, rows: &[Row], record: &serde_json::Value, name: &str) -> Result<()> {
        let path = |extension: &str| self.out.join("information").with_extension(extension);
        images::write_whole(&path("csv"), csv(rows).as_bytes())?;
        images::write_png(&path("png"), &plot(rows, name)?)?;
        images::write_whole(&path("json"), &serde_json::to_vec_pretty(record)?)?;
        self.common.say(format_args!("information.csv, .png and .json are in {}", self.out.display()));
        Ok(())
    }
}

impl Task<'_> {
    fn block(&self, model: &Model, block: &[usize], bytes: &Tensor, bar: &ProgressBar) -> Result<Vec<Found>> {
        not_interrupted()?;
        let seeds: Vec<u64> = block.iter().map(|&index| (self.seed << 32) + index as u64).collect();
        let x = self.cells.dequantise(bytes, &seeds).to_device(self.device);
        let classes = self.classes.rows(block.iter().map(|&index| index as u64));
        let denoiser = model.denoiser.of(classes.as_deref());
        let noise = Seeded(seeds);
        let errors: Vec<Vec<f64>> = Vec::try_from(squared_errors(&denoiser, &x, &self.levels, &noise, self.draws))?;
        if errors.iter().flatten().any(|error| !error.is_finite()) {
            bail!("the network's answer is not finite: try --precision f32");
        }
        bar.inc(block.len() as u64);
        let divergences = match &self.flow {
            None => vec![None; block.len()],
            Some(levels) => self.divergences(&denoiser, &x, &noise, levels, bar)?.into_iter().map(Some).collect(),
        };
        let squares = Vec::<f64>::try_from(square(&x))?;
        let all = block.iter().zip(squares).zip(errors).zip(divergences);
        Ok(all.map(|(((&index, square), errors), divergence)| Found { index, square, errors, divergence }).collect())
    }

    /// ln q(z|x) − ln p(z) at z = x + σ n for each image, σ the smallest level: its mean over n is the KL that the squared
    /// errors bound.
    fn divergences(
        &self,
        denoiser: &dyn tweedie::scores::denoiser::Denoiser,
        x: &Tensor,
        noise: &dyn Noise,
        levels: &Sigmas,
        bar: &ProgressBar,
    ) -> Result<Vec<f64>> {
        let n = noise.like(x, self.levels.iter().len() as u64 - 1, 0);
        let z = x + &n * levels.min();
        let trace = if self.probes == 0 { Trace::Exact } else { probes(x, noise, self.probes) };
        let flow = Flow { denoiser, start: self.starts.1, trace };
        let mut end = None;
        for state in flow.ascend(&z, levels) {
            not_interrupted()?;
            if end.replace(state).is_some() {
                bar.inc(x.size()[0] as u64);
            }
        }
        let Some(end) = end else { bail!("the flow has no levels") };
        let constant = self.numbers as f64 / 2.0 * (std::f64::consts::TAU * levels.min().powi(2)).ln();
        let found = square(&n) / -2.0 - constant - flow.from_end(&end);
        let found = Vec::<f64>::try_from(found)?;
        if found.iter().any(|value| !value.is_finite()) {
            bail!("the flow is not finite: more --steps, or --precision f32");
        }
        Ok(found)
    }
}

fn not_interrupted() -> Result<()> {
    if INTERRUPTED.load(std::sync::atomic::Ordering::Relaxed) {
        bail!("interrupted; nothing was written");
    }
    Ok(())
}

/// d.
fn numbers(images: &Images) -> usize {
    images.pixels.size()[1..].iter().product::<i64>() as usize
}

/// The variances of a Gaussian with the covariance of the images, spread over their cells, if that is quickly found and has
/// full rank.
fn gaussian(images: &Images) -> Result<Option<Vec<f64>>> {
    let count = images.count().min(FITTED);
    if numbers(images) > LARGEST || count <= numbers(images) {
        return Ok(None);
    }
    let cells = Cells::default();
    let fitted = Gaussian::fit(&(images.pixels.narrow(0, 0, count as i64).to_kind(Kind::Double) / cells.per_unit))?;
    let (_, variances) = fitted.spectrum();
    Ok(Some(Vec::try_from(variances + cells.variance())?))
}

fn rows(curve: &Curve, gaussian: Option<&[f64]>) -> Vec<Row> {
    let each = 1.0 / curve.numbers() as f64;
    let row = |((sigma, mmse), information): ((f64, Mean), Mean)| {
        let snr = snr(sigma);
        // The best linear estimate of images with these variances errs by Σ v/(1 + λ v).
        let linear = |variances: &[f64]| variances.iter().map(|v| v / (1.0 + snr * v)).sum::<f64>() * each;
        Row {
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

fn bits(curve: &Curve, found: &[Found], cells: Cells, gaussian: Option<&[f64]>) -> Bits {
    let of = |nats: f64| cells.bits(nats, curve.numbers());
    let by_errors: Vec<f64> = curve.surprise().into_iter().map(of).collect();
    // Both decode the smallest level alike, so that they differ in the density of its noisy images alone.
    let along = |(found, left): (&Found, f64)| found.divergence.map(|divergence| of(divergence + left));
    let by_flow: Option<Vec<f64>> = found.iter().zip(curve.decoding()).map(along).collect();
    let apart = |flow: &Vec<f64>| flow.iter().zip(&by_errors).map(|(flow, errors)| flow - errors).collect::<Vec<_>>();
    let i_mmse = Mean::of(&by_errors);
    Bits {
        i_mmse,
        spread: i_mmse.error * (by_errors.len() as f64).sqrt(),
        halved: curve.halved().map(|nats| of(nats) - of(0.0)),
        flow_minus_i_mmse: by_flow.as_ref().map(|flow| Mean::of(&apart(flow))),
        flow: by_flow.as_deref().map(Mean::of),
        gaussian: gaussian.map(|variances| {
            let twice: f64 = variances.iter().map(|v| (std::f64::consts::TAU * v).ln() + 1.0).sum();
            of(twice / 2.0)
        }),
    }
}

fn table(rows: &[Row]) -> String {
    let mut text =
        String::from("       σ      λ = 1/σ²    ln λ   MMSE/d       ±          I/d: nats     bits   linear MMSE/d\n");
    for row in rows {
        let (mmse, linear) = (row.mmse_per_dimension, row.gaussian_mmse_per_dimension);
        let _ = writeln!(
            text,
            "{:>10.4} {:>12.4e} {:>7.3}   {:.3e}  {:.0e}  {:>12.5} {:>8.5}   {}",
            row.sigma,
            row.snr,
            row.log_snr,
            mmse.value,
            mmse.error,
            row.information_nats_per_dimension.value,
            row.information_bits_per_dimension.value,
            linear.map_or_else(|| "–".to_owned(), |linear| format!("{linear:.3e}")),
        );
    }
    text
}

fn summary(bits: &Bits, images: usize, numbers: usize, seconds: f64) -> String {
    let mut text = format!(
        "bits per dimension, {} images of {} numbers ({seconds:.0} s):\n  by the squared errors (I-MMSE)  {:.4} ± {:.4}, from \
         image to image ± {:.2}",
        thousands(images),
        thousands(numbers),
        bits.i_mmse.value,
        bits.i_mmse.error,
        bits.spread,
    );
    if let Some(halved) = bits.halved {
        let _ = write!(text, "; half the levels would add {halved:+.4}");
    }
    if let (Some(flow), Some(apart)) = (bits.flow, bits.flow_minus_i_mmse) {
        let _ = write!(
            text,
            "\n  by the probability flow         {:.4} ± {:.4}, which is {:+.4} ± {:.4}",
            flow.value, flow.error, apart.value, apart.error
        );
    }
    if let Some(gaussian) = bits.gaussian {
        let _ = write!(text, "\n  by a Gaussian of the same covariance  {gaussian:.4}");
    }
    text
}

fn csv(rows: &[Row]) -> String {
    let mut text = String::from(
        "sigma,snr,log_snr,mmse_per_dimension,mmse_standard_error,information_nats_per_dimension,\
         information_bits_per_dimension,information_bits_standard_error,gaussian_mmse_per_dimension\n",
    );
    for row in rows {
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

/// The squared error against ln λ: of the network, of the best linear estimate, and of the noisy image itself, as far as
/// that is no worse than the first two begin.
fn plot(rows: &[Row], name: &str) -> Result<Tensor> {
    let points = |y: &dyn Fn(&Row) -> Option<f64>| -> Vec<(f64, f64)> {
        rows.iter().filter_map(|row| Some((row.log_snr, y(row)?))).collect()
    };
    let network = points(&|row| Some(row.mmse_per_dimension.value));
    let linear = points(&|row| row.gaussian_mmse_per_dimension);
    let top = network.iter().chain(&linear).map(|point| point.1).fold(0.0, f64::max);
    let itself = points(&|row| Some(1.0 / row.snr).filter(|error| *error <= top));
    let curves = [
        (name.to_owned(), network),
        ("the best linear estimate (Wiener)".to_owned(), linear),
        ("the noisy image itself, 1/λ".to_owned(), itself),
    ];
    let shown: Vec<_> = curves.into_iter().filter(|(_, points)| !points.is_empty()).collect();
    Ok(sheet::curves(
        "squared error per dimension",
        "ln λ, the logarithm of the signal-to-noise ratio 1/σ²",
        (800, 480),
        &shown,
    )?)
}
