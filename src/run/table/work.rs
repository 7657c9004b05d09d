//! Work on all rows of a table, shared by any number of processes.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::{
    definition::{TableExperiment, TableRow},
    evaluator::{self, Evaluator},
    row::RowRun,
};
use crate::{
    Error,
    error::Within,
    models::card,
    run::{
        fingerprint::RECORD,
        leases::{Leases, Owner},
        observer::{Observer, go_on},
        records::Record,
        request::ExperimentRequest,
        session::{Session, Threads},
    },
};

/// Pause of a process that finds nothing to do, before it checks again.
const NAP: Duration = Duration::from_millis(300);

/// Progress of a row.
#[derive(PartialEq)]
pub(super) enum RowState {
    /// The figures are measured.
    Finished,
    /// Other processes are at work on the rest of the row.
    Busy,
}

/// State shared by all rows.
pub(super) struct Work<'a> {
    pub table: &'a TableExperiment,
    pub request: &'a ExperimentRequest,
    pub session: &'a Session,
    pub observer: &'a dyn Observer,
    pub evaluators: Vec<Evaluator>,
    /// Number N of images in the file, whatever the request says.
    pub images_of_file: u64,
}

impl TableExperiment {
    /// Draws and measures all rows, together with other processes that do the same in the same folders; returns a
    /// record of each row.
    pub fn run(
        &self,
        request: &ExperimentRequest,
        session: &Session,
        observer: &dyn Observer,
    ) -> Result<Vec<Record>, Error> {
        let evaluate = if request.draw_only { Vec::new() } else { self.evaluate.clone() };
        let table = &Self { images: request.images.unwrap_or(self.images), evaluate, ..self.clone() };
        table.check()?;
        let _threads = Threads::kept();
        let rows = table.chosen(request, observer)?;
        let evaluators = evaluator::open(table, &rows, request.models.as_deref(), session.device)?;
        let work = Work { table, request, session, observer, evaluators, images_of_file: self.images };
        let (mut finished, mut open) = (BTreeSet::new(), None);
        while finished.len() < rows.len() {
            let before = finished.len();
            for (i, row) in rows.iter().enumerate() {
                if !finished.contains(&i)
                    && work.advance(i, row, &mut open).within(|| row.name.clone())? == RowState::Finished
                {
                    finished.insert(i);
                }
            }
            if finished.len() == before {
                go_on(observer)?;
                thread::sleep(NAP);
            }
        }
        rows.iter().map(|row| work.record(row)).collect()
    }

    /// Selects the rows that can be run; the observer receives a note on each row whose checkpoint is missing.
    fn chosen(&self, request: &ExperimentRequest, observer: &dyn Observer) -> Result<Vec<&TableRow>, Error> {
        let wanted = |row: &&TableRow| request.row.as_ref().is_none_or(|name| row.name.contains(name));
        let here = |model: &str| {
            let found = request.located(model);
            card::names().any(|name| name == found) || Path::new(&found).exists()
        };
        let (rows, missing): (Vec<_>, Vec<_>) = self.rows.iter().filter(wanted).partition(|row| here(&row.model));
        if rows.is_empty() {
            let names: BTreeSet<&str> = missing.iter().map(|row| row.model.as_str()).collect();
            return Err(none_here(&names, request));
        }
        for TableRow { name, model, .. } in missing {
            observer.said(&format!("{name}: left out: {model} is not here (`models` DIR)"));
        }
        Ok(rows)
    }
}

/// Creates the error that explains why there is no row to run.
fn none_here(names: &BTreeSet<&str>, request: &ExperimentRequest) -> Error {
    if names.is_empty() {
        let name = request.row.as_deref().unwrap_or_default();
        return Error::request(format!("`row` {name}: no row's name contains this"));
    }
    let names = names.iter().copied().collect::<Vec<_>>().join(", ");
    Error::request(format!("none of its checkpoints is here: put {names} into a folder and name it with `models` DIR"))
}

impl<'a> Work<'a> {
    pub fn folder(&self, row: &TableRow) -> PathBuf {
        self.request.folder(&row.name)
    }

    pub fn claims(&self, row: &TableRow) -> Result<Leases, Error> {
        let owner = Owner::here(self.request.rank.rank);
        Leases::new(&self.folder(row).join("chunks"), owner, self.request.patience)
    }

    /// Does all work on a row that is possible now. The open model stays open until another is needed.
    fn advance(
        &self,
        index: usize,
        row: &'a TableRow,
        open: &mut Option<(usize, RowRun<'a>)>,
    ) -> Result<RowState, Error> {
        if open.as_ref().is_none_or(|(open, _)| *open != index) {
            if self.is_others(row)? {
                return Ok(RowState::Busy);
            }
            // The model of another row is dropped first, so that its memory is free before this one is opened.
            *open = None;
            *open = Some((index, RowRun::open(self, row)?));
        }
        let Some((_, run)) = open else { return Ok(RowState::Busy) };
        run.draw_free(self)?;
        run.conclude(self)
    }

    /// Reports whether other processes are at work on all unfinished chunks of a row; false for a row without a record
    /// and for a finished one, so that each process opens each row once to check that it belongs to the same
    /// experiment.
    fn is_others(&self, row: &TableRow) -> Result<bool, Error> {
        let (claims, chunks) = (self.claims(row)?, self.table.chunks());
        let others = || chunks.iter().all(|chunk| claims.is_finished(&chunk.name()) || !claims.is_free(&chunk.name()));
        let all = || chunks.iter().all(|chunk| claims.is_finished(&chunk.name()));
        let is_known = self.folder(row).join(RECORD).exists();
        Ok(is_known && !self.result(row).exists() && others() && !all())
    }

    fn result(&self, row: &TableRow) -> PathBuf {
        self.folder(row).join("result.json")
    }

    fn record(&self, row: &TableRow) -> Result<Record, Error> {
        let path = self.result(row);
        let text = fs::read(&path).map_err(|e| Error::file(&path, format!("cannot be read: {e}")))?;
        serde_json::from_slice(&text).map_err(|_| Error::file(&path, "not a record"))
    }
}
