//! Everything that the bits of a run's images depend on, and the record of it in the folder of the run.

use std::{fs, path::Path};

use serde::Serialize;
use serde_json::Value;

use super::{classes::Classes, prior::Prior, session::Session};
use crate::{Error, backend::libtorch, files::images, numbers::plan::Plan};

/// Where a model came from, besides its file: the card and the settings that replaced its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// SHA-256 of the card that was given in place of the model's own.
    pub card: Option<String>,
    /// The values of the card that were replaced, as `key=value`.
    pub set: Vec<String>,
}

/// Everything that the bits of images depend on, besides their seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Fingerprint {
    /// Version of this crate.
    pub version: &'static str,
    /// The card's name.
    pub model: String,
    /// SHA-256 of the weights.
    pub sha256: String,
    /// See [`Origin::card`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// See [`Origin::set`].
    pub set: Vec<String>,
    /// The classes over which images go in turn; empty for a network without classes.
    pub classes: Vec<i64>,
    /// What guides images to their classes, and how far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Value>,
    /// Schedule, steps and sampler.
    pub plan: Plan,
    /// Size of the blocks; irrelevant if deterministic.
    pub batch: Option<u64>,
    /// cpu or cuda.
    pub device: &'static str,
    /// f32, tf32 or bf16, and whether exact.
    pub precision: String,
    /// SHA-256 of the initial states, of the configuration or of the measurement; empty without.
    pub given: String,
}

impl Fingerprint {
    /// Of images by `prior` along `plan`, in blocks of `batch`.
    pub fn new(
        session: &Session,
        prior: &Prior,
        origin: &Origin,
        (classes, plan, batch): (&Classes, &Plan, u64),
    ) -> Result<Self, Error> {
        Ok(Self {
            version: env!("CARGO_PKG_VERSION"),
            model: prior.model.card.name.clone(),
            sha256: prior.model.sha256()?,
            card: origin.card.clone(),
            set: origin.set.clone(),
            classes: classes.list().to_vec(),
            guidance: prior.record()?,
            plan: plan.clone(),
            batch: (!session.deterministic).then_some(batch),
            device: libtorch::kind(session.device),
            precision: session.arithmetic(),
            given: String::new(),
        })
    }
}

/// The record of the run whose images are in `out`, if there is one.
pub fn recorded(out: &Path) -> Result<Option<Value>, Error> {
    let path = out.join(RECORD);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).map_err(|e| Error::file(&path, format!("cannot be read: {e}")))?;
    serde_json::from_slice(&text).map(Some).map_err(|_| Error::file(&path, "not a record"))
}

/// The file with the record of a run.
pub const RECORD: &str = "record.json";

/// Writes the record that says whose images are in `out`, or refuses to mix them with those of another run.
pub fn claim(out: &Path, fingerprint: &impl Serialize) -> Result<(), Error> {
    let ours = serde_json::to_value(fingerprint).map_err(|e| Error::file(out, e))?;
    let Some(theirs) = recorded(out)? else {
        let text = serde_json::to_vec_pretty(&ours).map_err(|e| Error::file(out, e))?;
        return images::write_whole(&out.join(RECORD), &text);
    };
    match difference(&ours, &theirs) {
        None => Ok(()),
        Some(key) => Err(Error::file(
            out,
            format!(
                "holds the images of another run ({key} was {}, and is {} now): choose another `out`, or remove it",
                theirs.get(&key).unwrap_or(&Value::Null),
                ours.get(&key).unwrap_or(&Value::Null),
            ),
        )),
    }
}

/// The first entry in which two records differ; one that is missing is null.
fn difference(ours: &Value, theirs: &Value) -> Option<String> {
    let keys = ours.as_object()?.keys().chain(theirs.as_object().into_iter().flat_map(|map| map.keys()));
    keys.into_iter().find(|key| ours[key.as_str()] != theirs[key.as_str()]).cloned()
}
