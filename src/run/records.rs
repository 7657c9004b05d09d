//! Records of all runs: one line of JSON for each.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
};

use indexmap::IndexMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Error, models::card::sha256};

/// Name of the records' file in a folder of results.
pub const FILE: &str = "records.jsonl";

/// Record of a row: the run, its machine and its outcome.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Record {
    /// Hash of everything on which the figures depend: equal runs have equal hashes.
    pub id: String,
    /// Name of the experiment's file, without folder and ending.
    pub experiment: String,
    /// Text of the experiment's file.
    pub text: String,
    /// Row of the experiment; empty where the experiment is one figure or one plot.
    #[serde(default)]
    pub row: String,
    /// Command that makes the row again.
    pub command: String,
    /// Version of this program.
    pub version: String,
    /// Version of libtorch.
    pub libtorch: String,
    /// Device: cpu or cuda.
    pub device: String,
    /// Everything on which the bits of the images depend: weights, plan, rounding and so on.
    pub identity: Value,
    /// Seeds of the images, as `0-49999`.
    pub seeds: String,
    /// Number of evaluations of the network for an image, on average where the state decides it.
    pub evaluations: f64,
    /// Seconds of computing: for an image by one process, or for the whole experiment where it is no table of images.
    pub seconds: f64,
    /// Peak memory of a process, in bytes, without the GPU's.
    pub memory: u64,
    /// Values and spreads of the figures, by name; the first figure heads the table.
    pub figures: IndexMap<String, (f64, Option<f64>)>,
    /// First figure of each set by itself.
    #[serde(default)]
    pub each: Vec<f64>,
    /// Published value, if there is one.
    #[serde(default)]
    pub published: Option<f64>,
    /// Folder of images and statistics.
    #[serde(default)]
    pub out: String,
    /// Warnings for a reader of the figures.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// Computes a hash of everything on which a run depends.
pub fn id(fingerprint: &Value) -> String {
    sha256(fingerprint.to_string().as_bytes())[..16].to_owned()
}

impl Record {
    /// Reports whether the two records describe one run with one outcome.
    fn is_same(&self, other: &Self) -> bool {
        let close = |(a, b): (&f64, &f64)| (a - b).abs() <= PRINTED * b.abs();
        let values = |record: &Self| record.figures.values().map(|(value, _)| *value).collect::<Vec<_>>();
        let (ours, theirs) = (values(self), values(other));
        (&self.id, &self.row) == (&other.id, &other.row)
            && ours.len() == theirs.len()
            && ours.iter().zip(&theirs).all(close)
    }
}

/// Relative tolerance for numbers that were printed and read again, which may differ in the last digit.
const PRINTED: f64 = 1e-13;

/// Adds a record to the file at `path`, unless the file holds the same figures of the same run: a run that was killed
/// after this step and goes on has written them already.
pub fn append(path: &Path, record: &Record) -> Result<(), Error> {
    if path.exists() && read(path)?.iter().any(|known| known.is_same(record)) {
        return Ok(());
    }
    let failed = |e: io::Error| Error::file(path, format!("cannot be written: {e}"));
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let mut file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(failed)?;
    let mut line = serde_json::to_vec(record).map_err(|e| Error::file(path, e))?;
    line.push(b'\n');
    if cut_off(&mut file).map_err(failed)? {
        line.insert(0, b'\n');
    }
    // A single write keeps the lines of several processes from mixing.
    file.write_all(&line).and_then(|()| file.sync_all()).map_err(failed)
}

/// Reports whether the last line lacks its end, because its writer was killed.
fn cut_off(file: &mut fs::File) -> io::Result<bool> {
    if file.seek(SeekFrom::End(0))? == 0 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last != *b"\n")
}

/// Reads all records of a file, oldest first; lines that a killed process did not finish are left out.
pub fn read(path: &Path) -> Result<Vec<Record>, Error> {
    let text = fs::read_to_string(path).map_err(|e| Error::file(path, format!("cannot be read: {e}")))?;
    Ok(text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect())
}
