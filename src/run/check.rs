//! What experiments are worth before anything is computed.

use std::path::Path;

use super::{
    experiment::{AnyExperiment, DistanceExperiment, RestorationExperiment, SamplingMethod},
    table::{TableExperiment, TableRow},
};
use crate::Error;

/// A row of an experiment, looked at without its network.
#[derive(Debug)]
pub struct CheckedRow {
    /// Its name; empty of what concerns the whole file.
    pub name: String,
    /// What it costs, or what is wrong with it.
    pub cost: Result<RowCost, Error>,
}

/// What a row costs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowCost {
    /// Of an image; 0 where the state decides.
    pub evaluations: usize,
    /// How many there are; 0 where a row is of points with exact scores, which cost next to nothing.
    pub images: u64,
}

/// The rows of the experiment at `path`; a file that cannot be read is one row with its error.
pub fn rows(path: &Path) -> Vec<CheckedRow> {
    match AnyExperiment::read(path) {
        Err(error) => vec![CheckedRow { name: String::new(), cost: Err(error) }],
        Ok(AnyExperiment::Generation(of)) => generated(&of),
        Ok(AnyExperiment::Distance(of)) => distances(&of),
        Ok(AnyExperiment::Restorations(of)) => restored(&of),
        Ok(AnyExperiment::Points(of)) => vec![exact(of.methods.len() * of.levels.len() * of.errors.len(), of.count)],
        Ok(AnyExperiment::Posteriors(of)) => vec![exact(of.methods.len() * of.levels.len(), of.count)],
    }
}

fn exact(figures: usize, points: usize) -> CheckedRow {
    let name = format!("{figures} figures on {points} points with exact scores");
    CheckedRow { name, cost: Ok(RowCost { evaluations: 0, images: 0 }) }
}

fn generated(of: &TableExperiment) -> Vec<CheckedRow> {
    let whole = of.check().err().map(|error| CheckedRow { name: String::new(), cost: Err(error) });
    let row = |row: &TableRow| {
        let images = of.images * of.repeats;
        let cost = of.evaluations(row).map(|evaluations| RowCost { evaluations, images });
        CheckedRow { name: row.name.clone(), cost }
    };
    whole.into_iter().chain(of.rows.iter().map(row)).collect()
}

fn distances(of: &DistanceExperiment) -> Vec<CheckedRow> {
    let row = |method: &SamplingMethod| {
        let evaluations = method.evaluations.as_ref().unwrap_or(&of.evaluations).iter().sum();
        CheckedRow { name: method.name.clone(), cost: Ok(RowCost { evaluations, images: of.images * of.blocks }) }
    };
    of.methods.iter().map(row).collect()
}

fn restored(of: &RestorationExperiment) -> Vec<CheckedRow> {
    let mut rows = Vec::new();
    for named in &of.tasks {
        for way in &of.methods {
            let images = (of.limit.unwrap_or(1) * of.samples) as u64;
            let cost = of.estimate(named, way).map(|estimate| RowCost {
                evaluations: estimate.effort.evaluations + estimate.effort.gradients,
                images,
            });
            rows.push(CheckedRow { name: format!("{}, {}", named.name, way.name), cost });
        }
    }
    rows
}
