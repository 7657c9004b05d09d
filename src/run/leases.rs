//! Work that many processes share through a folder, without a server.
//!
//! Work is cut into chunks. A chunk is finished once its file exists; the file is renamed into place whole. A process
//! that works on a chunk makes a claim beside it, which exactly one process can make. A claim whose owner has died, or
//! has been silent for a while, gives way to the claim of another process. Leases only save work: if two processes do
//! the same chunk, both write the same bytes.

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

/// Prefix of unfinished files; a process that takes over a claim removes those of the former owner.
const UNFINISHED: &str = ".unfinished-";

/// Ending of a claim's file name; the rest of the name is the chunk's.
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
    /// Names of the variables for rank and size, and for the local rank: torchrun, Open MPI, Intel MPI and MPICH (Hydra, and
    /// Cray's PALS), MVAPICH2, jsrun, Flux, Slurm. `sbatch` sets Slurm's variables for other launchers within it as well, so
    /// those launchers come first.
    const VARIABLES: [(&'static str, &'static str, &'static [&'static str]); 7] = [
        ("RANK", "WORLD_SIZE", &["LOCAL_RANK"]),
        ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", &["OMPI_COMM_WORLD_LOCAL_RANK"]),
        ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", &["MV2_COMM_WORLD_LOCAL_RANK"]),
        // srun sets the first two as well where Slurm speaks PMI, but no local rank of that name.
        ("PMI_RANK", "PMI_SIZE", &["MPI_LOCALRANKID", "PMI_LOCAL_RANK", "PALS_LOCAL_RANKID", "SLURM_LOCALID"]),
        ("JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", &["JSM_NAMESPACE_LOCAL_RANK"]),
        ("FLUX_TASK_RANK", "FLUX_JOB_SIZE", &["FLUX_TASK_LOCAL_ID"]),
        ("SLURM_PROCID", "SLURM_NTASKS", &["SLURM_LOCALID"]),
    ];

    /// Reads the rank from the variables of a launcher; `None` without a launcher.
    pub fn from_variables(variable: impl Fn(&str) -> Option<String>) -> Option<Self> {
        let number = |name: &str| variable(name)?.trim().parse::<usize>().ok();
        Self::VARIABLES.iter().find_map(|(rank, size, local)| {
            let (rank, size) = (number(rank)?, number(size)?);
            let local = local.iter().find_map(|name| number(name)).unwrap_or(0);
            (rank < size).then_some(Self { rank, size, local })
        })
    }

    /// Returns the rank that the launcher gave this process; [`Self::alone`] without a launcher.
    pub fn here() -> Self {
        Self::from_variables(|name| std::env::var(name).ok()).unwrap_or_else(Self::alone)
    }

    /// Returns the rank of a process that was started alone.
    pub fn alone() -> Self {
        Self { rank: 0, size: 1, local: 0 }
    }
}

/// Process that made a claim.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Owner {
    /// Name of the machine.
    pub host: String,
    /// Number of the process on its machine.
    pub pid: u32,
    /// Rank among the processes that were started together.
    pub rank: usize,
    /// Namespace of `pid`, and start time of the process: another process may have the same `pid` later.
    pub born: String,
}

/// Returns the namespace of this machine's process numbers; it changes when the machine restarts.
fn space() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    format!("{} {}", boot.trim(), space.display())
}

/// Returns the start time of a process, in the machine's clock ticks; `None` if there is no such process, or if it is a
/// zombie.
fn birth(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The process name, in parentheses, may contain any character; the state follows it, and the start time comes 18
    // numbers later.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    (state != "Z" && state != "X").then(|| fields.nth(18).map(str::to_owned))?
}

impl Owner {
    /// Returns the owner for this process.
    pub fn here(rank: usize) -> Self {
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        let born = format!("{} {}", space(), birth("self").unwrap_or_default());
        Self { host, pid: std::process::id(), rank, born }
    }

    /// Reports whether the process is known to have died; false for a process of another machine, whose processes
    /// cannot be seen.
    fn is_dead(&self) -> bool {
        let here = space();
        let Some(began) = self.born.strip_prefix(&here) else { return false };
        birth(&self.pid.to_string()).as_deref() != Some(began.trim())
    }

    /// Returns the label of the owner's unfinished files.
    fn label(&self) -> String {
        format!("{}-{}", self.host, self.pid)
    }
}

/// A folder of finished chunks and of claims to unfinished ones.
#[derive(Clone, Debug)]
pub struct Leases {
    folder: PathBuf,
    owner: Owner,
    patience: Duration,
}

impl Leases {
    /// Creates the folder if it is missing; claims whose owners are silent for `patience` give way.
    pub fn new(folder: &Path, owner: Owner, patience: Duration) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|e| Error::file(folder, format!("cannot be made: {e}")))?;
        Ok(Self { folder: folder.to_owned(), owner, patience })
    }

    /// Returns the path of a chunk's file.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// Reports whether a chunk is finished.
    pub fn is_finished(&self, name: &str) -> bool {
        self.file(name).exists()
    }

    /// Reports whether [`Self::claim`] can succeed: the chunk is neither finished nor claimed.
    pub fn is_free(&self, name: &str) -> bool {
        !self.is_finished(name) && (!self.claim_file(name).exists() || self.is_stale(name))
    }

    /// Claims a chunk; `None` if it is finished or claimed by another process.
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

    /// Creates a claim file with this owner in it, which appears whole; `None` if there is one already.
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

    /// Reports whether a claim's owner has died or fallen silent.
    fn is_stale(&self, name: &str) -> bool {
        let path = self.claim_file(name);
        let owner = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<Owner>(&text).ok());
        if owner.is_some_and(|owner| owner.is_dead()) {
            return true;
        }
        let age = || self.now()?.duration_since(fs::metadata(&path).ok()?.modified().ok()?).ok();
        age().is_some_and(|age| age > self.patience)
    }

    /// Returns the time by the clock of the folder's file server, which may differ from this machine's.
    fn now(&self) -> Option<SystemTime> {
        let probe = tempfile::Builder::new().prefix(UNFINISHED).tempfile_in(&self.folder).ok()?;
        probe.as_file().metadata().ok()?.modified().ok()
    }

    /// Puts a stale claim aside, and removes its owner's unfinished files.
    fn take_over(&self, name: &str) -> Result<(), Error> {
        let (path, before) = (self.claim_file(name), fs::read(self.claim_file(name)).ok());
        let aside = self.folder.join(format!("{UNFINISHED}aside-{}-{name}", self.owner.label()));
        if fs::rename(&path, &aside).is_err() {
            return Ok(());
        }
        let taken = fs::read(&aside).ok();
        if taken != before {
            // Another process was faster: the file put aside is its new claim, which is restored.
            let _ = fs::hard_link(&aside, &path);
        } else if let Some(owner) = taken.and_then(|text| serde_json::from_slice::<Owner>(&text).ok()) {
            self.sweep(&format!("{UNFINISHED}{name}-{}", owner.label()));
            self.sweep(&format!("{UNFINISHED}claim-{}", owner.label()));
        }
        fs::remove_file(&aside).map_err(|e| Error::file(&aside, format!("cannot be removed: {e}")))
    }

    /// Removes files whose names begin with `prefix`.
    fn sweep(&self, prefix: &str) {
        sweep(&self.folder, |name| name.starts_with(prefix));
    }
}

/// Removes the files that killed processes left in a folder where no process works any more: unfinished files, and
/// claims to finished chunks, which no process would take over.
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

/// The right to work on a chunk; dropping it gives the right back.
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
                // Writing the same bytes again makes the file server set the modification time by its own clock.
                let _ = file.rewind().and_then(|()| file.write_all(&text));
            }
        });
        Self { claims, name, path, pulse: Some((stop, pulse)) }
    }

    /// Writes the chunk's file to the disk under another name, then renames it into place.
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
        // If this process was suspended for long, another may have taken over its claim.
        if fs::read(&self.path).is_ok_and(|text| text == self.claims.text()) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
