//! `tweedie run` of methods that restore the same measurements.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tweedie::{
    files::images,
    numbers::quadrature,
    run::experiment::{Estimate, NamedProblem, Restorations, Restoring, mean_and_spread},
};

use super::{
    Common, not_interrupted,
    restore::Restore,
    restored::{Figures, Row},
    run::folder,
};

/// What is told of a method on a problem: means over the images.
#[derive(Clone, Debug, Deserialize, Serialize)]
struct Line {
    evaluations: usize,
    gradients: usize,
    psnr_measurement: f64,
    psnr_sample: f64,
    psnr_mean: f64,
    ssim_sample: f64,
    ssim_mean: f64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    features_sample: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    features_mean: Option<f64>,
    coverage: f64,
    residual: f64,
    /// Standard error of `psnr_sample`, over the images.
    #[serde(default)]
    error: Option<f64>,
    /// Of an image with all of its samples.
    seconds: f64,
}

/// Some of a row's figures.
type Pick = fn(&Row) -> Option<&Figures>;

/// By problem, then by method.
type Lines = BTreeMap<String, BTreeMap<String, Line>>;

/// Where an experiment's results are.
pub struct Place<'a> {
    pub name: &'a str,
    pub results: &'a Path,
    pub out: &'a Path,
    pub command: String,
}

/// Restores all, and writes NAME.md and NAME.json after every method.
pub fn run(of: &Restorations, place: &Place, common: &Common) -> Result<()> {
    let file = place.results.join(format!("{}.json", place.name));
    let known = std::fs::read(&file).ok().and_then(|text| serde_json::from_slice::<Lines>(&text).ok());
    let mut lines: Lines = BTreeMap::new();
    for posed in &of.tasks {
        for way in &of.methods {
            not_interrupted()?;
            let before = known.as_ref().and_then(|known| known.get(&posed.name)?.get(&way.name));
            let out = place.out.join(place.name).join(folder(&posed.name)).join(folder(&way.name));
            let line = restore(of, posed, way, &out, before, common).with_context(|| out.display().to_string())?;
            common.say(format_args!("{}, {}: {:.2} dB", posed.name, way.name, line.psnr_mean));
            lines.entry(posed.name.clone()).or_default().insert(way.name.clone(), line);
            images::write_whole(&file, &serde_json::to_vec_pretty(&lines)?)?;
            let text = text(of, place, &lines, common);
            images::write_whole(&place.results.join(format!("{}.md", place.name)), text.as_bytes())?;
        }
    }
    common.say(text(of, place, &lines, common));
    common.record(&lines)
}

fn restore(
    of: &Restorations,
    posed: &NamedProblem,
    way: &Restoring,
    out: &Path,
    before: Option<&Line>,
    common: &Common,
) -> Result<Line> {
    let start = Instant::now();
    let (rows, new, effort) = Restore::new(of, posed, way, out, common)?.restore()?;
    let seconds = match before {
        Some(before) if new < rows.len() => before.seconds,
        _ => start.elapsed().as_secs_f64() / new.max(1) as f64,
    };
    let all = |pick: &dyn Fn(&Row) -> Option<f64>| -> Vec<f64> { rows.iter().filter_map(pick).collect() };
    let mean = |pick: &dyn Fn(&Row) -> Option<f64>| mean_and_spread(&all(pick)).0;
    let of = |which: Pick, figure: fn(&Figures) -> Option<f64>| mean(&|row| which(row).and_then(figure));
    let sample: Pick = |row| Some(&row.truth.as_ref()?.sample);
    let average: Pick = |row| Some(&row.truth.as_ref()?.mean);
    let (psnr_sample, spread) = mean_and_spread(&all(&|row| row.truth.as_ref()?.sample.psnr));
    let judged = |which: Pick| Some(of(which, |figures| figures.features)).filter(|distance| distance.is_finite());
    Ok(Line {
        evaluations: effort.evaluations,
        gradients: effort.gradients,
        psnr_measurement: of(|row| Some(&row.truth.as_ref()?.measurement), |figures| figures.psnr),
        psnr_sample,
        error: spread.map(|spread| spread / (rows.len() as f64).sqrt()),
        psnr_mean: of(average, |figures| figures.psnr),
        ssim_sample: of(sample, |figures| figures.ssim),
        ssim_mean: of(average, |figures| figures.ssim),
        features_sample: judged(sample),
        features_mean: judged(average),
        coverage: mean(&|row| Some(row.truth.as_ref()?.coverage)),
        residual: mean(&|row| Some(row.residual)),
        seconds,
    })
}

fn text(of: &Restorations, place: &Place, lines: &Lines, common: &Common) -> String {
    let count = of.limit.map_or_else(|| "all".to_owned(), |limit| limit.to_string());
    let mut text = format!(
        "# {}\n\n`{}`; {}, {count} images, {} of each posterior, in {:?}.\n",
        of.about,
        place.command,
        of.model,
        if of.samples == 1 { "one sample".to_owned() } else { format!("{} samples", of.samples) },
        common.precision
    );
    for posed in &of.tasks {
        let Some(lines) = lines.get(&posed.name) else { continue };
        let measured = lines.values().next().map_or(f64::NAN, |line| line.psnr_measurement);
        let _ = write!(
            text,
            "\n## {}\n\nη = {} for pixels 0 … 1; the measurement has {measured:.2} dB.\n\n",
            posed.name, posed.noise
        );
        let columns = columns(of, posed);
        let headings: Vec<&str> = columns.iter().map(|(heading, _)| *heading).collect();
        let _ = writeln!(text, "| {} |\n|{}", headings.join(" | "), " --- |".repeat(headings.len()));
        for way in &of.methods {
            let Some(line) = lines.get(&way.name) else { continue };
            let cells: Vec<String> = columns.iter().map(|(_, cell)| cell(way, line)).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text += "\nMeans over the images, ± the standard error; PSNR for pixels 0 … 1, SSIM by Gaussian windows. Residual: \
             ‖y − A x‖ of the samples over what η predicts.";
    if of.samples > 1 {
        let _ = write!(
            text,
            " Coverage: pixels within ±2 standard deviations of the mean of the samples; of exact posteriors it would be {:.3}.",
            expected_coverage(of.samples)
        );
    }
    if let Some(features) = &of.features {
        let _ = write!(text, " Features: ‖f/‖f‖ − g/‖g‖‖² of those of {features} [LPIPS of its last hidden layer].");
    }
    text += "\n";
    text
}

/// A cell of a table.
type Cell<'a> = Box<dyn Fn(&Restoring, &Line) -> String + 'a>;

/// The columns of a problem's table: heading and cell.
fn columns<'a>(of: &'a Restorations, posed: &'a NamedProblem) -> Vec<(&'static str, Cell<'a>)> {
    fn number<'a>(digits: usize, figure: fn(&Line) -> Option<f64>) -> Cell<'a> {
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
    let several = of.samples > 1;
    let figures: [(&str, bool, Cell); 8] = [
        ("mean, dB", several, number(2, |line| Some(line.psnr_mean))),
        ("SSIM sample", true, number(3, |line| Some(line.ssim_sample))),
        ("SSIM mean", several, number(3, |line| Some(line.ssim_mean))),
        ("features sample", of.features.is_some(), number(3, |line| line.features_sample)),
        ("features mean", several && of.features.is_some(), number(3, |line| line.features_mean)),
        ("coverage", several, number(3, |line| Some(line.coverage))),
        ("residual", true, number(3, |line| Some(line.residual))),
        ("s an image", true, number(2, |line| Some(line.seconds))),
    ];
    columns.extend(figures.into_iter().filter(|(_, shown, _)| *shown).map(|(heading, _, cell)| (heading, cell)));
    if !of.published.is_empty() {
        columns.push(("published", Box::new(|way, _| published(of, posed, way).to_owned())));
    }
    columns
}

fn published<'a>(of: &'a Restorations, posed: &NamedProblem, way: &Restoring) -> &'a str {
    of.published.get(&way.name).and_then(|of| of.get(&posed.name)).map_or("–", String::as_str)
}

/// P(|t| < 2/√(1 + 1/n)) for Student's t with n − 1 degrees of freedom: how many truths lie within two deviations of the mean
/// of n samples that are drawn as they were.
fn expected_coverage(samples: usize) -> f64 {
    let (n, freedom) = (samples as f64, samples as f64 - 1.0);
    if samples < 2 {
        return 0.0;
    }
    let density = |t: f64| (1.0 + t * t / freedom).powf(-(freedom + 1.0) / 2.0);
    // The whole line as t = tan u.
    let whole = quadrature::integral(|u: f64| density(u.tan()) / u.cos().powi(2), 0.0, std::f64::consts::FRAC_PI_2);
    quadrature::integral(density, 0.0, 2.0 / (1.0 + 1.0 / n).sqrt()) / whole
}

/// What all of it will cost, without the network: that files, operators and methods go together.
pub fn dry(of: &Restorations, common: &Common) -> Result<()> {
    let count = of.limit.map_or_else(|| "all".to_owned(), |limit| limit.to_string());
    common.say(format_args!("{}: {count} images of {:?}, {} samples each", of.model, of.image, of.samples));
    common.say("| task | method | evaluations | gradients | measurement, bytes | state, bytes | published |");
    common.say("| --- | --- | --- | --- | --- | --- | --- |");
    for posed in &of.tasks {
        for way in &of.methods {
            let place = || format!("{}, {}", posed.name, way.name);
            let Estimate { effort, measurement, state } = of.estimate(posed, way).with_context(place)?;
            common.say(format_args!(
                "| {} | {} | {} | {} | {measurement} | {state} | {} |",
                posed.name,
                way.name,
                effort.evaluations,
                effort.gradients,
                published(of, posed, way)
            ));
        }
    }
    Ok(())
}
