//! Contents of an experiment file with `kind: generation`.

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    error::Within,
    evaluation::features::{Evaluation, Target},
    files::{archive::ArchiveLayout, rounding::Rounding},
    numbers::{plan::Plan, scheme::Scheme},
    run::experiment::{Kind, mean_and_spread, stated},
};

/// Table of generated images: each row draws images of many seeds with a model and a plan, and measures their distance
/// from a reference.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TableExperiment {
    /// Kind of the experiment: [`Kind::Generation`].
    pub kind: Kind,
    /// Question that the experiment answers.
    pub about: String,
    /// Paper and table of the figures, if they are published.
    #[serde(default)]
    pub source: String,
    /// Paper's name for its figure.
    #[serde(default)]
    pub figure: String,
    /// Known differences from the paper's program.
    #[serde(default)]
    pub differs: String,
    /// Number N of images for one figure.
    pub images: u64,
    /// Number of sets of which figures are measured: seeds 0 … N − 1, N … 2N − 1, and so on.
    #[serde(default = "one")]
    pub repeats: u64,
    /// Reduction of the figures of several sets.
    #[serde(default)]
    pub take: Reduce,
    /// Number of seeds that a process takes on at a time; the work on an unfinished chunk is lost if the process dies.
    #[serde(default = "chunk")]
    pub chunk: u64,
    /// Rounding of pixels to bytes.
    #[serde(default)]
    pub rounding: Rounding,
    /// Destination of the images.
    #[serde(default)]
    pub store: ImageStore,
    /// Evaluations of each set; the very first figure heads the table. Without any evaluation, images are only drawn.
    #[serde(default)]
    pub evaluate: Vec<Evaluation>,
    /// Images that the drawn ones should resemble, or a file of their statistics, for all rows without a reference of
    /// their own; like checkpoints, either may be in the folder of --models.
    #[serde(default)]
    pub reference: Option<Target>,
    /// Address of the reference, or its authors' description.
    #[serde(default)]
    pub statistics: String,
    /// Image shape, `[channels, height, width]`, of all rows without one of their own; it is for the reader, since runs
    /// take the shape from the network.
    #[serde(default)]
    pub image: Option<[i64; 3]>,
    /// Smallest and largest σ of the training, for dry runs and for all rows without a range of their own; where there
    /// is a card, it states them.
    #[serde(default)]
    pub range: Option<(f64, f64)>,
    /// Rows of the table.
    pub rows: Vec<TableRow>,
}

/// A row of [`TableExperiment`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TableRow {
    /// Name in the table.
    pub name: String,
    /// Model: a name, a card, a checkpoint or a folder.
    pub model: String,
    /// SHA-256 of the file of weights, where it is known; a file with another hash is refused.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Address of the file, or its authors' description.
    #[serde(default)]
    pub origin: String,
    /// Values that replace the card's, as with `--set`.
    #[serde(default)]
    pub set: Vec<String>,
    /// Classes that seeds take in turn, in the form of `--class`.
    #[serde(default)]
    pub classes: Option<String>,
    /// Whether to clip D to −1 … 1, as `clip_denoised` of DDPM's and ADM's programs does.
    #[serde(default)]
    pub clip: bool,
    /// Image shape of this row; see [`TableExperiment::image`].
    #[serde(default)]
    pub image: Option<[i64; 3]>,
    /// Range of σ of this row; see [`TableExperiment::range`].
    #[serde(default)]
    pub range: Option<(f64, f64)>,
    /// Reference of this row; see [`TableExperiment::reference`].
    #[serde(default)]
    pub reference: Option<Target>,
    /// Schedule, steps and sampler.
    pub plan: Plan,
    /// Noise levels that the plan must reproduce.
    #[serde(default)]
    pub golden: Option<ExpectedLevels>,
    /// Published value.
    #[serde(default)]
    pub published: Option<f64>,
    /// Published spread, if there is one.
    #[serde(default)]
    pub spread: Option<f64>,
    /// Further notes.
    #[serde(default)]
    pub note: String,
}

/// Noise levels at which a paper's program evaluates its network; they reveal errors of a schedule without the weights.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedLevels {
    /// Number of evaluations for an image.
    pub evaluations: usize,
    /// First σ, in order, in data units.
    pub first: Vec<f64>,
    /// Last σ, in order, in data units.
    pub last: Vec<f64>,
}

/// Relative tolerance of σ, which are printed with at least this many digits.
const DIGITS: f64 = 2e-5;

/// Reduction of the figures of several sets.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduce {
    /// Mean of the sets' figures.
    #[default]
    Mean,
    /// Smallest of the sets' figures, as in EDM.
    #[serde(alias = "least")]
    Min,
}

/// Destination of images.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImageStore {
    /// A folder of PNG files.
    #[default]
    Png,
    /// A zip archive of PNG files for each set, as EDM writes them.
    Zip,
    /// An archive for each set with all images in one array, as ADM's evaluator reads it.
    Npz,
    /// No destination: only the statistics of the images are kept.
    Nothing,
}

impl ImageStore {
    /// Returns the layout of the archive, if there is one.
    pub fn layout(self) -> Option<ArchiveLayout> {
        match self {
            Self::Zip => Some(ArchiveLayout::Zip),
            Self::Npz => Some(ArchiveLayout::Npz),
            Self::Png | Self::Nothing => None,
        }
    }
}

fn one() -> u64 {
    1
}

fn chunk() -> u64 {
    512
}

/// Chunk of seeds that a process takes on at a time.
#[derive(Clone, Debug, PartialEq)]
pub struct SeedChunk {
    /// Number of the set.
    pub repeat: u64,
    /// First seed.
    pub first: u64,
    /// Number of seeds.
    pub count: u64,
}

impl SeedChunk {
    /// Returns the name of the chunk's file.
    pub fn name(&self) -> String {
        format!("{:09}.npz", self.first)
    }

    /// Returns the seeds of the chunk.
    pub fn seeds(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }
}

impl TableExperiment {
    /// Lists all chunks, in the order in which they are summed up.
    pub fn chunks(&self) -> Vec<SeedChunk> {
        let step = self.chunk.max(1);
        let chunks_of = |repeat: u64| {
            (0..self.images).step_by(step as usize).map(move |start| SeedChunk {
                repeat,
                first: repeat * self.images + start,
                count: step.min(self.images - start),
            })
        };
        (0..self.repeats).flat_map(chunks_of).collect()
    }

    /// Renders the costs of the whole table as Markdown, without the networks; fails where a walk differs from the
    /// file's statement.
    pub fn dry_table(&self) -> Result<String, Error> {
        self.check()?;
        let mut text = "| row | model | evaluations | images | published |\n| --- | --- | --- | --- | --- |".to_owned();
        for row in &self.rows {
            let evaluations = self.evaluations(row).within(|| row.name.clone())?;
            let (images, published) =
                (self.images * self.repeats, row.published.map_or("–".to_owned(), |p| p.to_string()));
            let _ = write!(text, "\n| {} | {} | {evaluations} | {images} | {published} |", row.name, row.model);
        }
        Ok(text)
    }

    /// Refuses counts of zero, and rows with equal names.
    pub fn check(&self) -> Result<(), Error> {
        for (name, value) in [("images", self.images), ("repeats", self.repeats), ("chunk", self.chunk)] {
            if value == 0 {
                return Err(Error::parameter(name, "at least 1", value));
            }
        }
        let mut names: Vec<&str> = self.rows.iter().map(|row| row.name.as_str()).collect();
        names.sort_unstable();
        match names.windows(2).find(|pair| pair[0] == pair[1]) {
            Some(pair) => Err(Error::parameter("the name of a row", "its own alone", pair[0])),
            None => Ok(()),
        }
    }

    /// Returns the reference of a row's images.
    pub fn target<'a>(&'a self, row: &'a TableRow) -> Option<&'a Target> {
        row.reference.as_ref().or(self.reference.as_ref())
    }

    /// Checks that the walk of a row is the paper's; returns the number of evaluations for an image.
    pub fn evaluations(&self, row: &TableRow) -> Result<usize, Error> {
        self.proven(row, stated::range(&row.model, row.range.or(self.range))?)
    }

    /// Checks as [`Self::evaluations`], for a model that was trained from σ = `range.0` to `range.1`.
    pub fn proven(&self, row: &TableRow, range: (f64, f64)) -> Result<usize, Error> {
        let scheme = row.plan.resolve(range, f64::INFINITY)?.scheme;
        row.golden.as_ref().map_or(Ok(()), |golden| golden.check(&scheme))?;
        Ok(scheme.evaluations())
    }

    /// Reduces a figure's values over the sets of a row to value and spread. [`Reduce::Min`] applies only to the figure
    /// that heads the table, `is_head`.
    pub fn taken(&self, values: &[f64], is_head: bool) -> Option<(f64, Option<f64>)> {
        let (mean, spread) = (!values.is_empty()).then(|| mean_and_spread(values))?;
        Some(match self.take {
            Reduce::Min if is_head => (values.iter().copied().fold(f64::INFINITY, f64::min), spread),
            Reduce::Mean | Reduce::Min => (mean, spread),
        })
    }
}

impl ExpectedLevels {
    /// Refuses a scheme with other levels, or with more or fewer.
    pub fn check(&self, scheme: &Scheme) -> Result<(), Error> {
        let asked: Vec<f64> = scheme.asked().collect();
        let wrong = |what, want: String, got: String| Err(Error::Walk { what, want, got });
        if asked.len() != self.evaluations && !scheme.is_adaptive() {
            return wrong("the number of evaluations", self.evaluations.to_string(), asked.len().to_string());
        }
        let close =
            |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| (a - b).abs() <= DIGITS * b);
        let first = &asked[..self.first.len().min(asked.len())];
        if !close(first, &self.first) {
            return wrong("the first σ", format!("{:?}", self.first), format!("{first:?}"));
        }
        let last = &asked[asked.len() - self.last.len().min(asked.len())..];
        if !close(last, &self.last) {
            return wrong("the last σ", format!("{:?}", self.last), format!("{last:?}"));
        }
        Ok(())
    }
}
