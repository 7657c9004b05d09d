//! Settings of an experiment's run besides its file.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::{fingerprint::Origin, leases::Rank, session::Session};
use crate::{
    Error,
    files::{self, data},
    models::card::Model,
};

/// Settings of a run: its folders, and replacements for parts of the file.
#[derive(Clone, Debug)]
pub struct ExperimentRequest {
    /// Name of the experiment: NAME in NAME.md, NAME.png and NAME.json.
    pub name: String,
    /// Text of the experiment's file.
    pub text: String,
    /// Command that makes the run again, for headings.
    pub command: String,
    /// Command line as it was typed, for records and pages.
    pub typed: String,
    /// Folder of tables, plots and records.
    pub results: PathBuf,
    /// Folder of images, with a subfolder for each method.
    pub out: PathBuf,
    /// Values of the models' cards that are replaced, as `key=value`.
    pub set: Vec<String>,
    /// Folder of the checkpoints and references that are not where a table names them.
    pub models: Option<PathBuf>,
    /// Text that the names of a table's rows must contain; other rows are skipped.
    pub row: Option<String>,
    /// Number of images in place of the table's.
    pub images: Option<u64>,
    /// Whether to draw the images of a table without measuring them.
    pub draw_only: bool,
    /// Time of silence after which another process takes over a process's work.
    pub patience: Duration,
    /// Rank of this process among those that make a table together.
    pub rank: Rank,
}

impl ExperimentRequest {
    /// Creates a request for the unchanged experiment at `path`, with results in experiments/results and images in
    /// out/experiments.
    pub fn new(path: &Path) -> Result<Self, Error> {
        let command = format!("tweedie run {}", path.display());
        Ok(Self {
            name: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            text: files::read_text(path)?,
            typed: command.clone(),
            command,
            results: "experiments/results".into(),
            out: "out/experiments".into(),
            set: Vec::new(),
            models: None,
            row: None,
            images: None,
            draw_only: false,
            patience: Duration::from_secs(60),
            rank: Rank::here(),
        })
    }

    /// Returns the folder of a method's images.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.out.join(&self.name).join(path_word(name))
    }

    /// Returns the path of the result file with this ending.
    pub fn result(&self, ending: &str) -> PathBuf {
        self.results.join(format!("{}.{ending}", self.name))
    }

    /// Opens a model that the experiment names; the experiment's `set` is applied before the request's.
    pub(super) fn open(&self, model: &str, set: &[String], session: &Session) -> Result<Model, Error> {
        session.open_with(&self.located(model), None, &[set, &self.set].concat())
    }

    /// Returns the path of a model: the named one, or one in the folder of models.
    pub(super) fn located(&self, model: &str) -> String {
        data::located(Path::new(model), self.models.as_deref()).to_string_lossy().into_owned()
    }

    /// Returns the values that replaced the model card's own.
    pub(super) fn origin(&self, set: &[String]) -> Origin {
        Origin { card: None, set: [set, &self.set].concat() }
    }
}

/// Converts a name to a valid part of a path.
pub(super) fn path_word(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-+.=".contains(c) { c } else { '-' }).collect()
}
