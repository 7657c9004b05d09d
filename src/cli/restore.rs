//! `tweedie restore`: data consistency beside the prior.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Mutex,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use tch::{Device, Kind, Tensor};
use tweedie::{
    files::{data::AnyData, images},
    inverse::{
        detectors::{Detector, Measurement},
        likelihood::GaussianLikelihood,
        operators::{AnyTask, Blur, Boundary, Inpaint, LinearOperator, Operator},
        restoration::{self, AnyMethod, Effort, InverseProblem, Method, Walk},
    },
    models::card::Model,
    numbers::plan::ResolvedPlan,
    report::animation::FrameRecorder,
    run::{
        blocks::{self, Block},
        experiment::{self, Restorations, Restoring},
        released::{self, Released},
    },
    scores::{
        analytic::Gaussian,
        denoiser::Denoiser,
        noise::{Noise, Seeded},
        tiled::Tiled,
    },
};

use super::{
    Common, choice,
    classes::{ClassArgs, Classes},
    data,
    guidance::{Cost, GuidanceArgs, Prior},
    images::{Loop, spread},
    restored::{Results, Row, Show},
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
    #[arg(long, value_name = "FILE|DIR", required_unless_present_any = ["measurement", "config"], conflicts_with = "measurement")]
    image: Option<String>,
    /// Only the first so many images of --image
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// A measurement, damaged already: .npy in data units (−1 … 1) or an image
    #[arg(long, value_name = "FILE")]
    measurement: Option<PathBuf>,
    /// What was done to the images: a name that `tweedie tasks` lists, or '{kind: NAME, …}'
    #[arg(long, value_name = "NAME", required_unless_present_any = ["mask", "kernel", "config"])]
    task: Option<String>,
    /// Inpainting with this mask: white (255) marks the pixels that are seen
    #[arg(long, value_name = "FILE", conflicts_with_all = ["task", "kernel"])]
    mask: Option<PathBuf>,
    /// Deblurring with this kernel: a grey image, or .npy [height, width]; it is scaled to sum 1
    #[arg(long, value_name = "FILE", conflicts_with = "task")]
    kernel: Option<PathBuf>,
    /// η: standard deviation of the measurement's noise, for pixels 0 … 1 (data units −1 … 1 see twice that)
    /// [default: 0.05]
    #[arg(long, value_name = "ETA")]
    noise: Option<f64>,
    /// Other noise: '{kind: poisson, rate: 1}' (photons) or '{kind: salt-and-pepper, share: 0.05}'; methods take it for
    /// Gaussian noise of the same variance
    #[arg(long, value_name = "NAME", conflicts_with_all = ["noise", "measurement"])]
    detector: Option<String>,
    /// How to restore: a name that `tweedie methods` lists, or '{kind: NAME, …}'
    /// [default: mmps]
    #[arg(long, value_name = "NAME")]
    method: Option<String>,
    /// A configuration released with Random Walks with Tweedie: its task, η, walk and first state
    #[arg(long, value_name = "FILE.yaml", conflicts_with_all = ["measurement", "task", "mask", "kernel", "noise", "method"])]
    config: Option<PathBuf>,
    /// How many samples of each image's posterior are drawn; their spread is the uncertainty that is shown
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

/// What is to be restored.
pub struct Problem {
    pub names: Vec<String>,
    /// `[count, channels, height, width]`, data units; absent where only the measurement is known.
    pub truth: Option<Tensor>,
    /// `[count, …]`.
    pub measurement: Tensor,
    /// What made it, unless a mask or a kernel did.
    task: Option<AnyTask>,
    pub operator: Operator,
    /// Of the images, `[channels, height, width]`.
    pub shape: [i64; 3],
    /// η in data units.
    pub eta: f64,
}

impl Problem {
    fn linear(&self) -> Result<&dyn LinearOperator> {
        self.operator.linear().context("--baseline: the linear estimate is for linear tasks")
    }
}

/// What flags or a published configuration ask for.
struct Asked {
    method: AnyMethod,
    /// What the user calls it.
    name: String,
    task: Option<AnyTask>,
    /// η for pixels 0 … 1.
    noise: f64,
    image: String,
    published: Option<Released>,
}

/// What is to be done.
#[derive(Clone, Copy)]
struct Work<'a> {
    problem: &'a Problem,
    asked: &'a Asked,
    resolved: &'a ResolvedPlan,
    classes: &'a Classes,
    results: &'a Results<'a>,
}

/// A block of samples, ready for a thread of its own.
struct Job {
    block: Block,
    /// E[X] of each sample's class, `[batch, channels, height, width]`.
    means: Tensor,
    /// One for each piece of the block.
    likelihoods: Vec<GaussianLikelihood>,
}

impl Restore {
    /// The same as on the command line, without a word of prose.
    pub fn new(
        of: &Restorations,
        posed: &experiment::NamedProblem,
        way: &Restoring,
        out: &Path,
        common: &Common,
    ) -> Result<Self> {
        let images = match &of.images {
            AnyData::Folder(folder) => folder.path.display().to_string(),
            other => serde_json::to_string(other)?,
        };
        Ok(Self {
            model: of.model.clone(),
            image: Some(images),
            limit: of.limit,
            measurement: None,
            task: Some(serde_json::to_string(&posed.task)?),
            mask: None,
            kernel: None,
            noise: Some(posed.noise),
            detector: None,
            method: Some(serde_json::to_string(&way.method)?),
            config: None,
            samples: of.samples,
            plan: PlanArgs::new(
                way.sampler.as_ref().map(serde_json::to_string).transpose()?,
                way.schedule.as_ref().map(serde_json::to_string).transpose()?,
                way.steps,
            ),
            class: ClassArgs::default(),
            guidance: GuidanceArgs::default(),
            baseline: None,
            out: out.to_owned(),
            show: Show { features: of.features.clone(), ..Show::default() },
            common: Common { quiet: true, json: false, ..common.clone() },
        })
    }

    pub fn run(&self) -> Result<()> {
        self.restore().map(|_| ())
    }

    /// Restores what is missing; the figures of all images, how many of them are new, and what a sample cost.
    pub fn restore(&self) -> Result<(Vec<Row>, usize, Effort)> {
        if self.samples == 0 {
            bail!("--samples must be at least 1, but is 0");
        }
        let asked = self.asked()?;
        let method = asked.method.get();
        if self.plan.names_sampler() && !method.samples() {
            bail!("--sampler: --method {} goes down the levels in its own way; leave it out", asked.name);
        }
        let (model, device) = self.common.open(&self.model)?;
        let prior = self.guidance.over(model, &self.common, device)?;
        let (model, classes) = (&prior.model, self.class.of(&prior)?);
        if let Some(published) = &asked.published {
            published.network.check(&model.card)?;
        }
        let problem = self.problem(&asked, model, device)?;
        let likelihood = self.likelihood(&problem, &[0])?;
        method.check(&likelihood)?;
        let default = asked.published.as_ref().map(|published| published.plan.clone()).or_else(|| method.plan());
        let plan = self.plan.over(&default.unwrap_or_else(|| model.card.restore.clone()))?;
        let resolved = plan.resolve(model.range(), method.step_limit(&likelihood))?;
        warn(&self.common, model, &plan, &resolved.sigmas);
        let Effort { evaluations, gradients } = method.effort(&resolved);
        self.common.say(format_args!(
            "η = {} for pixels 0 … 1 ({} in data units −1 … 1), {}, {} a sample{}",
            problem.eta / 2.0,
            problem.eta,
            asked.name,
            match cost(&prior, method, &resolved) {
                _ if resolved.scheme.is_adaptive() && method.samples() => "as many evaluations as need be".to_owned(),
                cost => cost.to_string(),
            },
            if gradients == 0 { String::new() } else { format!(" and {gradients} gradients through the network") },
        ));
        let batch = self.common.batch(device, problem.names.len() * self.samples)?;
        let identity = Identity {
            guidance: prior.record()?,
            given: self.given(&problem, &asked)?,
            ..Identity::of(&self.common, model, &classes, &plan, (device, batch))?
        };
        let mut results = Results::new(&self.show, &self.common, &self.out, &problem)?;
        claim(&self.out, &identity)?;
        results.check()?;
        self.save(&asked, &problem)?;
        results.baseline = self.baseline(&problem)?;
        let work = Work { problem: &problem, asked: &asked, resolved: &resolved, classes: &classes, results: &results };
        let new = problem.names.iter().filter(|name| !results.row_file(name).exists()).count();
        self.solve(&prior, &work, (device, batch), evaluations)?;
        let rows = results.report(self.samples, &self.settings(&asked, &problem))?;
        Ok((rows, new, Effort { evaluations, gradients }))
    }

    fn asked(&self) -> Result<Asked> {
        if let Some(path) = &self.config {
            let published = Released::read(path)?;
            let Some(problem) = &published.problem else {
                bail!("{}: draws images freely: it is for `tweedie sample`", path.display());
            };
            return Ok(Asked {
                method: AnyMethod::Walk(Walk { limit: released::Problem::LIMIT }),
                name: "walk".to_owned(),
                task: Some(problem.task.clone()),
                noise: problem.eta / 2.0,
                image: self.image.clone().unwrap_or_else(|| published.images.display().to_string()),
                published: Some(published),
            });
        }
        let noise = self.noise.unwrap_or(0.05);
        if !(noise.is_finite() && noise > 0.0) {
            bail!("--noise must be positive, but is {noise}");
        }
        let name = self.method.clone().unwrap_or_else(|| "mmps".to_owned());
        let task = self.task.as_deref().map(|task| choice(task, "--task")).transpose()?;
        Ok(Asked {
            method: choice(&name, "--method")?,
            name,
            task,
            noise,
            image: self.image.clone().unwrap_or_default(),
            published: None,
        })
    }

    /// All that tells this run from others beside the model and the plan.
    fn given(&self, problem: &Problem, asked: &Asked) -> Result<String> {
        let measurement = images::npy(&problem.measurement)?;
        let rule =
            format!("{} {} {} {}", serde_json::to_string(&asked.method)?, asked.noise, self.samples, self.common.seed);
        Ok(tweedie::models::card::sha256(&[measurement, rule.into_bytes()].concat()))
    }

    /// What a person wants to know of this run beside its record.
    fn settings(&self, asked: &Asked, problem: &Problem) -> Vec<(String, String)> {
        let task = match (&asked.task, &self.mask, &self.kernel) {
            (Some(task), ..) => self.task.clone().or_else(|| serde_json::to_string(task).ok()).unwrap_or_default(),
            (_, Some(mask), _) => format!("inpainting with {}", mask.display()),
            (.., kernel) => format!("deblurring with {}", kernel.as_deref().unwrap_or(Path::new("")).display()),
        };
        let method = asked.name.clone();
        let entries = [
            ("task", task),
            ("η for pixels 0 … 1", (problem.eta / 2.0).to_string()),
            ("η for data units −1 … 1", problem.eta.to_string()),
            ("method", method),
            ("samples", self.samples.to_string()),
        ];
        entries.map(|(name, value)| (name.to_owned(), value)).into()
    }

    /// The measurements for other programs.
    fn save(&self, asked: &Asked, problem: &Problem) -> Result<()> {
        let file = self.out.join("measurement.npz");
        if file.exists() {
            return Ok(());
        }
        let task = match (&asked.task, &self.mask, &self.kernel) {
            (Some(task), ..) => serde_json::to_value(task)?,
            (_, mask, kernel) => serde_json::json!({"mask": mask, "kernel": kernel}),
        };
        let Problem { measurement: y, operator, shape, eta, .. } = problem;
        let task = task.to_string();
        let saved = Measurement { y, task: &task, operator, shape: *shape, eta: *eta, seed: self.common.seed };
        Ok(saved.write_npz(&file)?)
    }

    fn problem(&self, asked: &Asked, model: &Model, device: Device) -> Result<Problem> {
        let (eta, task) = (2.0 * asked.noise, asked.task.clone());
        if let Some(path) = &self.measurement {
            let shape = model.card.image;
            let operator = self.operator(task.as_ref(), shape, device)?;
            let measurement = measurement(path, model)?.to_device(device);
            return Ok(Problem { names: vec![stem(path)], truth: None, measurement, task, operator, shape, eta });
        }
        let (names, truth) = self.truth(asked, model)?;
        let truth = truth.to_device(device);
        let shape = [truth.size()[1], truth.size()[2], truth.size()[3]];
        let operator = self.operator(task.as_ref(), shape, device)?;
        let clean = operator.apply(&truth);
        let seeds: Vec<u64> = (0..names.len() as u64).map(|i| self.common.seed + i).collect();
        let detector = self.detector.as_deref().map(|text| choice(text, "--detector")).transpose()?;
        let measurement = detector.unwrap_or(Detector::Gaussian { eta }).measure(&clean, &seeds)?;
        let eta = match detector {
            None => eta,
            Some(_) => f64::try_from((&measurement - &clean).square().mean(Kind::Double))?.sqrt(),
        };
        if eta == 0.0 {
            bail!("--detector: adds no noise to these images, and without any no method is defined");
        }
        Ok(Problem { names, truth: Some(truth), measurement, task, operator, shape, eta })
    }

    fn operator(&self, task: Option<&AnyTask>, shape: [i64; 3], device: Device) -> Result<Operator> {
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
        let task = task.context("--task: none was given")?;
        Ok(task.get().operator(shape, self.common.seed, device, kind)?)
    }

    /// The images' names and pixels.
    fn truth(&self, asked: &Asked, model: &Model) -> Result<(Vec<String>, Tensor)> {
        let image = asked.image.as_str();
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
        let operator = self.operator(problem.task.as_ref(), problem.shape, device)?;
        Ok(GaussianLikelihood::new(operator, measurement, problem.eta, problem.shape)?)
    }

    /// Draws all samples that are missing; an image is finished, and written, when its last sample is.
    fn solve(&self, prior: &Prior, work: &Work, (device, batch): (Device, u64), evaluations: usize) -> Result<()> {
        let Work { problem, asked, resolved, classes, results } = *work;
        let (method, animate) = (asked.method.get(), self.show.animate);
        let each = self.samples as u64;
        let missing = (0..problem.names.len()).filter(|&i| !results.row_file(&problem.names[i]).exists());
        let seeds: BTreeSet<u64> = missing.flat_map(|i| i as u64 * each..(i as u64 + 1) * each).collect();
        let blocks = blocks::blocks(&seeds, batch);
        let bar = self.common.bar(blocks.len() as u64 * batch * evaluations as u64, "restoring");
        let shift = self.common.seed << 32;
        let sampling = Loop {
            shape: problem.shape,
            start: resolved.sigmas.max(),
            device,
            alone: self.common.deterministic || (resolved.scheme.is_adaptive() && method.samples()),
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
            let init = match &asked.published {
                Some(published) => published.start.states(&means, &Seeded(seeds.clone())),
                None => &means + Seeded(seeds.clone()).like(&means, 0, 0) * sampling.start,
            };
            let filmed = Mutex::new(BTreeMap::new());
            let of =
                |seeds: &[u64]| large(prior, classes.rows(seeds.iter().map(|seed| (seed - shift) / each)).as_deref());
            let x = sampling.images(&seeds, Some(&init), &of, &|i, prior, x, noise, seen| {
                let mut films = films(animate, &noise.0, shift, each);
                let posed = InverseProblem { prior, likelihood: &likelihoods[i], plan: resolved, noise };
                let x = restoration::restore(method, &posed, x, &mut |x| {
                    for (row, _, film) in &mut films {
                        film.take(&x.get(*row));
                    }
                    seen(x)
                })?;
                if let Ok(mut filmed) = filmed.lock() {
                    filmed.extend(films.into_iter().map(|(_, image, film)| (image, film)));
                }
                Ok(x)
            })?;
            Ok((x, block, filmed.into_inner().unwrap_or_default()))
        };
        let mut samples: BTreeMap<usize, BTreeMap<u64, Tensor>> = BTreeMap::new();
        spread(prior, threads, jobs, compute, |(x, block, filmed)| {
            for (image, film) in filmed {
                results.film(image, &film)?;
            }
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
        let mean = prior.posterior_mean(problem.linear()?, &problem.measurement.to_device(Device::Cpu), problem.eta)?;
        Ok(Some(mean))
    }
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
fn cost(prior: &Prior, method: &dyn Method, resolved: &ResolvedPlan) -> Cost {
    if method.samples() {
        return prior.cost(resolved.scheme.asked());
    }
    let times = method.effort(resolved).evaluations / resolved.sigmas.iter().len();
    prior.cost(resolved.sigmas.iter().flat_map(|sigma| std::iter::repeat_n(sigma, times)))
}

/// The films of the first samples among these seeds: row of the batch, number of the image, and what is filmed.
fn films(animate: bool, seeds: &[u64], shift: u64, each: u64) -> Vec<(i64, usize, FrameRecorder)> {
    let seeds = seeds.iter().enumerate().map(|(row, seed)| (row as i64, seed - shift));
    let firsts = seeds.filter(|(_, seed)| animate && seed % each == 0);
    firsts.map(|(row, seed)| (row, (seed / each) as usize, FrameRecorder::default())).collect()
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
