//! Table of the figures of restored images: a row for each, and the medians.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::figures::RestoredRow;
use crate::report::page::Table;

/// Maximum number of images in the table.
const ROWS: usize = 32;

/// Function that selects one figure of a row.
type FigureOf = fn(&RestoredRow) -> Option<f64>;

/// Possible columns of the table: heading, digits and figure. Figures of the measurement and the sample other than
/// PSNR, and SSIM by uniform windows, are only in the rows' files.
const COLUMNS: [(&str, usize, FigureOf); 13] = [
    ("measurement", 2, |row| row.truth.as_ref()?.measurement.psnr),
    ("sample", 2, |row| row.truth.as_ref()?.sample.psnr),
    ("mean", 2, |row| row.truth.as_ref()?.mean.psnr),
    ("baseline", 2, |row| row.truth.as_ref()?.baseline.as_ref()?.psnr),
    ("mean, min–max", 2, |row| row.truth.as_ref()?.mean.psnr_min_max),
    ("SSIM sample", 3, |row| row.truth.as_ref()?.sample.ssim),
    ("SSIM mean", 3, |row| row.truth.as_ref()?.mean.ssim),
    ("LPIPS sample", 3, |row| row.truth.as_ref()?.sample.lpips),
    ("LPIPS mean", 3, |row| row.truth.as_ref()?.mean.lpips),
    ("features sample", 3, |row| row.truth.as_ref()?.sample.features),
    ("features mean", 3, |row| row.truth.as_ref()?.mean.features),
    ("coverage", 3, |row| Some(row.truth.as_ref()?.coverage)),
    ("residual", 3, |row| Some(row.residual)),
];

const NOTE: &str = "Measurement, sample, mean and baseline: PSNR in dB for pixels 0 … 1; SSIM by Gaussian windows; both \
                    of the pictures as they are written, clipped to 0 … 1 (min–max: of the unclipped images); coverage: pixels within ±2 standard deviations of the mean; residual: ‖y − A x‖ of the samples over \
                    what η predicts, of the entries of y that A sees.";

/// Creates the table of every image's figures and the median of each column; columns without a figure are left out, and
/// so is the coverage of one sample, which has no spread.
pub(crate) fn table(rows: &[RestoredRow], samples: usize) -> Table {
    let shown = |heading: &str| samples > 1 || heading != "coverage";
    let known = |pick: FigureOf| rows.iter().any(|row| pick(row).is_some());
    let columns: Vec<_> = COLUMNS.iter().filter(|(heading, _, pick)| shown(heading) && known(*pick)).collect();
    let line = |name: &str, figure: &dyn Fn(FigureOf) -> Option<f64>| -> Vec<String> {
        let figures = columns.iter().map(|(_, digits, pick)| number(figure(*pick), *digits));
        std::iter::once(name.to_owned()).chain(figures).collect()
    };
    let mut lines: Vec<_> = rows.iter().take(ROWS).map(|row| line(&row.name, &|pick| pick(row))).collect();
    lines.push(line("median", &|pick| median(rows.iter().filter_map(pick).collect())));
    let headings = std::iter::once("image").chain(columns.iter().map(|(heading, ..)| *heading));
    let note =
        if rows.len() > ROWS { format!("The first {ROWS} of {} images. {NOTE}", rows.len()) } else { NOTE.to_owned() };
    Table { headings: headings.map(ToOwned::to_owned).collect(), rows: lines, note }
}

/// Returns the median gain of the mean over the baseline, in dB.
pub(crate) fn gain(rows: &[RestoredRow]) -> Option<f64> {
    let gain = |row: &RestoredRow| {
        let truth = row.truth.as_ref()?;
        Some(truth.mean.psnr? - truth.baseline.as_ref()?.psnr?)
    };
    median(rows.iter().filter_map(gain).collect())
}

pub(crate) fn markdown(table: &Table, gain: Option<f64>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&table.headings) + &line(&vec!["---".to_owned(); table.headings.len()]);
    for (i, row) in table.rows.iter().enumerate() {
        let mut row = row.clone();
        if i + 1 == table.rows.len() {
            row[0] = format!("**{}**", row[0]);
        }
        text += &line(&row);
    }
    if let Some(gain) = gain {
        let _ = writeln!(text, "\nOf each image: the mean is {gain:.2} dB above the baseline in the median.");
    }
    format!("{text}\n{}", table.note)
}

pub(crate) fn number(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        n if n % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// Returns the medians of the figures over images, in the structure of the rows.
pub(crate) fn medians(rows: &[RestoredRow]) -> Value {
    let each = |row: &RestoredRow| serde_json::to_value((&row.residual, &row.truth)).unwrap_or_default();
    let rows: Vec<Value> = rows.iter().map(each).collect();
    let part = |i: usize| rows.iter().map(|row| row[i].clone()).collect::<Vec<_>>();
    let mut figures = Map::from_iter([("residual".to_owned(), median_of(&part(0)))]);
    if let Value::Object(compared) = median_of(&part(1)) {
        figures.extend(compared);
    }
    Value::Object(figures)
}

/// Returns the median of each number, over values of equal structure.
fn median_of(values: &[Value]) -> Value {
    match values.iter().find(|value| !value.is_null()) {
        Some(Value::Object(first)) => {
            let entry =
                |key: &String| median_of(&values.iter().map(|value| value[key.as_str()].clone()).collect::<Vec<_>>());
            Value::Object(first.keys().map(|key| (key.clone(), entry(key))).collect())
        }
        _ => median(values.iter().filter_map(Value::as_f64).collect()).map_or(Value::Null, Value::from),
    }
}
