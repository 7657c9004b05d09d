//! `tweedie sample`: draws images from noise.

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, bail};
use tch::{Kind, Tensor};
use tweedie::{
    files::images,
    models::card::{Model, sha256_of},
    run::{
        blocks,
        released::Released,
        sample::{SampleFolder, Sampled, Sampling},
    },
};

use super::{args::sample::SampleArgs, command};

impl SampleArgs {
    pub fn run(&self) -> Result<()> {
        let seeds = blocks::parse(&self.seeds)?;
        let session = self.device.session_with(&self.batch, 0)?;
        let model = self.source.open(&self.model, &session, &self.output)?;
        let guided = self.guidance.request()?.apply(model, &session)?;
        let sampling = Sampling::new(&guided).session(&session).classes(self.class.list()?);
        let sampling = match self.clip {
            Some(limit) => sampling.clip(Some(limit).filter(|limit| *limit != 0.0))?,
            None => sampling,
        };
        let sampling = sampling.seeds(seeds.iter().copied());
        let sampled =
            self.beginning(sampling, &guided.model, &seeds)?.write(&self.folder()?, &self.output.observer())?;
        self.output.say(sentence(&sampled));
        self.output.record(&sampled)
    }

    /// Sets the plan and the first states of the request.
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
            overwrite: self.overwrite,
        })
    }
}

fn sentence(sampled: &Sampled) -> String {
    let Sampled { images, new, cost, seconds, out, grid, .. } = sampled;
    let (out, grid) = (out.display(), grid.display());
    format!("{images} images ({new} new, {cost} each, {seconds:.1} s) in {out}, all on one sheet in {grid}")
}

/// Reads a released configuration, and checks that it draws images without a measurement.
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
    images::finite(&x, path)?;
    Ok(x.to_kind(Kind::Float))
}
