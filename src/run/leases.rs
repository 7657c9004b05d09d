//! Work that many processes share through a folder, without a server.
//!
//! Work is cut into chunks. A chunk is finished once its file is there, and that is renamed into place whole. Who works on one
//! says so by a claim beside it, which exactly one process can make; whose owner has died, or has not been heard of for a
//! while, gives way to another's. Leases only save work: a chunk that two have done has the same bytes from both.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use serde::{Deserialize, Serialize};

use crate::Error;

/// Interval at which the owner of a claim signals that it is alive.
const PULSE: Duration = Duration::from_secs(5);

/// Prefix of files that are not finished; a claim's owner removes those of whom it takes over.
const UNFINISHED: &str = ".unfinished-";

/// Ending of a claim to what is called by the rest of its name.
const CLAIM: &str = ".claim";

/// One process of several that were started together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rank {
    /// Number of this process, from 0 on.
    pub rank: usize,
    /// Number of processes.
    pub size: usize,
    /// Number of this process among those on its machine.
    pub local: usize,
}

impl Rank {
    /// Names of rank, size and local rank: torchrun, Open MPI, Slurm. `sbatch` sets Slurm's for the launchers within it as
    /// well, which therefore come first.
    const VARIABLES: [[&'static str; 3]; 3] = [
        ["RANK", "WORLD_SIZE", "LOCAL_RANK"],
        ["OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"],
        ["SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"],
    ];

    /// Rank by the variables of a launcher; `None` without a launcher.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        Self::VARIABLES.iter().find_map(|[rank, size, local]| {
            let (rank, size) = (number(rank)?, number(size)?);
            (rank < size).then(|| Self { rank, size, local: number(local).unwrap_or(0) })
        })
    }

    /// This process, as its launcher says; the only one where there is no launcher.
    pub fn here() -> Self {
        Self::from_variables(|name| std::env::var(name).ok()).unwrap_or_else(Self::alone)
    }

    /// The only one.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, local: 0 }
    }
}

/// Who made a claim.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Owner {
    /// The machine's name.
    pub host: String,
    /// Number of the process in its system.
    pub pid: u32,
    /// Rank among the processes that were started together.
    pub rank: usize,
    /// The numbers of which processes `pid` belongs to, and when the process began: another may have the same `pid` later.
    pub born: String,
}

/// The namespace of a machine's process numbers; it changes when the machine starts again.
fn space() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), space.display())
}

/// When a process began, in the machine's ticks; none if there is no such process, or if it is only waiting to be buried.
fn birth(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything; after it come the state, and 18 numbers later the time.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18).map(str::to_owned))?
}

impl Owner {
    /// This process.
    pub fn here(rank: usize) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let born = format!("{} {}", space(), birth("self").unwrap_or_default());
        Self { host, pid: std::process::id(), rank, born }
    }

    /// Whether the process is known to have died; false if it lived on another machine, of which nothing is known.
    fn is_dead(&self) -> bool {
        let here = space();
        let Some(began) = self.born.strip_prefix(&here) else { return false };
        birth(&self.pid.to_string()).as_deref() != Some(began.trim())
    }

    /// Label of its unfinished files.
    fn label(&self) -> String {
        format!("{}-{}", self.host, self.pid)
    }
}

/// A folder of finished chunks and of claims to the others.
#[derive(Clone, Debug)]
pub struct Leases {
    folder: PathBuf,
    owner: Owner,
    patience: Duration,
}

impl Leases {
    /// The claims of a folder, which is made; who has not been heard of for `patience` gives way.
    pub fn new(folder: &Path, owner: Owner, patience: Duration) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|e| Error::file(folder, format!("cannot be made: {e}")))?;
        Ok(Self { folder: folder.to_owned(), owner, patience })
    }

    /// The file of a chunk.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Whether a chunk is finished.
    pub fn is_finished(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Whether [`Self::claim`] can succeed: the chunk is neither finished nor claimed.
    pub fn is_free(&self, name: &str) -> bool {
        !self.is_finished(name) && (!self.claim_file(name).exists() || self.is_stale(name))
    }

    /// The claim to a chunk, if it is neither finished nor somebody else's.
    pub fn claim(&self, name: &str) -> Result<Option<Lease>, Error> {
        if self.is_finished(name) {
            return Ok(None);
        }
        if self.claim_file(name).exists() {
            if !self.is_stale(name) {
                return Ok(None);
            }
            self.take_over(name)?;
        }
        let path = self.claim_file(name);
        let Some(file) = self.create(&path)? else { return Ok(None) };
        let claim = Lease::new(self.clone(), name.to_owned(), path, file);
        // Another process may have finished the chunk and released its claim between the first look and this claim.
        Ok((!self.is_finished(name)).then_some(claim))
    }

    fn claim_file(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{CLAIM}"))
    }

    /// A file that says who we are, whole from the first moment on; none if there is one already.
    fn create(&self, path: &Path) -> Result<Option<File>, Error> {
        let failed = |e: io::Error| Error::file(path, format!("cannot be written: {e}"));
        let prefix = format!("{UNFINISHED}claim-{}-", self.owner.label());
        let mut file = tempfile::Builder::new().prefix(&prefix).tempfile_in(&self.folder).map_err(failed)?;
        file.write_all(&self.text()).map_err(failed)?;
        match file.persist_noclobber(path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.error.kind() == io::ErrorKind::AlreadyExists => Ok(None),
            Err(e) => Err(failed(e.error)),
        }
    }

    fn text(&self) -> Vec<u8> {
        serde_json::to_vec(&self.owner).unwrap_or_default()
    }

    /// Whether a claim's owner has died or fallen silent.
    fn is_stale(&self, name: &str) -> bool {
        let path = self.claim_file(name);
        let owner = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Owner>(&text).ok());
        if owner.is_some_and(|owner| owner.is_dead()) {
            return true;
        }
        let age = || self.now()?.duration_since(fs::metadata(&path).ok()?.modified().ok()?).ok();
        age().is_some_and(|age| age > self.patience)
    }

    /// The time by the clock of whoever keeps the folder, which may not be this machine's.
    fn now(&self) -> Option<SystemTime> {
        let probe = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder).ok()?;
        probe.as_file().metadata().ok()?.modified().ok()
    }

    /// Puts a stale claim aside, and removes what its owner left unfinished.
    fn take_over(&self, name: &str) -> Result<(), Error> {
        let (path, before) = (self.claim_file(name), fs::read(self.claim_file(name)).ok());
        let aside = self.folder.join(format!("{UNFINISHED}aside-{}-{name}", self.owner.label()));
        if fs::rename(&path, &aside).is_err() {
            return Ok(());
        }
        let taken = fs::read(&aside).ok();
        if taken != before {
            // Another was faster, and this is its new claim.
            let _ = fs::hard_link(&aside, &path);
        } else if let Some(owner) = taken.and_then(|text| serde_json::from_slice::<Owner>(&text).ok()) {
            self.sweep(&format!("{UNFINISHED}{name}-{}", owner.label()));
            self.sweep(&format!("{UNFINISHED}claim-{}", owner.label()));
        }
        fs::remove_file(&aside).map_err(|e| Error::file(&aside, format!("cannot be removed: {e}")))
    }

    /// Removes files whose names begin so.
    fn sweep(&self, prefix: &str) {
        sweep(&self.folder, |name| name.starts_with(prefix));
    }
}

/// Removes what killed processes left in a folder where nobody works any more: unfinished files, and claims to what they had
/// finished, which nobody would take over.
pub fn sweep_left(folder: &Path) {
    sweep(folder, |name| name.starts_with(UNFINISHED) || name.ends_with(CLAIM));
}

fn sweep(folder: &Path, is_left: impl Fn(&str) -> bool) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if is_left(&entry.file_name().to_string_lossy()) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// The right to work on a chunk; given back when it goes.
#[derive(Debug)]
pub struct Lease {
    claims: Leases,
    name: String,
    path: PathBuf,
    pulse: Option<(mpsc::Sender<()>, JoinHandle<()>)>,
}

impl Lease {
    fn new(claims: Leases, name: String, path: PathBuf, mut file: File) -> Self {
        let (stop, stopped) = mpsc::channel();
        let text = claims.text();
        let pulse = thread::spawn(move || {
            while stopped.recv_timeout(PULSE) == Err(mpsc::RecvTimeoutError::Timeout) {
                // Writing the same bytes again lets the file server note the time by its own clock.
                let _ = file.rewind().and_then(|()| file.write_all(&text));
            }
        });
        Self { claims, name, path, pulse: Some((stop, pulse)) }
    }

    /// Writes the chunk's file: to the disk under another name, then renamed into its place.
    pub fn finish(self, contents: &[u8]) -> Result<(), Error> {
        let place = self.claims.file(&self.name);
        let prefix = format!("{UNFINISHED}{}-{}", self.name, self.claims.owner.label());
        let failed = |e: io::Error| Error::file(&place, format!("cannot be written: {e}"));
        let unfinished = self.claims.folder.join(prefix);
        let write = || {
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&unfinished)?;
            file.write_all(contents)?;
            file.sync_all()?;
            fs::rename(&unfinished, &place)
        };
        write().map_err(|e| {
            let _ = fs::remove_file(&unfinished);
            failed(e)
        })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some((stop, pulse)) = self.pulse.take() {
            drop(stop);
            let _ = pulse.join();
        }
        // If this process slept for long, another may have taken over.
        if fs::read(&self.path).is_ok_and(|text| text == self.claims.text()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
