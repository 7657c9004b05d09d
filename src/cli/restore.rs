//! `tweedie restore`: data consistency beside the prior.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use tch::{Device, Kind, Tensor};
use tweedie::{
    blocks::{self, Block},
    card::Model,
    denoiser::{Denoiser, Score},
    exact::Gaussian,
    images,
    likelihood::{Annealed, GaussianLikelihood, Likelihood, Posterior, StepLimit},
    moments::MomentMatching,
    noise::{Noise, Seeded},
    operators::{AnyTask, Blur, Boundary, Inpaint, LinearOperator},
    plan::{Course, Plan},
    scheme::Scheme,
    sigma::Sigmas,
};

use super::{
    Common, choice,
    classes::{ClassArgs, Classes},
    data,
    guidance::{GuidanceArgs, Prior},
    images::{Loop, spread},
    restored::{Results, Show},
    sample::{Identity, PlanArgs, claim, finite, warn},
    workers,
};

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
    /// How the likelihood enters
    #[arg(long, value_enum, default_value = "mmps")]
    method: Method,
    /// Steps of the linear solver in mmps; each costs about one more evaluation
    #[arg(long, default_value_t = 2, value_name = "N")]
    iterations: usize,
    /// The longest step: η²/‖A‖², or the paper's η²
    #[arg(long, value_enum, default_value = "norm")]
    limit_rule: Limit,
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
    show: Show,
    #[command(flatten)]
    common: Common,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Method {
    /// A denoiser that knows the measurement, by matched moments through the network's Jacobian [Rozet et al. 2024]
    Mmps,
    /// The likelihood as broad as the noise of the level, exact from σ = η/‖A‖ on [Jalal et al. 2021]
    Annealed,
    /// The exact likelihood at every level, and steps short enough for it [Random Walks]
    Walk,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Limit {
    Norm,
    Paper,
}

/// What is to be restored.
pub struct Problem {
    pub names: Vec<String>,
    /// `[count, channels, height, width]`, data units; absent where only the measurement is known.
    pub truth: Option<Tensor>,
    /// `[count, …]`.
    pub measurement: Tensor,
    pub operator: Box<dyn LinearOperator>,
    /// η in data units.
    pub eta: f64,
}

/// A block of samples, ready for a thread of its own.
struct Job {
    block: Block,
    /// E[X] of each sample's class, `[batch, channels, height, width]`.
    means: Tensor,
    /// One for each piece of the block.
    likelihoods: Vec<GaussianLikelihood>,
}

/// The posterior of some samples.
struct Restoring<'a> {
    prior: Box<dyn Denoiser + 'a>,
    likelihood: &'a GaussianLikelihood,
    method: Method,
    iterations: usize,
}

impl Restoring<'_> {
    fn with<T>(&self, act: impl FnOnce(&dyn Score) -> T) -> T {
        let Self { prior, likelihood, iterations, .. } = self;
        match self.method {
            Method::Mmps => act(&MomentMatching { prior, likelihood, iterations: *iterations }),
            Method::Annealed => act(&Annealed { prior, likelihood: *likelihood }),
            Method::Walk => act(&Posterior { prior, likelihood: *likelihood }),
        }
    }
}

impl Score for Restoring<'_> {
    fn score(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.with(|score| score.score(x, sigma))
    }

    fn step_limit(&self) -> f64 {
        self.with(|score| score.step_limit())
    }
}

impl Restore {
    pub fn run(&self) -> Result<()> {
        if self.samples == 0 {
            bail!("--samples must be at least 1, but is 0");
        }
        if self.iterations == 0 {
            bail!("--iterations must be at least 1, but is 0");
        }
        if !(self.noise.is_finite() && self.noise > 0.0) {
            bail!("--noise must be positive, but is {}", self.noise);
        }
        let (model, device) = self.common.open(&self.model)?;
        let prior = self.guidance.over(model, &self.common, device)?;
        let (model, classes) = (&prior.model, self.class.of(&prior)?);
        let problem = self.problem(model, device)?;
        let plan = match self.method {
            Method::Mmps => self.plan.over(&model.card.restore)?,
            Method::Annealed => self.plan.over(&Plan::annealed_posterior())?,
            Method::Walk => self.plan.over(&Plan::exact_posterior())?,
        };
        let likelihood = self.likelihood(model, &problem, &[0])?;
        let limit = likelihood.step_limit();
        let posterior = self.posterior(&prior, &likelihood, classes.rows([0]).as_deref());
        let Course { sigmas, scheme, .. } = plan.course(model.range(), posterior.step_limit())?;
        warn(&self.common, model, &plan, &sigmas);
        self.common.say(format_args!(
            "η = {} for pixels 0 … 1 ({} in data units −1 … 1), {}, {} a sample",
            self.noise,
            problem.eta,
            match self.method {
                Method::Mmps => format!("{} solver steps a level", self.iterations),
                Method::Annealed => format!("the likelihood exact from σ = {:.3}", limit.sqrt()),
                Method::Walk => format!("τ ≤ {limit:.3e}"),
            },
            match prior.cost(scheme.asked()) {
                _ if scheme.is_adaptive() => "as many evaluations as need be for".to_owned(),
                cost => cost.to_string(),
            }
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
            given: self.given(&problem)?,
        };
        let mut results = Results::new(&self.show, &self.common, &self.out, &problem)?;
        claim(&self.out, &identity)?;
        results.check()?;
        results.baseline = self.baseline(&problem)?;
        self.solve(&prior, &problem, (&sigmas, &scheme), &classes, (device, batch), &results)?;
        results.report(self.samples, &self.settings())
    }

    /// All that tells this run from others beside the model and the plan.
    fn given(&self, problem: &Problem) -> Result<String> {
        let measurement = images::npy(&problem.measurement)?;
        let rule = format!(
            "{:?} {} {:?} {} {} {}",
            self.method, self.iterations, self.limit_rule, self.noise, self.samples, self.common.seed
        );
        Ok(tweedie::card::sha256(&[measurement, rule.into_bytes()].concat()))
    }

    /// What a person wants to know of this run beside its record.
    fn settings(&self) -> Vec<(String, String)> {
        let task = match (&self.task, &self.mask, &self.kernel) {
            (Some(task), ..) => task.clone(),
            (_, Some(mask), _) => format!("inpainting with {}", mask.display()),
            (.., kernel) => format!("deblurring with {}", kernel.as_deref().unwrap_or(Path::new("")).display()),
        };
        let method = format!("{:?}", self.method).to_lowercase();
        let entries =
            [("task", task), ("η", self.noise.to_string()), ("method", method), ("samples", self.samples.to_string())];
        entries.map(|(name, value)| (name.to_owned(), value)).into()
    }

    fn problem(&self, model: &Model, device: Device) -> Result<Problem> {
        let operator = self.operator(model, device)?;
        let eta = 2.0 * self.noise;
        if let Some(path) = &self.measurement {
            let measurement = measurement(path, model)?.to_device(device);
            let names = vec![stem(path)];
            return Ok(Problem { names, truth: None, measurement, operator, eta });
        }
        let (names, truth) = self.truth(model)?;
        let truth = truth.to_device(device);
        let clean = operator.apply(&truth);
        let seeds = (0..names.len() as u64).map(|i| self.common.seed + i).collect();
        let measurement = &clean + Seeded(seeds).like(&clean, 0, 1) * eta;
        Ok(Problem { names, truth: Some(truth), measurement, operator, eta })
    }

    fn operator(&self, model: &Model, device: Device) -> Result<Box<dyn LinearOperator>> {
        let (shape, kind) = (model.card.image, Kind::Float);
        if let Some(path) = &self.mask {
            let mask = images::read(path, 1)?.get(0).ge(128).to_kind(kind).to_device(device);
            let inpaint = Inpaint::new(&mask, shape).with_context(|| path.display().to_string())?;
            return Ok(Box::new(inpaint));
        }
        if let Some(path) = &self.kernel {
            let blur = Blur::new(&kernel(path)?, shape, Boundary::Reflect, device, kind)
                .with_context(|| path.display().to_string())?;
            return Ok(Box::new(blur));
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
        let read = |file: &PathBuf| {
            let pixels = images::from_bytes(&images::read(file, model.card.image[0])?).unsqueeze(0);
            fits(&pixels, model, file)?;
            Ok(pixels)
        };
        let pixels = files.iter().map(read).collect::<Result<Vec<_>>>()?;
        Ok((files.iter().map(|file| stem(file)).collect(), Tensor::cat(&pixels, 0)))
    }

    /// The likelihood of the images to which these samples belong, with an operator of its own.
    fn likelihood(&self, model: &Model, problem: &Problem, seeds: &[u64]) -> Result<GaussianLikelihood> {
        let last = problem.names.len() as u64 - 1;
        let of: Vec<i64> = seeds.iter().map(|seed| (seed / self.samples as u64).min(last) as i64).collect();
        let device = problem.measurement.device();
        let measurement = problem.measurement.index_select(0, &Tensor::from_slice(&of).to_device(device));
        let rule = match self.limit_rule {
            Limit::Norm => StepLimit::Norm,
            Limit::Paper => StepLimit::Paper,
        };
        let operator = self.operator(model, device)?;
        Ok(GaussianLikelihood::new(operator, measurement, problem.eta, model.card.image)?.with_limit(rule))
    }

    fn posterior<'a>(
        &self,
        prior: &'a Prior,
        likelihood: &'a GaussianLikelihood,
        classes: Option<&[i64]>,
    ) -> Restoring<'a> {
        Restoring { prior: prior.of(classes), likelihood, method: self.method, iterations: self.iterations }
    }

    /// Draws all samples that are missing; an image is finished, and written, when its last sample is.
    fn solve(
        &self,
        prior: &Prior,
        problem: &Problem,
        (sigmas, scheme): (&Sigmas, &Scheme),
        classes: &Classes,
        (device, batch): (Device, u64),
        results: &Results,
    ) -> Result<()> {
        let each = self.samples as u64;
        let missing = (0..problem.names.len()).filter(|&i| !results.row_file(&problem.names[i]).exists());
        let seeds: BTreeSet<u64> = missing.flat_map(|i| i as u64 * each..(i as u64 + 1) * each).collect();
        let blocks = blocks::blocks(&seeds, batch);
        let bar = self.common.bar(blocks.len() as u64 * batch * scheme.0.len() as u64, "restoring");
        let shift = self.common.seed << 32;
        let sampling = Loop {
            scheme,
            shape: prior.model.card.image,
            start: sigmas.max(),
            device,
            deterministic: self.common.deterministic,
            bar: &bar,
            asked: Mutex::default(),
        };
        let mut known: BTreeMap<Option<i64>, Tensor> = BTreeMap::new();
        let mut mean_of = |seed: &u64| {
            let class = classes.at(seed / each);
            known.entry(class).or_insert_with(|| mean_image(prior, class, device)).shallow_clone()
        };
        let threads = workers(device, blocks.len());
        let jobs = blocks.into_iter().map(|block| {
            let pieces = sampling.pieces(&block.seeds);
            let likelihoods =
                pieces.map(|seeds| self.likelihood(&prior.model, problem, seeds)).collect::<Result<_>>()?;
            let means = Tensor::cat(&block.seeds.iter().map(&mut mean_of).collect::<Vec<_>>(), 0);
            Ok(Job { block, means, likelihoods })
        });
        let compute = |prior: &Prior, Job { block, means, likelihoods }: Job| {
            let seeds: Vec<u64> = block.seeds.iter().map(|seed| seed + shift).collect();
            let init = &means + Seeded(seeds.clone()).like(&means, 0, 0) * sampling.start;
            let score = |i: usize, seeds: &[u64]| -> Box<dyn Score + '_> {
                let classes = classes.rows(seeds.iter().map(|seed| (seed - shift) / each));
                Box::new(self.posterior(prior, &likelihoods[i], classes.as_deref()))
            };
            Ok((sampling.images(&seeds, Some(&init), &score)?, block))
        };
        let mut samples: BTreeMap<usize, BTreeMap<u64, Tensor>> = BTreeMap::new();
        spread(prior, threads, jobs, compute, |(x, block)| {
            for &i in &block.wanted {
                let image = (block.seeds[i] / each) as usize;
                let drawn = samples.entry(image).or_default();
                drawn.insert(block.seeds[i], x.get(i as i64));
                if drawn.len() == self.samples {
                    let drawn: Vec<Tensor> = samples.remove(&image).unwrap_or_default().into_values().collect();
                    results.finish(image, &Tensor::stack(&drawn, 0))?;
                }
            }
            Ok(())
        })?;
        bar.finish_and_clear();
        Ok(())
    }

    /// E[X | y] of a Gaussian fitted to the images of `--baseline`.
    fn baseline(&self, problem: &Problem) -> Result<Option<Tensor>> {
        let Some(text) = &self.baseline else { return Ok(None) };
        let data = data(text, problem.measurement.size()[1], "--baseline")?.load()?;
        let all: Vec<usize> = (0..data.count()).collect();
        let prior = Gaussian::fit(&data.batch(&all))?;
        let mean =
            prior.posterior_mean(&*problem.operator, &problem.measurement.to_device(Device::Cpu), problem.eta)?;
        Ok(Some(mean))
    }
}

/// E[X] of a class, `[1, channels, height, width]`: what the prior answers where noise hides everything.
///
/// Walks for posteriors begin at this image with noise of the first level: none of their few steps is then spent on
/// finding out what all images have in common.
fn mean_image(prior: &Prior, class: Option<i64>, device: Device) -> Tensor {
    let model = &prior.model;
    let [channels, height, width] = model.card.image;
    let (_, sigma) = model.range();
    let blank = Tensor::zeros([1, channels, height, width], (Kind::Float, device));
    let noise = Seeded(vec![0]).like(&blank, 0, 0) * model.denoiser.precondition.start(sigma);
    let class = class.map(|class| [class]);
    tch::no_grad(|| prior.of(class.as_ref().map(<[i64; 1]>::as_slice)).denoise(&noise, sigma))
}

fn stem(path: &Path) -> String {
    path.file_stem().map_or_else(|| "image".to_owned(), |stem| stem.to_string_lossy().into_owned())
}

/// Refuses images of another size than the model's.
fn fits(pixels: &Tensor, model: &Model, path: &Path) -> Result<()> {
    let (size, [channels, height, width]) = (pixels.size(), model.card.image);
    if size[1..] != model.card.image {
        let cause = format!("{}×{}×{}", size[1], size[2], size[3]);
        bail!(
            "{}: is {cause}, but {} takes {channels}×{height}×{width}: pad or resize it",
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
