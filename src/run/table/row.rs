//! A row of a table with its model, which draws its chunks one after another.

use std::{fs, path::PathBuf, sync::Mutex, time::Instant};

use rayon::prelude::*;
use serde_json::{Value, json};
use tch::Tensor;

use super::{
    definition::{ImageStore, SeedChunk, TableExperiment, TableRow},
    draw::within_memory,
    evaluator::Evaluator,
    work::Work,
};
use crate::{
    Error,
    backend::{host_copy::HostCopy, libtorch},
    evaluation::features::{Met, Taken, Target},
    files::{images, npz, rounding::Rounding},
    models::card::{Model, sha256_of},
    numbers::{plan::ResolvedPlan, scheme::Scheme, sigma::Sigmas},
    run::{
        blocks::{self, Block},
        classes::{ClassList, Classes},
        engine::{Batch, Engine, PendingImages, spread},
        fingerprint::{Fingerprint, claim},
        leases::Leases,
        observer::go_on,
        prior::Prior,
        sample::range_note,
    },
    scores::{
        denoiser::{Clip, Clipped, Denoiser},
        sample::sample_to_end,
    },
};

/// Number of images on the sheet of a row.
const SHOWN: i64 = 64;

/// A row of a table with its open model.
pub(super) struct RowRun<'a> {
    pub table: &'a TableExperiment,
    pub row: &'a TableRow,
    pub folder: PathBuf,
    pub claims: Leases,
    pub chunks: Vec<SeedChunk>,
    pub model: Model,
    /// Reference of the images, with the path of its file.
    pub target: Option<Target>,
    pub fingerprint: Value,
    /// Warnings for a reader of the figures.
    pub warnings: Vec<String>,
    classes: Classes,
    scheme: Scheme,
    batch: u64,
    start: f64,
    threads: i32,
    workers: usize,
}

impl<'a> RowRun<'a> {
    /// Opens the model, and claims the folder for this row.
    pub fn open(work: &Work<'a>, row: &'a TableRow) -> Result<Self, Error> {
        let table = work.table;
        let model = work.request.open(&row.model, &row.set, work.session)?;
        work.observer.opened(&model);
        table.proven(row, model.range())?;
        let asked: Option<ClassList> = row.classes.as_deref().map(str::parse).transpose()?;
        let classes = Classes::new(asked.as_ref(), &Prior::from(&model))?;
        let ResolvedPlan { sigmas, scheme, .. } = row.plan.resolve(model.range(), f64::INFINITY)?;
        let together = table.chunk.min(table.images);
        let batch = work.session.batch_for(together as usize)?;
        let threads = tch::get_num_threads();
        let mut run = Self {
            folder: work.folder(row),
            claims: work.claims(row)?,
            chunks: table.chunks(),
            workers: work.session.workers(together.div_ceil(batch) as usize),
            start: model.denoiser.precondition.start(sigmas.max()),
            target: table.target(row).map(|target| target.located(work.request.models.as_deref())),
            fingerprint: Value::Null,
            warnings: Vec::new(),
            table,
            row,
            model,
            classes,
            scheme,
            batch,
            threads,
        };
        run.fingerprint = run.identified(work)?;
        run.warnings = run.caveats(work, &sigmas);
        for warning in &run.warnings {
            work.observer.said(&format!("{}: {warning}", row.name));
        }
        claim(&run.folder, &run.fingerprint)?;
        Ok(run)
    }

    /// Returns everything on which images and figures depend.
    fn identified(&self, work: &Work) -> Result<Value, Error> {
        let (table, row) = (self.table, self.row);
        let (prior, origin) = (Prior::from(&self.model), work.request.origin(&row.set));
        let images = Fingerprint::new(work.session, &prior, &origin, (&self.classes, &row.plan, self.batch))?;
        let sha256 = &images.sha256;
        if let Some(known) = row.sha256.as_ref().filter(|known| !sha256.eq_ignore_ascii_case(known)) {
            let cause = format!("{}: has the SHA-256 {sha256}, but the experiment means {known}", row.model);
            return Err(Error::request(cause));
        }
        let evaluators = work.evaluators.iter().map(Evaluator::fingerprint).collect::<Result<Vec<_>, _>>()?;
        // Images of a reference are identified by the experiment's entry alone; files of statistics look alike, so
        // their hash is recorded.
        let archive = self.target.as_ref().filter(|_| !evaluators.is_empty()).and_then(Target::archive);
        let statistics = archive.map(sha256_of).transpose()?;
        Ok(json!({
            "of": images, "images": table.images, "repeats": table.repeats, "chunk": table.chunk, "rounding": table.rounding,
            "store": table.store, "clip": row.clip, "libtorch": libtorch::VERSION, "evaluate": evaluators,
            "reference": table.target(row), "statistics": statistics,
        }))
    }

    fn caveats(&self, work: &Work, sigmas: &Sigmas) -> Vec<String> {
        let (images, asked) = (self.table.images, work.images_of_file);
        let fewer = (images != asked)
            .then(|| format!("N is {images}, and {asked} in the experiment: figures of another N are others"));
        let note = Some(self.row.note.clone()).filter(|note| !note.is_empty());
        [range_note(&self.model, sigmas), fewer, note].into_iter().flatten().collect()
    }

    /// Draws all chunks that are free.
    pub fn draw_free(&mut self, work: &Work) -> Result<(), Error> {
        let count = self.chunks.len();
        // Each process begins at another chunk, so that two processes seldom want the same one.
        let shift = work.request.rank.rank * count / work.request.rank.size;
        let each = self.scheme.asked().count() as u64;
        work.observer.begun("sampling", self.table.images * self.table.repeats * each);
        for i in 0..count {
            go_on(work.observer)?;
            let chunk = self.chunks[(i + shift) % count].clone();
            if self.result().exists() {
                break;
            }
            let claim = match self.claims.claim(&chunk.name()) {
                Err(_) if self.result().exists() => break,
                claim => claim?,
            };
            match claim {
                // The process that measured the figures has removed the chunks before this claim.
                Some(_) if self.result().exists() => break,
                Some(claim) => {
                    claim.finish(&self.chunk(&chunk, work)?)?;
                    work.observer.finished(chunk.count);
                }
                None => work.observer.advanced(chunk.count * each),
            }
        }
        work.observer.ended();
        Ok(())
    }

    pub fn result(&self) -> PathBuf {
        self.folder.join("result.json")
    }

    /// Draws a chunk and computes its features; returns the contents of its file.
    fn chunk(&mut self, chunk: &SeedChunk, work: &Work) -> Result<Vec<u8>, Error> {
        let start = Instant::now();
        let ((pixels, evaluations), batch) = within_memory(self.batch, |batch| self.draw(chunk, batch, work))?;
        if batch < self.batch {
            let before = self.batch;
            work.observer.said(&format!("memory suffices for {batch} images together, and not for {before}"));
            self.batch = batch;
        }
        let mut arrays = self.taken(work, &pixels)?;
        let mut keep = |name: &str, x: Tensor| arrays.push((name.to_owned(), x));
        if chunk.first == 0 {
            keep("shown", pixels.narrow(0, 0, pixels.size()[0].min(SHOWN)));
        }
        match self.table.store {
            ImageStore::Png => self.pictures(chunk, &pixels)?,
            ImageStore::Zip | ImageStore::Npz => keep("images", pixels),
            ImageStore::Nothing => {}
        }
        let cost = [evaluations, start.elapsed().as_secs_f64(), memory() as f64, batch as f64];
        keep("cost", Tensor::from_slice(&cost));
        npz::npz(&arrays)
    }

    /// Computes the features of these images by each network, with all threads of this process.
    fn taken(&self, work: &Work, pixels: &Tensor) -> Result<Vec<(String, Tensor)>, Error> {
        let mut arrays = Vec::new();
        tch::set_num_threads(self.threads);
        for (k, evaluator) in work.evaluators.iter().enumerate() {
            let wanted = evaluator.evaluation.wanted(self.target.is_some());
            let Taken { features, logits, spatial } = evaluator.take(pixels, wanted)?;
            let named = [("features", Some(features)), ("logits", logits), ("spatial", spatial)];
            arrays.extend(named.into_iter().filter_map(|(name, x)| Some((format!("{name}-{k}"), x?))));
        }
        tch::set_num_threads((self.threads / self.workers as i32).max(1));
        let digests: Vec<i64> = Met::drawn(pixels)?.digests.into_iter().map(u64::cast_signed).collect();
        arrays.push(("digests".to_owned(), Tensor::from_slice(&digests)));
        Ok(arrays)
    }

    /// Draws the chunk's images as bytes, `[count, channels, height, width]`; returns them with the mean number of
    /// evaluations for an image.
    fn draw(&self, chunk: &SeedChunk, batch: u64, work: &Work) -> Result<(Tensor, f64), Error> {
        let blocks = blocks::blocks(&chunk.seeds().collect(), batch);
        let engine = Engine {
            shape: self.model.card.image,
            start: self.start,
            device: work.session.device,
            alone: work.session.deterministic || self.scheme.is_adaptive(),
            observer: work.observer,
            asked: self.scheme.is_adaptive().then(Mutex::default),
            on_step: None,
        };
        let mut pixels: Vec<(u64, Tensor)> = Vec::with_capacity(chunk.count as usize);
        let mut land = |pending: Option<PendingImages>| -> Result<(), Error> {
            let landed = pending.map_or(Ok(Vec::new()), PendingImages::wait)?;
            pixels.extend(landed.into_iter().map(|(seed, image, _)| (seed, image)));
            Ok(())
        };
        // Threads share these settings, but not the model.
        let way =
            Way { classes: &self.classes, scheme: &self.scheme, clip: self.row.clip, rounding: self.table.rounding };
        let draw = |prior: &Prior, block: &Block| way.draw(prior, block, &engine);
        // A block is copied to the host while the next is computed.
        let mut under_way = None;
        let jobs = blocks.iter().map(Ok);
        spread(&Prior::from(&self.model), self.workers, jobs, draw, |pending| land(under_way.replace(pending)))?;
        land(under_way)?;
        pixels.sort_by_key(|(seed, _)| *seed);
        let pixels: Vec<Tensor> = pixels.into_iter().map(|(_, image)| image).collect();
        let asked = engine.asked.as_ref().and_then(|asked| asked.lock().ok().map(|asked| asked.len()));
        let drawn: usize = blocks.iter().map(|block| block.seeds.len()).sum();
        let evaluations = asked.map_or(self.scheme.evaluations() as f64, |asked| asked as f64 / drawn as f64);
        Ok((Tensor::stack(&pixels, 0), evaluations))
    }

    /// Writes the chunk's images, each file whole or not at all.
    fn pictures(&self, chunk: &SeedChunk, pixels: &Tensor) -> Result<(), Error> {
        let folder = self.folder.join("images");
        let each: Vec<(u64, Tensor)> = chunk.seeds().zip((0..).map(|i| pixels.get(i))).collect();
        let write = |(seed, image): (u64, Tensor)| images::write_png(&folder.join(format!("{seed:06}.png")), &image);
        each.into_par_iter().try_for_each(write)
    }
}

/// Settings with which blocks are drawn.
struct Way<'a> {
    classes: &'a Classes,
    scheme: &'a Scheme,
    clip: bool,
    rounding: Rounding,
}

impl Way<'_> {
    /// Draws a block and starts its copy to the host.
    fn draw(&self, prior: &Prior, block: &Block, engine: &Engine) -> Result<PendingImages, Error> {
        let prior_of = |seeds: &[u64]| -> Box<dyn Denoiser> {
            let denoiser = prior.denoiser(self.classes.rows(seeds.iter().copied()).as_deref());
            Clipped::within(denoiser, self.clip.then_some(Clip::Limit(1.0)))
        };
        let Batch { x, checks } = engine.draw(&block.seeds, None, &prior_of, &|_, prior, x, noise, seen| {
            sample_to_end(self.scheme, x, &prior, noise, seen)
        })?;
        let pixels = HostCopy::start(&self.rounding.bytes(&x));
        Ok(PendingImages { block: block.clone(), pixels, states: None, checks })
    }
}

/// Returns the peak memory of this process, in bytes; 0 where the system does not report it.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
