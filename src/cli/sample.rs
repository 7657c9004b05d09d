//! `tweedie sample`: images from noise.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use tch::{Kind, Tensor};
use tweedie::{
    models::card::{Model, sha256_of},
    numbers::{
        plan::{AnySampler, Plan},
        schedule::AnySchedule,
    },
    run::{
        blocks,
        released::Released,
        sample::{SampleFolder, Sampled, Sampling},
    },
};

use super::{
    choice,
    classes::{ClassFlags, GuidanceFlags},
    command,
    flags::{BatchFlags, DeviceFlags, ModelFlags, OutputFlags},
};

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
    plan: PlanFlags,
    #[command(flatten)]
    class: ClassFlags,
    #[command(flatten)]
    guidance: GuidanceFlags,
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
    source: ModelFlags,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    batch: BatchFlags,
    #[command(flatten)]
    output: OutputFlags,
}

/// How to walk; what is left out is the model's own choice.
#[derive(Args, Debug, Default)]
pub struct PlanFlags {
    /// A name that `tweedie samplers` lists, '{kind: NAME, …}', or a .yaml file with a whole plan
    #[arg(long, value_name = "NAME|FILE.yaml")]
    sampler: Option<String>,
    /// The noise levels: a name that `tweedie schedules` lists, '{kind: NAME, …}', or the levels, '[80, 10, 1, 0.1]'
    #[arg(long, value_name = "NAME")]
    schedule: Option<String>,
    /// How many noise levels; levels that are written out count themselves
    #[arg(long, value_name = "K")]
    steps: Option<usize>,
}

impl PlanFlags {
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
        let schedule = self.schedule.as_deref().map(|text| choice::<AnySchedule>(text, "--schedule")).transpose()?;
        Ok(plan.with(schedule, self.steps, None))
    }

    /// Whether a sampler was named.
    pub fn names_sampler(&self) -> bool {
        self.sampler.is_some()
    }
}

impl Sample {
    pub fn run(&self) -> Result<()> {
        let seeds = blocks::parse(&self.seeds)?;
        let session = self.device.session_with(&self.batch, 0)?;
        let model = self.source.open(&self.model, &session, &self.output)?;
        let guided = self.guidance.request()?.apply(model, &session)?;
        let sampling =
            Sampling::new(&guided).session(&session).classes(self.class.list()?).seeds(seeds.iter().copied());
        let sampled =
            self.beginning(sampling, &guided.model, &seeds)?.write(&self.folder()?, &self.output.observer())?;
        self.output.say(sentence(&sampled));
        self.output.record(&sampled)
    }

    /// Plan and first states.
    fn beginning<'a>(&self, sampling: Sampling<'a>, model: &Model, seeds: &BTreeSet<u64>) -> Result<Sampling<'a>> {
        let Some(config) = &self.config else {
            let sampling = sampling.plan(self.plan.over(&model.card.sample)?);
            let init = self.init.as_deref().map(|path| init(path, model, seeds)).transpose()?;
            return Ok(match init {
                Some(states) => sampling.init(states),
                None => sampling,
            });
        };
        let released = released(config)?;
        let plan = self.plan.over(&released.plan)?;
        Ok(sampling.released(released)?.plan(plan))
    }

    fn folder(&self) -> Result<SampleFolder> {
        let given = self.init.as_deref().or(self.config.as_deref()).map(sha256_of).transpose()?;
        Ok(SampleFolder {
            out: self.out.clone(),
            states: self.states,
            command: command(),
            origin: self.source.origin()?,
            given: given.unwrap_or_default(),
        })
    }
}

fn sentence(sampled: &Sampled) -> String {
    let Sampled { images, new, cost, seconds, out, grid, .. } = sampled;
    let (out, grid) = (out.display(), grid.display());
    format!("{images} images ({new} new, {cost} each, {seconds:.1} s) in {out}, all on one sheet in {grid}")
}

/// A configuration that draws images freely.
fn released(path: &Path) -> Result<Released> {
    let released = Released::read(path)?;
    if released.problem.is_some() {
        bail!("{}: restores images: it is for `tweedie restore`", path.display());
    }
    Ok(released)
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
