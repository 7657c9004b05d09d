//! `tweedie sample`: images from noise.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Instant,
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tweedie::{
    Error,
    backend::{host_copy::HostCopy, libtorch},
    files::images,
    models::card::Model,
    numbers::{
        plan::{AnySampler, Plan, ResolvedPlan},
        schedule::AnySchedule,
        scheme::Scheme,
        sigma::Sigmas,
    },
    report::{
        page::{Case, Page, Picture},
        sheet,
    },
    run::{
        blocks::{self, Block},
        released::Published,
    },
    scores::{noise::Seeded, sample::sample},
};

use super::{
    Common, choice,
    classes::{ClassArgs, Classes},
    command, entries,
    guidance::{Cost, GuidanceArgs, Prior},
    images::{Drawn, Landing, Loop, spread},
    workers,
};

/// Most images on the contact sheet and on the page.
const SHOWN: usize = 100;

/// Draw new images
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie sample fashion-mnist
  tweedie sample fashion-mnist --seeds 0-999 --sampler ddpm --steps 250 --out out/ddpm
  tweedie sample fashion-mnist --sampler '{kind: ddim, eta: 0.5}' --schedule '{kind: karras, max: 40}'
  tweedie sample fashion-mnist --sampler plan.yaml      # a file with schedule, steps and sampler
  tweedie sample ffhq_10m.pt --config vp_uncond_sigmoidSchedule.yaml
  tweedie sample cond.pkl --class 0-9 --guidance 1 --unconditional uncond.pkl")]
pub struct Sample {
    #[arg(help = super::MODEL)]
    model: String,
    #[command(flatten)]
    plan: PlanArgs,
    #[command(flatten)]
    class: ClassArgs,
    #[command(flatten)]
    guidance: GuidanceArgs,
    /// Which images: each seed is one image, the same whatever else is drawn
    #[arg(long, default_value = "0-63", value_name = "SEEDS")]
    seeds: String,
    /// A configuration released with Random Walks with Tweedie (.yaml): its walk, begun at N(0, I) of its pixels
    #[arg(long, value_name = "FILE.yaml", conflicts_with = "init")]
    config: Option<PathBuf>,
    /// Initial states in the σ frame, [images, channels, height, width], in place of noise
    #[arg(long, value_name = "FILE.npy")]
    init: Option<PathBuf>,
    /// Write each final state as well, unclipped: SEED.npy, [channels, height, width], f32
    #[arg(long)]
    states: bool,
    /// Where the images go
    #[arg(long, default_value = "out/samples", value_name = "DIR")]
    out: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// How to walk; what is left out is the model's own choice.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// A name that `tweedie samplers` lists, '{kind: NAME, …}', or a .yaml file with a whole plan
    #[arg(long, value_name = "NAME|FILE.yaml")]
    sampler: Option<String>,
    /// The noise levels: geometric, karras, linear, linear-beta, sigmoid, cosine, …, or '{kind: NAME, …}'
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// How many noise levels
    #[arg(long, value_name = "K")]
    steps: Option<usize>,
}

impl PlanArgs {
    /// As if these had been given.
    pub fn new(sampler: Option<String>, schedule: Option<String>, steps: Option<usize>) -> Self {
        Self { sampler, schedule, steps }
    }

    /// The plan that the flags make of `default`.
    pub fn over(&self, default: &Plan) -> Result<Plan> {
        let mut plan = default.clone();
        if let Some(sampler) = &self.sampler {
            let path = Path::new(sampler);
            if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
                plan = tweedie::files::yaml::read(path)?;
            } else {
                plan.sampler = choice::<AnySampler>(sampler, "--sampler")?;
            }
        }
        if let Some(schedule) = &self.schedule {
            plan.schedule = choice::<AnySchedule>(schedule, "--schedule")?;
        }
        plan.steps = self.steps.unwrap_or(plan.steps);
        Ok(plan)
    }

    /// Whether a sampler was named.
    pub fn names_sampler(&self) -> bool {
        self.sampler.is_some()
    }
}

/// All that determines the bits of the images, besides the seeds.
#[derive(Serialize)]
pub struct Identity<'a> {
    /// Of this program.
    pub version: &'static str,
    /// The card's name.
    pub model: &'a str,
    /// Of the weights.
    pub sha256: String,
    /// SHA-256 of the card that was given in place of the model's own, if one was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// What replaced values of the card.
    pub set: &'a [String],
    /// Over which images go in turn; empty for a network without classes.
    pub classes: &'a [i64],
    /// What guides images to them, and how far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Value>,
    /// Schedule, steps and sampler.
    pub plan: &'a Plan,
    /// Size of the blocks; irrelevant if deterministic.
    pub batch: Option<u64>,
    /// cpu or cuda.
    pub device: &'static str,
    /// f32, tf32 or bf16.
    pub precision: String,
    /// SHA-256 of the initial states, of the configuration or of the measurement; empty without.
    pub given: String,
}

impl<'a> Identity<'a> {
    /// With what `common` says; nothing guides, and nothing is given.
    pub fn of(
        common: &'a Common,
        model: &'a Model,
        classes: &'a Classes,
        plan: &'a Plan,
        (device, batch): (Device, u64),
    ) -> Result<Self> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            model: &model.card.name,
            sha256: model.sha256()?,
            card: common.card_hash()?,
            set: &common.set,
            classes: classes.list(),
            guidance: None,
            plan,
            batch: (!common.deterministic).then_some(batch),
            device: libtorch::kind(device),
            precision: common.arithmetic(),
            given: String::new(),
        })
    }
}

impl Sample {
    /// The same as on the command line, without a word of prose.
    pub fn new(model: &str, plan: &Plan, seeds: &str, out: &Path, common: &Common) -> Result<Self> {
        Ok(Self {
            model: model.to_owned(),
            plan: PlanArgs {
                sampler: Some(serde_json::to_string(&plan.sampler)?),
                schedule: Some(serde_json::to_string(&plan.schedule)?),
                steps: Some(plan.steps),
            },
            class: ClassArgs::default(),
            guidance: GuidanceArgs::default(),
            seeds: seeds.to_owned(),
            config: None,
            init: None,
            states: false,
            out: out.to_owned(),
            common: Common { quiet: true, json: false, ..common.clone() },
        })
    }

    pub fn run(&self) -> Result<()> {
        let record = self.draw()?;
        self.common.record(&record)
    }

    /// Draws what is missing; the record of it.
    pub fn draw(&self) -> Result<Value> {
        let seeds = blocks::parse(&self.seeds)?;
        let (model, device) = self.common.open(&self.model)?;
        let prior = self.guidance.over(model, &self.common, device)?;
        let (model, classes) = (&prior.model, self.class.of(&prior)?);
        let published = self.config.as_deref().map(|path| published(path, model)).transpose()?;
        let plan = self.plan.over(published.as_ref().map_or(&model.card.sample, |published| &published.plan))?;
        let ResolvedPlan { sigmas, scheme, .. } = plan.resolve(model.range(), f64::INFINITY)?;
        warn(&self.common, model, &plan, &sigmas);
        let init = self.init.as_deref().map(|path| init(path, model, &seeds)).transpose()?;
        let first = |block: &Block| match (&init, &published) {
            (Some(init), _) => Some(rows(init, block)),
            (None, Some(published)) => Some(released(published, block, model.card.image)),
            (None, None) => None,
        };
        let batch = self.common.batch(device, seeds.len())?;
        let identity = Identity {
            guidance: prior.record()?,
            given: self.init.as_deref().or(self.config.as_deref()).map(digest).transpose()?.unwrap_or_default(),
            ..Identity::of(&self.common, model, &classes, &plan, (device, batch))?
        };
        claim(&self.out, &identity)?;
        let done = |seed| self.file(seed).exists() && (!self.states || self.state(seed).exists());
        let missing: BTreeSet<u64> = seeds.iter().copied().filter(|&seed| !done(seed)).collect();
        let start = Instant::now();
        let blocks = blocks::blocks(&missing, batch);
        let bar = self.common.bar(blocks.len() as u64 * batch * scheme.asked().count() as u64, "sampling");
        let sampling = Loop {
            shape: model.card.image,
            start: model.denoiser.precondition.start(sigmas.max()),
            device,
            // Where the state decides how long the steps are, no image may wait for the steps of another.
            alone: self.common.deterministic || scheme.is_adaptive(),
            bar: &bar,
            asked: scheme.is_adaptive().then(Mutex::default),
        };
        self.write_all(&blocks, (&sampling, &scheme), &first, &prior, &classes)?;
        bar.finish_and_clear();
        let sheet = self.sheet(&seeds)?;
        self.page(&seeds, &identity)?;
        let (seconds, cost) = (start.elapsed().as_secs_f64(), cost(&prior, &scheme, &sampling, &blocks));
        self.common.say(format_args!(
            "{} images ({} new, {cost} each, {seconds:.1} s) in {}, all on one sheet in {}",
            seeds.len(),
            missing.len(),
            self.out.display(),
            sheet.display(),
        ));
        Ok(serde_json::json!({
            "identity": identity, "images": seeds.len(), "new": missing.len(), "evaluations": cost.evaluations,
            "gradients": cost.gradients, "seconds": seconds, "out": self.out, "grid": sheet,
        }))
    }

    /// Computes block after block, and meanwhile writes the images of those that are done.
    fn write_all(
        &self,
        blocks: &[Block],
        (sampling, scheme): (&Loop, &Scheme),
        first: &dyn Fn(&Block) -> Option<Tensor>,
        prior: &Prior,
        classes: &Classes,
    ) -> Result<()> {
        let failure: Mutex<Option<Error>> = Mutex::new(None);
        let failed = || failure.lock().ok().and_then(|mut failure| failure.take()).map_or(Ok(()), Err);
        let threads = workers(sampling.device, blocks.len());
        let jobs = blocks.iter().map(|block| {
            failed()?;
            Ok((block, first(block)))
        });
        let compute = |prior: &Prior, (block, init): (&Block, Option<Tensor>)| {
            let of = |seeds: &[u64]| prior.of(classes.rows(seeds.iter().copied()).as_deref());
            let Drawn { x, verdicts } =
                sampling.draw(&block.seeds, init.as_ref(), &of, &|_, prior, mut x, noise, seen| {
                    for state in sample(scheme, x.shallow_clone(), &prior, noise) {
                        seen(&state)?;
                        x = state;
                    }
                    Ok(x)
                })?;
            let (pixels, states) = (HostCopy::start(&images::to_bytes(&x)), self.states.then(|| HostCopy::start(&x)));
            Ok(Landing { block: block.clone(), pixels, states, verdicts })
        };
        rayon::in_place_scope(|scope| {
            spread(prior, threads, jobs, compute, |landing| {
                let failure = &failure;
                scope.spawn(move |_| {
                    if let Err(error) = self.write(landing)
                        && let Ok(mut failure) = failure.lock()
                    {
                        failure.get_or_insert(error);
                    }
                });
                Ok(())
            })
        })?;
        Ok(failed()?)
    }

    fn file(&self, seed: u64) -> PathBuf {
        self.out.join(format!("{seed:06}.png"))
    }

    fn state(&self, seed: u64) -> PathBuf {
        self.file(seed).with_extension("npy")
    }

    fn write(&self, landing: Landing) -> Result<(), Error> {
        for (seed, pixels, state) in landing.wait()? {
            if let Some(state) = state {
                images::write_npy(&self.state(seed), &state)?;
            }
            images::write_png(&self.file(seed), &pixels)?;
        }
        Ok(())
    }

    /// The first images of the run on one sheet.
    fn sheet(&self, seeds: &BTreeSet<u64>) -> Result<PathBuf> {
        let shown: Result<Vec<Tensor>, Error> =
            seeds.iter().take(SHOWN).map(|&seed| images::read_as_is(&self.file(seed))).collect();
        let shown = shown?;
        let path = self.out.join(images::SHEET);
        images::write_png(&path, &sheet::grid(&shown, (shown.len() as f64).sqrt().ceil() as usize))?;
        Ok(path)
    }

    /// The same as a page, with the settings.
    fn page(&self, seeds: &BTreeSet<u64>, identity: &Identity) -> Result<()> {
        let picture = |&seed: &u64| Picture { label: seed.to_string(), file: self.file(seed) };
        let pictures: Vec<Picture> = seeds.iter().take(SHOWN).map(picture).collect();
        let page = Page {
            title: format!("Samples of {}", identity.model),
            about: match seeds.len() {
                count if count > pictures.len() => format!("The first {SHOWN} of {count} images, by their seeds."),
                _ => "Images by their seeds.".to_owned(),
            },
            command: command(),
            settings: entries(&serde_json::to_value(identity)?),
            cases: vec![Case { pictures, ..Case::default() }],
            ..Page::default()
        };
        Ok(images::write_whole(&self.out.join("index.html"), page.html()?.as_bytes())?)
    }
}

/// What each image of `blocks` has cost, on average where that was for the state to decide.
fn cost(prior: &Prior, scheme: &Scheme, sampling: &Loop, blocks: &[Block]) -> Cost {
    match &sampling.asked {
        Some(asked) => {
            let asked = asked.lock().map(|asked| prior.cost(asked.iter().copied()));
            asked.unwrap_or_default() / blocks.iter().map(|block| block.seeds.len()).sum()
        }
        None => prior.cost(scheme.asked()),
    }
}

/// A configuration that draws images freely, with this network.
fn published(path: &Path, model: &Model) -> Result<Published> {
    let published = Published::read(path)?;
    if published.problem.is_some() {
        bail!("{}: restores images: it is for `tweedie restore`", path.display());
    }
    published.network.check(&model.card)?;
    Ok(published)
}

/// The first states of a block as a configuration has them.
fn released(published: &Published, block: &Block, [channels, height, width]: [i64; 3]) -> Tensor {
    let like = Tensor::zeros([block.seeds.len() as i64, channels, height, width], (Kind::Float, Device::Cpu));
    published.start.states(&like, &Seeded(block.seeds.clone()))
}

/// The states of a block's seeds; those that nobody wants are filled up with the first.
fn rows(init: &Tensor, block: &Block) -> Tensor {
    let last = init.size()[0] - 1;
    let index: Vec<i64> = block.seeds.iter().map(|&seed| (seed as i64).min(last)).collect();
    init.index_select(0, &Tensor::from_slice(&index))
}

fn init(path: &Path, model: &Model, seeds: &BTreeSet<u64>) -> Result<Tensor> {
    let x = Tensor::read_npy(path).with_context(|| format!("{}: not a readable .npy file", path.display()))?;
    let size = x.size();
    let last = seeds.last().copied().unwrap_or(0);
    if size.len() != 4 || size[1..] != model.card.image || size[0] as u64 <= last {
        let [channels, height, width] = model.card.image;
        bail!(
            "{}: is {size:?}, but seeds up to {last} need [{}, {channels}, {height}, {width}]",
            path.display(),
            last + 1
        );
    }
    finite(&x, path)?;
    Ok(x.to_kind(Kind::Float))
}

/// Refuses NaN and infinity in a file.
pub fn finite(x: &Tensor, path: &Path) -> Result<()> {
    let bad = i64::try_from(x.to_kind(Kind::Double).isfinite().logical_not().sum(Kind::Int64))?;
    if bad > 0 {
        bail!("{}: {bad} of its {} values are NaN or infinite", path.display(), x.numel());
    }
    Ok(())
}

/// SHA-256 of a file.
pub fn digest(path: &Path) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("{}: cannot be read", path.display()))?;
    Ok(tweedie::models::card::sha256(&bytes))
}

/// Says which levels the network was never trained for, and what else there is to know of a plan.
pub fn warn(common: &Common, model: &Model, plan: &Plan, sigmas: &Sigmas) {
    if let Some(caveat) = plan.schedule.get().caveat() {
        common.say(format_args!("note: of the process that gives the levels: {caveat}"));
    }
    warn_range(common, model, sigmas);
}

/// Says which levels the network was never trained for.
pub fn warn_range(common: &Common, model: &Model, sigmas: &Sigmas) {
    let (min, max) = model.range();
    // A schedule that ends at the model's own level may miss it by a rounding.
    if sigmas.max() > max * 1.001 || sigmas.min() < min * 0.999 {
        common.say(format_args!(
            "note: σ goes from {:.4} to {:.4}, but the network was trained from {max:.4} to {min:.4}; outside, its \
             answers are guesses",
            sigmas.max(),
            sigmas.min(),
        ));
    }
}

/// Writes the record that says whose images are in `out`, or refuses to mix them with those of another run.
pub fn claim(out: &Path, identity: &impl Serialize) -> Result<()> {
    let path = out.join("record.json");
    let ours = serde_json::to_value(identity)?;
    if path.exists() {
        let text = fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let theirs: Value =
            serde_json::from_slice(&text).with_context(|| format!("{}: not a record", path.display()))?;
        if let Some(key) = difference(&ours, &theirs) {
            bail!(
                "{}: holds the images of another run ({key} was {}, and is {} now): choose another --out, or remove it",
                out.display(),
                theirs.get(&key).unwrap_or(&Value::Null),
                ours.get(&key).unwrap_or(&Value::Null),
            );
        }
        return Ok(());
    }
    Ok(images::write_whole(&path, &serde_json::to_vec_pretty(&ours)?)?)
}

/// The first entry in which two records differ; one that is missing is null.
fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    let keys = ours.as_object()?.keys().chain(theirs.as_object().into_iter().flat_map(|map| map.keys()));
    keys.into_iter().find(|key| ours[key.as_str()] != theirs[key.as_str()]).cloned()
}
