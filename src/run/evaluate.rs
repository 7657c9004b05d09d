//! Evaluation of a set of images: its distance from another set in the features of a network, and its accuracy where
//! there are labels.

use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::{
    observer::{Observer, go_on},
    session::Session,
};
use crate::{
    Error,
    evaluation::features::{Collected, Evaluation, Figure, Probe, Reference, Resize, Target, collect},
    report::text::thousands,
};

/// Number of images that pass through the network together.
const BATCH: u64 = 50;

/// A request to measure a set of images.
#[derive(Clone, Debug)]
pub struct EvaluationRequest {
    /// Network of features, and the figures to measure with it.
    pub evaluation: Evaluation,
    /// Images to measure.
    pub images: Target,
    /// Images that the measured ones should resemble, or their statistics.
    pub reference: Option<Target>,
    /// Maximum number of images: only the first ones are measured.
    pub limit: Option<usize>,
    /// Number of images that is required; any other number is an error.
    pub expect: Option<usize>,
    /// Path of a file to write for mean and covariance of the images (.npz).
    pub save_statistics: Option<PathBuf>,
}

/// Figures of a set of images.
#[derive(Clone, Debug)]
pub struct Evaluated {
    /// Name of the network of features.
    pub network: String,
    /// SHA-256 of the network's weights.
    pub sha256: String,
    /// Way of resizing to the network's size.
    pub resize: Option<Resize>,
    /// Number of features.
    pub features: i64,
    /// Number of images.
    pub images: usize,
    /// Share of images that the network classifies as labelled, where there are labels.
    pub accuracy: Option<f64>,
    /// Whether the images were compared with a reference.
    pub compared: bool,
    /// Number of images of the reference, where its file states it.
    pub reference: Option<u64>,
    /// Figures that were asked for.
    pub figures: Vec<Figure>,
    /// Warnings about figures that are wrong or incomparable.
    pub warnings: Vec<String>,
}

impl EvaluationRequest {
    /// Measures the figures; of the session, only the device, the batch (50 if left out) and the process-wide switches
    /// are used.
    pub fn run(&self, session: &Session, observer: &dyn Observer) -> Result<Evaluated, Error> {
        session.apply()?;
        let evaluation = &self.evaluation;
        let probe = evaluation.open(None, session.device)?;
        let mut reader = evaluation.reader(&probe, &self.images)?;
        if let Some(note) = &reader.passed_over {
            observer.said(note);
        }
        let count = self.count(reader.count())?;
        evaluation.enough(count)?;
        let batch = batch(session)?;
        observer.begun("measuring", count as u64);
        let mut progress = |done: usize| {
            observer.advanced(done as u64);
            go_on(observer)
        };
        let reference = self.reference.as_ref().map(|target| {
            let mut more = |done: usize| {
                observer.extended(done as u64);
                progress(done)
            };
            evaluation.reference(&probe, target, batch, &mut more)
        });
        let reference = reference.transpose()?;
        let wanted = evaluation.wanted(reference.is_some());
        let images = collect(&probe, &mut reader, (count, batch), wanted, &mut progress)?;
        observer.ended();
        if let Some(path) = &self.save_statistics {
            images.save(path)?;
        }
        evaluated(evaluation, &probe, &images, reference.as_ref())
    }

    fn count(&self, there: usize) -> Result<usize, Error> {
        let count = there.min(self.limit.unwrap_or(usize::MAX));
        match self.expect.filter(|expected| *expected != count) {
            None => Ok(count),
            Some(expected) => Err(Error::request(format!(
                "{} images are there, but `expect` {expected} says how many there should be",
                thousands(count)
            ))),
        }
    }
}

fn batch(session: &Session) -> Result<usize, Error> {
    match session.batch.unwrap_or(BATCH) {
        0 => Err(Error::parameter("`batch`", "at least 1", 0)),
        batch => Ok(batch as usize),
    }
}

fn evaluated(
    evaluation: &Evaluation,
    probe: &Probe,
    images: &Collected,
    reference: Option<&Reference>,
) -> Result<Evaluated, Error> {
    let count = images.moments.count() as usize;
    Ok(Evaluated {
        network: probe.name.clone(),
        sha256: probe.sha256.clone(),
        resize: probe.resize,
        features: images.moments.mean().size()[0],
        images: count,
        accuracy: images.right.map(|right| right as f64 / count as f64),
        compared: reference.is_some(),
        reference: reference.and_then(|reference| reference.statistics.count),
        figures: evaluation.figures(probe, images, reference)?,
        warnings: evaluation.warnings(probe, images, reference),
    })
}

impl Evaluated {
    /// Returns the figures as JSON, each under its key.
    pub fn record(&self) -> Value {
        let figures: Map<String, Value> =
            self.figures.iter().map(|figure| (figure.key.to_owned(), json!(figure))).collect();
        json!({
            "network": self.network, "sha256": self.sha256, "resize": self.resize.map(Resize::name),
            "features": self.features, "images": self.images, "accuracy": self.accuracy, "reference": self.reference,
            "frechet_distance": figures.get("frechet").map(|figure| &figure["value"]), "figures": figures,
            "warnings": self.warnings,
        })
    }
}
