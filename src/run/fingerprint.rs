//! Fingerprint of a run: everything on which the bits of its images depend, and its record in the folder of the run.

use std::{collections::BTreeSet, fs, path::Path};

use serde::Serialize;
use serde_json::Value;

use super::{classes::Classes, prior::Prior, session::Session};
use crate::{Error, backend::libtorch, files::images, numbers::plan::Plan, scores::denoiser::Clip};

/// Origin of a model besides its file: the card and the settings that replaced its own.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Origin {
    /// SHA-256 of the card that replaced the model's own.
    pub card: Option<String>,
    /// Values of the card that were replaced, as `key=value`.
    pub set: Vec<String>,
}

/// Everything on which the bits of images depend, besides their seeds.
#[derive(Clone, Debug, Serialize)]
pub struct Fingerprint {
    /// Version of this crate.
    pub version: &'static str,
    /// Name of the card.
    pub model: String,
    /// SHA-256 of the weights.
    pub sha256: String,
    /// SHA-256 of the card; see [`Origin::card`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub card: Option<String>,
    /// Replaced values of the card; see [`Origin::set`].
    pub set: Vec<String>,
    /// Classes that images take in turn; empty for a network without classes.
    pub classes: Vec<i64>,
    /// Guidance towards classes, with its weight.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance: Option<Value>,
    /// Schedule, steps and sampler.
    pub plan: Plan,
    /// How the denoised image is held within its range at every step; absent if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<Clip>,
    /// Size of the blocks; absent if deterministic, since it is then irrelevant.
    pub batch: Option<u64>,
    /// Device: cpu or cuda.
    pub device: &'static str,
    /// Arithmetic: f32, tf32 or bf16, and whether it is exact.
    pub precision: String,
    /// SHA-256 of the initial states, of the configuration or of the measurement; empty without one.
    pub given: String,
}

impl Fingerprint {
    /// Creates the fingerprint of images by `prior` along `plan`, in blocks of `batch`.
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
            clip: None,
            batch: (!session.deterministic).then_some(batch),
            device: libtorch::kind(session.device),
            precision: session.arithmetic(),
            given: String::new(),
        })
    }
}

/// Reads the record of the run whose images are in `out`, if there is one.
pub fn recorded(out: &Path) -> Result<Option<Value>, Error> {
    let path = out.join(RECORD);
    if !path.exists() {
        return Ok(None);
    }
    let text = fs::read(&path).map_err(|e| Error::file(&path, format!("cannot be read: {e}")))?;
    serde_json::from_slice(&text).map(Some).map_err(|_| Error::file(&path, "not a record"))
}

/// Name of the file with the record of a run.
pub const RECORD: &str = "record.json";

/// Entries of a record that describe the outcome of a run, or that a later run may extend: runs that differ only in
/// them count as one.
const OUTCOME: [&str; 6] = ["samples", "totals", "seeds", "seconds", "figures", "notes"];

/// Request of a run for a folder for its files.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// Folder of the run.
    pub out: &'a Path,
    /// Record of the run: everything on which its bits depend.
    pub record: &'a Value,
    /// Name of the source of `given` in messages, as in "the images or the measurement".
    pub given: &'a str,
    /// Whether to remove the files of another run.
    pub overwrite: bool,
}

impl Claim<'_> {
    /// Writes the record if the folder has none; returns the earlier record if the same run has begun before.
    ///
    /// A folder of another run is refused with all differences in words, or, with `overwrite`, that run's files are
    /// removed.
    pub fn make(&self) -> Result<Option<Value>, Error> {
        let Self { out, record, given, overwrite } = *self;
        let Some(theirs) = recorded(out)? else { return write_record(out, record).map(|()| None) };
        let differences = differences(record, &theirs, given);
        if differences.is_empty() {
            return Ok(Some(theirs));
        }
        if !overwrite {
            return Err(refusal(out, &differences, "`overwrite` to replace that run"));
        }
        remove_run(out, &theirs)?;
        write_record(out, record).map(|()| None)
    }
}

/// Reports whether the folder holds a run other than the one that `record` describes.
pub(crate) fn holds_another(out: &Path, record: &Value) -> Result<bool, Error> {
    Ok(recorded(out)?.is_some_and(|theirs| !differences(record, &theirs, "").is_empty()))
}

/// Writes the record of the run whose images are in `out`, or refuses to mix them with the images of another run.
pub fn claim(out: &Path, fingerprint: &impl Serialize) -> Result<(), Error> {
    let ours = serde_json::to_value(fingerprint).map_err(|e| Error::file(out, e))?;
    let Some(theirs) = recorded(out)? else { return write_record(out, &ours) };
    let differences = differences(&ours, &theirs, "the given file");
    if differences.is_empty() { Ok(()) } else { Err(refusal(out, &differences, "remove it")) }
}

fn refusal(out: &Path, differences: &[String], remedy: &str) -> Error {
    let all = differences.join("; ");
    Error::file(out, format!("holds the images of another run ({all}): choose another `out`, or {remedy}"))
}

/// Writes the record of a run, whole or not at all.
pub(crate) fn write_record(out: &Path, record: &Value) -> Result<(), Error> {
    let text = serde_json::to_vec_pretty(record).map_err(|e| Error::file(out, e))?;
    images::write_whole(&out.join(RECORD), &text)
}

/// Lists every difference of two runs in words, as "noise was 0.05, is 0.1".
fn differences(ours: &Value, theirs: &Value, given: &str) -> Vec<String> {
    let keys =
        |value: &Value| value.as_object().into_iter().flatten().map(|(key, _)| key.clone()).collect::<BTreeSet<_>>();
    let mut found = Vec::new();
    for key in keys(ours).union(&keys(theirs)).filter(|key| !OUTCOME.contains(&key.as_str())) {
        let (now, then) = (&ours[key.as_str()], &theirs[key.as_str()]);
        match key.as_str() {
            _ if now == then => {}
            "given" => found.push(format!("{given} are others")),
            "of" => found.extend(differences(now, then, given)),
            "sha256" => found.push("the weights are others".to_owned()),
            "card" => found.push("the card is another".to_owned()),
            key => compare(key, then, now, &mut found),
        }
    }
    found
}

/// Collects the differences of two values at `path` of a record.
fn compare(path: &str, then: &Value, now: &Value, found: &mut Vec<String>) {
    match (then, now) {
        _ if then == now => {}
        (Value::Object(before), Value::Object(after)) if before.get("kind") == after.get("kind") => {
            let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
            for key in keys {
                compare(&format!("{path}.{key}"), &then[key.as_str()], &now[key.as_str()], found);
            }
        }
        _ => found.push(format!("{} was {}, is {}", word(path), shown(then), shown(now))),
    }
}

/// Returns the user's name for an entry of a record.
fn word(path: &str) -> String {
    match path {
        "classes" => "class".to_owned(),
        "guidance.how.weight" => "guidance".to_owned(),
        "guidance.how.range" => "guidance range".to_owned(),
        "version" => "the version of this program".to_owned(),
        "libtorch" => "the version of libtorch".to_owned(),
        path => path.trim_start_matches("plan.").replace('.', " "),
    }
}

/// Formats a value in a few characters; a value with a name is shown by its name alone.
fn shown(value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(map) => match (map.get("kind"), map.get("how")) {
            (Some(kind), _) => shown(kind),
            (None, Some(how)) => shown(&how["weight"]),
            _ => value.to_string(),
        },
        other => other.to_string(),
    }
}

/// Removes the files that the run of this record has written into `out`, the record last, and no other file.
pub(crate) fn remove_run(out: &Path, record: &Value) -> Result<(), Error> {
    let mut files = match record["images"].as_array() {
        Some(names) => restoration_files(names.iter().filter_map(Value::as_str), &record["totals"]),
        None => sample_files(out)?,
    };
    files.push(RECORD.to_owned());
    for path in files.into_iter().map(|name| out.join(name)).filter(|path| path.is_file()) {
        fs::remove_file(&path).map_err(|e| Error::file(&path, format!("cannot be removed: {e}")))?;
    }
    Ok(())
}

/// Lists the files of a restoration; names that contain a folder are skipped, since this program writes none.
fn restoration_files<'a>(names: impl Iterator<Item = &'a str>, totals: &Value) -> Vec<String> {
    let samples = totals.as_array().and_then(|totals| totals.last()?.as_u64()).unwrap_or(0);
    let mut files = ["index.html", "measurement.npz", "sheet.png", "table.md"].map(str::to_owned).to_vec();
    for name in names.filter(|name| Path::new(name).file_name().is_some_and(|file| file == *name)) {
        files.push(format!("{name}.json"));
        let pictures = ["baseline", "mean", "measurement", "pseudo-inverse", "std", "truth", "walk"];
        files.extend(pictures.map(|picture| format!("{name}-{picture}.png")));
        let sample = |s: u64| ["png", "npy"].map(|ending| format!("{name}-sample-{s:03}.{ending}"));
        files.extend((0..samples).flat_map(sample));
    }
    files
}

/// Lists the files of drawn images: files named by seeds, the sheet and the page.
fn sample_files(out: &Path) -> Result<Vec<String>, Error> {
    let is_seed = |name: &String| {
        let stem = name.strip_suffix(".png").or_else(|| name.strip_suffix(".npy"));
        stem.is_some_and(|stem| stem.len() >= 6 && stem.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let entries = fs::read_dir(out).map_err(|e| Error::file(out, format!("cannot be read: {e}")))?;
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    Ok(names.filter(is_seed).chain([images::SHEET, "index.html"].map(str::to_owned)).collect())
}
