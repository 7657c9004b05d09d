//! Device, precision and other settings of a run.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind};

use crate::{
    Error,
    backend::{kernels, libtorch},
    models::card::Model,
};

/// Precision of the network; the state of a walk is always f32.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32 bits.
    #[default]
    F32,
    /// 32 bits, of which products use 19: a mode of CUDA.
    Tf32,
    /// 16 bits.
    Bf16,
}

impl Precision {
    /// Returns the name in files and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

/// Device, precision and other settings of any run.
#[derive(Clone, Debug, PartialEq)]
pub struct Session {
    /// Device of the networks.
    pub device: Device,
    /// Precision of the networks.
    pub precision: Precision,
    /// Whether libtorch alone computes, without the kernels of this crate.
    pub exact: bool,
    /// Number of images computed together; if left out, 16, or 64 on CUDA, and fewer for fewer images.
    pub batch: Option<u64>,
    /// Whether the bits are the same at any batch size: the network then receives one image at a time.
    pub deterministic: bool,
    /// Number of CPU threads of libtorch; the number of physical cores if left out.
    pub threads: Option<usize>,
    /// Seed of all random numbers besides the images' own: masks, noise of measurements.
    pub seed: u64,
}

impl Default for Session {
    /// Creates a session on the first GPU if there is one, else on the CPU, in f32.
    fn default() -> Self {
        libtorch::open_cuda();
        let device = if libtorch::cuda().is_ok() { Device::Cuda(0) } else { Device::Cpu };
        Self::on(device)
    }
}

impl Session {
    /// Creates a session on this device, in f32.
    pub fn on(device: Device) -> Self {
        Self {
            device,
            precision: Precision::F32,
            exact: false,
            batch: None,
            deterministic: false,
            threads: None,
            seed: 0,
        }
    }

    /// Opens a model: a shipped card's name, a card (.yaml), a checkpoint or a folder.
    pub fn open(&self, model: &str) -> Result<Model, Error> {
        self.open_with(model, None, &[])
    }

    /// Opens a model with another card than its own, or with values of the card replaced, each given as `key=value`.
    pub fn open_with(&self, model: &str, card: Option<&Path>, set: &[String]) -> Result<Model, Error> {
        self.apply()?;
        Model::open_with(model, card, set, self.device, self.kind()?)
    }

    /// Sets the process-wide switches: threads, kernels, cuDNN's choice of algorithms.
    pub fn apply(&self) -> Result<(), Error> {
        tch::set_num_threads(self.thread_count()? as i32);
        kernels::set_exact(self.exact);
        if self.device.is_cuda() {
            // With this benchmark cuDNN times its convolutions once for each shape and takes the fastest, which may
            // differ from run to run.
            tch::Cuda::cudnn_set_benchmark(!self.deterministic);
        }
        Ok(())
    }

    fn thread_count(&self) -> Result<usize, Error> {
        // A second thread on a core only slows the first down, so physical cores count; a container may be allowed
        // fewer than all.
        let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cores = num_cpus::get_physical().min(allowed);
        let asked = std::env::var("OMP_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
        match self.threads.or(asked).unwrap_or(cores) {
            0 => Err(Error::parameter("`threads`", "at least 1", 0)),
            threads => Ok(threads),
        }
    }

    /// Returns the number type of the networks.
    pub fn kind(&self) -> Result<Kind, Error> {
        match self.precision {
            Precision::F32 => Ok(Kind::Float),
            Precision::Bf16 => Ok(Kind::BFloat16),
            Precision::Tf32 if self.device.is_cuda() => Ok(Kind::Float),
            Precision::Tf32 => Err(Error::request("`precision` tf32 is a CUDA mode: use f32 or bf16 on this device")),
        }
    }

    /// Describes the networks' arithmetic.
    pub fn arithmetic(&self) -> String {
        let precision = self.precision.name();
        if self.exact { format!("{precision}, exact") } else { precision.to_owned() }
    }

    /// Returns the size of a block of seeds, for `images` images.
    pub fn batch_for(&self, images: usize) -> Result<u64, Error> {
        let most = if self.device.is_cuda() { 64 } else { 16 };
        match self.batch {
            Some(0) => Err(Error::parameter("`batch`", "at least 1", 0)),
            Some(batch) => Ok(batch),
            None => Ok((images as u64).next_power_of_two().min(most)),
        }
    }

    /// Returns the number of `jobs` to compute at the same time: on the CPU, threads with jobs of their own need not
    /// wait for each other at every layer. The workers share libtorch's threads.
    pub fn workers(&self, jobs: usize) -> usize {
        if self.device.is_cuda() {
            return 1;
        }
        let threads = tch::get_num_threads().max(1);
        let workers = (threads as usize).min(jobs.max(1));
        tch::set_num_threads(threads / workers as i32);
        workers
    }
}

impl Model {
    /// Opens a model with the default session: on the first GPU if there is one, else on the CPU, in f32.
    ///
    /// `model` is a shipped card's name, a card (.yaml), a checkpoint as its authors published it, or a folder of
    /// diffusers.
    pub fn open(model: &str) -> Result<Self, Error> {
        Session::default().open(model)
    }
}

/// Guard that restores libtorch's number of threads when a run that divided them is over.
pub(crate) struct Threads(i32);

impl Threads {
    /// Stores the number of threads; it must be called before [`Session::workers`] divides them.
    pub fn kept() -> Self {
        Self(tch::get_num_threads())
    }

    /// Returns the number of workers for `jobs`, each with an operator of its own: one on a GPU, at most one for each
    /// thread on the CPU.
    pub fn workers(&self, device: Device, jobs: usize) -> usize {
        if device.is_cuda() { 1 } else { (self.0.max(1) as usize).min(jobs) }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        tch::set_num_threads(self.0);
    }
}
