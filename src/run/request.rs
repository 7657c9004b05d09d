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
    /// NAME of NAME.md, NAME.png and NAME.json.
    pub name: String,
    /// The experiment, word for word.
    pub text: String,
    /// Command that makes the run again, for headings.
    pub command: String,
    /// The command line as it was typed, for records and pages.
    pub typed: String,
    /// Folder of tables, plots and records.
    pub results: PathBuf,
    /// Folder of images, with a folder in it for each method.
    pub out: PathBuf,
    /// The values of models' cards that are replaced, as `key=value`.
    pub set: Vec<String>,
    /// Folder of checkpoints and references that are not where a table names them.
    pub models: Option<PathBuf>,
    /// Only rows of a table whose names contain this.
    pub row: Option<String>,
    /// Number of images in place of the table's.
    pub images: Option<u64>,
    /// Measures nothing of a table.
    pub draw_only: bool,
    /// After how long a silence another process takes over the work of one.
    pub patience: Duration,
    /// Rank of this process among those that make a table together.
    pub rank: Rank,
}

impl ExperimentRequest {
    /// The experiment at `path` as it stands: results into experiments/results, images into out/experiments.
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

    /// The folder of a method's images.
    pub fn folder(&self, name: &str) -> PathBuf {
        self.out.join(&self.name).join(path_word(name))
    }

    /// A file of results.
    pub fn result(&self, ending: &str) -> PathBuf {
        self.results.join(format!("{}.{ending}", self.name))
    }

    /// Opens a model that the experiment names, with `set` of the experiment before that of the request.
    pub(super) fn open(&self, model: &str, set: &[String], session: &Session) -> Result<Model, Error> {
        session.open_with(&self.located(model), None, &[set, &self.set].concat())
    }

    /// The file of a model: as it is named, or in the folder of models.
    pub(super) fn located(&self, model: &str) -> String {
        data::located(Path::new(model), self.models.as_deref()).to_string_lossy().into_owned()
    }

    /// Values that replaced the model card's own.
    pub(super) fn origin(&self, set: &[String]) -> Origin {
        Origin { card: None, set: [set, &self.set].concat() }
    }
}

/// A name that may stand in a path.
pub(super) fn path_word(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-+.=".contains(c) { c } else { '-' }).collect()
}
