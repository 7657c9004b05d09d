//! Folder of restored images: pictures, rows of figures, a table, a sheet, a page and a record.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use serde::Serialize;
use serde_json::{Map, Value, json};
use tch::{Device, Kind, Tensor};

use super::{
    figure_table::{gain, markdown, medians, number, table},
    figures::{PerceptualMetric, RestoredRow, Summary, is_picture},
    fingerprint::{Claim, Fingerprint, Origin, holds_another, recorded, remove_run, write_record},
    observer::Observer,
    restore::{Restoration, RestorationCost, RestoredPart, Settled, WantedSamples},
    sample_seeds::SampleSeeds,
};
use crate::{
    Error,
    backend::libtorch,
    files::images,
    report::{
        animation::{self, FrameRecorder},
        page::{Case, Page, Picture, Table, entries},
        sheet,
    },
};

/// Maximum number of samples of an image on the contact sheet and on the page.
const SHOWN: usize = 8;
/// Maximum number of images on the contact sheet and on the page.
const IMAGES: usize = 16;
/// Gain of the pictures of the standard deviation: s data units are drawn as the grey s · STD_GAIN on a scale from 0 to
/// 2, so that white is s = 1.
const STD_GAIN: f64 = 2.0;
/// Residuals of samples that fit a measurement.
const FITTING: std::ops::RangeInclusive<f64> = 0.9..=1.1;
/// Name of the file with A⁺ y.
const INVERSE: &str = "pseudo-inverse";

/// Folder of restored images, and the files written beside them.
#[derive(Clone, Debug, Default)]
pub struct RestorationFolder {
    /// Path of the folder.
    pub out: PathBuf,
    /// Whether to write each sample as well, unclipped: NAME-sample-000.npy, `[channels, height, width]`, f32.
    pub states: bool,
    /// Whether to draw the walk of each image's first sample as well: NAME-walk.png, an animated PNG.
    pub animate: bool,
    /// Whether to remove the files of another run first, if the folder holds one.
    pub overwrite: bool,
    /// Command that makes the run again, for the page.
    pub command: String,
    /// Card and settings that replaced the model's own.
    pub origin: Origin,
}

/// Result of a finished run in its folder.
#[derive(Debug, Serialize)]
pub struct RestoredFolder {
    /// Path of the folder.
    pub out: PathBuf,
    /// Path of the sheet with all images beside each other.
    pub sheet: PathBuf,
    /// Path of the page with the images and the settings.
    pub page: PathBuf,
    /// Figures of each image.
    pub rows: Vec<RestoredRow>,
    /// Figures as Markdown.
    #[serde(skip)]
    pub table: String,
    /// Number of images that got samples in this run.
    pub new: usize,
    /// Cost of a sample.
    #[serde(skip)]
    pub cost: RestorationCost,
    /// Record of the folder: method, task, noise, samples, seeds, plan, versions, seconds, figures.
    #[serde(flatten)]
    pub record: Map<String, Value>,
}

/// A folder that has been claimed.
struct Claimed {
    record: Map<String, Value>,
    seeds: SampleSeeds,
    batch: u64,
}

/// Writer of a run's results.
struct Results<'a> {
    restoration: &'a Restoration<'a>,
    folder: &'a RestorationFolder,
    settled: &'a Settled,
    samples: usize,
    /// Linear estimate of each image, `[count, channels, height, width]`, where it was asked for.
    baseline: Option<Tensor>,
}

impl Restoration<'_> {
    /// Writes the samples as files; samples that an earlier run of the same request has left there are not drawn again.
    ///
    /// A run that asks for more samples of each image than the folder holds keeps the existing samples with their
    /// seeds, and adds others; see `seeds` in the record. Without [`RestorationFolder::states`] the kept samples are
    /// pictures of 8 bits, and mean, spread and figures are then computed from these pictures.
    pub fn write(&self, folder: &RestorationFolder, observer: &dyn Observer) -> Result<RestoredFolder, Error> {
        let begun = Instant::now();
        let settled = self.settle()?;
        let mut notes = self.notes(&settled);
        let mut claimed = self.claim(folder, &settled)?;
        let mut results =
            Results { restoration: self, folder, settled: &settled, samples: self.samples, baseline: None };
        results.check()?;
        results.save_measurement()?;
        results.baseline = self.linear_estimate()?;
        let wanted = results.wanted()?;
        notes.extend(results.rounding_note(&wanted));
        for note in &notes {
            observer.said(note);
        }
        self.draw_into(&results, &claimed, &wanted, observer)?;
        let rows = results.rows()?;
        let measured = self.problem.truth.is_none();
        for note in worse_note(&rows).into_iter().chain(residual_note(&rows).filter(|_| measured)) {
            observer.said(&note);
            notes.push(note);
        }
        claimed.conclude(folder, &rows, (wanted.is_empty(), begun.elapsed().as_secs_f64(), notes))?;
        results.report(rows, wanted.len(), claimed.record)
    }

    fn draw_into(
        &self,
        results: &Results,
        claimed: &Claimed,
        wanted: &WantedSamples,
        observer: &dyn Observer,
    ) -> Result<(), Error> {
        let mut kept = self.problem.names.len() - wanted.len();
        let (settled, film) = (results.settled, results.folder.animate);
        let drawn = self.draw(settled, (&claimed.seeds, claimed.batch), wanted, film, observer, &mut |drawn| {
            match drawn {
                RestoredPart::Walk(i, walk) => results.film(i, &walk)?,
                RestoredPart::Image(i, samples) => {
                    results.finish(i, samples)?;
                    kept += 1;
                    observer.finished(1);
                }
            }
            Ok(())
        });
        if matches!(drawn, Err(Error::Interrupted)) {
            let all = self.problem.names.len();
            observer.said(&format!("{kept} of {all} images are finished and kept; samples of the others begin again"));
        }
        drawn
    }

    /// Claims the folder, and determines the seeds of its samples.
    fn claim(&self, folder: &RestorationFolder, settled: &Settled) -> Result<Claimed, Error> {
        let out = &folder.out;
        let derived = self.session.batch_for(self.problem.names.len() * self.samples)?;
        let theirs = recorded(out)?;
        let before = theirs.as_ref().and_then(|record| record["batch"].as_u64());
        let mut batch = before.filter(|batch| self.session.batch.is_none() && *batch > 0).unwrap_or(derived);
        let mut record = self.record(folder, settled, batch)?;
        let totals = |record: &Value| serde_json::from_value::<Vec<u64>>(record["totals"].clone()).unwrap_or_default();
        let samples = self.samples as u64;
        if let Some(theirs) = theirs.filter(|_| folder.overwrite)
            && (holds_another(out, &record)? || totals(&theirs).last().is_some_and(|last| *last > samples))
        {
            remove_run(out, &theirs)?;
            batch = derived;
            record = self.record(folder, settled, batch)?;
        }
        let given = "the images or the measurement";
        let known = Claim { out, record: &record, given, overwrite: folder.overwrite }.make()?.unwrap_or_default();
        let totals = self.totals(folder, totals(&known))?;
        let Value::Object(mut record) = record else { return Err(Error::file(out, "not a record")) };
        for outcome in ["seconds", "figures", "notes"] {
            known.get(outcome).map(|value| record.insert(outcome.to_owned(), value.clone()));
        }
        let seeds = SampleSeeds::new(self.problem.names.len(), totals);
        let names = self.problem.names.iter().enumerate();
        let each: BTreeMap<&String, Vec<u64>> = names.map(|(i, name)| (name, self.seeds_of(&seeds, i))).collect();
        record.extend([
            ("samples".to_owned(), json!(samples)),
            ("totals".to_owned(), json!(seeds.totals())),
            ("seeds".to_owned(), json!(each)),
        ]);
        write_record(out, &Value::Object(record.clone()))?;
        Ok(Claimed { record, seeds, batch })
    }

    /// Returns the number of samples of each image after each run, including this one.
    fn totals(&self, folder: &RestorationFolder, mut totals: Vec<u64>) -> Result<Vec<u64>, Error> {
        let samples = self.samples as u64;
        if !self.problem.names.iter().any(|name| row_file(&folder.out, name).exists()) {
            return Ok(vec![samples]);
        }
        match totals.last() {
            Some(last) if *last > samples => Err(Error::file(
                &folder.out,
                format!(
                    "holds {last} samples of each image, more than the {samples} that are asked for: take `samples` {last}, \
                     choose another `out`, or `overwrite` to replace that run"
                ),
            )),
            Some(last) if *last == samples => Ok(totals),
            _ => {
                totals.push(samples);
                Ok(totals)
            }
        }
    }

    /// Creates the record of everything on which the bits of the samples depend, besides their number.
    fn record(&self, folder: &RestorationFolder, settled: &Settled, batch: u64) -> Result<Value, Error> {
        let identity = (&settled.classes, &settled.plan, batch);
        let fingerprint = Fingerprint::new(&self.session, &self.prior, &folder.origin, identity)?;
        let fingerprint = Fingerprint { given: self.problem.sha256()?, ..fingerprint };
        let mut record = serde_json::to_value(fingerprint).map_err(|e| Error::file(&folder.out, e))?;
        record["libtorch"] = json!(libtorch::VERSION);
        record["method"] = self.method_record()?;
        record["task"] = self.problem.task.clone();
        record["noise"] = json!(self.problem.noise());
        if let Some(detector) = &self.problem.detector {
            record["detector"] = json!(detector);
        }
        record["seed"] = json!(self.session.seed);
        record["images"] = json!(self.problem.names);
        Ok(record)
    }
}

impl Claimed {
    /// Adds the outcome of the run to the record; a run without new samples adds no time.
    fn conclude(
        &mut self,
        folder: &RestorationFolder,
        rows: &[RestoredRow],
        (idle, seconds, notes): (bool, f64, Vec<String>),
    ) -> Result<(), Error> {
        let before = self.record.get("seconds").and_then(Value::as_f64);
        let seconds = if idle { before.unwrap_or(0.0) } else { before.unwrap_or(0.0) + seconds };
        self.record.extend([
            ("seconds".to_owned(), json!(seconds)),
            ("figures".to_owned(), medians(rows)),
            ("notes".to_owned(), json!(notes)),
        ]);
        write_record(&folder.out, &Value::Object(self.record.clone()))
    }
}

impl Results<'_> {
    fn names(&self) -> &[String] {
        &self.restoration.problem.names
    }

    fn file(&self, name: &str, what: &str) -> PathBuf {
        self.folder.out.join(format!("{name}-{what}.png"))
    }

    fn sample(&self, name: &str, sample: usize) -> PathBuf {
        self.file(name, &format!("sample-{sample:03}"))
    }

    fn state(&self, name: &str, sample: usize) -> PathBuf {
        self.sample(name, sample).with_extension("npy")
    }

    /// Refuses a folder with rows that lack figures which are asked for.
    fn check(&self) -> Result<(), Error> {
        let files = self.names().iter().map(|name| row_file(&self.folder.out, name));
        files.filter(|file| file.exists()).try_for_each(|file| self.suits(&file))
    }

    /// Refuses a row without the figures that are asked for.
    fn suits(&self, file: &Path) -> Result<(), Error> {
        let (row, metrics) = (row(file)?, &self.settled.metrics);
        let lacks = |metric: &Option<PerceptualMetric>, recorded: &Option<String>| {
            metric.as_ref().is_some_and(|metric| recorded.as_ref() != Some(&metric.identity))
        };
        let without = match () {
            () if lacks(&metrics.lpips, &row.lpips) => "the LPIPS that `lpips` asks for",
            () if lacks(&metrics.features, &row.features) => "the distance that `features` asks for",
            () if metrics.min_max && row.truth.is_some_and(|truth| truth.mean.psnr_min_max.is_none()) => {
                "the PSNR that `min_max` asks for"
            }
            () => return Ok(()),
        };
        let cause = format!("was written without {without}: remove it, and its image is restored again");
        Err(Error::file(file, cause))
    }

    /// Writes the measurements for other programs, unless they are there.
    fn save_measurement(&self) -> Result<(), Error> {
        let file = self.folder.out.join("measurement.npz");
        if file.exists() { Ok(()) } else { self.restoration.problem.write_npz(&file) }
    }

    /// Lists the samples that are missing, or not in the form that is asked for.
    fn wanted(&self) -> Result<WantedSamples, Error> {
        let mut wanted = WantedSamples::new();
        for (i, name) in self.names().iter().enumerate() {
            let file = row_file(&self.folder.out, name);
            let done = if file.exists() { row(&file)?.samples.min(self.samples) } else { 0 };
            let stated = !self.folder.states || (0..done).all(|s| self.state(name, s).exists());
            let kept = if stated && (done == self.samples || self.can_keep(name, done)) { done } else { 0 };
            if kept < self.samples {
                wanted.insert(i, kept..self.samples);
            }
        }
        Ok(wanted)
    }

    /// Reports whether the finished samples of an image can be read again.
    fn can_keep(&self, name: &str, done: usize) -> bool {
        (0..done).all(|sample| self.kept(name, sample).is_ok_and(|x| x.size() == self.restoration.problem.shape))
    }

    /// Reads a finished sample, unclipped where it was stored so.
    fn kept(&self, name: &str, sample: usize) -> Result<Tensor, Error> {
        let file = self.state(name, sample);
        if !file.exists() {
            return Ok(images::read_units(&self.sample(name, sample), None)?.0);
        }
        let state =
            Tensor::read_npy(&file).map_err(|e| Error::file(&file, format!("not a readable .npy file: {e}")))?;
        Ok(state.to_kind(Kind::Float))
    }

    fn rounding_note(&self, wanted: &WantedSamples) -> Option<String> {
        let name = |image: &usize| &self.names()[*image];
        let rounded = wanted.iter().any(|(i, samples)| (0..samples.start).any(|s| !self.state(name(i), s).exists()));
        rounded.then(|| {
            "the finished samples were kept as pictures, rounded: mean, spread and figures are of those and of the new \
             ones; states keep samples exactly"
                .to_owned()
        })
    }

    /// Writes the animation of the walk of an image's first sample.
    fn film(&self, i: usize, walk: &FrameRecorder) -> Result<(), Error> {
        animation::write(&self.file(&self.names()[i], "walk"), &walk.frames())
    }

    /// Writes the pictures of the i-th image, then its row, which marks the image as done.
    fn finish(&self, i: usize, new: BTreeMap<usize, Tensor>) -> Result<(), Error> {
        let (name, problem) = (&self.names()[i], &self.restoration.problem);
        let first = new.keys().next().copied().unwrap_or(0);
        let mut samples = (0..first).map(|s| self.kept(name, s)).collect::<Result<Vec<_>, _>>()?;
        for (s, x) in new {
            if self.folder.states {
                images::write_npy(&self.state(name, s), &x)?;
            }
            images::write(&self.sample(name, s), &x, problem.depth)?;
            samples.push(x);
        }
        let samples = Tensor::stack(&samples, 0);
        let baseline = self.baseline.as_ref().map(|baseline| baseline.get(i as i64));
        let metrics = &self.settled.metrics;
        let summary = Summary::new(problem, (i, &samples), metrics, baseline.as_ref())?;
        self.pictures(i, &summary, baseline.as_ref())?;
        let identity = |metric: &Option<PerceptualMetric>| metric.as_ref().map(|metric| metric.identity.clone());
        let row = RestoredRow {
            name: name.clone(),
            samples: samples.size()[0] as usize,
            residual: summary.residual,
            truth: summary.comparison,
            lpips: identity(&metrics.lpips),
            features: identity(&metrics.features),
        };
        let file = row_file(&self.folder.out, name);
        images::write_whole(&file, &serde_json::to_vec_pretty(&row).map_err(|e| Error::file(&file, e))?)
    }

    /// Writes the pictures of mean, spread, measurement and so on of the i-th image.
    fn pictures(&self, i: usize, summary: &Summary, baseline: Option<&Tensor>) -> Result<(), Error> {
        let (name, problem) = (&self.names()[i], &self.restoration.problem);
        let write = |what: &str, x: &Tensor| images::write(&self.file(name, what), x, problem.depth);
        write("mean", &summary.mean)?;
        write("std", &(&summary.std * STD_GAIN - 1.0))?;
        let y = problem.measurement.narrow(0, i as i64, 1);
        write("measurement", &y.get(0).to_device(Device::Cpu))?;
        if !is_picture(&y, problem.shape)
            && let Some(inverse) = problem.linear(|linear| linear.pseudo_inverse(&y))?
        {
            write(INVERSE, &inverse.get(0).to_device(Device::Cpu))?;
        }
        let truth = problem.truth.as_ref().map(|truth| truth.get(i as i64).to_device(Device::Cpu));
        for (what, x) in [("truth", truth.as_ref()), ("baseline", baseline)] {
            x.map_or(Ok(()), |x| write(what, x))?;
        }
        Ok(())
    }

    fn rows(&self) -> Result<Vec<RestoredRow>, Error> {
        self.names().iter().map(|name| row(&row_file(&self.folder.out, name))).collect()
    }

    /// Writes the table, the contact sheet and the page.
    fn report(&self, rows: Vec<RestoredRow>, new: usize, record: Map<String, Value>) -> Result<RestoredFolder, Error> {
        let table = table(&rows, self.samples);
        let text = markdown(&table, gain(&rows));
        images::write_whole(&self.folder.out.join("table.md"), text.as_bytes())?;
        let columns = self.columns();
        let (sheet, page) = (self.sheet(&columns)?, self.page(&rows, table, &columns, &record)?);
        let (out, cost) = (self.folder.out.clone(), self.settled.cost);
        Ok(RestoredFolder { out, sheet, page, rows, table: text, new, cost, record })
    }

    /// Lists the shown pictures of each image: label, and name of the file.
    fn columns(&self) -> Vec<(String, String)> {
        let pair = |what: &str| (what.to_owned(), what.to_owned());
        let mut columns = Vec::new();
        columns.extend(self.restoration.problem.truth.as_ref().map(|_| pair("truth")));
        columns.push(self.measured());
        columns.extend(self.baseline.as_ref().map(|_| pair("baseline")));
        let shown = 0..self.samples.min(SHOWN);
        columns.extend(shown.map(|s| (format!("sample {}", s + 1), format!("sample-{s:03}"))));
        columns.push(pair("mean"));
        if self.samples > 1 {
            columns.push(("2 × std".to_owned(), "std".to_owned()));
        }
        columns
    }

    /// Returns the column of the measurement y, or of A⁺ y where y is no picture.
    fn measured(&self) -> (String, String) {
        let inverse = self.names().first().is_some_and(|name| self.file(name, INVERSE).exists());
        let (label, what) = if inverse { ("measurement, A⁺ y", INVERSE) } else { ("measurement", "measurement") };
        (label.to_owned(), what.to_owned())
    }

    fn sheet(&self, columns: &[(String, String)]) -> Result<PathBuf, Error> {
        let row = |name: &String| -> Result<(String, Vec<Tensor>), Error> {
            let read = |(_, what): &(String, String)| images::read_as_is(&self.file(name, what));
            Ok((name.clone(), columns.iter().map(read).collect::<Result<_, _>>()?))
        };
        let rows = self.names().iter().take(IMAGES).map(row).collect::<Result<Vec<_>, _>>()?;
        let headings: Vec<String> = columns.iter().map(|(heading, _)| heading.clone()).collect();
        let path = self.folder.out.join("sheet.png");
        images::write_png(&path, &sheet::sheet(&headings, &rows)?)?;
        Ok(path)
    }

    fn page(
        &self,
        rows: &[RestoredRow],
        table: Table,
        columns: &[(String, String)],
        record: &Map<String, Value>,
    ) -> Result<PathBuf, Error> {
        let page = Page {
            title: format!("Restored with {}", self.restoration.prior.model.card.name),
            about: about(rows.len()),
            command: self.folder.command.clone(),
            settings: settings(record),
            table,
            cases: rows.iter().take(IMAGES).map(|row| self.case(row, columns)).collect(),
        };
        let path = self.folder.out.join("index.html");
        images::write_whole(&path, page.html()?.as_bytes())?;
        Ok(path)
    }

    fn case(&self, row: &RestoredRow, columns: &[(String, String)]) -> Case {
        let walk = self.folder.animate.then(|| ("walk".to_owned(), "walk".to_owned()));
        let walk = walk.filter(|(_, what)| self.file(&row.name, what).exists());
        let columns: Vec<&(String, String)> = columns.iter().chain(&walk).collect();
        let picture =
            |(label, what): &&(String, String)| Picture { label: label.clone(), file: self.file(&row.name, what) };
        let place = |what: &str| columns.iter().position(|(_, name)| name == what);
        let beside_mean = |what| Some((place(what)?, place("mean")?));
        Case {
            name: row.name.clone(),
            about: line(row),
            pictures: columns.iter().map(picture).collect(),
            compared: ["measurement", INVERSE, "truth"].into_iter().filter_map(beside_mean).collect(),
        }
    }
}

/// Formats the main figures of a row in a line.
fn line(row: &RestoredRow) -> String {
    let Some(truth) = &row.truth else { return format!("residual {:.3}", row.residual) };
    let (measured, mean) = (number(truth.measurement.psnr, 2), number(truth.mean.psnr, 2));
    let mut text = format!("PSNR {measured} dB measured, {mean} dB restored (mean)");
    for (name, value) in [("SSIM", truth.mean.ssim), ("LPIPS", truth.mean.lpips), ("features", truth.mean.features)] {
        let _ = value.map_or(Ok(()), |value| write!(text, " · {name} {value:.3}"));
    }
    text
}

/// Returns the settings for the page: the record without the entries that the page shows elsewhere.
fn settings(record: &Map<String, Value>) -> Vec<(String, String)> {
    let mut record = record.clone();
    for shown in ["figures", "images", "notes", "seeds", "totals"] {
        record.remove(shown);
    }
    if let Some(noise) = record.remove("noise").as_ref().and_then(Value::as_f64) {
        record.insert("η for pixels 0 … 1".to_owned(), json!(noise));
        record.insert("η for data units −1 … 1".to_owned(), json!(2.0 * noise));
    }
    entries(&Value::Object(record))
}

/// Returns a note if results are worse than the measurement itself.
fn worse_note(rows: &[RestoredRow]) -> Option<String> {
    let pair = |row: &RestoredRow| {
        let truth = row.truth.as_ref()?;
        Some((row.name.clone(), truth.measurement.psnr?, truth.mean.psnr?))
    };
    let worse: Vec<_> = rows.iter().filter_map(pair).filter(|(_, measured, mean)| mean < measured).collect();
    let (name, measured, mean) = worse.first()?;
    Some(format!(
        "of {} of {} images the mean is farther from the truth than the measurement (of {name}: {mean:.2} dB, measured \
         {measured:.2} dB): the network may not know such images, or the steps are too few",
        worse.len(),
        rows.len()
    ))
}

/// Returns a note if samples do not fit a measurement as its noise says.
fn residual_note(rows: &[RestoredRow]) -> Option<String> {
    let off = rows.iter().find(|row| !FITTING.contains(&row.residual))?;
    Some(format!(
        "the residual ‖y − A x‖/(η √m) of {} is {:.3}, where about 1 is wanted: the noise may be another than η, or the \
         measurement of other units (`units`), another axis or order of angles, another mask or kernel",
        off.name, off.residual
    ))
}

fn about(count: usize) -> String {
    match count {
        1 => "One image, before and after.".to_owned(),
        2..=IMAGES => format!("{count} images, before and after."),
        _ => format!("The first {IMAGES} of {count} images, before and after."),
    }
}

/// Returns the path of an image's figures, which are written once all of its files are there.
fn row_file(out: &Path, name: &str) -> PathBuf {
    out.join(format!("{name}.json"))
}

fn row(path: &Path) -> Result<RestoredRow, Error> {
    let text = fs::read(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    serde_json::from_slice(&text).map_err(|_| {
        let cause = "is no row of figures as this version writes them: remove it, and its image is restored again";
        Error::file(path, cause)
    })
}
