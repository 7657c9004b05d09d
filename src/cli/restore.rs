//! `tweedie restore`: data consistency beside the prior.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};
use tweedie::{
    blocks::{self, Block},
    card::Model,
    denoiser::Denoiser,
    exact::Gaussian,
    images,
    likelihood::GaussianLikelihood,
    metrics::psnr,
    noise::{Noise, Seeded},
    operators::{AnyTask, Blur, Boundary, Inpaint, LinearOperator, Operator},
    plan::Course,
    restoration::{self, AnyMethod, Effort, Method, Posed},
    sheet,
    tiled::Tiled,
};

use super::{
    Common, choice,
    classes::{ClassArgs, Classes},
    data,
    guidance::{Cost, GuidanceArgs, Prior},
    images::{Loop, spread},
    sample::{Identity, PlanArgs, claim, finite, warn},
    workers,
};

/// Most samples of an image on the contact sheet.
const SHOWN: usize = 8;

/// Restore damaged images: samples of the posterior, their mean and their standard deviation
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie restore fashion-mnist --image photo.png --task inpaint-random --samples 8
  tweedie restore fashion-mnist --image photos/ --task '{kind: inpaint-random, hidden: 0.9}' --noise 0.1
  tweedie restore fashion-mnist --image photos/ --task deblur-gaussian --noise 0.05
  tweedie restore fashion-mnist --measurement y.npy --mask mask.png --noise 0.05
Images are damaged first (y = A x + η n), so that PSNR can be told; --measurement takes what is damaged already.")]
pub struct Restore {
    #[arg(help = super::MODEL)]
    model: String,
    /// An image, a folder of images, or '{kind: idx, images: FILE, pad: 2}'
    #[arg(long, value_name = "FILE|DIR", required_unless_present = "measurement", conflicts_with = "measurement")]
    image: Option<String>,
    /// Only the first so many images
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// A measurement, damaged already: .npy in data units (−1 … 1) or an image
    #[arg(long, value_name = "FILE")]
    measurement: Option<PathBuf>,
    /// A name that `tweedie tasks` lists, or '{kind: NAME, …}'
    #[arg(long, value_name = "NAME", required_unless_present_any = ["mask", "kernel"])]
    task: Option<String>,
    /// Inpainting with this mask: white (255) marks the pixels that are seen
    #[arg(long, value_name = "FILE", conflicts_with_all = ["task", "kernel"])]
    mask: Option<PathBuf>,
    /// Deblurring with this kernel: a grey image, or .npy [height, width]; it is scaled to sum 1
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    kernel: Option<PathBuf>,
    /// η: standard deviation of the measurement's noise, for pixels 0 … 1 (data units −1 … 1 see twice that)
    #[arg(long, default_value_t = 0.05, value_name = "ETA")]
    noise: f64,
    /// A name that `tweedie methods` lists, or '{kind: NAME, …}'
    #[arg(long, default_value = "mmps", value_name = "NAME")]
    method: String,
    /// Samples of each posterior
    #[arg(long, default_value_t = 8, value_name = "S")]
    samples: usize,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    class: ClassArgs,
    #[command(flatten)]
    guidance: GuidanceArgs,
    /// Compare with the linear estimate of a Gaussian prior fitted to these images: DIR or '{kind: idx, …}'
    #[arg(long, value_name = "DATA")]
    baseline: Option<String>,
    /// Where the results go
    #[arg(long, default_value = "out/restored", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// What is to be restored.
struct Problem {
    names: Vec<String>,
    /// `[count, channels, height, width]`, data units; absent where only the measurement is known.
    truth: Option<Tensor>,
    /// `[count, …]`.
    measurement: Tensor,
    operator: Operator,
    /// Of the images, `[channels, height, width]`.
    shape: [i64; 3],
    /// η in data units.
    eta: f64,
}

impl Problem {
    fn linear(&self) -> Result<&dyn LinearOperator> {
        self.operator.linear().context("--baseline: the linear estimate is for linear tasks")
    }
}

/// What is to be done.
#[derive(Clone, Copy)]
struct Work<'a> {
    problem: &'a Problem,
    method: &'a dyn Method,
    course: &'a Course,
    classes: &'a Classes,
    baseline: Option<&'a Tensor>,
}

/// A block of samples, ready for a thread of its own.
struct Job {
    block: Block,
    /// E[X] of each sample's class, `[batch, channels, height, width]`.
    means: Tensor,
    /// One for each piece of the block.
    likelihoods: Vec<GaussianLikelihood>,
}

/// What is told of one image.
#[derive(Deserialize, Serialize)]
struct Row {
    name: String,
    /// ‖y − A x‖ / (η √m), averaged over the samples: 1 where the samples fit the measurement as they should.
    residual: f64,
    truth: Option<Compared>,
}

/// PSNR in dB, and how honest the spread is.
#[derive(Deserialize, Serialize)]
struct Compared {
    measurement: f64,
    sample: f64,
    mean: f64,
    baseline: Option<f64>,
    /// Share of the pixels that lie within two standard deviations of the mean.
    coverage: f64,
}

impl Restore {
    pub fn run(&self) -> Result<()> {
        if self.samples == 0 {
            bail!("--samples must be at least 1, but is 0");
        }
        if !(self.noise.is_finite() && self.noise > 0.0) {
            bail!("--noise must be positive, but is {}", self.noise);
        }
        let chosen: AnyMethod = choice(&self.method, "--method")?;
        let method = chosen.get();
        if self.plan.names_sampler() && !method.samples() {
            bail!("--sampler: --method {} goes down the levels in its own way; leave it out", self.method);
        }
        let (model, device) = self.common.open(&self.model)?;
        let prior = self.guidance.over(model, &self.common, device)?;
        let (model, classes) = (&prior.model, self.class.of(&prior)?);
        let problem = self.problem(model, device)?;
        let likelihood = self.likelihood(&problem, &[0])?;
        method.check(&likelihood)?;
        let plan = self.plan.over(&method.plan().unwrap_or_else(|| model.card.restore.clone()))?;
        let course = plan.course(model.range(), method.step_limit(&likelihood))?;
        warn(&self.common, model, &plan, &course.sigmas);
        let Effort { evaluations, gradients } = method.effort(&course);
        self.common.say(format_args!(
            "η = {} for pixels 0 … 1 ({} in data units −1 … 1), {}, {} a sample{}",
            self.noise,
            problem.eta,
            self.method,
            match cost(&prior, method, &course) {
                _ if course.scheme.is_adaptive() && method.samples() => "as many evaluations as need be".to_owned(),
                cost => cost.to_string(),
            },
            if gradients == 0 { String::new() } else { format!(" and {gradients} gradients through the network") },
        ));
        let batch = self.common.batch(device, problem.names.len() * self.samples)?;
        let identity = Identity {
            version: env!("CARGO_PKG_VERSION"),
            model: &model.card.name,
            sha256: model.sha256()?,
            card: self.common.card_hash()?,
            set: &self.common.set,
            classes: classes.list(),
            guidance: prior.record()?,
            plan: &plan,
            batch: (!self.common.deterministic).then_some(batch),
            device: if device.is_cuda() { "cuda" } else { "cpu" },
            precision: format!("{:?}", self.common.precision).to_lowercase(),
            given: self.given(&problem, &chosen)?,
        };
        claim(&self.out, &identity)?;
        let baseline = self.baseline(&problem)?;
        let work = Work { problem: &problem, method, course: &course, classes: &classes, baseline: baseline.as_ref() };
        self.solve(&prior, &work, (device, batch), evaluations)?;
        self.report(&problem, baseline.as_ref())
    }

    /// All that tells this run from others beside the model and the plan.
    fn given(&self, problem: &Problem, method: &AnyMethod) -> Result<String> {
        let measurement = images::npy(&problem.measurement)?;
        let rule = format!("{} {} {} {}", serde_json::to_string(method)?, self.noise, self.samples, self.common.seed);
        Ok(tweedie::card::sha256(&[measurement, rule.into_bytes()].concat()))
    }

    fn problem(&self, model: &Model, device: Device) -> Result<Problem> {
        let eta = 2.0 * self.noise;
        if let Some(path) = &self.measurement {
            let shape = model.card.image;
            let operator = self.operator(shape, device)?;
            let measurement = measurement(path, model)?.to_device(device);
            return Ok(Problem { names: vec![stem(path)], truth: None, measurement, operator, shape, eta });
        }
        let (names, truth) = self.truth(model)?;
        let truth = truth.to_device(device);
        let shape = [truth.size()[1], truth.size()[2], truth.size()[3]];
        let operator = self.operator(shape, device)?;
        let clean = operator.apply(&truth);
        let seeds = (0..names.len() as u64).map(|i| self.common.seed + i).collect();
        let measurement = &clean + Seeded(seeds).like(&clean, 0, 1) * eta;
        Ok(Problem { names, truth: Some(truth), measurement, operator, shape, eta })
    }

    fn operator(&self, shape: [i64; 3], device: Device) -> Result<Operator> {
        let kind = Kind::Float;
        if let Some(path) = &self.mask {
            let mask = images::read(path, 1)?.get(0).ge(128).to_kind(kind).to_device(device);
            let inpaint = Inpaint::new(&mask, shape).with_context(|| path.display().to_string())?;
            return Ok(inpaint.into());
        }
        if let Some(path) = &self.kernel {
            let blur = Blur::new(&kernel(path)?, shape, Boundary::Reflect, device, kind)
                .with_context(|| path.display().to_string())?;
            return Ok(blur.into());
        }
        let task: AnyTask = choice(self.task.as_deref().unwrap_or_default(), "--task")?;
        Ok(task.get().operator(shape, self.common.seed, device, kind)?)
    }

    /// The images' names and pixels.
    fn truth(&self, model: &Model) -> Result<(Vec<String>, Tensor)> {
        let image = self.image.as_deref().unwrap_or_default();
        let limit = self.limit.unwrap_or(usize::MAX);
        if image.starts_with('{') {
            let data = data(image, model.card.image[0], "--image")?.load()?;
            let indices: Vec<usize> = (0..data.count().min(limit)).collect();
            let pixels = data.batch(&indices);
            fits(&pixels, model, Path::new("--image"))?;
            return Ok((indices.iter().map(|i| format!("{i:05}")).collect(), pixels));
        }
        let path = Path::new(image);
        let files = if path.is_dir() { images::files(path)? } else { vec![path.to_owned()] };
        let files = &files[..files.len().min(limit)];
        let mut pixels: Vec<Tensor> = Vec::new();
        for file in files {
            let image = images::from_bytes(&images::read(file, model.card.image[0])?).unsqueeze(0);
            fits(&image, model, file)?;
            if pixels.first().is_some_and(|first| first.size() != image.size()) {
                bail!("{}: has another size than the image before it: restore them one by one", file.display());
            }
            pixels.push(image);
        }
        Ok((files.iter().map(|file| stem(file)).collect(), Tensor::cat(&pixels, 0)))
    }

    /// The likelihood of the images to which these samples belong, with an operator of its own.
    fn likelihood(&self, problem: &Problem, seeds: &[u64]) -> Result<GaussianLikelihood> {
        let last = problem.names.len() as u64 - 1;
        let of: Vec<i64> = seeds.iter().map(|seed| (seed / self.samples as u64).min(last) as i64).collect();
        let device = problem.measurement.device();
        let measurement = problem.measurement.index_select(0, &Tensor::from_slice(&of).to_device(device));
        let operator = self.operator(problem.shape, device)?;
        Ok(GaussianLikelihood::new(operator, measurement, problem.eta, problem.shape)?)
    }

    /// Draws all samples that are missing; an image is finished, and written, when its last sample is.
    fn solve(&self, prior: &Prior, work: &Work, (device, batch): (Device, u64), evaluations: usize) -> Result<()> {
        let Work { problem, method, course, classes, baseline } = *work;
        let each = self.samples as u64;
        let missing = (0..problem.names.len()).filter(|&i| !self.row_file(&problem.names[i]).exists());
        let seeds: BTreeSet<u64> = missing.flat_map(|i| i as u64 * each..(i as u64 + 1) * each).collect();
        let blocks = blocks::blocks(&seeds, batch);
        let bar = self.common.bar(blocks.len() as u64 * batch * evaluations as u64, "restoring");
        let shift = self.common.seed << 32;
        let sampling = Loop {
            shape: problem.shape,
            start: course.sigmas.max(),
            device,
            alone: self.common.deterministic || (course.scheme.is_adaptive() && method.samples()),
            bar: &bar,
            asked: None,
        };
        let mut known: BTreeMap<Option<i64>, Tensor> = BTreeMap::new();
        let mut mean_of = |seed: &u64| {
            let class = classes.at(seed / each);
            known.entry(class).or_insert_with(|| mean_image(prior, class, problem.shape, device)).shallow_clone()
        };
        let threads = workers(device, blocks.len());
        let jobs = blocks.into_iter().map(|block| {
            let pieces = sampling.pieces(&block.seeds);
            let likelihoods = pieces.map(|seeds| self.likelihood(problem, seeds)).collect::<Result<_>>()?;
            let means = Tensor::cat(&block.seeds.iter().map(&mut mean_of).collect::<Vec<_>>(), 0);
            Ok(Job { block, means, likelihoods })
        });
        let compute = |prior: &Prior, Job { block, means, likelihoods }: Job| {
            let seeds: Vec<u64> = block.seeds.iter().map(|seed| seed + shift).collect();
            let init = &means + Seeded(seeds.clone()).like(&means, 0, 0) * sampling.start;
            let of =
                |seeds: &[u64]| large(prior, classes.rows(seeds.iter().map(|seed| (seed - shift) / each)).as_deref());
            let x = sampling.images(&seeds, Some(&init), &of, &|i, prior, x, noise, seen| {
                restoration::restore(method, &Posed { prior, likelihood: &likelihoods[i], course, noise }, x, seen)
            })?;
            Ok((x, block))
        };
        let mut samples: BTreeMap<usize, BTreeMap<u64, Tensor>> = BTreeMap::new();
        spread(prior, threads, jobs, compute, |(x, block)| {
            for &i in &block.wanted {
                let image = (block.seeds[i] / each) as usize;
                let drawn = samples.entry(image).or_default();
                drawn.insert(block.seeds[i], x.get(i as i64));
                if drawn.len() == self.samples {
                    let drawn: Vec<Tensor> = samples.remove(&image).unwrap_or_default().into_values().collect();
                    self.finish(problem, image, &Tensor::stack(&drawn, 0), baseline)?;
                }
            }
            Ok(())
        })?;
        bar.finish_and_clear();
        Ok(())
    }

    /// Writes the pictures of one image, then its row, which says that it is done.
    fn finish(&self, problem: &Problem, i: usize, samples: &Tensor, baseline: Option<&Tensor>) -> Result<()> {
        let name = &problem.names[i];
        let (mean, spread) = moments(samples);
        let y = problem.measurement.narrow(0, i as i64, 1);
        let seen = problem.operator.apply(&samples.to_device(y.device()));
        let residual = f64::try_from((&y - seen).square().mean(Kind::Double))?.sqrt() / problem.eta;
        let truth = problem.truth.as_ref().map(|truth| truth.get(i as i64).to_device(Device::Cpu));
        let write = |what: &str, x: &Tensor| images::write_png(&self.file(name, what), &images::to_bytes(x));
        for s in 0..samples.size()[0] {
            write(&format!("sample-{s:03}"), &samples.get(s))?;
        }
        write("mean", &mean)?;
        write("std", &(&spread * STD_GAIN - 1.0))?;
        write("measurement", &y.get(0).to_device(Device::Cpu))?;
        if let Some(truth) = &truth {
            write("truth", truth)?;
        }
        if let Some(baseline) = baseline {
            write("baseline", &baseline.get(i as i64))?;
        }
        let compared = truth.map(|truth| {
            let psnr = |x: &Tensor| psnr(&images::to_unit(x), &images::to_unit(&truth.unsqueeze(0)));
            let within = (&mean - &truth).abs().le_tensor(&(&spread * 2.0)).to_kind(Kind::Double);
            let each = psnr(samples);
            Compared {
                measurement: psnr(&enlarged(&y, &truth).to_device(Device::Cpu))[0],
                sample: each.iter().sum::<f64>() / each.len() as f64,
                mean: psnr(&mean.unsqueeze(0))[0],
                baseline: baseline.map(|baseline| psnr(&baseline.get(i as i64).unsqueeze(0))[0]),
                coverage: f64::try_from(within.mean(Kind::Double)).unwrap_or(f64::NAN),
            }
        });
        let row = Row { name: name.clone(), residual, truth: compared };
        Ok(images::write_whole(&self.row_file(name), &serde_json::to_vec_pretty(&row)?)?)
    }

    fn file(&self, name: &str, what: &str) -> PathBuf {
        self.out.join(format!("{name}-{what}.png"))
    }

    fn row_file(&self, name: &str) -> PathBuf {
        self.out.join(format!("{name}.json"))
    }

    /// E[X | y] of a Gaussian fitted to the images of `--baseline`.
    fn baseline(&self, problem: &Problem) -> Result<Option<Tensor>> {
        let Some(text) = &self.baseline else { return Ok(None) };
        let data = data(text, problem.measurement.size()[1], "--baseline")?.load()?;
        let all: Vec<usize> = (0..data.count()).collect();
        let prior = Gaussian::fit(&data.batch(&all))?;
        let mean = prior.posterior_mean(problem.linear()?, &problem.measurement.to_device(Device::Cpu), problem.eta)?;
        Ok(Some(mean))
    }

    /// The table, the contact sheet and the record.
    fn report(&self, problem: &Problem, baseline: Option<&Tensor>) -> Result<()> {
        let rows: Vec<Row> = problem.names.iter().map(|name| row(&self.row_file(name))).collect::<Result<_>>()?;
        let table = table(&rows);
        images::write_whole(&self.out.join("table.md"), table.as_bytes())?;
        let sheet = self.sheet(problem, baseline.is_some())?;
        self.common.say(table);
        self.common.say(format_args!("pictures in {}, all on one sheet in {}", self.out.display(), sheet.display()));
        self.common.record(&serde_json::json!({"out": self.out, "sheet": sheet, "rows": rows}))
    }

    fn sheet(&self, problem: &Problem, baseline: bool) -> Result<PathBuf> {
        let mut columns = vec![("truth".to_owned(), "truth".to_owned()), pair("measurement")];
        if problem.truth.is_none() {
            columns.remove(0);
        }
        if baseline {
            columns.push(pair("baseline"));
        }
        let samples = self.samples.min(SHOWN);
        columns.extend((0..samples).map(|s| (format!("sample {}", s + 1), format!("sample-{s:03}"))));
        columns.extend([pair("mean"), ("2 × std".to_owned(), "std".to_owned())]);
        let row = |name: &String| -> Result<(String, Vec<Tensor>)> {
            let read = |(_, what): &(String, String)| images::read_as_is(&self.file(name, what));
            Ok((name.clone(), columns.iter().map(read).collect::<Result<_, _>>()?))
        };
        let rows = problem.names.iter().take(16).map(row).collect::<Result<Vec<_>>>()?;
        let headings: Vec<String> = columns.iter().map(|(heading, _)| heading.clone()).collect();
        let path = self.out.join("sheet.png");
        images::write_png(&path, &sheet::sheet(&headings, &rows)?)?;
        Ok(path)
    }
}

/// A standard deviation of s data units is drawn as the grey s · STD_GAIN on a scale from 0 to 2: white is 1.
const STD_GAIN: f64 = 2.0;

fn pair(what: &str) -> (String, String) {
    (what.to_owned(), what.to_owned())
}

/// E[X] of a class, `[1, channels, height, width]`: what the prior answers where noise hides everything.
///
/// Walks for posteriors begin at this image with noise of the first level: none of their few steps is then spent on
/// finding out what all images have in common.
fn mean_image(prior: &Prior, class: Option<i64>, [channels, height, width]: [i64; 3], device: Device) -> Tensor {
    let model = &prior.model;
    let (_, sigma) = model.range();
    let blank = Tensor::zeros([1, channels, height, width], (Kind::Float, device));
    let noise = Seeded(vec![0]).like(&blank, 0, 0) * model.denoiser.precondition.start(sigma);
    let class = class.map(|class| [class]);
    tch::no_grad(|| large(prior, class.as_ref().map(<[i64; 1]>::as_slice)).denoise(&noise, sigma))
}

/// D for images at least as large as the network's.
fn large<'a>(prior: &'a Prior, classes: Option<&[i64]>) -> Box<dyn Denoiser + 'a> {
    let [_, height, width] = prior.model.card.image;
    Box::new(Tiled::new(prior.of(classes), [height, width]))
}

/// What an image costs with the answers that guidance takes.
fn cost(prior: &Prior, method: &dyn Method, course: &Course) -> Cost {
    if method.samples() {
        return prior.cost(course.scheme.asked());
    }
    let times = method.effort(course).evaluations / course.sigmas.iter().len();
    prior.cost(course.sigmas.iter().flat_map(|sigma| std::iter::repeat_n(sigma, times)))
}

/// Mean and standard deviation over the samples; one sample has no spread.
fn moments(samples: &Tensor) -> (Tensor, Tensor) {
    let mean = samples.mean_dim([0i64].as_slice(), false, None);
    let count = samples.size()[0];
    let squares = (samples - &mean).square().sum_dim_intlist([0i64].as_slice(), false, None);
    (mean, (squares / (count - 1).max(1) as f64).sqrt())
}

/// A measurement in the size of the image, by repeated pixels.
fn enlarged(y: &Tensor, truth: &Tensor) -> Tensor {
    let size = truth.size();
    if y.size()[1..] == size { y.shallow_clone() } else { y.upsample_nearest2d([size[1], size[2]], None, None) }
}

fn row(path: &Path) -> Result<Row> {
    let text = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    serde_json::from_slice(&text).with_context(|| format!("{}: not a row of this table", path.display()))
}

/// One figure of a row.
type Pick = fn(&Row) -> Option<f64>;

/// PSNR of every image and the median of each column, as Markdown.
fn table(rows: &[Row]) -> String {
    let mut text = String::from("| image | measurement | sample | mean | baseline | coverage | residual |\n");
    text += "| --- | --- | --- | --- | --- | --- | --- |\n";
    let number = |value: Option<f64>, digits: usize| value.map_or("–".to_owned(), |v| format!("{v:.digits$}"));
    let mut line = |name: &str, column: &dyn Fn(Pick) -> Option<f64>| {
        let _ = writeln!(
            text,
            "| {name} | {} | {} | {} | {} | {} | {} |",
            number(column(|r| Some(r.truth.as_ref()?.measurement)), 2),
            number(column(|r| Some(r.truth.as_ref()?.sample)), 2),
            number(column(|r| Some(r.truth.as_ref()?.mean)), 2),
            number(column(|r| r.truth.as_ref()?.baseline), 2),
            number(column(|r| Some(r.truth.as_ref()?.coverage)), 3),
            number(column(|r| Some(r.residual)), 3),
        );
    };
    for row in rows.iter().take(32) {
        line(&row.name, &|pick| pick(row));
    }
    line("**median**", &|pick| median(rows.iter().filter_map(pick).collect()));
    let gain = |row: &Row| row.truth.as_ref().and_then(|truth| Some(truth.mean - truth.baseline?));
    if let Some(gain) = median(rows.iter().filter_map(gain).collect()) {
        let _ = writeln!(text, "\nOf each image: the mean is {gain:.2} dB above the baseline in the median.");
    }
    text + "\nPSNR in dB for pixels 0 … 1; coverage: pixels within ±2 standard deviations of the mean; \
            residual: ‖y − A x‖ of the samples over what η predicts."
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "image".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Refuses images that are smaller than the model's, or have other channels.
fn fits(pixels: &Tensor, model: &Model, path: &Path) -> Result<()> {
    let (size, [channels, height, width]) = (pixels.size(), model.card.image);
    if size[1] != channels || size[2] < height || size[3] < width {
        let cause = format!("{}×{}×{}", size[1], size[2], size[3]);
        bail!(
            "{}: is {cause}, but {} takes {channels}×{height}×{width} or larger images of as many channels: pad or resize it",
            path.display(),
            model.card.name
        );
    }
    Ok(())
}

fn measurement(path: &Path, model: &Model) -> Result<Tensor> {
    if path.extension().is_none_or(|e| e != "npy") {
        return Ok(images::from_bytes(&images::read(path, model.card.image[0])?).unsqueeze(0));
    }
    let y = Tensor::read_npy(path).with_context(|| format!("{}: not a readable .npy file", path.display()))?;
    finite(&y, path)?;
    let y = if y.dim() == 3 { y.unsqueeze(0) } else { y };
    if y.dim() != 4 || y.size()[0] != 1 {
        bail!("{}: is {:?}, but one measurement [1, channels, height, width] is wanted", path.display(), y.size());
    }
    Ok(y.to_kind(Kind::Float))
}

fn kernel(path: &Path) -> Result<Tensor> {
    if path.extension().is_none_or(|e| e != "npy") {
        return Ok(images::read(path, 1)?.get(0).to_kind(Kind::Double));
    }
    let kernel = Tensor::read_npy(path).with_context(|| format!("{}: not a readable .npy file", path.display()))?;
    finite(&kernel, path)?;
    Ok(kernel.to_kind(Kind::Double))
}
