//! Figures of a row whose chunks are all finished.

use std::{fs, path::PathBuf};

use indexmap::IndexMap;
use tch::Tensor;

use super::{
    definition::{ImageStore, SeedChunk},
    evaluator::Evaluator,
    row::RowRun,
    work::{RowState, Work},
};
use crate::{
    Error,
    backend::libtorch,
    evaluation::features::{Collected, Collector, Figure, Met, Taken},
    files::{archive::ImageArchive, images},
    report::sheet,
    run::{
        leases::{self, Leases, Owner},
        records::{self, Record},
    },
};

/// Figures of a set, and warnings for their reader.
type Measured = (Vec<Figure>, Vec<String>);

impl RowRun<'_> {
    /// Measures the figures if all chunks are finished; exactly one process does so.
    pub fn conclude(&self, work: &Work) -> Result<RowState, Error> {
        if !self.result().exists() {
            if !self.chunks.iter().all(|chunk| self.claims.is_finished(&chunk.name())) {
                return Ok(RowState::Busy);
            }
            let last = Leases::new(&self.folder, Owner::here(work.request.rank.rank), work.request.patience)?;
            let Some(claim) = last.claim("result.json")? else { return Ok(RowState::Busy) };
            let Some((sets, total)) = self.figures(work)? else { return Ok(RowState::Busy) };
            let record = self.record(work, &sets, &total);
            records::append(&work.request.results.join(records::FILE), &record)?;
            claim.finish(&serde_json::to_vec_pretty(&record).map_err(|e| Error::file(self.result(), e))?)?;
        }
        self.clear();
        Ok(RowState::Finished)
    }

    /// Removes the chunks, which are no longer needed, and the files that killed processes left behind.
    fn clear(&self) {
        for chunk in &self.chunks {
            let _ = fs::remove_file(self.claims.file(&chunk.name()));
        }
        for folder in ["chunks", "images", ""] {
            leases::sweep_left(&self.folder.join(folder));
        }
    }

    /// Measures the figures of each set, and sums the cost of all chunks; `None` if a chunk was damaged and has to be
    /// drawn again.
    fn figures(&self, work: &Work) -> Result<Option<(Vec<Measured>, Total)>, Error> {
        let (mut sets, mut total) = (Vec::new(), Total::default());
        for repeat in 0..self.table.repeats {
            let chunks: Vec<&SeedChunk> = self.chunks.iter().filter(|chunk| chunk.repeat == repeat).collect();
            let Some(collected) = self.merged(work, repeat, &chunks, &mut total)? else { return Ok(None) };
            let (mut figures, mut warnings) = Measured::default();
            for (evaluator, images) in work.evaluators.iter().zip(&collected) {
                let reference = evaluator.reference(self.target.as_ref(), work.observer)?;
                figures.extend(evaluator.evaluation.figures(&evaluator.probe, images, reference.as_deref())?);
                warnings.extend(evaluator.evaluation.warnings(&evaluator.probe, images, reference.as_deref()));
            }
            sets.push((figures, warnings));
        }
        Ok(Some((sets, total)))
    }

    /// Returns value and spread over the sets by name, in the order of the request; for one set, the spread is the
    /// set's own.
    fn summed_up(&self, sets: &[Measured]) -> IndexMap<String, (f64, Option<f64>)> {
        let Some((first, _)) = sets.first() else { return IndexMap::new() };
        let outcome = |(k, figure): (usize, &Figure)| {
            let values: Vec<f64> = sets.iter().filter_map(|(figures, _)| Some(figures.get(k)?.value)).collect();
            let (value, spread) = self.table.taken(&values, k == 0)?;
            Some((figure.name.clone(), (value, spread.or(figure.spread))))
        };
        first.iter().enumerate().filter_map(outcome).collect()
    }

    fn record(&self, work: &Work, sets: &[Measured], total: &Total) -> Record {
        let (request, images) = (work.request, self.table.images * self.table.repeats);
        Record {
            id: records::id(&self.fingerprint),
            experiment: request.name.clone(),
            text: request.text.clone(),
            row: self.row.name.clone(),
            command: request.typed.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: libtorch::VERSION.to_owned(),
            device: libtorch::kind(work.session.device).to_owned(),
            identity: self.fingerprint.clone(),
            seeds: format!("0-{}", images - 1),
            evaluations: total.evaluations / self.chunks.len() as f64,
            seconds: total.seconds / images as f64,
            memory: total.memory as u64,
            figures: self.summed_up(sets),
            each: sets.iter().filter_map(|(figures, _)| Some(figures.first()?.value)).collect(),
            published: self.row.published,
            out: self.folder.display().to_string(),
            warnings: self.warnings_of(work, sets, total),
        }
    }

    /// Collects the warnings for a reader of the figures, each once.
    fn warnings_of(&self, work: &Work, sets: &[Measured], total: &Total) -> Vec<String> {
        let asked = self.fingerprint["of"]["batch"].as_u64();
        let batch = asked.is_some_and(|asked| total.batch < asked as f64).then(|| {
            format!("memory sufficed for {} images together at times: images are equal up to rounding", total.batch)
        });
        let mut distinct: Vec<String> = Vec::new();
        for warning in sets.iter().flat_map(|(_, warnings)| warnings) {
            if !distinct.contains(warning) {
                work.observer.said(&format!("{}: {warning}", self.row.name));
                distinct.push(warning.clone());
            }
        }
        self.warnings.iter().cloned().chain(batch).chain(distinct).collect()
    }

    /// Merges the chunks of a set: collects its features by each network, and writes its archive; `None` if a chunk was
    /// damaged.
    fn merged(
        &self,
        work: &Work,
        repeat: u64,
        chunks: &[&SeedChunk],
        total: &mut Total,
    ) -> Result<Option<Vec<Collected>>, Error> {
        let wanted = |evaluator: &Evaluator| evaluator.evaluation.wanted(self.target.is_some());
        let collector = |evaluator: &Evaluator| Collector::new(wanted(evaluator), self.table.images as usize);
        let mut collectors: Vec<Collector> = work.evaluators.iter().map(collector).collect();
        let mut damaged = false;
        let mut fill = |archive: &mut Option<ImageArchive>| -> Result<(), String> {
            for chunk in chunks {
                let path = self.claims.file(&chunk.name());
                let Ok(arrays) = Tensor::read_npz(&path) else {
                    damaged = true;
                    return fs::remove_file(&path).map_err(|e| e.to_string());
                };
                self.add(chunk, &arrays, (&mut collectors, archive.as_mut(), total))?;
            }
            archive.take().map_or(Ok(()), ImageArchive::finish)
        };
        match self.table.store.layout() {
            None => fill(&mut None).map_err(Error::request)?,
            Some(layout) => {
                let count = chunks.iter().map(|chunk| chunk.count).sum();
                let shape = self.model.card.image;
                images::write_by(&self.set(repeat, "images", self.table.store), |path| {
                    fill(&mut Some(ImageArchive::create(path, layout, count, shape)?))
                })?;
            }
        }
        if damaged {
            return Ok(None);
        }
        let collected = collectors.into_iter().map(Collector::finish).collect::<Result<Vec<_>, _>>()?;
        self.save(work, repeat, &collected)?;
        Ok(Some(collected))
    }

    /// Writes the statistics of a set.
    fn save(&self, work: &Work, repeat: u64, collected: &[Collected]) -> Result<(), Error> {
        for (evaluator, images) in work.evaluators.iter().zip(collected) {
            let name = match collected.len() {
                1 => "statistics".to_owned(),
                _ => format!("statistics-{}", evaluator.name()),
            };
            images.save(&self.set(repeat, &name, ImageStore::Npz))?;
        }
        Ok(())
    }

    /// Adds a chunk to the collectors, the archive and the total of its set.
    fn add(
        &self,
        chunk: &SeedChunk,
        arrays: &[(String, Tensor)],
        (collectors, archive, total): (&mut [Collector], Option<&mut ImageArchive>, &mut Total),
    ) -> Result<(), String> {
        let array = |name: &str| arrays.iter().find(|(known, _)| known == name).map(|(_, x)| x.shallow_clone());
        let needed = |name: &str| array(name).ok_or_else(|| format!("{} lacks {name}", chunk.name()));
        let digests = Vec::<i64>::try_from(needed("digests")?).map_err(|e| e.to_string())?;
        let met = Met {
            size: self.model.card.image.to_vec(),
            mixed: false,
            digests: digests.into_iter().map(i64::cast_unsigned).collect(),
            labels: None,
            jpegs: 0,
            oriented: 0,
            rounded: 0,
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

    fn sheet(&self, shown: &Tensor) -> Result<(), Error> {
        let shown: Vec<Tensor> = (0..shown.size()[0]).map(|i| shown.get(i)).collect();
        sheet::write_square(&self.folder.join(images::SHEET), &shown)
    }

    /// Returns the path of a set's file, numbered where there are several sets.
    fn set(&self, repeat: u64, name: &str, store: ImageStore) -> PathBuf {
        let number = if self.table.repeats > 1 { format!("-{repeat}") } else { String::new() };
        let ending = if store == ImageStore::Zip { "zip" } else { "npz" };
        self.folder.join(format!("{name}{number}.{ending}"))
    }
}

/// Cost of all chunks.
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
