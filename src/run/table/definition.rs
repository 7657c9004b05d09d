//! Contents of a file of `kind: generation`.

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

/// Rows of a table: images of many seeds by a model and a plan each, and how far they lie from others.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TableExperiment {
    /// [`Kind::Generation`].
    pub kind: Kind,
    /// The question that the experiment answers.
    pub about: String,
    /// The paper and its table, if the figures are published.
    #[serde(default)]
    pub source: String,
    /// The paper's name for its figure.
    #[serde(default)]
    pub figure: String,
    /// Known differences from the paper's program.
    #[serde(default)]
    pub differs: String,
    /// N, of one figure.
    pub images: u64,
    /// Figures are measured of so many sets: seeds 0 … N − 1, N … 2N − 1, and so on.
    #[serde(default = "one")]
    pub repeats: u64,
    /// Reduction of the figures of several sets.
    #[serde(default)]
    pub take: Reduce,
    /// Seeds that a process takes on at a time; what it had of them is lost if it dies.
    #[serde(default = "chunk")]
    pub chunk: u64,
    /// Rounding of pixels to bytes.
    #[serde(default)]
    pub rounding: Rounding,
    /// Destination of the images.
    #[serde(default)]
    pub store: ImageStore,
    /// Evaluations of each set, the first figure of all at the head of the table; without any, images are drawn and
    /// nothing else.
    #[serde(default)]
    pub evaluate: Vec<Evaluation>,
    /// The images that those of all rows should resemble that do not say otherwise, or a file of their statistics; as checkpoints,
    /// either may be in the folder of --models.
    #[serde(default)]
    pub reference: Option<Target>,
    /// Address of the reference, or a description by its authors.
    #[serde(default)]
    pub statistics: String,
    /// `[channels, height, width]` of all rows that do not say otherwise, for the reader: runs take it from the network.
    #[serde(default)]
    pub image: Option<[i64; 3]>,
    /// The smallest and the largest σ of the training, of all rows that do not say otherwise, for dry runs; the card has it,
    /// where there is one.
    #[serde(default)]
    pub range: Option<(f64, f64)>,
    /// The rows of the table.
    pub rows: Vec<TableRow>,
}

/// A row of [`TableExperiment`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TableRow {
    /// Name in the table.
    pub name: String,
    /// The model: a name, a card, a checkpoint or a folder.
    pub model: String,
    /// SHA-256 of the file of weights, where it is known; another is refused.
    #[serde(default)]
    pub sha256: Option<String>,
    /// Address of the file, or a description by its authors.
    #[serde(default)]
    pub origin: String,
    /// Values that replace the card's, as `--set` does.
    #[serde(default)]
    pub set: Vec<String>,
    /// The classes over which seeds go in turn, as `--class` has them.
    #[serde(default)]
    pub classes: Option<String>,
    /// Holds D within −1 … 1, as `clip_denoised` of DDPM's and ADM's programs does.
    #[serde(default)]
    pub clip: bool,
    /// See [`TableExperiment::image`].
    #[serde(default)]
    pub image: Option<[i64; 3]>,
    /// See [`TableExperiment::range`].
    #[serde(default)]
    pub range: Option<(f64, f64)>,
    /// See [`TableExperiment::reference`], of all rows that do not say otherwise.
    #[serde(default)]
    pub reference: Option<Target>,
    /// Schedule, steps and sampler.
    pub plan: Plan,
    /// Levels that the plan must arrive at.
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

/// The noise levels at which a paper's program asks its network: how a slip in a schedule comes to light without weights.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExpectedLevels {
    /// Number of evaluations for an image.
    pub evaluations: usize,
    /// The first σ, in order, in data units.
    pub first: Vec<f64>,
    /// The last.
    pub last: Vec<f64>,
}

/// σ are printed with at least this many digits: their relative tolerance.
const DIGITS: f64 = 2e-5;

/// Reduction of the figures of several sets.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reduce {
    /// The mean of the sets' figures.
    #[default]
    Mean,
    /// The smallest, as EDM has it.
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
    /// An archive for each set with all images in one array, as ADM's evaluator reads them.
    Npz,
    /// Nowhere: only their statistics are kept.
    Nothing,
}

impl ImageStore {
    /// The archive, if there is one.
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

/// Seeds that a process takes on at a time.
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
    /// Name of the chunk's file.
    pub fn name(&self) -> String {
        format!("{:09}.npz", self.first)
    }

    /// Seeds of the chunk.
    pub fn seeds(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }
}

impl TableExperiment {
    /// All chunks, in the order in which they are summed up.
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

    /// Costs of the whole table as Markdown, without the networks; an error where a walk is not what the file states.
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

    /// Refuses numbers that make no table.
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

    /// Reference of a row's images.
    pub fn target<'a>(&'a self, row: &'a TableRow) -> Option<&'a Target> {
        row.reference.as_ref().or(self.reference.as_ref())
    }

    /// Number of evaluations for an image of a row, after a check that its walk is the paper's.
    pub fn evaluations(&self, row: &TableRow) -> Result<usize, Error> {
        self.proven(row, stated::range(&row.model, row.range.or(self.range))?)
    }

    /// Number of evaluations for an image of a row, for a model that was trained from σ = `range.0` to `range.1`.
    pub fn proven(&self, row: &TableRow, range: (f64, f64)) -> Result<usize, Error> {
        let scheme = row.plan.resolve(range, f64::INFINITY)?.scheme;
        row.golden.as_ref().map_or(Ok(()), |golden| golden.check(&scheme))?;
        Ok(scheme.evaluations())
    }

    /// A figure of a row, of those of its sets: value and spread. The least is taken of what heads the table, `is_head`, alone.
    pub fn taken(&self, values: &[f64], is_head: bool) -> Option<(f64, Option<f64>)> {
        let (mean, spread) = (!values.is_empty()).then(|| mean_and_spread(values))?;
        Some(match self.take {
            Reduce::Min if is_head => (values.iter().copied().fold(f64::INFINITY, f64::min), spread),
            Reduce::Mean | Reduce::Min => (mean, spread),
        })
    }
}

impl ExpectedLevels {
    /// Refuses a scheme that asks for other levels, or for more or fewer.
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
