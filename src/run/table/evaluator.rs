//! Evaluators of generated images: networks of features, each with its metrics and the references that it has measured.

use std::{cell::RefCell, collections::BTreeSet, path::Path, rc::Rc};

use serde_json::{Value, json};
use tch::{Device, Tensor};

use super::definition::{TableExperiment, TableRow};
use crate::{
    Error,
    evaluation::features::{CollectOptions, Evaluation, Probe, Reference, Taken, Target},
    run::{
        observer::{Observer, go_on},
        request::path_word,
    },
};

/// Number of images that pass through a network of features together.
const TOGETHER: usize = 50;

/// A network of features with its metrics, and the references that it has measured, by the experiment's names for them.
pub(super) struct Evaluator {
    pub evaluation: Evaluation,
    pub probe: Probe,
    references: RefCell<Vec<(Target, Rc<Reference>)>>,
}

/// Opens the networks; evaluations that could not be measured later are refused before an image is drawn.
pub(super) fn open(
    table: &TableExperiment,
    rows: &[&TableRow],
    models: Option<&Path>,
    device: Device,
) -> Result<Vec<Evaluator>, Error> {
    let mut targets: Vec<&Target> = Vec::new();
    for target in rows.iter().filter_map(|row| table.target(row)) {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    let open = |evaluation: &Evaluation| Evaluator::open(table, evaluation, &targets, (models, device));
    let evaluators = table.evaluate.iter().map(open).collect::<Result<Vec<_>, Error>>()?;
    let names: BTreeSet<String> = evaluators.iter().map(Evaluator::name).collect();
    if names.len() < evaluators.len() {
        return Err(Error::request("evaluate: names the same network twice: one entry with all metrics is wanted"));
    }
    Ok(evaluators)
}

impl Evaluator {
    fn open(
        table: &TableExperiment,
        evaluation: &Evaluation,
        targets: &[&Target],
        (models, device): (Option<&Path>, Device),
    ) -> Result<Self, Error> {
        let remedied = |e: Error| {
            Error::request(format!(
                "{e} (`models` DIR names a folder that has it; with `draw_only` images are drawn and not measured)"
            ))
        };
        let (fewest, network) = (evaluation.fewest(), &evaluation.network);
        if table.images < fewest {
            let cause = format!("images: {} are too few for the metrics of {network}: at least {fewest}", table.images);
            return Err(Error::request(cause));
        }
        let probe = evaluation.open(models, device).map_err(remedied)?;
        for target in targets {
            evaluation.check(&probe, &target.located(models)).map_err(remedied)?;
        }
        // Several sets show the spread better than a bootstrap of one set.
        let bootstrap = if table.repeats > 1 { 0 } else { evaluation.bootstrap };
        Ok(Self { evaluation: Evaluation { bootstrap, ..evaluation.clone() }, probe, references: RefCell::default() })
    }

    /// Returns the name of the evaluator's files.
    pub fn name(&self) -> String {
        let resize = self.probe.resize.map(|way| format!("-{}", way.name())).unwrap_or_default();
        let features = self.evaluation.features.map(|features| format!("-{features}")).unwrap_or_default();
        format!("{}{resize}{features}", path_word(&self.probe.name))
    }

    /// Returns everything on which the evaluator's figures depend, except for the places of its files.
    pub fn fingerprint(&self) -> Result<Value, Error> {
        let mut identity = serde_json::to_value(&self.evaluation).map_err(Error::request)?;
        identity["network"] = json!([self.probe.name, self.probe.sha256]);
        identity["resize"] = json!(self.probe.resize);
        Ok(identity)
    }

    /// Returns the reference of a row's images; it is measured when the first of its rows is done.
    pub fn reference(&self, target: Option<&Target>, observer: &dyn Observer) -> Result<Option<Rc<Reference>>, Error> {
        let Some(target) = target else { return Ok(None) };
        let known = self.references.borrow().iter().find(|(known, _)| known == target).map(|(_, found)| found.clone());
        if known.is_some() {
            return Ok(known);
        }
        observer.begun("measuring", 0);
        let mut heard = |images: usize| {
            observer.extended(images as u64);
            observer.advanced(images as u64);
            go_on(observer)
        };
        let found = Rc::new(self.evaluation.reference(&self.probe, target, TOGETHER, &mut heard)?);
        observer.ended();
        self.references.borrow_mut().push((target.clone(), found.clone()));
        Ok(Some(found))
    }

    /// Computes the features and moments of images that the figures need.
    pub fn take(&self, pixels: &Tensor, wanted: CollectOptions) -> Result<Taken, Error> {
        let parts = pixels.split(TOGETHER as i64, 0);
        let each = parts.iter().map(|pixels| self.probe.take(pixels)).collect::<Result<Vec<_>, _>>()?;
        let all = |part: &dyn Fn(&Taken) -> Option<&Tensor>| {
            let parts: Option<Vec<&Tensor>> = each.iter().map(part).collect();
            parts.map(|parts| Tensor::cat(&parts, 0).to_device(Device::Cpu))
        };
        Ok(Taken {
            features: all(&|taken| Some(&taken.features)).ok_or_else(|| Error::request("a chunk has no image"))?,
            logits: wanted.score.and_then(|_| all(&|taken| taken.logits.as_ref())),
            spatial: if wanted.spatial { all(&|taken| taken.spatial.as_ref()) } else { None },
        })
    }
}
