//! Figures of methods as a table, a plot and a file.

use std::{fmt::Write as _, path::Path};

use serde::{Deserialize, Serialize};
use tch::Tensor;

use crate::{
    Error,
    files::images,
    report::sheet::{self, Series},
};

/// One figure of a table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct MethodFigure {
    /// Name of the method: the row.
    pub method: String,
    /// Number of evaluations or of levels: the column.
    pub at: usize,
    /// Measured value.
    pub value: f64,
    /// Standard deviation over blocks, where there are several.
    pub spread: Option<f64>,
    /// Number of evaluations that were actually made for an image or a point.
    pub evaluations: usize,
}

/// Seed of the points with which samples are compared.
pub(super) const TARGET: u64 = 1 << 40;
/// First noise stream of the initial points.
pub(super) const FIRST: u64 = 1 << 41;

/// Returns the mean, and the standard deviation if there are several values.
pub fn mean_and_spread(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

/// Texts of a table and a plot besides their figures.
#[derive(Clone, Debug)]
pub struct Caption<'a> {
    /// Title of the table and the plot.
    pub title: &'a str,
    /// Unit of the columns.
    pub columns: &'a str,
    /// Meaning of the figures.
    pub value: &'a str,
    /// Figure of as many samples of the reference set itself.
    pub floor: Option<f64>,
    /// Whether the table has a column for the order of convergence.
    pub order: bool,
}

/// Groups the figures by row, in the order of their first appearance.
fn rows(figures: &[MethodFigure]) -> Vec<(&str, Vec<&MethodFigure>)> {
    let mut rows: Vec<(&str, Vec<&MethodFigure>)> = Vec::new();
    for figure in figures {
        match rows.iter_mut().find(|(name, _)| *name == figure.method) {
            Some((_, row)) => row.push(figure),
            None => rows.push((&figure.method, vec![figure])),
        }
    }
    rows
}

/// Renders the figures as Markdown.
pub fn table(figures: &[MethodFigure], caption: &Caption) -> String {
    let mut columns: Vec<usize> = figures.iter().map(|figure| figure.at).collect();
    columns.sort_unstable();
    columns.dedup();
    let mut text = format!("| {} |", caption.columns);
    for at in &columns {
        let _ = write!(text, " {at} |");
    }
    text += if caption.order { " order |\n| --- |" } else { "\n| --- |" };
    text += &" --- |".repeat(columns.len() + usize::from(caption.order));
    for (name, row) in rows(figures) {
        let _ = write!(text, "\n| {name} |");
        for at in &columns {
            let cell = row.iter().find(|figure| figure.at == *at).map_or_else(|| "–".to_owned(), |f| cell(f));
            let _ = write!(text, " {cell} |");
        }
        if caption.order {
            let _ = if row.len() > 1 { write!(text, " {:.2} |", order(&row)) } else { write!(text, " – |") };
        }
    }
    let _ = write!(text, "\n\n{}.", caption.value);
    if let Some(floor) = caption.floor {
        let _ = write!(text, " As many of the set itself: {}.", number(floor));
    }
    text + "\n"
}

fn cell(figure: &MethodFigure) -> String {
    let spread = figure.spread.map_or_else(String::new, |spread| format!(" ± {}", number(spread)));
    number(figure.value) + &spread
}

/// Formats a number with three significant digits.
fn number(value: f64) -> String {
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 4.0) as usize;
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.2e}") } else { format!("{value:.digits$}") }
}

/// Estimates the order of convergence: minus the least-squares slope of ln value over ln column.
fn order(row: &[&MethodFigure]) -> f64 {
    let points: Vec<(f64, f64)> = row.iter().map(|f| ((f.at as f64).ln(), f.value.ln())).collect();
    let mean = |coordinate: fn(&(f64, f64)) -> f64| points.iter().map(coordinate).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let above: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    -above / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

/// Plots the figures with logarithmic axes, `[3, height, width]`.
pub fn plot(figures: &[MethodFigure], caption: &Caption) -> Result<Tensor, Error> {
    let series = |(name, row): (&str, Vec<&MethodFigure>)| Series {
        name: name.to_owned(),
        points: row.iter().map(|figure| (figure.at as f64, figure.value)).collect(),
    };
    let series: Vec<Series> = rows(figures).into_iter().map(series).collect();
    sheet::lines(caption.title, (caption.columns, caption.value), &series, caption.floor)
}

/// Writes NAME.md, NAME.png and NAME.json into `folder`, each whole or not at all.
pub fn write(
    folder: &Path,
    name: &str,
    heading: &str,
    figures: &[MethodFigure],
    caption: &Caption,
) -> Result<(), Error> {
    let text = format!("{heading}\n\n{}\n![{}]({name}.png)\n", table(figures, caption), caption.title);
    images::write_whole(&folder.join(format!("{name}.md")), text.as_bytes())?;
    let json = serde_json::to_vec_pretty(figures).map_err(|e| Error::file(folder, e))?;
    images::write_whole(&folder.join(format!("{name}.json")), &json)?;
    images::write_png(&folder.join(format!("{name}.png")), &plot(figures, caption)?)
}
