//! Checks of experiments before anything is computed.

use std::path::Path;

use super::{
    experiment::{AnyExperiment, DistanceExperiment, RestorationExperiment, SamplingMethod},
    table::{TableExperiment, TableRow},
};
use crate::Error;

/// A row of an experiment, checked without its network.
#[derive(Debug)]
pub struct CheckedRow {
    /// Name of the row; empty for a statement about the whole file.
    pub name: String,
    /// Cost of the row, or the error that was found.
    pub cost: Result<RowCost, Error>,
}

/// Cost of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowCost {
    /// Number of evaluations for an image; 0 where the state decides it.
    pub evaluations: usize,
    /// Number of images; 0 for a row of points with exact scores, which cost almost nothing.
    pub images: u64,
}

/// Checks the rows of the experiment at `path`; a file that cannot be read gives one row with its error.
pub fn rows(path: &Path) -> Vec<CheckedRow> {
    match AnyExperiment::read(path) {
        Err(error) => vec![CheckedRow { name: String::new(), cost: Err(error) }],
        Ok(AnyExperiment::Generation(experiment)) => generated(&experiment),
        Ok(AnyExperiment::Distance(experiment)) => distances(&experiment),
        Ok(AnyExperiment::Restorations(experiment)) => restored(&experiment),
        Ok(AnyExperiment::Points(experiment)) => {
            vec![exact(experiment.methods.len() * experiment.levels.len() * experiment.errors.len(), experiment.count)]
        }
        Ok(AnyExperiment::Posteriors(experiment)) => {
            vec![exact(experiment.methods.len() * experiment.levels.len(), experiment.count)]
        }
    }
}

fn exact(figures: usize, points: usize) -> CheckedRow {
    let name = format!("{figures} figures on {points} points with exact scores");
    CheckedRow { name, cost: Ok(RowCost { evaluations: 0, images: 0 }) }
}

fn generated(experiment: &TableExperiment) -> Vec<CheckedRow> {
    let whole = experiment.check().err().map(|error| CheckedRow { name: String::new(), cost: Err(error) });
    let row = |row: &TableRow| {
        let images = experiment.images * experiment.repeats;
        let cost = experiment.evaluations(row).map(|evaluations| RowCost { evaluations, images });
        CheckedRow { name: row.name.clone(), cost }
    };
    whole.into_iter().chain(experiment.rows.iter().map(row)).collect()
}

fn distances(experiment: &DistanceExperiment) -> Vec<CheckedRow> {
    let row = |method: &SamplingMethod| {
        let evaluations = method.evaluations.as_ref().unwrap_or(&experiment.evaluations).iter().sum();
        CheckedRow {
            name: method.name.clone(),
            cost: Ok(RowCost { evaluations, images: experiment.images * experiment.blocks }),
        }
    };
    experiment.methods.iter().map(row).collect()
}

fn restored(experiment: &RestorationExperiment) -> Vec<CheckedRow> {
    let mut rows = Vec::new();
    for named in &experiment.tasks {
        for way in &experiment.methods {
            let images = (experiment.limit.unwrap_or(1) * experiment.samples) as u64;
            let cost = experiment.estimate(named, way).map(|estimate| RowCost {
                evaluations: estimate.effort.evaluations + estimate.effort.gradients,
                images,
            });
            rows.push(CheckedRow { name: format!("{}, {}", named.name, way.name), cost });
        }
    }
    rows
}
