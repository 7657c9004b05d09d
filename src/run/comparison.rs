//! Comparison of methods that restore the same measurements: tables of figures, NAME.md and NAME.json.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Instant};

use serde::{Deserialize, Serialize};

use super::{
    experiment::{NamedProblem, RestorationEstimate, RestorationExperiment, RestorationMethod, mean_and_spread},
    figures::{FigureRequest, ImageFigures, RestoredRow},
    image_set::ImageSet,
    observer::{Observer, go_on},
    problem::{OperatorSource, Problem},
    request::{ExperimentRequest, path_word},
    restore::Restoration,
    restored::{RestorationFolder, RestoredFolder},
    session::Session,
};
use crate::{Error, error::Within, files::images, models::card::Model, numbers::quadrature};

/// Figures of a method on a problem: means over the images.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct MethodLine {
    /// Number of evaluations of the network for a sample.
    pub evaluations: usize,
    /// Number of gradients through the network for a sample.
    pub gradients: usize,
    /// PSNR of the measurements, in dB.
    pub psnr_measurement: f64,
    /// PSNR of a sample, in dB.
    pub psnr_sample: f64,
    /// PSNR of the mean of the samples, in dB.
    pub psnr_mean: f64,
    /// SSIM of a sample.
    pub ssim_sample: f64,
    /// SSIM of the mean of the samples.
    pub ssim_mean: f64,
    /// Distance of a sample in the features, where a classifier was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features_sample: Option<f64>,
    /// Distance of the mean of the samples in the features, where a classifier was named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub features_mean: Option<f64>,
    /// Share of the pixels that lie within two standard deviations of the mean.
    pub coverage: f64,
    /// ‖y − A x‖ of the samples divided by its expected value under noise η.
    pub residual: f64,
    /// Standard error of `psnr_sample`, over the images.
    #[serde(default)]
    pub error: Option<f64>,
    /// Seconds for an image with all of its samples.
    pub seconds: f64,
}

/// Figures by problem, then by method.
pub type MethodLines = BTreeMap<String, BTreeMap<String, MethodLine>>;

/// A finished comparison.
#[derive(Clone, Debug)]
pub struct Compared {
    /// Figures of all methods on all problems.
    pub lines: MethodLines,
    /// The table as Markdown.
    pub text: String,
}

/// Function that selects the figures of a row's measurement, samples or mean.
type FiguresOf = fn(&RestoredRow) -> Option<&ImageFigures>;

impl RestorationExperiment {
    /// Restores all problems with all methods, and writes NAME.md and NAME.json after every method.
    pub fn run(
        &self,
        model: &Model,
        request: &ExperimentRequest,
        session: &Session,
        observer: &dyn Observer,
    ) -> Result<Compared, Error> {
        let set = ImageSet::from_source(&self.images, self.limit, model)?;
        set.notes.iter().chain(&self.size_note(model)).for_each(|note| observer.said(note));
        let known = std::fs::read(request.result("json"))
            .ok()
            .and_then(|text| serde_json::from_slice::<MethodLines>(&text).ok());
        let mut lines = MethodLines::new();
        for named in &self.tasks {
            let problem = problem(named, &set, session).within(|| named.name.clone())?;
            for way in &self.methods {
                go_on(observer)?;
                let before = known.as_ref().and_then(|known| known.get(&named.name)?.get(&way.name));
                let out = request.folder(&named.name).join(path_word(&way.name));
                let restoration = self.restoration(model, &problem, way, session);
                let line =
                    restored(&restoration, request, &out, before, observer).within(|| out.display().to_string())?;
                observer.measured(&format!("{}, {}: {:.2} dB", named.name, way.name, line.psnr_mean));
                lines.entry(named.name.clone()).or_default().insert(way.name.clone(), line);
                self.save(&lines, request, session)?;
            }
        }
        Ok(Compared { text: self.text(&lines, request, session), lines })
    }

    fn restoration<'a>(
        &self,
        model: &'a Model,
        problem: &'a Problem<'a>,
        way: &RestorationMethod,
        session: &Session,
    ) -> Restoration<'a> {
        let figures = FigureRequest { features: self.features.clone(), ..FigureRequest::default() };
        let mut restoration = Restoration::new(model, problem).session(session).samples(self.samples);
        restoration = restoration.figures(figures).method(way.method.clone());
        if let Some(sampler) = &way.sampler {
            restoration = restoration.sampler(sampler.clone());
        }
        if let Some(schedule) = &way.schedule {
            restoration = restoration.schedule(schedule.clone());
        }
        way.steps.into_iter().fold(restoration, Restoration::steps)
    }

    /// Returns a note if the image size in the file differs from the network's.
    fn size_note(&self, model: &Model) -> Option<String> {
        let (theirs, name) = (model.card.image, &model.card.name);
        let other = self.image.filter(|ours| *ours != theirs)?;
        Some(format!("the file says image: {other:?}, but {name} makes images of {theirs:?}: its dry run is of others"))
    }

    fn save(&self, lines: &MethodLines, request: &ExperimentRequest, session: &Session) -> Result<(), Error> {
        let json = serde_json::to_vec_pretty(lines).map_err(|e| Error::file(request.result("json"), e))?;
        images::write_whole(&request.result("json"), &json)?;
        images::write_whole(&request.result("md"), self.text(lines, request, session).as_bytes())
    }

    fn text(&self, lines: &MethodLines, request: &ExperimentRequest, session: &Session) -> String {
        let count = self.limit.map_or_else(|| "all".to_owned(), |limit| limit.to_string());
        let samples = if self.samples == 1 { "one sample".to_owned() } else { format!("{} samples", self.samples) };
        let mut text = format!(
            "# {}\n\n`{}`; {}, {count} images, {samples} of each posterior, in {:?}.\n",
            self.about, request.command, self.model, session.precision
        );
        for named in &self.tasks {
            if let Some(lines) = lines.get(&named.name) {
                text += &self.table(named, lines);
            }
        }
        text + &self.explanation()
    }

    fn table(&self, named: &NamedProblem, lines: &BTreeMap<String, MethodLine>) -> String {
        let measured = lines.values().next().map_or(f64::NAN, |line| line.psnr_measurement);
        let mut text = format!(
            "\n## {}\n\nη = {} for pixels 0 … 1; the measurement has {measured:.2} dB.\n\n",
            named.name, named.noise
        );
        let columns = columns(self, named);
        let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
        let _ = writeln!(text, "| {} |\n|{}", headings.join(" | "), " --- |".repeat(headings.len()));
        for way in &self.methods {
            let Some(line) = lines.get(&way.name) else { continue };
            let cells: Vec<String> = columns.iter().map(|(_, cell)| cell(way, line)).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
        text
    }

    fn explanation(&self) -> String {
        let mut text =
            "\nMeans over the images, ± the standard error; PSNR for pixels 0 … 1, SSIM by Gaussian windows. \
                        Residual: ‖y − A x‖ of the samples over what η predicts."
                .to_owned();
        if self.samples > 1 {
            let _ = write!(
                text,
                " Coverage: pixels within ±2 standard deviations of the mean of the samples; of exact posteriors it would be {:.3}.",
                expected_coverage(self.samples)
            );
        }
        if let Some(features) = &self.features {
            let _ =
                write!(text, " Features: ‖f/‖f‖ − g/‖g‖‖² of those of {features} [LPIPS of its last hidden layer].");
        }
        text + "\n"
    }

    /// Renders the cost of each line without the network, and checks that each method suits each task.
    pub fn dry_table(&self) -> Result<String, Error> {
        let count = self.limit.map_or_else(|| "all".to_owned(), |limit| limit.to_string());
        let size = self.image.map_or_else(|| "the network's size".to_owned(), |image| format!("{image:?}"));
        let mut text = format!("{}: {count} images of {size}, {} samples each\n", self.model, self.samples);
        text += "| task | method | evaluations | gradients | measurement, bytes | state, bytes | published |\n";
        text += "| --- | --- | --- | --- | --- | --- | --- |";
        for named in &self.tasks {
            for way in &self.methods {
                let (task, method) = (&named.name, &way.name);
                let estimate = self.estimate(named, way).within(|| format!("{task}, {method}"))?;
                let RestorationEstimate { effort, measurement, state } = estimate;
                let (evaluations, gradients) = (effort.evaluations, effort.gradients);
                let printed = published(self, named, way);
                let _ = write!(
                    text,
                    "\n| {task} | {method} | {evaluations} | {gradients} | {measurement} | {state} | {printed} |"
                );
            }
        }
        Ok(text)
    }
}

fn problem<'a>(named: &NamedProblem, set: &ImageSet, session: &Session) -> Result<Problem<'a>, Error> {
    let size = set.images.size();
    let source = OperatorSource::task(&named.task, [size[1], size[2], size[3]], session)?;
    Problem::new(source, &set.images, named.noise, session.seed)?.depth(set.depth).named(set.names.clone())
}

fn restored(
    restoration: &Restoration,
    request: &ExperimentRequest,
    out: &Path,
    before: Option<&MethodLine>,
    observer: &dyn Observer,
) -> Result<MethodLine, Error> {
    let start = Instant::now();
    let (out, command, origin) = (out.to_owned(), request.command.clone(), request.origin(&[]));
    let folder = RestorationFolder { out, command, origin, ..RestorationFolder::default() };
    let restored = restoration.write(&folder, observer)?;
    let seconds = match before {
        Some(before) if restored.new < restored.rows.len() => before.seconds,
        _ => start.elapsed().as_secs_f64() / restored.new.max(1) as f64,
    };
    Ok(line(&restored, seconds))
}

fn line(RestoredFolder { rows, cost, .. }: &RestoredFolder, seconds: f64) -> MethodLine {
    let all = |pick: &dyn Fn(&RestoredRow) -> Option<f64>| -> Vec<f64> { rows.iter().filter_map(pick).collect() };
    let mean = |pick: &dyn Fn(&RestoredRow) -> Option<f64>| mean_and_spread(&all(pick)).0;
    let average_of =
        |which: FiguresOf, figure: fn(&ImageFigures) -> Option<f64>| mean(&|row| which(row).and_then(figure));
    let sample: FiguresOf = |row| Some(&row.truth.as_ref()?.sample);
    let average: FiguresOf = |row| Some(&row.truth.as_ref()?.mean);
    let (psnr_sample, spread) = mean_and_spread(&all(&|row| row.truth.as_ref()?.sample.psnr));
    let features =
        |which: FiguresOf| Some(average_of(which, |figures| figures.features)).filter(|distance| distance.is_finite());
    MethodLine {
        evaluations: cost.effort.evaluations,
        gradients: cost.effort.gradients,
        psnr_measurement: average_of(|row| Some(&row.truth.as_ref()?.measurement), |figures| figures.psnr),
        psnr_sample,
        error: spread.map(|spread| spread / (rows.len() as f64).sqrt()),
        psnr_mean: average_of(average, |figures| figures.psnr),
        ssim_sample: average_of(sample, |figures| figures.ssim),
        ssim_mean: average_of(average, |figures| figures.ssim),
        features_sample: features(sample),
        features_mean: features(average),
        coverage: mean(&|row| Some(row.truth.as_ref()?.coverage)),
        residual: mean(&|row| Some(row.residual)),
        seconds,
    }
}

/// Function that formats a cell of a table.
type Cell<'a> = Box<dyn Fn(&RestorationMethod, &MethodLine) -> String + 'a>;

/// Returns the columns of a problem's table: heading and cell.
fn columns<'a>(experiment: &'a RestorationExperiment, named: &'a NamedProblem) -> Vec<(&'static str, Cell<'a>)> {
    fn number<'a>(digits: usize, figure: fn(&MethodLine) -> Option<f64>) -> Cell<'a> {
        Box::new(move |_, line| figure(line).map_or("–".to_owned(), |figure| format!("{figure:.digits$}")))
    }
    let sample: Cell = Box::new(|_, line| match line.error {
        Some(error) => format!("{:.2} ± {error:.2}", line.psnr_sample),
        None => format!("{:.2}", line.psnr_sample),
    });
    let mut columns: Vec<(&str, Cell)> = vec![
        ("method", Box::new(|way, _| way.name.clone())),
        ("evaluations + gradients", Box::new(|_, line| format!("{} + {}", line.evaluations, line.gradients))),
        ("sample, dB", sample),
    ];
    let several = experiment.samples > 1;
    let figures: [(&str, bool, Cell); 8] = [
        ("mean, dB", several, number(2, |line| Some(line.psnr_mean))),
        ("SSIM sample", true, number(3, |line| Some(line.ssim_sample))),
        ("SSIM mean", several, number(3, |line| Some(line.ssim_mean))),
        ("features sample", experiment.features.is_some(), number(3, |line| line.features_sample)),
        ("features mean", several && experiment.features.is_some(), number(3, |line| line.features_mean)),
        ("coverage", several, number(3, |line| Some(line.coverage))),
        ("residual", true, number(3, |line| Some(line.residual))),
        ("s an image", true, number(2, |line| Some(line.seconds))),
    ];
    columns.extend(figures.into_iter().filter(|(_, shown, _)| *shown).map(|(heading, _, cell)| (heading, cell)));
    if !experiment.published.is_empty() {
        columns.push(("published", Box::new(|way, _| published(experiment, named, way).to_owned())));
    }
    columns
}

fn published<'a>(experiment: &'a RestorationExperiment, named: &NamedProblem, way: &RestorationMethod) -> &'a str {
    experiment.published.get(&way.name).and_then(|experiment| experiment.get(&named.name)).map_or("–", String::as_str)
}

/// Returns P(|t| < 2/√(1 + 1/n)) for Student's t with n − 1 degrees of freedom: the share of truths within two standard
/// deviations of the mean of n samples from the truths' own distribution.
fn expected_coverage(samples: usize) -> f64 {
    let (n, freedom) = (samples as f64, samples as f64 - 1.0);
    if samples < 2 {
        return 0.0;
    }
    let density = |t: f64| (1.0 + t * t / freedom).powf(-(freedom + 1.0) / 2.0);
    // The substitution t = tan u maps the integral over the whole line to a finite interval.
    let whole = quadrature::integral(|u: f64| density(u.tan()) / u.cos().powi(2), 0.0, std::f64::consts::FRAC_PI_2);
    quadrature::integral(density, 0.0, 2.0 / (1.0 + 1.0 / n).sqrt()) / whole
}
