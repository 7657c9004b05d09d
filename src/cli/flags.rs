//! The flags that several commands share, in groups: a command takes the groups that it uses.

use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Result;
use clap::{Args, ValueEnum};
use serde::Serialize;
use tch::{Device, Kind};
use tweedie::{
    backend::libtorch,
    models::card::{Model, sha256_of},
    run::{fingerprint::Origin, session},
};

use super::{progress::Terminal, thousands};

/// Which model.
#[derive(Args, Clone, Debug, Default, PartialEq)]
pub struct ModelFlags {
    /// Replaces a value of the model's card, which `tweedie inspect` shows; may be given several times
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Model")]
    pub set: Vec<String>,
    /// A card in place of the model's own: the network and its conventions
    #[arg(long, value_name = "FILE.yaml", help_heading = "Model")]
    pub card: Option<PathBuf>,
}

/// Where and how networks compute.
#[derive(Args, Clone, Debug)]
pub struct DeviceFlags {
    /// auto (CUDA where it is), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", help_heading = "Compute")]
    pub device: String,
    /// Precision of the network; the state of a walk is f32 always
    #[arg(long, value_enum, default_value = "f32", help_heading = "Compute")]
    pub precision: Precision,
    /// Computes by libtorch alone: on the CPU without Winograd convolutions, whose rounding is larger
    #[arg(long, help_heading = "Compute")]
    pub exact: bool,
    /// CPU threads of libtorch [default: OMP_NUM_THREADS, or all physical cores]
    #[arg(long, value_name = "N", help_heading = "Compute")]
    pub threads: Option<usize>,
}

/// Where networks compute that have one precision.
#[derive(Args, Clone, Debug)]
pub struct PlaceFlags {
    /// auto (CUDA where it is), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", help_heading = "Compute")]
    pub device: String,
    /// Computes by libtorch alone: on the CPU without Winograd convolutions, whose rounding is larger
    #[arg(long, help_heading = "Compute")]
    pub exact: bool,
    /// CPU threads of libtorch [default: OMP_NUM_THREADS, or all physical cores]
    #[arg(long, value_name = "N", help_heading = "Compute")]
    pub threads: Option<usize>,
}

/// How many images are computed together.
#[derive(Args, Clone, Debug, Default)]
pub struct BatchFlags {
    /// Images computed together [default: 16, on CUDA 64]
    #[arg(long, value_name = "N", help_heading = "Compute")]
    pub batch: Option<u64>,
    /// The same bits at any batch size: the network sees one image at a time
    #[arg(long, help_heading = "Compute")]
    pub deterministic: bool,
}

/// Chance.
#[derive(Args, Clone, Debug, Default)]
pub struct SeedFlag {
    /// Seed of all that is random besides the images' own seeds: masks, measurement noise, bootstraps
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Compute")]
    pub seed: u64,
}

/// What the terminal shows.
#[derive(Args, Clone, Debug, Default)]
pub struct OutputFlags {
    /// No progress, no prose
    #[arg(long, short, help_heading = "Output")]
    pub quiet: bool,
    /// One JSON record on standard output instead of prose
    #[arg(long, help_heading = "Output")]
    pub json: bool,
}

/// How the network computes.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
pub enum Precision {
    F32,
    Tf32,
    Bf16,
}

impl From<Precision> for session::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => Self::F32,
            Precision::Tf32 => Self::Tf32,
            Precision::Bf16 => Self::Bf16,
        }
    }
}

impl DeviceFlags {
    /// The session that these flags describe, one block for all images; process-wide switches are set.
    pub fn session(&self) -> Result<session::Session> {
        self.session_with(&BatchFlags::default(), 0)
    }

    /// The same with blocks and a seed.
    pub fn session_with(&self, batch: &BatchFlags, seed: u64) -> Result<session::Session> {
        let session = session::Session {
            precision: self.precision.into(),
            exact: self.exact,
            batch: batch.batch,
            deterministic: batch.deterministic,
            threads: self.threads,
            seed,
            ..session::Session::on(libtorch::device(&self.device)?)
        };
        session.apply()?;
        Ok(session)
    }
}

impl PlaceFlags {
    /// The session that these flags describe, in f32; process-wide switches are set.
    pub fn session(&self) -> Result<session::Session> {
        let Self { device, exact, threads } = self.clone();
        DeviceFlags { device, precision: Precision::F32, exact, threads }.session()
    }
}

impl ModelFlags {
    /// Opens MODEL, and prints its size and what was assumed of it.
    pub fn open(&self, model: &str, session: &session::Session, output: &OutputFlags) -> Result<Model> {
        let model = session.open_with(model, self.card.as_deref(), &self.set)?;
        output.introduce(&model, session);
        Ok(model)
    }

    /// Opens MODEL on the CPU in f32, for whoever looks at it and computes nothing by it.
    pub fn on_cpu(&self, model: &str) -> Result<Model> {
        Ok(Model::open_with(model, self.card.as_deref(), &self.set, Device::Cpu, Kind::Float)?)
    }

    /// What replaced values of the model's own card, for records.
    pub fn origin(&self) -> Result<Origin> {
        Ok(Origin { card: self.card.as_deref().map(sha256_of).transpose()?, set: self.set.clone() })
    }
}

impl OutputFlags {
    /// Prints prose, unless silence or JSON was asked for.
    pub fn say(&self, text: impl std::fmt::Display) {
        if !self.quiet && !self.json {
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    /// Prints the record, if JSON was asked for.
    pub fn record(&self, record: &impl Serialize) -> Result<()> {
        if self.json {
            writeln!(io::stdout(), "{}", serde_json::to_string(record)?)?;
        }
        Ok(())
    }

    /// What shows progress and notes on the terminal.
    pub fn observer(&self) -> Terminal {
        Terminal::new(self)
    }

    /// Prints the size of a model, its device and what was assumed of it.
    pub fn introduce(&self, model: &Model, session: &session::Session) {
        let place = if session.device.is_cuda() {
            format!("{:?}", session.device)
        } else {
            match tch::get_num_threads() {
                1 => "the CPU, one thread".to_owned(),
                threads => format!("the CPU, {threads} threads"),
            }
        };
        self.say(format_args!("{}: {} parameters on {place}", model.card.name, thousands(model.count())));
        if !model.assumed.is_empty() {
            self.say(format_args!("assumed: {}", model.assumed));
        }
        if session.precision == session::Precision::Bf16 && !session.device.is_cuda() && !libtorch::convolves_bf16() {
            self.say("note: on a CPU without AVX-512, bf16 takes a hundred times as long as f32");
        }
    }
}
