//! `tweedie run` of methods that restore the same measurements.

use std::{collections::BTreeMap, fmt::Write as _, path::Path, time::Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tweedie::{
    experiment::{Estimate, Posed, Restorations, Restoring},
    images, quadrature,
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
    coverage: f64,
    residual: f64,
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
    posed: &Posed,
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
    let mean = |pick: &dyn Fn(&Row) -> Option<f64>| {
        let figures: Vec<f64> = rows.iter().filter_map(pick).collect();
        figures.iter().sum::<f64>() / figures.len() as f64
    };
    let of = |which: Pick, figure: fn(&Figures) -> Option<f64>| mean(&|row| which(row).and_then(figure));
    let sample: Pick = |row| Some(&row.truth.as_ref()?.sample);
    let average: Pick = |row| Some(&row.truth.as_ref()?.mean);
    Ok(Line {
        evaluations: effort.evaluations,
        gradients: effort.gradients,
        psnr_measurement: of(|row| Some(&row.truth.as_ref()?.measurement), |figures| figures.psnr),
        psnr_sample: of(sample, |figures| figures.psnr),
        psnr_mean: of(average, |figures| figures.psnr),
        ssim_sample: of(sample, |figures| figures.ssim),
        ssim_mean: of(average, |figures| figures.ssim),
        coverage: mean(&|row| Some(row.truth.as_ref()?.coverage)),
        residual: mean(&|row| Some(row.residual)),
        seconds,
    })
}

fn text(of: &Restorations, place: &Place, lines: &Lines, common: &Common) -> String {
    let count = of.limit.map_or_else(|| "all".to_owned(), |limit| limit.to_string());
    let mut text = format!(
        "# {}\n\n`{}`; {}, {count} images, {} samples of each posterior, in {:?}.\n",
        of.about, place.command, of.model, of.samples, common.precision
    );
    for posed in &of.tasks {
        let Some(lines) = lines.get(&posed.name) else { continue };
        let measured = lines.values().next().map_or(f64::NAN, |line| line.psnr_measurement);
        let _ = write!(
            text,
            "\n## {}\n\nη = {} for pixels 0 … 1; the measurement has {measured:.2} dB.\n\n| method | evaluations + gradients \
             | sample, dB | mean, dB | SSIM sample | SSIM mean | coverage | residual | s an image |{}\n\
             | --- | --- | --- | --- | --- | --- | --- | --- | --- |{}\n",
            posed.name,
            posed.noise,
            if of.published.is_empty() { "" } else { " published |" },
            if of.published.is_empty() { "" } else { " --- |" },
        );
        for way in &of.methods {
            let Some(line) = lines.get(&way.name) else { continue };
            let _ = write!(
                text,
                "| {} | {} + {} | {:.2} | {:.2} | {:.3} | {:.3} | {:.3} | {:.3} | {:.2} |",
                way.name,
                line.evaluations,
                line.gradients,
                line.psnr_sample,
                line.psnr_mean,
                line.ssim_sample,
                line.ssim_mean,
                line.coverage,
                line.residual,
                line.seconds
            );
            if !of.published.is_empty() {
                let _ = write!(text, " {} |", published(of, posed, way));
            }
            text += "\n";
        }
    }
    let _ = write!(
        text,
        "\nMeans over the images; PSNR for pixels 0 … 1, SSIM by Gaussian windows. Coverage: pixels within ±2 standard \
         deviations of the mean of the samples; of exact posteriors it would be {:.3}. Residual: ‖y − A x‖ of the samples \
         over what η predicts.\n",
        expected_coverage(of.samples)
    );
    text
}

fn published<'a>(of: &'a Restorations, posed: &Posed, way: &Restoring) -> &'a str {
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
