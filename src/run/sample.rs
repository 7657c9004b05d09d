//! Sampling of images from noise.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::Instant,
};

use serde::Serialize;
use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::{
    blocks::{self, Block},
    classes::{ClassList, Classes},
    engine::{Batch, Engine, Image, OnStep, PendingImages, SamplingStep, spread},
    fingerprint::{Claim, Fingerprint, Origin, holds_another, recorded},
    observer::Observer,
    prior::{Cost, Prior},
    released::Released,
    session::{Precision, Session, Threads},
};
use crate::{
    Error,
    backend::host_copy::HostCopy,
    files::images,
    models::card::Model,
    numbers::{
        plan::{AnySampler, Plan, ResolvedPlan},
        schedule::{AnySchedule, List},
        scheme::Scheme,
        sigma::Sigmas,
        solvers::Solver,
    },
    report::{
        page::{Case, Page, Picture, entries},
        sheet,
    },
    scores::{
        denoiser::{Clip, Clipped},
        noise::Seeded,
        sample::{check_spread, sample_to_end},
    },
};

/// Maximum number of images on the contact sheet and on the page.
const SHOWN: usize = 100;

/// A request to draw images: each seed gives one image, which does not depend on the other seeds.
///
/// ```no_run
/// use tweedie::{Session, numbers::samplers::Ddim, run::sample::Sampling};
///
/// let model = Session::default().open("fashion-mnist")?;
/// let drawn = Sampling::new(&model).sampler(Ddim { eta: 0.0 }).steps(20).seeds(0..4).run(&())?;
/// assert_eq!(drawn.images.size(), [4, 1, 32, 32]);
/// # Ok::<(), tweedie::Error>(())
/// ```
pub struct Sampling<'a> {
    prior: Prior<'a>,
    session: Session,
    plan: Plan,
    solver: Option<&'a dyn Solver>,
    seeds: BTreeSet<u64>,
    classes: Option<ClassList>,
    first: First,
    on_step: Option<&'a OnStep<'a>>,
    trajectories: bool,
    clip: Option<Clip>,
}

/// Initial states.
enum First {
    /// Noise N(0, σ²) of the largest level.
    Noise,
    /// States `[images, channels, height, width]`: seed i begins at row i.
    States(Tensor),
    /// Initial states of a released configuration.
    Released(Box<Released>),
}

/// Result of a request.
#[derive(Debug)]
pub struct Samples {
    /// Seeds of the images, in order.
    pub seeds: Vec<u64>,
    /// Final states, `[count, channels, height, width]`, f32 on the CPU, data units −1 … 1, not clipped.
    pub images: Tensor,
    /// Cost of an image, on average where the state decides it.
    pub cost: Cost,
    /// States after each step, `[steps, channels, height, width]` for each image, where they were asked for.
    pub trajectories: Vec<Tensor>,
}

/// Folder of images, and the files written beside them.
#[derive(Clone, Debug, Default)]
pub struct SampleFolder {
    /// Path of the folder for SEED.png, grid.png, index.html and record.json.
    pub out: PathBuf,
    /// Whether to write each final state as well, unclipped: SEED.npy, `[channels, height, width]`, f32.
    pub states: bool,
    /// Command that makes the run again, for the page.
    pub command: String,
    /// Card and settings that replaced the model's own.
    pub origin: Origin,
    /// SHA-256 of the file with the initial states or the configuration; empty without such a file.
    pub given: String,
    /// Whether to remove the images of another run first, if the folder holds one.
    pub overwrite: bool,
}

/// Result of a finished run in its folder.
#[derive(Debug, Serialize)]
pub struct Sampled {
    /// Everything on which the bits of the images depend.
    #[serde(rename = "identity")]
    pub fingerprint: Fingerprint,
    /// Number of images.
    pub images: usize,
    /// Number of images drawn in this run.
    pub new: usize,
    /// Cost of an image, on average where the state decides it.
    #[serde(flatten)]
    pub cost: Cost,
    /// Seconds of computing and writing.
    pub seconds: f64,
    /// Path of the folder.
    pub out: PathBuf,
    /// Path of the sheet with the first images.
    pub grid: PathBuf,
}

impl fmt::Debug for Sampling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sampling").field("plan", &self.plan).field("seeds", &self.seeds).finish_non_exhaustive()
    }
}

impl<'a> Sampling<'a> {
    /// Creates a request along the model's own plan, for seeds 0 … 15.
    pub fn new(prior: impl Into<Prior<'a>>) -> Self {
        let prior = prior.into();
        Self {
            session: Session::from_model(prior.model),
            plan: prior.model.card.sample.clone(),
            clip: prior.model.card.clip,
            prior,
            solver: None,
            seeds: (0..16).collect(),
            classes: None,
            first: First::Noise,
            on_step: None,
            trajectories: false,
        }
    }

    /// Sets the session.
    #[must_use]
    pub fn session(self, session: &Session) -> Self {
        Self { session: session.clone(), ..self }
    }

    /// Sets schedule, steps and sampler.
    #[must_use]
    pub fn plan(self, plan: Plan) -> Self {
        Self { plan, ..self }
    }

    /// Sets the sampler alone.
    #[must_use]
    pub fn sampler(mut self, sampler: impl Into<AnySampler>) -> Self {
        self.plan.sampler = sampler.into();
        self
    }

    /// Sets a sampler of the caller's own.
    #[must_use]
    pub fn solver(self, solver: &'a dyn Solver) -> Self {
        Self { solver: Some(solver), ..self }
    }

    /// Sets the noise levels.
    #[must_use]
    pub fn schedule(mut self, schedule: impl Into<AnySchedule>) -> Self {
        self.plan.schedule = schedule.into();
        self
    }

    /// Sets the number of noise levels.
    #[must_use]
    pub fn steps(mut self, steps: usize) -> Self {
        self.plan.steps = steps;
        self
    }

    /// Sets the noise levels themselves, in data units, largest first.
    #[must_use]
    pub fn sigmas(mut self, sigmas: &[f64]) -> Self {
        self.plan.steps = sigmas.len();
        self.schedule(List { sigmas: sigmas.to_vec() })
    }

    /// Sets the seeds of the images.
    #[must_use]
    pub fn seeds(self, seeds: impl IntoIterator<Item = u64>) -> Self {
        Self { seeds: seeds.into_iter().collect(), ..self }
    }

    /// Sets the classes that images take in turn, for networks with classes.
    #[must_use]
    pub fn classes(self, classes: impl Into<Option<ClassList>>) -> Self {
        Self { classes: classes.into(), ..self }
    }

    /// Begins at these states in the σ frame, `[images, channels, height, width]`: seed i at row i.
    #[must_use]
    pub fn init(self, states: Tensor) -> Self {
        Self { first: First::States(states.to_kind(Kind::Float)), ..self }
    }

    /// Applies a released configuration: its plan and its first states.
    pub fn released(self, released: Released) -> Result<Self, Error> {
        released.network.check(&self.prior.model.card)?;
        Ok(Self { plan: released.plan.clone(), first: First::Released(Box::new(released)), ..self })
    }

    /// Calls `on_step` after every step.
    #[must_use]
    pub fn on_step(self, on_step: &'a OnStep<'a>) -> Self {
        Self { on_step: Some(on_step), ..self }
    }

    /// Holds the denoised image within −limit … limit at every step, or never; the card's own choice if not called.
    pub fn clip(self, limit: Option<f64>) -> Result<Self, Error> {
        match limit.filter(|limit| !(*limit > 0.0 && limit.is_finite())) {
            Some(limit) => Err(Error::parameter("`clip`", "positive and finite", limit)),
            None => Ok(Self { clip: limit.map(Clip::Limit), ..self }),
        }
    }

    /// Keeps the states after each step.
    #[must_use]
    pub fn trajectories(self) -> Self {
        Self { trajectories: true, ..self }
    }

    fn resolve(&self) -> Result<ResolvedPlan, Error> {
        let range = self.prior.model.range();
        let resolved = match self.solver {
            Some(solver) => self.plan.resolve_with(solver, range, f64::INFINITY),
            None => self.plan.resolve(range, f64::INFINITY),
        }?;
        let class: Option<&[i64]> = self.classes.as_ref().map(|_| [0].as_slice());
        check_spread(&resolved.scheme, self.prior.denoiser(class).spreads())?;
        Ok(resolved)
    }

    /// Refuses a request without seeds, and first states whose shape does not fit the seeds.
    fn check(&self) -> Result<(), Error> {
        let Some(&last) = self.seeds.last() else { return Err(Error::parameter("`seeds`", "at least one", "none")) };
        let (First::States(states), [channels, height, width]) = (&self.first, self.prior.model.card.image) else {
            return Ok(());
        };
        let size = states.size();
        if size.len() == 4 && size[1..] == [channels, height, width] && size[0] as u64 > last {
            return Ok(());
        }
        let want = format!("[{}, {channels}, {height}, {width}] for seeds up to {last}", last + 1);
        Err(Error::Shape { what: "`init`", got: size, want })
    }

    /// Draws the images in memory.
    pub fn run(&self, observer: &dyn Observer) -> Result<Samples, Error> {
        self.check()?;
        let kept: Mutex<BTreeMap<u64, Vec<Tensor>>> = Mutex::default();
        let asked = self.on_step;
        let keep = |step: &mut SamplingStep| {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            for (row, &seed) in step.seeds.iter().enumerate() {
                kept.entry(seed).or_default().push(step.x.get(row as i64).to_device(Device::Cpu).copy());
            }
            asked.map_or(Ok(ControlFlow::Continue(())), |on_step| on_step(step))
        };
        let on_step: Option<&OnStep> = if self.trajectories { Some(&keep) } else { asked };
        let batch = self.session.batch_for(self.seeds.len())?;
        let landed: Mutex<BTreeMap<u64, Tensor>> = Mutex::default();
        let cost = self.draw(&self.seeds, batch, (on_step, true), observer, &|images| {
            let mut landed = landed.lock().unwrap_or_else(PoisonError::into_inner);
            landed.extend(images.into_iter().filter_map(|(seed, _, state)| Some((seed, state?))));
            Ok(())
        })?;
        let landed = landed.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut kept = kept.into_inner().unwrap_or_else(PoisonError::into_inner);
        let trajectories =
            self.seeds.iter().filter_map(|seed| kept.remove(seed).map(|states| Tensor::stack(&states, 0)));
        Ok(Samples {
            seeds: self.seeds.iter().copied().collect(),
            trajectories: trajectories.collect(),
            images: Tensor::stack(&landed.into_values().collect::<Vec<_>>(), 0),
            cost,
        })
    }

    /// Writes the images as files; images that an earlier run of the same request has left there are not drawn again.
    pub fn write(&self, folder: &SampleFolder, observer: &dyn Observer) -> Result<Sampled, Error> {
        if self.solver.is_some() {
            return Err(Error::request(
                "a sampler of one's own has no name for the record of a folder: draw in memory",
            ));
        }
        self.check()?;
        self.resolve()?;
        let start = Instant::now();
        let (batch, fingerprint) = self.claim(folder)?;
        let missing: BTreeSet<u64> = self.seeds.iter().copied().filter(|&seed| !folder.has(seed)).collect();
        let cost = self.draw(&missing, batch, (self.on_step, folder.states), observer, &|images| {
            let count = images.len() as u64;
            folder.save(images)?;
            observer.finished(count);
            Ok(())
        })?;
        let grid = folder.sheet(&self.seeds)?;
        folder.page(&self.seeds, &fingerprint)?;
        Ok(Sampled {
            fingerprint,
            images: self.seeds.len(),
            new: missing.len(),
            cost,
            seconds: start.elapsed().as_secs_f64(),
            out: folder.out.clone(),
            grid,
        })
    }

    /// Claims the folder; returns the size of blocks, and the folder's fingerprint.
    fn claim(&self, folder: &SampleFolder) -> Result<(u64, Fingerprint), Error> {
        let mut batch = self.batch_in(&folder.out)?;
        let mut fingerprint = self.fingerprint(folder, batch)?;
        if folder.overwrite && holds_another(&folder.out, &folder.record(&fingerprint)?)? {
            batch = self.session.batch_for(self.seeds.len())?;
            fingerprint = self.fingerprint(folder, batch)?;
        }
        let (record, given) = (&folder.record(&fingerprint)?, "the initial states or the configuration");
        Claim { out: &folder.out, record, given, overwrite: folder.overwrite }.make()?;
        Ok((batch, fingerprint))
    }

    /// Returns the size of blocks: the one that was asked for, or that of the run to be extended, or one derived from
    /// the number of images.
    fn batch_in(&self, out: &Path) -> Result<u64, Error> {
        let before = recorded(out)?.and_then(|record| record["batch"].as_u64());
        match before.filter(|batch| self.session.batch.is_none() && *batch > 0) {
            Some(batch) => Ok(batch),
            None => self.session.batch_for(self.seeds.len()),
        }
    }

    fn fingerprint(&self, folder: &SampleFolder, batch: u64) -> Result<Fingerprint, Error> {
        let classes = Classes::new(self.classes.as_ref(), &self.prior)?;
        let identity = (&classes, &self.plan, batch);
        let fingerprint = Fingerprint::new(&self.session, &self.prior, &folder.origin, identity)?;
        Ok(Fingerprint { given: folder.given.clone(), clip: self.clip, ..fingerprint })
    }

    /// Computes block after block, and passes the images to `landed` in another thread; returns the cost of an image.
    fn draw(
        &self,
        seeds: &BTreeSet<u64>,
        batch: u64,
        (on_step, states): (Option<&OnStep>, bool),
        observer: &dyn Observer,
        landed: &(dyn Fn(Vec<Image>) -> Result<(), Error> + Sync),
    ) -> Result<Cost, Error> {
        let classes = Classes::new(self.classes.as_ref(), &self.prior)?;
        let ResolvedPlan { sigmas, scheme, .. } = self.resolve()?;
        for note in notes(self.prior.model, &self.plan, &sigmas) {
            observer.said(&note);
        }
        let blocks = blocks::blocks(seeds, batch);
        observer.begun("sampling", blocks.len() as u64 * batch * scheme.asked().count() as u64);
        let engine = Engine {
            shape: self.prior.model.card.image,
            start: self.prior.model.denoiser.precondition.start(sigmas.max()),
            device: self.session.device,
            // Images with adaptive steps are computed one at a time, so that none waits for the steps of another.
            alone: self.session.deterministic || scheme.is_adaptive(),
            observer,
            asked: scheme.is_adaptive().then(Mutex::default),
            on_step,
        };
        let clip = self.clip;
        let compute = |prior: &Prior, (block, init): (&Block, Option<Tensor>)| {
            let denoiser =
                |seeds: &[u64]| Clipped::within(prior.denoiser(classes.rows(seeds.iter().copied()).as_deref()), clip);
            let Batch { x, checks } =
                engine.draw(&block.seeds, init.as_ref(), &denoiser, &|_, prior, x, noise, seen| {
                    sample_to_end(&scheme, x, &prior, noise, seen)
                })?;
            let (pixels, states) = (HostCopy::start(&images::to_bytes(&x)), states.then(|| HostCopy::start(&x)));
            Ok(PendingImages { block: block.clone(), pixels, states, checks })
        };
        let _threads = Threads::kept();
        let workers = self.session.workers(if self.prior.model.is_own() { 1 } else { blocks.len() });
        beside(&self.prior, workers, blocks.iter().map(|block| (block, self.first(block))), compute, landed)?;
        observer.ended();
        Ok(cost(&self.prior, &scheme, &engine, &blocks))
    }

    /// Returns the first states of a block, where they are not plain noise.
    fn first(&self, block: &Block) -> Option<Tensor> {
        match &self.first {
            First::Noise => None,
            First::States(states) => Some(rows(states, block)),
            First::Released(released) => {
                let [channels, height, width] = self.prior.model.card.image;
                let size = [block.seeds.len() as i64, channels, height, width];
                let like = Tensor::zeros(size, (Kind::Float, Device::Cpu));
                Some(released.start.states(&like, &Seeded(block.seeds.clone())))
            }
        }
    }
}

impl Model {
    /// Draws new images with the model's own plan, `[count, channels, height, width]`, f32, data units −1 … 1, not
    /// clipped: each seed gives one image.
    ///
    /// ```no_run
    /// let images = tweedie::Session::default().open("fashion-mnist")?.sample(0..4)?;
    /// # Ok::<(), tweedie::Error>(())
    /// ```
    pub fn sample(&self, seeds: impl IntoIterator<Item = u64>) -> Result<Tensor, Error> {
        Ok(Sampling::new(self).seeds(seeds).run(&())?.images)
    }
}

impl Session {
    /// Creates a session with the device and precision of an opened model.
    pub fn from_model(model: &Model) -> Self {
        let (device, kind) =
            model.parameters.first().map_or((Device::Cpu, Kind::Float), |(_, tensor)| (tensor.device(), tensor.kind()));
        let precision = if kind == Kind::BFloat16 { Precision::Bf16 } else { Precision::F32 };
        Self { precision, ..Self::on(device) }
    }
}

/// Computes job after job; meanwhile another thread passes the images that have reached the host to `landed`.
fn beside<J: Send>(
    prior: &Prior,
    workers: usize,
    jobs: impl Iterator<Item = J>,
    compute: impl Fn(&Prior, J) -> Result<PendingImages, Error> + Sync,
    landed: &(dyn Fn(Vec<Image>) -> Result<(), Error> + Sync),
) -> Result<(), Error> {
    let failure: Mutex<Option<Error>> = Mutex::new(None);
    let failed = || failure.lock().ok().and_then(|mut failure| failure.take()).map_or(Ok(()), Err);
    let jobs = jobs.map(|job| failed().map(|()| job));
    rayon::in_place_scope(|scope| {
        spread(prior, workers, jobs, compute, |pending| {
            let failure = &failure;
            scope.spawn(move |_| {
                if let Err(error) = pending.wait().and_then(landed)
                    && let Ok(mut failure) = failure.lock()
                {
                    failure.get_or_insert(error);
                }
            });
            Ok(())
        })
    })?;
    failed()
}

/// Computes the cost of each image of `blocks`, on average where the state decided it.
fn cost(prior: &Prior, scheme: &Scheme, engine: &Engine, blocks: &[Block]) -> Cost {
    match &engine.asked {
        Some(asked) => {
            let asked = asked.lock().map(|asked| prior.cost(asked.iter().copied()));
            asked.unwrap_or_default() / blocks.iter().map(|block| block.seeds.len()).sum()
        }
        None => prior.cost(scheme.asked()),
    }
}

/// Selects the states of a block's seeds; seeds beyond the last state, whose images are not wanted, get the last one.
fn rows(init: &Tensor, block: &Block) -> Tensor {
    let last = init.size()[0] - 1;
    let index: Vec<i64> = block.seeds.iter().map(|&seed| (seed as i64).min(last)).collect();
    init.index_select(0, &Tensor::from_slice(&index))
}

/// Collects notes on a plan: levels for which the network was never trained, and other warnings.
pub fn notes(model: &Model, plan: &Plan, sigmas: &Sigmas) -> Vec<String> {
    let caveat = plan.schedule.get().caveat();
    let caveat = caveat.map(|caveat| format!("of the process that gives the levels: {caveat}"));
    caveat.into_iter().chain(range_note(model, sigmas)).collect()
}

/// Returns a note if the network was never trained for some of the levels.
pub fn range_note(model: &Model, sigmas: &Sigmas) -> Option<String> {
    let (min, max) = model.range();
    // A schedule that ends at the model's own level may miss it by a rounding error.
    (sigmas.max() > max * 1.001 || sigmas.min() < min * 0.999).then(|| {
        format!(
            "σ goes from {:.4} to {:.4}, but the network was trained from {max:.4} to {min:.4}; outside, its answers are \
             guesses",
            sigmas.max(),
            sigmas.min(),
        )
    })
}

impl SampleFolder {
    fn record(&self, fingerprint: &Fingerprint) -> Result<Value, Error> {
        serde_json::to_value(fingerprint).map_err(|e| Error::file(&self.out, e))
    }

    fn file(&self, seed: u64) -> PathBuf {
        self.out.join(format!("{seed:06}.png"))
    }

    fn state(&self, seed: u64) -> PathBuf {
        self.file(seed).with_extension("npy")
    }

    fn has(&self, seed: u64) -> bool {
        self.file(seed).exists() && (!self.states || self.state(seed).exists())
    }

    fn save(&self, images: Vec<Image>) -> Result<(), Error> {
        for (seed, pixels, state) in images {
            if let Some(state) = state {
                images::write_npy(&self.state(seed), &state)?;
            }
            images::write_png(&self.file(seed), &pixels)?;
        }
        Ok(())
    }

    /// Writes the first images of the run on one sheet.
    fn sheet(&self, seeds: &BTreeSet<u64>) -> Result<PathBuf, Error> {
        let shown: Result<Vec<Tensor>, Error> =
            seeds.iter().take(SHOWN).map(|&seed| images::read_as_is(&self.file(seed))).collect();
        let path = self.out.join(images::SHEET);
        sheet::write_square(&path, &shown?)?;
        Ok(path)
    }

    /// Writes the page with the images and the settings.
    fn page(&self, seeds: &BTreeSet<u64>, fingerprint: &Fingerprint) -> Result<(), Error> {
        let picture = |&seed: &u64| Picture { label: seed.to_string(), file: self.file(seed) };
        let pictures: Vec<Picture> = seeds.iter().take(SHOWN).map(picture).collect();
        let settings: Value = serde_json::to_value(fingerprint).map_err(|e| Error::file(&self.out, e))?;
        let page = Page {
            title: format!("Samples of {}", fingerprint.model),
            about: match seeds.len() {
                count if count > pictures.len() => format!("The first {SHOWN} of {count} images, by their seeds."),
                _ => "Images by their seeds.".to_owned(),
            },
            command: self.command.clone(),
            settings: entries(&settings),
            cases: vec![Case { pictures, ..Case::default() }],
            ..Page::default()
        };
        images::write_whole(&self.out.join("index.html"), page.html()?.as_bytes())
    }
}
