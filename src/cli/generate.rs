//! `tweedie run` of many images for a table: any number of processes, killed and started again at will.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use indexmap::IndexMap;
use rayon::prelude::*;
use serde_json::{Value, json};
use tch::{Device, Tensor};
use tweedie::{
    backend::{host_copy::HostCopy, libtorch},
    evaluation::features::{Collected, Collector, Figure, Met, Taken, Target},
    files::{archive::Archive, images, npz},
    inverse::restoration::Seen,
    models::card::sha256_of,
    numbers::{plan::ResolvedPlan, scheme::Scheme, sigma::Sigmas},
    report::sheet,
    run::{
        blocks::{self, Block},
        leases::{self, Leases, Owner, Rank},
        records::{self, Record},
        table::{self, Chunk, Clipped, Generation, Row, Store},
    },
    scores::{denoiser::Denoiser, noise::Seeded, sample::sample},
};

use super::{
    Common,
    classes::{ClassArgs, Classes},
    guidance::Prior,
    images::{Drawn, Landing, Loop, spread},
    judge::{self, Judge},
    restorations::Place,
    run::folder,
    sample::Identity,
    workers,
};

/// How long a process that finds nothing to do waits before it looks again.
const NAP: Duration = Duration::from_millis(300);
/// Images on the sheet of a row.
const SHOWN: i64 = 64;

/// What the command line says of an experiment that generates.
pub struct Wish<'a> {
    /// Where models are that are not where they are named.
    pub models: Option<&'a Path>,
    /// Only rows whose names contain this.
    pub rows: Option<&'a str>,
    /// How long a silent process keeps its work.
    pub patience: Duration,
    /// The N of the file, whatever the command line says.
    pub images: u64,
    /// The experiment, word for word.
    pub text: &'a str,
}

/// How far a row is.
#[derive(PartialEq)]
enum State {
    /// Its figures are there.
    Finished,
    /// Others are at work on what is left of it.
    Busy,
}

/// Draws and measures all rows, together with whatever processes do the same in the same folders.
pub fn run(of: &Generation, place: &Place, wish: &Wish, common: &Common) -> Result<()> {
    of.check()?;
    let rank = Rank::of(|name| std::env::var(name).ok()).unwrap_or_else(Rank::alone);
    let common = &of_rank(common, rank);
    let (rows, missing) = chosen(of, wish)?;
    for (row, why) in &missing {
        common.say(format_args!("note: {}: {why}", row.name));
    }
    let judges = judge::open(of, &rows, wish.models, common)?;
    let work = Work { of, place, wish, rank, common, judges };
    let (mut finished, mut open) = (BTreeSet::new(), None);
    while finished.len() < rows.len() {
        let before = finished.len();
        for (i, row) in rows.iter().enumerate().filter(|(i, _)| !finished.contains(i)).collect::<Vec<_>>() {
            if work.advance(i, row, &mut open).with_context(|| row.name.clone())? == State::Finished {
                finished.insert(i);
            }
        }
        if finished.len() == before {
            super::not_interrupted()?;
            thread::sleep(NAP);
        }
    }
    work.tell(&rows)
}

/// What all of it will cost, without the networks: that its walks are what the file says.
pub fn dry(of: &Generation, common: &Common) -> Result<()> {
    of.check()?;
    common.say("| row | model | evaluations | images | published |\n| --- | --- | --- | --- | --- |");
    for row in &of.rows {
        let evaluations = of.evaluations(row).with_context(|| row.name.clone())?;
        let (images, published) = (of.images * of.repeats, row.published.map_or("–".to_owned(), |p| p.to_string()));
        common.say(format_args!("| {} | {} | {evaluations} | {images} | {published} |", row.name, row.model));
    }
    Ok(())
}

/// Each process has its own GPU, and the first of them speaks.
fn of_rank(common: &Common, rank: Rank) -> Common {
    let gpus = libtorch::cuda().unwrap_or(0) as usize;
    let any = matches!(common.device.as_str(), "auto" | "cuda");
    let device = if any && gpus > 0 { format!("cuda:{}", rank.local % gpus) } else { common.device.clone() };
    let silent = rank.rank > 0;
    Common { device, quiet: common.quiet || silent, json: common.json && !silent, ..common.clone() }
}

/// The rows that can be run, and those whose checkpoint is not here.
#[expect(clippy::type_complexity, reason = "two lists of rows")]
fn chosen<'a>(of: &'a Generation, wish: &Wish) -> Result<(Vec<&'a Row>, Vec<(&'a Row, String)>)> {
    let wanted = |row: &&Row| wish.rows.is_none_or(|name| row.name.contains(name));
    let here = |model: &str| {
        let found = table::located(model, wish.models);
        tweedie::models::card::names().any(|name| name == found) || Path::new(&found).exists()
    };
    let (rows, missing): (Vec<&Row>, Vec<&Row>) = of.rows.iter().filter(wanted).partition(|row| here(&row.model));
    if rows.is_empty() {
        let names: BTreeSet<&str> = missing.iter().map(|row| row.model.as_str()).collect();
        if names.is_empty() {
            bail!("--row {}: no row's name contains this", wish.rows.unwrap_or_default());
        }
        bail!(
            "none of its checkpoints is here: put {} into a folder and name it with --models DIR",
            names.into_iter().collect::<Vec<_>>().join(", ")
        );
    }
    let why = |row: &'a Row| (row, format!("left out: {} is not here (--models DIR)", row.model));
    Ok((rows, missing.into_iter().map(why).collect()))
}

struct Work<'a> {
    of: &'a Generation,
    place: &'a Place<'a>,
    wish: &'a Wish<'a>,
    rank: Rank,
    common: &'a Common,
    judges: Vec<Judge>,
}

/// What a set comes to: figures, and what a reader of them has to know.
type Measured = (Vec<Figure>, Vec<String>);

impl<'a> Work<'a> {
    fn folder(&self, row: &Row) -> PathBuf {
        self.place.out.join(self.place.name).join(folder(&row.name))
    }

    fn claims(&self, row: &Row) -> Result<Leases> {
        let owner = Owner::here(self.rank.rank);
        Ok(Leases::new(&self.folder(row).join("chunks"), owner, self.wish.patience)?)
    }

    /// Does what can be done for a row now. The model that is open stays open until another is needed.
    fn advance(&self, index: usize, row: &'a Row, open: &mut Option<(usize, Session<'a>)>) -> Result<State> {
        let is_open = open.as_ref().is_some_and(|(of, _)| *of == index);
        if !is_open {
            let (claims, chunks) = (self.claims(row)?, self.of.chunks());
            let others =
                || chunks.iter().all(|chunk| claims.is_finished(&chunk.name()) || !claims.is_free(&chunk.name()));
            let all = || chunks.iter().all(|chunk| claims.is_finished(&chunk.name()));
            // A row is looked into once by everybody, to see that it is the same experiment.
            if self.folder(row).join("record.json").exists() && !self.result(row).exists() && others() && !all() {
                return Ok(State::Busy);
            }
            *open = None;
            *open = Some((index, Session::open(self, row)?));
        }
        match open {
            Some((_, session)) => session.advance(self),
            None => Ok(State::Busy),
        }
    }

    fn result(&self, row: &Row) -> PathBuf {
        self.folder(row).join("result.json")
    }

    /// The table of what is there.
    fn tell(&self, rows: &[&Row]) -> Result<()> {
        let read = |row: &&Row| -> Result<Record> {
            let path = self.result(row);
            let text = fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
            serde_json::from_slice(&text).with_context(|| format!("{}: not a record", path.display()))
        };
        let records = rows.iter().map(read).collect::<Result<Vec<_>>>()?;
        self.common.say(super::table::markdown(self.of, &records));
        let lines = self.place.results.join(records::FILE);
        self.common.say(format_args!("records in {}; `tweedie table` makes a page of them", lines.display()));
        self.common.record(&records)
    }
}

/// A row with its model.
struct Session<'a> {
    of: &'a Generation,
    row: &'a Row,
    folder: PathBuf,
    claims: Leases,
    chunks: Vec<Chunk>,
    prior: Prior,
    classes: Classes,
    scheme: Scheme,
    /// What the images should resemble, where its file is.
    target: Option<Target>,
    device: Device,
    batch: u64,
    alone: bool,
    start: f64,
    threads: i32,
    workers: usize,
    identity: Value,
    warnings: Vec<String>,
}

impl<'a> Session<'a> {
    fn open(work: &Work<'a>, row: &'a Row) -> Result<Self> {
        let of = work.of;
        let set = [row.set.clone(), work.common.set.clone()].concat();
        let common = &Common { set, ..work.common.clone() };
        let (model, device) = common.open(&table::located(&row.model, work.wish.models))?;
        of.proven(row, model.range())?;
        let prior = Prior::from(model);
        let (model, classes) = (&prior.model, ClassArgs::from(row.classes.clone()).of(&prior)?);
        let ResolvedPlan { sigmas, scheme, .. } = row.plan.resolve(model.range(), f64::INFINITY)?;
        let batch = common.batch(device, of.chunk.min(of.images) as usize)?;
        let threads = tch::get_num_threads();
        let mut session = Self {
            folder: work.folder(row),
            claims: work.claims(row)?,
            chunks: of.chunks(),
            workers: workers(device, of.chunk.min(of.images).div_ceil(batch) as usize),
            alone: common.deterministic || scheme.is_adaptive(),
            start: model.denoiser.precondition.start(sigmas.max()),
            target: of.target(row).map(|target| target.located(work.wish.models)),
            identity: Value::Null,
            warnings: Vec::new(),
            of,
            row,
            prior,
            classes,
            scheme,
            device,
            batch,
            threads,
        };
        session.identity = session.identified(work, common)?;
        session.warnings = session.caveats(work, &sigmas);
        for warning in &session.warnings {
            common.say(format_args!("note: {}: {warning}", row.name));
        }
        session.same()?;
        Ok(session)
    }

    /// All that images and figures depend on.
    fn identified(&self, work: &Work, common: &Common) -> Result<Value> {
        let (of, given) = (self.of, (self.device, self.batch));
        let images = Identity::of(common, &self.prior.model, &self.classes, &self.row.plan, given)?;
        let sha256 = &images.sha256;
        if let Some(known) = self.row.sha256.as_ref().filter(|known| !sha256.eq_ignore_ascii_case(known)) {
            bail!("{}: has the SHA-256 {sha256}, but the experiment means {known}", self.row.model);
        }
        let judges = work.judges.iter().map(Judge::identity).collect::<Result<Vec<_>>>()?;
        // Images of a reference are taken to be what the file says; one file of statistics looks like another.
        let archive = self.target.as_ref().filter(|_| !judges.is_empty()).and_then(Target::archive);
        let statistics = archive.map(sha256_of).transpose()?;
        Ok(json!({
            "of": images, "images": of.images, "repeats": of.repeats, "chunk": of.chunk, "rounding": of.rounding,
            "store": of.store, "clip": self.row.clip, "libtorch": libtorch::VERSION, "evaluate": judges,
            "reference": of.target(self.row), "statistics": statistics,
        }))
    }

    /// What a reader of the figures has to know.
    fn caveats(&self, work: &Work, sigmas: &Sigmas) -> Vec<String> {
        let ((min, max), images, asked) = (self.prior.model.range(), self.of.images, work.wish.images);
        let (low, high) = (sigmas.min(), sigmas.max());
        let range = (high > max * 1.001 || low < min * 0.999).then(|| {
            format!("σ goes from {high:.4} to {low:.4}, but the network was trained from {max:.4} to {min:.4}")
        });
        let fewer = (images != asked)
            .then(|| format!("N is {images}, and {asked} in the experiment: figures of another N are others"));
        let note = Some(self.row.note.clone()).filter(|note| !note.is_empty());
        [range, fewer, note].into_iter().flatten().collect()
    }

    /// Says whose images are in the folder, or refuses to mix them with those of another run.
    fn same(&self) -> Result<()> {
        let path = self.folder.join("record.json");
        if !path.exists() {
            return Ok(images::write_whole(&path, &serde_json::to_vec_pretty(&self.identity)?)?);
        }
        let text = fs::read(&path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let theirs = serde_json::from_slice(&text).with_context(|| format!("{}: not a record", path.display()))?;
        let differences = table::differences(&self.identity, &theirs);
        if !differences.is_empty() {
            bail!(
                "{}: holds the images of another run ({}): choose another --out, or remove it",
                self.folder.display(),
                differences.join("; ")
            );
        }
        Ok(())
    }

    /// All chunks that are free, then the figures, if nobody else is still at work.
    fn advance(&mut self, work: &Work) -> Result<State> {
        let count = self.chunks.len();
        // Each process begins elsewhere, so that they seldom want the same.
        let shift = work.rank.rank * count / work.rank.size;
        let bar = work.common.bar(count as u64, "chunks");
        for i in 0..count {
            super::not_interrupted()?;
            let chunk = self.chunks[(i + shift) % count].clone();
            if self.result().exists() {
                break;
            }
            let claim = match self.claims.claim(&chunk.name()) {
                Err(_) if self.result().exists() => break,
                claim => claim?,
            };
            if let Some(claim) = claim {
                // Whoever made the figures has cleared up before this claim.
                if self.result().exists() {
                    break;
                }
                claim.finish(&self.chunk(&chunk, work)?)?;
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.conclude(work)
    }

    fn result(&self) -> PathBuf {
        self.folder.join("result.json")
    }

    /// Draws a chunk and what networks make of it: the contents of its file.
    fn chunk(&mut self, chunk: &Chunk, work: &Work) -> Result<Vec<u8>> {
        let start = Instant::now();
        let ((pixels, evaluations), batch) = table::within_memory(self.batch, |batch| self.draw(chunk, batch))?;
        if batch < self.batch {
            work.common
                .say(format_args!("note: memory suffices for {batch} images together, and not for {}", self.batch));
            self.batch = batch;
        }
        let mut arrays = self.taken(work, &pixels)?;
        let mut keep = |name: &str, x: Tensor| arrays.push((name.to_owned(), x));
        if chunk.first == 0 {
            keep("shown", pixels.narrow(0, 0, pixels.size()[0].min(SHOWN)));
        }
        match self.of.store {
            Store::Png => self.pictures(chunk, &pixels)?,
            Store::Zip | Store::Npz => keep("images", pixels),
            Store::Nothing => {}
        }
        let cost = [evaluations, start.elapsed().as_secs_f64(), memory() as f64, batch as f64];
        keep("cost", Tensor::from_slice(&cost));
        Ok(npz::npz(&arrays)?)
    }

    /// What each network makes of these images, by all threads of this process.
    fn taken(&self, work: &Work, pixels: &Tensor) -> Result<Vec<(String, Tensor)>> {
        let mut arrays = Vec::new();
        tch::set_num_threads(self.threads);
        for (k, judge) in work.judges.iter().enumerate() {
            let Taken { features, logits, spatial } = judge.take(pixels, judge.of.wanted(self.target.is_some()))?;
            let named = [("features", Some(features)), ("logits", logits), ("spatial", spatial)];
            arrays.extend(named.into_iter().filter_map(|(name, x)| Some((format!("{name}-{k}"), x?))));
        }
        tch::set_num_threads((self.threads / self.workers as i32).max(1));
        let digests: Vec<i64> = Met::drawn(pixels)?.digests.into_iter().map(u64::cast_signed).collect();
        arrays.push(("digests".to_owned(), Tensor::from_slice(&digests)));
        Ok(arrays)
    }

    /// The chunk's images as bytes, `[count, channels, height, width]`, and the evaluations of one on average.
    fn draw(&self, chunk: &Chunk, batch: u64) -> Result<(Tensor, f64)> {
        let blocks = blocks::blocks(&chunk.seeds().collect(), batch);
        let bar = indicatif::ProgressBar::hidden();
        let drawing = Loop {
            shape: self.prior.model.card.image,
            start: self.start,
            device: self.device,
            alone: self.alone,
            bar: &bar,
            asked: self.scheme.is_adaptive().then(Mutex::default),
        };
        let mut pixels: Vec<(u64, Tensor)> = Vec::with_capacity(chunk.count as usize);
        let (classes, scheme, Row { clip, .. }, rounding) = (&self.classes, &self.scheme, self.row, self.of.rounding);
        let draw = |prior: &Prior, block: &Block| {
            let of = |seeds: &[u64]| -> Box<dyn Denoiser> {
                let prior = prior.of(classes.rows(seeds.iter().copied()).as_deref());
                if *clip { Box::new(Clipped(prior)) } else { prior }
            };
            let Drawn { x, verdicts } = drawing
                .draw(&block.seeds, None, &of, &|_, prior, x, noise, seen| walk(scheme, prior, x, noise, seen))?;
            Ok(Landing { block: block.clone(), pixels: HostCopy::start(&rounding.bytes(&x)), states: None, verdicts })
        };
        let mut land = |landing: Option<Landing>| -> Result<()> {
            let landed = landing.map_or(Ok(Vec::new()), Landing::wait)?;
            pixels.extend(landed.into_iter().map(|(seed, image, _)| (seed, image)));
            Ok(())
        };
        // A block lands while the next is computed.
        let mut under_way = None;
        spread(&self.prior, self.workers, blocks.iter().map(Ok), draw, |landing| land(under_way.replace(landing)))?;
        land(under_way)?;
        pixels.sort_by_key(|(seed, _)| *seed);
        let pixels: Vec<Tensor> = pixels.into_iter().map(|(_, image)| image).collect();
        let asked = drawing.asked.as_ref().and_then(|asked| asked.lock().ok().map(|asked| asked.len()));
        let drawn: usize = blocks.iter().map(|block| block.seeds.len()).sum();
        let evaluations = asked.map_or(self.scheme.evaluations() as f64, |asked| asked as f64 / drawn as f64);
        Ok((Tensor::stack(&pixels, 0), evaluations))
    }

    /// Writes the chunk's images, each whole.
    fn pictures(&self, chunk: &Chunk, pixels: &Tensor) -> Result<()> {
        let folder = self.folder.join("images");
        let each: Vec<(u64, Tensor)> = chunk.seeds().zip((0..).map(|i| pixels.get(i))).collect();
        let write = |(seed, image): (u64, Tensor)| images::write_png(&folder.join(format!("{seed:06}.png")), &image);
        Ok(each.into_par_iter().try_for_each(write)?)
    }

    /// The figures, if all chunks are there; exactly one process makes them.
    fn conclude(&self, work: &Work) -> Result<State> {
        let lines = work.place.results.join(records::FILE);
        if !self.result().exists() {
            let all = |claims: &Leases| self.chunks.iter().all(|chunk| claims.is_finished(&chunk.name()));
            if !all(&self.claims) {
                return Ok(State::Busy);
            }
            let last = Leases::new(&self.folder, Owner::here(work.rank.rank), work.wish.patience)?;
            let Some(claim) = last.claim("result.json")? else { return Ok(State::Busy) };
            let Some((sets, total)) = self.figures(work)? else { return Ok(State::Busy) };
            let record = self.record(work, &sets, &total);
            records::append(&lines, &record)?;
            claim.finish(&serde_json::to_vec_pretty(&record)?)?;
        }
        self.clear();
        Ok(State::Finished)
    }

    /// Chunks have served, and what killed processes left behind serves nobody.
    fn clear(&self) {
        for chunk in &self.chunks {
            let _ = fs::remove_file(self.claims.file(&chunk.name()));
        }
        for folder in ["chunks", "images", ""] {
            leases::sweep_left(&self.folder.join(folder));
        }
    }

    /// What each set comes to, and what all chunks have cost; none if one of them was damaged and has to be drawn again.
    fn figures(&self, work: &Work) -> Result<Option<(Vec<Measured>, Total)>> {
        let (mut sets, mut total) = (Vec::new(), Total::default());
        for repeat in 0..self.of.repeats {
            let chunks: Vec<&Chunk> = self.chunks.iter().filter(|chunk| chunk.repeat == repeat).collect();
            let Some(collected) = self.merged(work, repeat, &chunks, &mut total)? else { return Ok(None) };
            let (mut figures, mut warnings) = Measured::default();
            for (judge, images) in work.judges.iter().zip(&collected) {
                let reference = judge.reference(self.target.as_ref(), work.common)?;
                figures.extend(judge.of.figures(&judge.probe, images, reference.as_deref())?);
                warnings.extend(judge.of.warnings(&judge.probe, images, reference.as_deref()));
            }
            sets.push((figures, warnings));
        }
        Ok(Some((sets, total)))
    }

    /// By name, in the order in which they are asked for: value and spread over sets, or else that of the one set.
    fn summed_up(&self, sets: &[Measured]) -> IndexMap<String, (f64, Option<f64>)> {
        let Some((first, _)) = sets.first() else { return IndexMap::new() };
        let of = |(k, figure): (usize, &Figure)| {
            let values: Vec<f64> = sets.iter().filter_map(|(figures, _)| Some(figures.get(k)?.value)).collect();
            let (value, spread) = self.of.taken(&values, k == 0)?;
            Some((figure.name.clone(), (value, spread.or(figure.spread))))
        };
        first.iter().enumerate().filter_map(of).collect()
    }

    fn record(&self, work: &Work, sets: &[Measured], total: &Total) -> Record {
        let images = self.of.images * self.of.repeats;
        let asked = self.identity["of"]["batch"].as_u64();
        let batch = asked.is_some_and(|asked| total.batch < asked as f64).then(|| {
            format!("memory sufficed for {} images together at times: images are equal up to rounding", total.batch)
        });
        let mut told: Vec<String> = Vec::new();
        for warning in sets.iter().flat_map(|(_, warnings)| warnings) {
            if !told.contains(warning) {
                work.common.say(format_args!("note: {}: {warning}", self.row.name));
                told.push(warning.clone());
            }
        }
        Record {
            id: table::id(&self.identity),
            experiment: work.place.name.to_owned(),
            text: work.wish.text.to_owned(),
            row: self.row.name.clone(),
            command: super::command(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: libtorch::VERSION.to_owned(),
            device: libtorch::kind(self.device).to_owned(),
            identity: self.identity.clone(),
            seeds: format!("0-{}", images - 1),
            evaluations: total.evaluations / self.chunks.len() as f64,
            seconds: total.seconds / images as f64,
            memory: total.memory as u64,
            figures: self.summed_up(sets),
            each: sets.iter().filter_map(|(figures, _)| Some(figures.first()?.value)).collect(),
            published: self.row.published,
            out: self.folder.display().to_string(),
            warnings: self.warnings.iter().cloned().chain(batch).chain(told).collect(),
        }
    }

    /// What each network has made of a set, chunk after chunk, and its archive; none if a chunk was damaged.
    fn merged(&self, work: &Work, repeat: u64, chunks: &[&Chunk], total: &mut Total) -> Result<Option<Vec<Collected>>> {
        let collector = |judge: &Judge| Collector::new(judge.of.wanted(self.target.is_some()), self.of.images as usize);
        let mut collectors: Vec<Collector> = work.judges.iter().map(collector).collect();
        let mut damaged = false;
        let mut fill = |archive: &mut Option<Archive>| -> Result<(), String> {
            for chunk in chunks {
                let path = self.claims.file(&chunk.name());
                let Ok(arrays) = Tensor::read_npz(&path) else {
                    damaged = true;
                    return fs::remove_file(&path).map_err(|e| e.to_string());
                };
                self.add(chunk, &arrays, (&mut collectors, archive.as_mut(), total))?;
            }
            archive.take().map_or(Ok(()), Archive::finish)
        };
        match self.of.store.layout() {
            None => fill(&mut None).map_err(anyhow::Error::msg)?,
            Some(layout) => {
                let count = chunks.iter().map(|chunk| chunk.count).sum();
                let shape = self.prior.model.card.image;
                images::write_by(&self.set(repeat, "images", self.of.store), |path| {
                    fill(&mut Some(Archive::create(path, layout, count, shape)?))
                })?;
            }
        }
        if damaged {
            return Ok(None);
        }
        let collected = collectors.into_iter().map(Collector::finish).collect::<Result<Vec<_>, _>>()?;
        for (judge, images) in work.judges.iter().zip(&collected) {
            let name =
                if collected.len() == 1 { "statistics".to_owned() } else { format!("statistics-{}", judge.name()) };
            images.save(&self.set(repeat, &name, Store::Npz))?;
        }
        Ok(Some(collected))
    }

    /// Adds a chunk to what there is of its set.
    fn add(
        &self,
        chunk: &Chunk,
        arrays: &[(String, Tensor)],
        (collectors, archive, total): (&mut [Collector], Option<&mut Archive>, &mut Total),
    ) -> Result<(), String> {
        let array = |name: &str| arrays.iter().find(|(known, _)| known == name).map(|(_, x)| x.shallow_clone());
        let needed = |name: &str| array(name).ok_or_else(|| format!("{} lacks {name}", chunk.name()));
        let digests = Vec::<i64>::try_from(needed("digests")?).map_err(|e| e.to_string())?;
        let met = Met {
            size: self.prior.model.card.image.to_vec(),
            digests: digests.into_iter().map(i64::cast_unsigned).collect(),
            labels: None,
            jpegs: 0,
        };
        for (k, collector) in collectors.iter_mut().enumerate() {
            let taken = Taken {
                features: needed(&format!("features-{k}"))?,
                logits: array(&format!("logits-{k}")),
                spatial: array(&format!("spatial-{k}")),
            };
            collector.add(&met, &taken).map_err(|e| e.to_string())?;
        }
        if let Some(archive) = archive {
            archive.push(chunk.seeds(), &needed("images")?)?;
        }
        if let Some(shown) = array("shown") {
            self.sheet(&shown).map_err(|e| e.to_string())?;
        }
        total.add(&needed("cost")?);
        Ok(())
    }

    fn sheet(&self, shown: &Tensor) -> Result<(), tweedie::Error> {
        let shown: Vec<Tensor> = (0..shown.size()[0]).map(|i| shown.get(i)).collect();
        let columns = (shown.len() as f64).sqrt().ceil() as usize;
        images::write_png(&self.folder.join(images::SHEET), &sheet::grid(&shown, columns))
    }

    /// A file of a set, numbered where there are several.
    fn set(&self, repeat: u64, name: &str, store: Store) -> PathBuf {
        let number = if self.of.repeats > 1 { format!("-{repeat}") } else { String::new() };
        let ending = if store == Store::Zip { "zip" } else { "npz" };
        self.folder.join(format!("{name}{number}.{ending}"))
    }
}

/// To the end of a scheme.
fn walk(
    scheme: &Scheme,
    prior: &dyn Denoiser,
    mut x: Tensor,
    noise: &Seeded,
    seen: &mut Seen,
) -> Result<Tensor, tweedie::Error> {
    for state in sample(scheme, x.shallow_clone(), &prior, noise) {
        seen(&state)?;
        x = state;
    }
    Ok(x)
}

/// What chunks have cost.
struct Total {
    evaluations: f64,
    seconds: f64,
    memory: f64,
    batch: f64,
}

impl Default for Total {
    fn default() -> Self {
        Self { evaluations: 0.0, seconds: 0.0, memory: 0.0, batch: f64::INFINITY }
    }
}

impl Total {
    fn add(&mut self, cost: &Tensor) {
        let at = |i| cost.double_value(&[i]);
        self.evaluations += at(0);
        self.seconds += at(1);
        self.memory = self.memory.max(at(2));
        self.batch = self.batch.min(at(3));
    }
}

/// The most memory that this process has had, in bytes; 0 where the system does not tell.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
}
