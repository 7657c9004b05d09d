//! Restoration of images from measurements: samples of the posterior, their mean and their standard deviation.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
    sync::{Mutex, PoisonError},
};

use serde::Serialize;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{
    blocks::{self, Block},
    classes::{ClassList, Classes},
    engine::{Engine, OnStep, spread},
    figures::{Comparison, FigureRequest, Metrics, Summary},
    observer::Observer,
    prior::{Cost, Prior},
    problem::{OperatorSource, Pool, Problem, ProblemRef},
    released::{self, Released, Start},
    sample::notes,
    sample_seeds::SampleSeeds,
    session::{Session, Threads},
};
use crate::{
    Error,
    inverse::restoration::{self, AnyMethod, Effort, InverseProblem, Method, Mmps, Walk},
    models::card::Model,
    numbers::{
        plan::{AnySampler, Plan, ResolvedPlan},
        schedule::{AnySchedule, Geometric, List},
    },
    report::animation::FrameRecorder,
    scores::{
        analytic::Gaussian,
        denoiser::Denoiser,
        noise::{Noise, Seeded},
        tiled::Tiled,
    },
};

/// A request to restore images: samples of each image's posterior.
///
/// ```no_run
/// use tweedie::{Session, inverse::{operators::Identity, restoration::Dps}};
///
/// let model = Session::default().open("fashion-mnist")?;
/// let measurement = tch::Tensor::zeros([1, 1, 32, 32], (tch::Kind::Float, tch::Device::Cpu));
/// let restored = model.restore(&measurement, Identity {}, 0.05)?.method(Dps::default()).samples(8).run(&())?;
/// assert_eq!(restored.images[0].samples.size(), [8, 1, 32, 32]);
/// # Ok::<(), tweedie::Error>(())
/// ```
pub struct Restoration<'a> {
    pub(crate) prior: Prior<'a>,
    pub(crate) problem: ProblemRef<'a>,
    pub(crate) session: Session,
    method: MethodChoice<'a>,
    plan: Option<Plan>,
    schedule: Option<AnySchedule>,
    steps: Option<usize>,
    sampler: Option<AnySampler>,
    pub(crate) samples: usize,
    classes: Option<ClassList>,
    /// Distribution of first states, where they are not the prior's mean with noise.
    start: Option<Start>,
    /// Images to which the prior of the linear estimate is fitted.
    baseline: Option<Tensor>,
    pub(crate) figures: FigureRequest,
    on_step: Option<&'a OnStep<'a>>,
}

/// The method: a listed one, or the caller's own.
enum MethodChoice<'a> {
    Listed(AnyMethod),
    Own(&'a dyn Method),
}

/// Result of a restoration.
#[derive(Debug)]
pub struct Restored {
    /// Results in the order of the problem.
    pub images: Vec<RestoredImage>,
    /// Cost of a sample.
    pub cost: RestorationCost,
}

/// Samples of one image's posterior, their statistics and figures; all tensors are f32 on the CPU, in data units
/// −1 … 1, and not clipped.
#[derive(Debug)]
pub struct RestoredImage {
    /// Name of the image.
    pub name: String,
    /// Seed of each sample.
    pub seeds: Vec<u64>,
    /// Samples, `[samples, channels, height, width]`.
    pub samples: Tensor,
    /// Mean of the samples, `[channels, height, width]`.
    pub mean: Tensor,
    /// Standard deviation of the samples, `[channels, height, width]`; 0 for one sample.
    pub std: Tensor,
    /// ‖y − A x‖ / (η √m), averaged over the samples: 1 where the samples fit the measurement as they should.
    pub residual: f64,
    /// Figures, where the truth is known.
    pub comparison: Option<Comparison>,
}

/// Cost of a sample.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct RestorationCost {
    /// Cost including guidance's evaluations, without evaluations that only the state decides.
    pub guided: Cost,
    /// Evaluations of the prior, and products with its Jacobian.
    #[serde(skip)]
    pub effort: Effort,
    /// Whether the state decides the number of evaluations.
    pub adaptive: bool,
}

/// Settings that are resolved before the first sample is drawn.
pub(crate) struct Settled {
    pub plan: Plan,
    pub resolved: ResolvedPlan,
    pub classes: Classes,
    pub cost: RestorationCost,
    pub metrics: Metrics,
}

/// A part of the results of a block.
pub(crate) enum RestoredPart {
    /// Walk of an image's first sample, with the image's number.
    Walk(usize, FrameRecorder),
    /// Wanted samples of an image, by their numbers, f32 on the CPU, with the image's number.
    Image(usize, BTreeMap<usize, Tensor>),
}

/// Wanted samples: a range of numbers for each image.
pub(crate) type WantedSamples = BTreeMap<usize, Range<usize>>;

/// A block of samples, ready for a thread of its own.
struct Job {
    block: Block,
    /// E[X] of each sample's class, `[batch, channels, height, width]`.
    means: Tensor,
    /// Measurements, one tensor for each piece of the block.
    measurements: Vec<Tensor>,
}

/// Recorded frames, by the numbers of their images.
type Walks = BTreeMap<usize, FrameRecorder>;

impl Model {
    /// Creates a request to restore images of the network's own size from `measurement`, `[count, …]` in data units
    /// −1 … 1.
    ///
    /// `noise` is η for pixels 0 … 1: half of η in data units.
    pub fn restore<'a>(
        &'a self,
        measurement: &Tensor,
        operator: impl Into<OperatorSource<'a>>,
        noise: f64,
    ) -> Result<Restoration<'a>, Error> {
        Ok(Restoration::new(self, Problem::measured(operator, measurement, noise, self.card.image)?))
    }
}

impl fmt::Debug for Restoration<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { problem, samples, .. } = self;
        f.debug_struct("Restoration").field("problem", &**problem).field("samples", samples).finish_non_exhaustive()
    }
}

impl<'a> Restoration<'a> {
    /// Creates a request for matched moments along the model's own plan, with 8 samples of each image.
    pub fn new(prior: impl Into<Prior<'a>>, problem: impl Into<ProblemRef<'a>>) -> Self {
        let (prior, problem) = (prior.into(), problem.into());
        Self {
            session: Session::from_model(prior.model),
            prior,
            problem,
            method: MethodChoice::Listed(Mmps::default().into()),
            plan: None,
            schedule: None,
            steps: None,
            sampler: None,
            samples: 8,
            classes: None,
            start: None,
            baseline: None,
            figures: FigureRequest::default(),
            on_step: None,
        }
    }

    /// Sets the session; its seed decides the noise of all samples.
    #[must_use]
    pub fn session(self, session: &Session) -> Self {
        Self { session: session.clone(), ..self }
    }

    /// Sets the method.
    #[must_use]
    pub fn method(self, method: impl Into<AnyMethod>) -> Self {
        Self { method: MethodChoice::Listed(method.into()), ..self }
    }

    /// Sets a method of the caller's own.
    #[must_use]
    pub fn own_method(self, method: &'a dyn Method) -> Self {
        Self { method: MethodChoice::Own(method), ..self }
    }

    /// Sets schedule, steps and sampler, in place of the method's or the model's.
    #[must_use]
    pub fn plan(self, plan: Plan) -> Self {
        Self { plan: Some(plan), ..self }
    }

    /// Sets the sampler alone, for methods that leave it open.
    #[must_use]
    pub fn sampler(self, sampler: impl Into<AnySampler>) -> Self {
        Self { sampler: Some(sampler.into()), ..self }
    }

    /// Sets the noise levels.
    #[must_use]
    pub fn schedule(self, schedule: impl Into<AnySchedule>) -> Self {
        Self { schedule: Some(schedule.into()), ..self }
    }

    /// Sets the number of noise levels.
    #[must_use]
    pub fn steps(self, steps: usize) -> Self {
        Self { steps: Some(steps), ..self }
    }

    /// Sets the noise levels themselves, in data units, largest first.
    #[must_use]
    pub fn sigmas(self, sigmas: &[f64]) -> Self {
        self.steps(sigmas.len()).schedule(List { sigmas: sigmas.to_vec() })
    }

    /// Sets the number of samples of each image's posterior.
    #[must_use]
    pub fn samples(self, samples: usize) -> Self {
        Self { samples, ..self }
    }

    /// Sets the classes that images take in turn, for networks with classes.
    #[must_use]
    pub fn classes(self, classes: impl Into<Option<ClassList>>) -> Self {
        Self { classes: classes.into(), ..self }
    }

    /// Compares with the linear estimate of a Gaussian prior fitted to these images,
    /// `[count, channels, height, width]`.
    #[must_use]
    pub fn baseline(self, images: Tensor) -> Self {
        Self { baseline: Some(images), ..self }
    }

    /// Sets the figures wanted in addition to PSNR and SSIM.
    #[must_use]
    pub fn figures(self, figures: FigureRequest) -> Self {
        Self { figures, ..self }
    }

    /// Applies a released configuration: its walk, its limit of steps, its plan, and its first states.
    pub fn released(self, released: &Released) -> Result<Self, Error> {
        released.network.check(&self.prior.model.card)?;
        let walk = Walk { limit: released::PublishedProblem::LIMIT };
        Ok(Self { start: Some(released.start), ..self.method(walk).plan(released.plan.clone()) })
    }

    /// Calls `on_step` after every step; a method with several particles for each image shows one of them.
    #[must_use]
    pub fn on_step(self, on_step: &'a OnStep<'a>) -> Self {
        Self { on_step: Some(on_step), ..self }
    }

    pub(crate) fn chosen(&self) -> &dyn Method {
        match &self.method {
            MethodChoice::Listed(method) => method.get(),
            MethodChoice::Own(method) => *method,
        }
    }

    /// Returns the method in the form of records.
    pub(crate) fn method_record(&self) -> Result<Value, Error> {
        match &self.method {
            MethodChoice::Listed(method) => serde_json::to_value(method).map_err(Error::request),
            MethodChoice::Own(method) => Ok(Value::String(format!("{method:?}"))),
        }
    }

    fn method_name(&self) -> String {
        let record = self.method_record().unwrap_or_default();
        record["kind"].as_str().or(record.as_str()).unwrap_or("this").to_owned()
    }

    /// Returns the plan without separately set schedule, steps and sampler: the given plan, or the method's, or the
    /// model's.
    pub fn default_plan(&self) -> Plan {
        let given = self.plan.clone().or_else(|| self.chosen().plan().map(|plan| self.within_range(plan)));
        given.unwrap_or_else(|| self.prior.model.card.restore.clone())
    }

    /// A method's own plan; for a denoiser of little noise as many geometric levels within its range, where those of the plan
    /// begin beyond it.
    fn within_range(&self, plan: Plan) -> Plan {
        let (model, range) = (self.prior.model, self.prior.model.range());
        let begins = plan.schedule.get().sigmas(plan.steps, range).map_or(0.0, |sigmas| sigmas.max());
        if model.card.network.is_local() && begins > range.1 {
            return Plan { schedule: Geometric::default().into(), ..plan };
        }
        plan
    }

    fn full_plan(&self) -> Plan {
        let plan = self.default_plan();
        Plan {
            schedule: self.schedule.clone().unwrap_or(plan.schedule),
            steps: self.steps.unwrap_or(plan.steps),
            sampler: self.sampler.clone().unwrap_or(plan.sampler),
        }
    }

    /// Computes the cost of a sample.
    pub fn cost(&self) -> Result<RestorationCost, Error> {
        self.check()?;
        Ok(self.cost_of(&self.resolve(&self.full_plan())?))
    }

    fn check(&self) -> Result<(), Error> {
        if self.samples == 0 {
            return Err(Error::request("`samples` must be at least 1, but is 0"));
        }
        if self.sampler.is_some() && !self.chosen().samples() {
            let name = self.method_name();
            let cause = format!("`sampler`: `method` {name} goes down the levels in its own way; leave it out");
            return Err(Error::request(cause));
        }
        fits(self.problem.shape, self.prior.model)?;
        self.problem.pool.lend(|likelihood| self.chosen().check(likelihood))?
    }

    fn resolve(&self, plan: &Plan) -> Result<ResolvedPlan, Error> {
        let limit = self.problem.pool.lend(|likelihood| self.chosen().step_limit(likelihood))?;
        plan.resolve(self.prior.model.range(), limit)
    }

    /// Computes the cost of a sample, including guidance's evaluations.
    fn cost_of(&self, resolved: &ResolvedPlan) -> RestorationCost {
        let method = self.chosen();
        let effort = method.effort(resolved);
        let guided = if method.samples() {
            self.prior.cost(resolved.scheme.asked())
        } else {
            let times = effort.evaluations / resolved.sigmas.iter().len();
            self.prior.cost(resolved.sigmas.iter().flat_map(|sigma| std::iter::repeat_n(sigma, times)))
        };
        RestorationCost { guided, effort, adaptive: resolved.scheme.is_adaptive() && method.samples() }
    }

    /// Checks the request, and opens the networks that measure.
    pub(crate) fn settle(&self) -> Result<Settled, Error> {
        self.check()?;
        let classes = Classes::new(self.classes.as_ref(), &self.prior)?;
        let plan = self.full_plan();
        let resolved = self.resolve(&plan)?;
        let cost = self.cost_of(&resolved);
        Ok(Settled { metrics: Metrics::open(&self.figures, &self.problem)?, plan, resolved, classes, cost })
    }

    /// Collects the notes for a reader of the results that are known before the results.
    pub(crate) fn notes(&self, settled: &Settled) -> Vec<String> {
        let model = self.prior.model;
        let levels = notes(model, &settled.plan, &settled.resolved.sigmas);
        let measured = self.problem.notes.clone();
        levels
            .into_iter()
            .chain(measured)
            .chain(noise_note(self.problem.noise()))
            .chain(tile_note(self.problem.shape, model))
            .collect()
    }

    /// Computes in memory the samples, their mean and spread, and figures where the truth is known.
    pub fn run(&self, observer: &dyn Observer) -> Result<Restored, Error> {
        let settled = self.settle()?;
        self.notes(&settled).iter().for_each(|note| observer.said(note));
        let count = self.problem.names.len();
        let seeds = SampleSeeds::new(count, vec![self.samples as u64]);
        let batch = self.session.batch_for(count * self.samples)?;
        let baseline = self.linear_estimate()?;
        let wanted = (0..count).map(|image| (image, 0..self.samples)).collect();
        let mut images = BTreeMap::new();
        self.draw(&settled, (&seeds, batch), &wanted, false, observer, &mut |drawn| {
            if let RestoredPart::Image(i, samples) = drawn {
                let samples = Tensor::stack(&samples.into_values().collect::<Vec<_>>(), 0);
                let baseline = baseline.as_ref().map(|baseline| baseline.get(i as i64));
                let summary = Summary::new(&self.problem, (i, &samples), &settled.metrics, baseline.as_ref())?;
                images.insert(i, self.image(i, &seeds, samples, summary));
                observer.finished(1);
            }
            Ok(())
        })?;
        Ok(Restored { images: images.into_values().collect(), cost: settled.cost })
    }

    fn image(&self, i: usize, seeds: &SampleSeeds, samples: Tensor, summary: Summary) -> RestoredImage {
        let Summary { mean, std, residual, comparison } = summary;
        let (name, seeds) = (self.problem.names[i].clone(), self.seeds_of(seeds, i));
        RestoredImage { name, seeds, samples, mean, std, residual, comparison }
    }

    /// Returns the seeds of an image's samples.
    pub(crate) fn seeds_of(&self, seeds: &SampleSeeds, image: usize) -> Vec<u64> {
        (0..seeds.samples()).map(|sample| seeds.seed(image, sample) + self.shift()).collect()
    }

    /// Returns the offset of the sample numbers, so that each seed of the session draws other samples.
    fn shift(&self) -> u64 {
        self.session.seed << 32
    }

    /// Computes E[X | y] of a Gaussian fitted to the images of the baseline, on the CPU.
    pub(crate) fn linear_estimate(&self) -> Result<Option<Tensor>, Error> {
        let Some(images) = &self.baseline else { return Ok(None) };
        let prior = Gaussian::fit(images)?;
        let y = self.problem.measurement.to_device(Device::Cpu);
        let mean = self.problem.linear(|linear| prior.posterior_mean(linear, &y, self.problem.eta))?;
        mean.ok_or_else(|| Error::request("`baseline`: the linear estimate is for linear tasks"))?.map(Some)
    }

    /// Draws the wanted samples, and passes each image's samples to `take` once all of them are drawn.
    pub(crate) fn draw(
        &self,
        settled: &Settled,
        (seeds, batch): (&SampleSeeds, u64),
        wanted: &WantedSamples,
        film: bool,
        observer: &dyn Observer,
        take: &mut dyn FnMut(RestoredPart) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let numbers: BTreeSet<u64> = wanted
            .iter()
            .flat_map(|(&image, samples)| samples.clone().map(move |sample| seeds.seed(image, sample)))
            .collect();
        let blocks = blocks::blocks(&numbers, batch);
        let steps = blocks.len() as u64 * batch * settled.cost.effort.evaluations as u64;
        observer.begun("restoring", steps);
        let engine = self.engine(settled, observer);
        let threads = Threads::kept();
        let workers = self.problem.prepare(threads.workers(self.session.device, blocks.len()))?;
        let workers = self.session.workers(workers);
        let worker = Worker {
            engine: &engine,
            method: self.chosen(),
            resolved: &settled.resolved,
            classes: &settled.classes,
            pool: &self.problem.pool,
            start: self.start.as_ref(),
            seeds,
            shift: self.shift(),
            film,
        };
        let mut means = BTreeMap::new();
        let jobs = blocks.into_iter().map(|block| Ok(self.job(&engine, settled, seeds, block, &mut means)));
        let mut gathered = Gathered { wanted, seeds, images: BTreeMap::new() };
        spread(
            &self.prior,
            workers,
            jobs,
            |prior, job| worker.compute(prior, job),
            |(x, block, walks)| {
                walks.into_iter().try_for_each(|(image, walk)| take(RestoredPart::Walk(image, walk)))?;
                gathered.add(&x, &block, take)
            },
        )?;
        observer.ended();
        Ok(())
    }

    fn engine<'e>(&'e self, settled: &Settled, observer: &'e dyn Observer) -> Engine<'e> {
        Engine {
            shape: self.problem.shape,
            start: settled.resolved.sigmas.max(),
            device: self.session.device,
            alone: self.session.deterministic || settled.cost.adaptive,
            observer,
            asked: None,
            on_step: self.on_step,
        }
    }

    fn job(
        &self,
        engine: &Engine,
        settled: &Settled,
        seeds: &SampleSeeds,
        block: Block,
        means: &mut BTreeMap<Option<i64>, Tensor>,
    ) -> Job {
        let image = |seed: &u64| seeds.place(*seed).0;
        let measured =
            |piece: &[u64]| self.problem.rows(&piece.iter().map(|seed| image(seed) as i64).collect::<Vec<_>>());
        let measurements = engine.pieces(&block.seeds).map(measured).collect();
        let mut mean_of = |seed: &u64| {
            let class = settled.classes.at(image(seed) as u64);
            let mean = || mean_image(&self.prior, class, self.problem.shape, self.session.device);
            means.entry(class).or_insert_with(mean).shallow_clone()
        };
        let means = Tensor::cat(&block.seeds.iter().map(&mut mean_of).collect::<Vec<_>>(), 0);
        Job { block, means, measurements }
    }
}

/// State shared by the threads that compute blocks.
struct Worker<'a> {
    engine: &'a Engine<'a>,
    method: &'a dyn Method,
    resolved: &'a ResolvedPlan,
    classes: &'a Classes,
    pool: &'a Pool,
    start: Option<&'a Start>,
    seeds: &'a SampleSeeds,
    shift: u64,
    film: bool,
}

impl Worker<'_> {
    fn compute(&self, prior: &Prior, job: Job) -> Result<(Tensor, Block, Walks), Error> {
        let Job { block, means, measurements } = job;
        let seeds: Vec<u64> = block.seeds.iter().map(|seed| seed + self.shift).collect();
        let noise = Seeded(seeds.clone());
        let init = match self.start {
            Some(start) => start.states(&means, &noise),
            None => &means + noise.like(&means, 0, 0) * self.engine.start,
        };
        let wanted: BTreeSet<u64> = block.wanted.iter().map(|&i| block.seeds[i]).collect();
        let walks = Mutex::new(Walks::new());
        let prior_of = |seeds: &[u64]| {
            let images = seeds.iter().map(|seed| self.seeds.place(seed - self.shift).0 as u64);
            let [_, height, width] = self.engine.shape;
            large(prior, self.classes.rows(images).as_deref(), [height, width])
        };
        let x = self.pool.lend(|likelihood| {
            let likelihood = RefCell::new(likelihood);
            self.engine.images(&seeds, Some(&init), &prior_of, &|i, prior, x, noise, seen| {
                likelihood.borrow_mut().measure(measurements[i].shallow_clone());
                let mut filmed = self.filmed(&noise.0, &wanted);
                let likelihood: &_ = &**likelihood.borrow();
                let problem = InverseProblem { prior, likelihood, plan: self.resolved, noise };
                let x = restoration::restore(self.method, &problem, x, &mut |x| {
                    for (row, _, walk) in &mut filmed {
                        walk.take(&x.get(*row));
                    }
                    seen(x)
                })?;
                let mut walks = walks.lock().unwrap_or_else(PoisonError::into_inner);
                walks.extend(filmed.into_iter().map(|(_, image, walk)| (image, walk)));
                Ok(x)
            })
        })??;
        Ok((x, block, walks.into_inner().unwrap_or_else(PoisonError::into_inner)))
    }

    /// Creates recorders for the walks of first samples among these seeds: row of the batch, number of the image, and
    /// the frames.
    fn filmed(&self, seeds: &[u64], wanted: &BTreeSet<u64>) -> Vec<(i64, usize, FrameRecorder)> {
        let numbers = seeds.iter().map(|seed| seed - self.shift).enumerate();
        let firsts = numbers.filter(|(_, seed)| self.film && wanted.contains(seed) && self.seeds.place(*seed).1 == 0);
        firsts.map(|(row, seed)| (row as i64, self.seeds.place(seed).0, FrameRecorder::default())).collect()
    }
}

/// Drawn samples that wait for the other samples of their image.
struct Gathered<'a> {
    wanted: &'a WantedSamples,
    seeds: &'a SampleSeeds,
    images: BTreeMap<usize, BTreeMap<usize, Tensor>>,
}

impl Gathered<'_> {
    fn add(
        &mut self,
        x: &Tensor,
        block: &Block,
        take: &mut dyn FnMut(RestoredPart) -> Result<(), Error>,
    ) -> Result<(), Error> {
        for &i in &block.wanted {
            let (image, sample) = self.seeds.place(block.seeds[i]);
            let drawn = self.images.entry(image).or_default();
            drawn.insert(sample, x.get(i as i64));
            if self.wanted.get(&image).is_some_and(|all| drawn.len() == all.len()) {
                let samples = self.images.remove(&image).unwrap_or_default();
                take(RestoredPart::Image(image, samples))?;
            }
        }
        Ok(())
    }
}

/// Computes E[X] of a class, `[1, channels, height, width]`: the prior's answer where noise hides everything.
///
/// Walks for posteriors begin at this image with noise of the first level, so that none of their few steps is spent on
/// features that all images have in common.
fn mean_image(prior: &Prior, class: Option<i64>, [channels, height, width]: [i64; 3], device: Device) -> Tensor {
    let model = prior.model;
    let (_, sigma) = model.range();
    let blank = Tensor::zeros([1, channels, height, width], (Kind::Float, device));
    let noise = Seeded(vec![0]).like(&blank, 0, 0) * model.denoiser.precondition.start(sigma);
    let class = class.map(|class| [class]);
    tch::no_grad(|| large(prior, class.as_ref().map(<[i64; 1]>::as_slice), [height, width]).denoise(&noise, sigma))
}

/// Creates the denoiser for images of this height and width, at least as large as the network's; one that looks at few pixels
/// around each takes a smaller or narrower image whole.
fn large<'a>(prior: &Prior<'a>, classes: Option<&[i64]>, [height, width]: [i64; 2]) -> Box<dyn Denoiser + 'a> {
    let [_, rows, columns] = prior.model.card.image;
    let whole = height < rows || width < columns;
    Box::new(Tiled::new(prior.denoiser(classes), if whole { [height, width] } else { [rows, columns] }))
}

/// Refuses images that have other channels than the model's, or are smaller, unless the model takes any size.
pub(crate) fn fits(size: [i64; 3], model: &Model) -> Result<(), Error> {
    let (name, [channels, height, width]) = (&model.card.name, model.card.image);
    let local = model.card.network.is_local();
    if size[0] == channels && (local || size[1] >= height && size[2] >= width) {
        return Ok(());
    }
    if local {
        let (channels, s) = (size[0], if size[0] == 1 { "" } else { "s" });
        let wanted = model.card.image[0];
        return Err(Error::request(format!(
            "has {channels} channel{s}, but {name} takes images of {wanted}, of any size"
        )));
    }
    let size = size.map(|side| side.to_string()).join("×");
    Err(Error::request(format!(
        "is {size}, but {name} takes {channels}×{height}×{width} or larger images of as many channels: pad or resize it"
    )))
}

/// Returns a note if the noise seems to be given in another unit than pixels of 0 … 1.
fn noise_note(noise: f64) -> Option<String> {
    (noise > 1.0).then(|| {
        let share = noise / 255.0;
        format!(
            "the noise η = {noise} is larger than the whole range of pixels, 0 … 1, and hides the images; for pixels \
             0 … 255 it would be {share:.3}"
        )
    })
}

/// Returns a note if the network receives only tiles of the images that are too small to show their contents.
///
/// Up to twice the network's side, a tile shows at least a quarter of the image. In larger images no tile shows a large
/// object whole, so the prior knows only textures and edges. FFDNet is exempt: each of its pixels depends on no more
/// than 24 pixels around it anyway.
fn tile_note([_, height, width]: [i64; 3], model: &Model) -> Option<String> {
    let [_, rows, columns] = model.card.image;
    let local = model.card.network.is_local();
    (!local && (height > 2 * rows || width > 2 * columns)).then(|| {
        format!(
            "the images are {width}×{height} pixels, and {} sees tiles of {columns}×{rows}, each without the others: it \
             cannot know what is larger than a tile; take a network for larger images, or make the images smaller",
            model.card.name
        )
    })
}
