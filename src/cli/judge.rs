//! What measures generated images: networks of features, each with its metrics and the references that it has seen.

use std::{cell::RefCell, collections::BTreeSet, path::Path, rc::Rc};

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use tch::{Device, Tensor};
use tweedie::{
    evaluation::features::{Evaluation, Probe, Reference, Taken, Target, Wanted},
    run::table::{Generation, Row},
};

use super::{Common, run::folder};

/// Images that pass through a network of features together.
const TOGETHER: usize = 50;

/// A network that measures, and the references that it has seen, by what the experiment calls them.
pub struct Judge {
    pub of: Evaluation,
    pub probe: Probe,
    references: RefCell<Vec<(Target, Rc<Reference>)>>,
}

/// Refuses before an image is drawn what could not be measured later.
pub fn open(of: &Generation, rows: &[&Row], models: Option<&Path>, common: &Common) -> Result<Vec<Judge>> {
    let remedied = |e: tweedie::Error| {
        anyhow!("{e} (--models DIR names a folder that has it; with --draw-only images are drawn and not measured)")
    };
    let mut targets: Vec<&Target> = Vec::new();
    for target in rows.iter().filter_map(|row| of.target(row)) {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    let device = common.device()?;
    let open = |evaluation: &Evaluation| -> Result<Judge> {
        let fewest = evaluation.fewest();
        if of.images < fewest {
            bail!("images: {} are too few for the metrics of {}: at least {fewest}", of.images, evaluation.network);
        }
        let probe = evaluation.open(models, device).map_err(remedied)?;
        for target in &targets {
            evaluation.check(&probe, &target.located(models)).map_err(remedied)?;
        }
        // Sets tell more of the spread than one set drawn from again and again.
        let bootstrap = if of.repeats > 1 { 0 } else { evaluation.bootstrap };
        Ok(Judge { of: Evaluation { bootstrap, ..evaluation.clone() }, probe, references: RefCell::default() })
    };
    let judges = of.evaluate.iter().map(open).collect::<Result<Vec<_>>>()?;
    let names: BTreeSet<String> = judges.iter().map(Judge::name).collect();
    if names.len() < judges.len() {
        bail!("evaluate: names the same network twice: one entry with all metrics is wanted");
    }
    Ok(judges)
}

impl Judge {
    /// What its files are called by.
    pub fn name(&self) -> String {
        let resize = self.probe.resize.map(|way| format!("-{}", way.name())).unwrap_or_default();
        let features = self.of.features.map(|features| format!("-{features}")).unwrap_or_default();
        format!("{}{resize}{features}", folder(&self.probe.name))
    }

    /// What its figures depend on, wherever its files are.
    pub fn identity(&self) -> Result<Value> {
        let (probe, mut of) = (&self.probe, serde_json::to_value(&self.of)?);
        of["network"] = json!([probe.name, probe.sha256]);
        of["resize"] = json!(probe.resize);
        Ok(of)
    }

    /// What the images of a row should resemble, measured when its first row is done.
    pub fn reference(&self, target: Option<&Target>, common: &Common) -> Result<Option<Rc<Reference>>> {
        let Some(target) = target else { return Ok(None) };
        let known = self.references.borrow().iter().find(|(known, _)| known == target).map(|(_, found)| found.clone());
        if known.is_some() {
            return Ok(known);
        }
        let bar = common.bar(0, "reference");
        let mut heard = |images: usize| {
            bar.inc_length(images as u64);
            bar.inc(images as u64);
            super::not_interrupted()
        };
        let found = Rc::new(self.of.reference(&self.probe, target, TOGETHER, &mut heard)?);
        bar.finish_and_clear();
        self.references.borrow_mut().push((target.clone(), found.clone()));
        Ok(Some(found))
    }

    /// What it makes of images, with nothing that its figures do not need.
    pub fn take(&self, pixels: &Tensor, wanted: Wanted) -> Result<Taken> {
        let each = pixels
            .split(TOGETHER as i64, 0)
            .iter()
            .map(|pixels| self.probe.take(pixels))
            .collect::<Result<Vec<_>, _>>()?;
        let all = |of: &dyn Fn(&Taken) -> Option<&Tensor>| {
            let parts: Option<Vec<&Tensor>> = each.iter().map(of).collect();
            parts.map(|parts| Tensor::cat(&parts, 0).to_device(Device::Cpu))
        };
        Ok(Taken {
            features: all(&|taken| Some(&taken.features)).context("a chunk has no image")?,
            logits: wanted.score.and_then(|_| all(&|taken| taken.logits.as_ref())),
            spatial: if wanted.spatial { all(&|taken| taken.spatial.as_ref()) } else { None },
        })
    }
}
