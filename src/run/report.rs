//! Page of all results beside the published ones, as Markdown and as HTML.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use indexmap::{IndexMap, IndexSet};
use serde::Serialize;
use serde_json::Value;

use super::{
    experiment::AnyExperiment,
    records::{self, Record},
    table::{Reduce, TableExperiment, TableRow},
};
use crate::{
    Error,
    files::{images, yaml},
    report::{
        page::{Case, Chapter, Picture, Report, Table as Figures},
        sheet::{self, Series},
    },
};

/// A request for a page of all results.
#[derive(Clone, Debug)]
pub struct ReportRequest {
    /// Folder of experiments, searched with its subfolders.
    pub experiments: PathBuf,
    /// Folder of records and plots; the page is written into it as tables.md and tables.html.
    pub results: PathBuf,
    /// Command that makes the page again.
    pub command: String,
}

/// Files of a page that was written.
#[derive(Clone, Debug, Serialize)]
pub struct ReportFiles {
    /// Number of tables.
    pub results: usize,
    /// Path of the Markdown file.
    pub markdown: PathBuf,
    /// Path of the HTML page, which a browser shows without a network connection.
    pub html: PathBuf,
}

impl ReportRequest {
    /// Writes the page, whole or not at all.
    pub fn write(&self) -> Result<ReportFiles, Error> {
        let chapters = self.chapters()?;
        if chapters.is_empty() {
            let experiments = self.experiments.display();
            let cause = format!("holds no results of {experiments} yet: tweedie run makes them");
            return Err(Error::file(&self.results, cause));
        }
        let mut text = format!("# Tables\n\n`{}`\n", self.command);
        for (chapter, table) in &chapters {
            let Chapter { title, about, command, .. } = chapter;
            let _ = write!(text, "\n## {title}\n\n{about}\n\n`{command}`\n\n{table}");
        }
        let report = Report {
            title: "Tables".to_owned(),
            about: "Published figures beside those measured here, with their costs.".to_owned(),
            command: self.command.clone(),
            chapters: chapters.into_iter().map(|(chapter, _)| chapter).collect(),
        };
        let [markdown, html] = ["tables.md", "tables.html"].map(|name| self.results.join(name));
        images::write_whole(&markdown, text.as_bytes())?;
        images::write_whole(&html, report.html()?.as_bytes())?;
        Ok(ReportFiles { results: report.chapters.len(), markdown, html })
    }

    fn chapters(&self) -> Result<Vec<(Chapter, String)>, Error> {
        let lines = self.results.join(records::FILE);
        let records = if lines.exists() { records::read(&lines)? } else { Vec::new() };
        let mut chapters = Vec::new();
        for path in experiments(&self.experiments)? {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            match AnyExperiment::read(&path)? {
                AnyExperiment::Generation(table) => {
                    let latest = latest(&table, &name, &records);
                    if !latest.is_empty() {
                        chapters.push(self.generated(&table, &name, &path, &latest)?);
                    }
                }
                other => chapters.extend(self.plotted(&other, &name, &path)?),
            }
        }
        Ok(chapters)
    }

    /// Creates the chapter of a table of generated images, with plots of quality against cost and a sheet of each row.
    fn generated(
        &self,
        table: &TableExperiment,
        name: &str,
        path: &Path,
        records: &[Record],
    ) -> Result<(Chapter, String), Error> {
        let plots = self.plots(table, name, records)?;
        let mut text = markdown(table, records);
        let mut figures = Figures::of_markdown(&text);
        figures.note = notes(table, records);
        let _ = write!(text, "\n{}\n", figures.note);
        let names = plots.iter().filter_map(|plot| Some((&plot.label, plot.file.file_name()?.to_string_lossy())));
        for (label, file) in names {
            let _ = write!(text, "\n![{label}]({file})\n");
        }
        let grid =
            |record: &Record| Picture { label: record.row.clone(), file: Path::new(&record.out).join(images::SHEET) };
        let grids = records.iter().map(grid).filter(|picture| picture.file.exists()).collect();
        let about = [&table.source, &table.figure, &table.differs]
            .map(|text| text.trim_end_matches('.'))
            .into_iter()
            .filter(|text| !text.is_empty());
        let chapter = Chapter {
            title: table.about.clone(),
            about: about.collect::<Vec<_>>().join(". "),
            command: format!("tweedie run {}", path.display()),
            table: figures,
            cases: vec![case("", plots), case("Images of the first seeds", grids)],
        };
        Ok((chapter, text))
    }

    /// Plots quality against cost, where a line has more than one point.
    fn plots(&self, table: &TableExperiment, name: &str, records: &[Record]) -> Result<Vec<Picture>, Error> {
        let head = records.iter().find_map(|record| record.figures.keys().next()).map_or("", String::as_str);
        let mut plots = Vec::new();
        let costs: [(&str, CostOf); 2] = [("evaluations", |r| r.evaluations), ("seconds", |r| r.seconds)];
        for (cost, of_record) in costs {
            let lines = series(table, records, of_record);
            if lines.iter().any(|line| line.points.len() > 1) {
                let file = self.results.join(format!("{name}-{cost}.png"));
                let plot = sheet::lines(&table.about, (&format!("{cost} for an image"), head), &lines, None)?;
                images::write_png(&file, &plot)?;
                plots.push(Picture { label: format!("Quality against {cost}"), file });
            }
        }
        Ok(plots)
    }

    /// Creates chapters for the tables that an experiment of another kind has left in the folder of results.
    fn plotted(&self, experiment: &AnyExperiment, name: &str, path: &Path) -> Result<Vec<(Chapter, String)>, Error> {
        let [text, plot] = ["md", "png"].map(|ending| self.results.join(format!("{name}.{ending}")));
        if !text.exists() {
            return Ok(Vec::new());
        }
        let markdown = fs::read_to_string(&text).map_err(|e| Error::file(&text, format!("cannot be read: {e}")))?;
        let pictures: Vec<Picture> =
            plot.exists().then(|| Picture { label: String::new(), file: plot }).into_iter().collect();
        let chapter = |part: &str| {
            let heading = part.lines().next().filter(|_| !part.starts_with('#')).unwrap_or_default();
            let title = [experiment.about(), heading].into_iter().filter(|text| !text.is_empty());
            let chapter = Chapter {
                title: title.collect::<Vec<_>>().join(": "),
                about: String::new(),
                command: format!("tweedie run {}", path.display()),
                table: Figures::of_markdown(part),
                cases: vec![case("", pictures.clone())],
            };
            (chapter, format!("[{name}.md]({name}.md)\n"))
        };
        Ok(markdown.split("\n## ").map(chapter).filter(|(chapter, _)| !chapter.table.rows.is_empty()).collect())
    }
}

/// Function that returns the cost of an image.
type CostOf = fn(&Record) -> f64;

fn case(name: &str, pictures: Vec<Picture>) -> Case {
    Case { name: name.to_owned(), pictures, ..Case::default() }
}

/// Lists the experiments of a folder and of its subfolders; other YAML files are skipped.
pub fn experiments(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    if folder.is_file() {
        return Ok(vec![folder.to_owned()]);
    }
    let unreadable = |e: io::Error| Error::file(folder, format!("cannot be listed: {e}"));
    let entries = fs::read_dir(folder).map_err(unreadable)?.collect::<Result<Vec<_>, _>>();
    let mut entries = entries.map_err(unreadable)?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let (mut found, mut inner) = (Vec::new(), Vec::new());
    for path in entries.into_iter().map(|entry| entry.path()) {
        if path.is_dir() {
            inner.extend(experiments(&path)?);
        } else if path.extension().is_some_and(|ending| ending == "yaml") && is_experiment(&path) {
            found.push(path);
        }
    }
    found.extend(inner);
    Ok(found)
}

/// Reports whether a file states a kind of experiment; configurations for training do not.
fn is_experiment(path: &Path) -> bool {
    yaml::read::<Value>(path).map_or(true, |file| file.get("kind").is_some())
}

/// Returns the newest record of each row, in the order of the rows.
fn latest(table: &TableExperiment, name: &str, records: &[Record]) -> Vec<Record> {
    let newest =
        |row: &TableRow| records.iter().rev().find(|record| record.experiment == name && record.row == row.name);
    table.rows.iter().filter_map(|row| newest(row).cloned()).collect()
}

/// Groups rows that differ only in the number of levels into one line, and their published values into another.
fn series(table: &TableExperiment, records: &[Record], cost: CostOf) -> Vec<Series> {
    let mut lines: IndexMap<String, Vec<(&TableRow, &Record)>> = IndexMap::new();
    for record in records {
        let Some(row) = table.rows.iter().find(|row| row.name == record.row) else { continue };
        let sampler = serde_json::to_string(&row.plan.sampler).unwrap_or_default();
        lines.entry(format!("{} {sampler}", row.model)).or_default().push((row, record));
    }
    let both = |(key, records): (String, Vec<(&TableRow, &Record)>)| {
        let name = common(records.iter().map(|(row, _)| row.name.as_str())).unwrap_or(key);
        let ours = records.iter().filter_map(|(_, record)| Some((cost(record), record.figures.first()?.1.0)));
        let theirs = records.iter().filter_map(|(row, record)| Some((cost(record), row.published?)));
        let published = Series { name: format!("published: {name}"), points: theirs.collect() };
        [Series { name, points: ours.collect() }, published]
    };
    lines.into_iter().flat_map(both).filter(|line| !line.points.is_empty()).collect()
}

/// Returns the longest common part of the rows' names, part by part between commas: `DDIM` for `DDIM, 5` and
/// `DDIM, 10`.
fn common<'a>(mut names: impl Iterator<Item = &'a str>) -> Option<String> {
    let first: Vec<&str> = names.next()?.split(", ").collect();
    let kept = names.fold(first, |kept, name| {
        let parts: Vec<&str> = name.split(", ").collect();
        kept.into_iter().filter(|part| parts.contains(part)).collect()
    });
    Some(kept.join(", ")).filter(|name| !name.is_empty())
}

/// Renders a line for each record: published value, measured value, cost, and further figures.
pub fn markdown(table: &TableExperiment, records: &[Record]) -> String {
    let others: IndexSet<&str> =
        records.iter().flat_map(|record| record.figures.keys().skip(1)).map(String::as_str).collect();
    let is_published = records.iter().any(|record| published(table, record).is_some());
    let mut headings = vec!["row", "measured"];
    if is_published {
        headings = vec!["row", "published", "measured", "difference"];
    }
    headings.extend(["N", "evaluations", "s an image"]);
    headings.extend(&others);
    let mut text = format!("| {} |\n|{}\n", headings.join(" | "), " --- |".repeat(headings.len()));
    for record in records {
        let more = others.iter().map(|name| figure(record.figures.get(*name)));
        let cells = cells(table, record, is_published).into_iter().chain(more);
        let _ = writeln!(text, "| {} |", cells.collect::<Vec<_>>().join(" | "));
    }
    text
}

/// Formats value and spread, with enough digits for small numbers too.
fn figure(figure: Option<&(f64, Option<f64>)>) -> String {
    let Some((value, spread)) = figure else { return "–".to_owned() };
    let digits = if value.abs() < 1.0 { 4 } else { 3 };
    let spread = spread.map(|spread| format!(" ± {spread:.digits$}"));
    format!("{value:.digits$}{}", spread.unwrap_or_default())
}

/// Returns the published value and spread, as the experiment states them now.
fn published(table: &TableExperiment, record: &Record) -> Option<(f64, Option<f64>)> {
    let row = table.rows.iter().find(|row| row.name == record.row);
    row.and_then(|row| Some((row.published?, row.spread)))
}

/// Returns the cells of a record before its further figures.
fn cells(table: &TableExperiment, record: &Record, is_published: bool) -> Vec<String> {
    let head = record.figures.first().map(|(_, found)| found);
    let mut cells = vec![record.row.clone()];
    if is_published {
        let theirs = published(table, record);
        let spread = theirs.and_then(|(_, spread)| spread).map_or_else(String::new, |spread| format!(" ± {spread:.2}"));
        let number = |value: Option<f64>| value.map_or_else(|| "–".to_owned(), |value| format!("{value:.2}"));
        let value = theirs.map(|(value, _)| value);
        let difference = head.zip(value).map(|((ours, _), theirs)| ours - theirs);
        cells.extend([number(value) + &spread, figure(head), number(difference)]);
    } else {
        cells.push(figure(head));
    }
    cells.extend([
        format!("{} × {}", record.identity["repeats"], record.identity["images"]),
        format!("{:.0}", record.evaluations),
        format!("{:.3}", record.seconds),
    ]);
    cells
}

/// Collects the notes for a reader of the figures.
fn notes(table: &TableExperiment, records: &[Record]) -> String {
    let head = records.iter().find_map(|record| record.figures.keys().next());
    let head = head.map_or_else(String::new, |name| format!("Measured: {name}. "));
    let take = match (table.repeats, table.take) {
        (1, _) => "",
        (_, Reduce::Mean) => "Means of several sets ± their standard deviation. ",
        (_, Reduce::Min) => "The least of several sets ± their standard deviation. ",
    };
    let mut rows_of: IndexMap<&str, Vec<&str>> = IndexMap::new();
    for record in records {
        for text in &record.warnings {
            rows_of.entry(text).or_default().push(&record.row);
        }
    }
    let rows = |names: &[&str]| if names.len() == records.len() { "All rows".to_owned() } else { names.join("; ") };
    let warnings = rows_of.iter().map(|(text, names)| format!("{}: {text}.", rows(names)));
    let record = records
        .first()
        .map(|record| format!("tweedie {}, libtorch {}, {}. ", record.version, record.libtorch, record.device));
    format!("{head}{take}{}{}", record.unwrap_or_default(), warnings.collect::<Vec<_>>().join(" "))
}
