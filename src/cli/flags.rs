//! Flags that several commands share, in groups: a command takes the groups that it uses.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use tch::{Device, Kind};
use tweedie::{
    backend::libtorch,
    models::card::{Model, sha256_of},
    run::{
        fingerprint::Origin,
        session::{Precision, Session},
    },
};

use super::{
    args::flags::{BatchFlags, DeviceFlags, ModelFlags, OutputFlags, PlaceFlags, PrecisionFlag},
    progress::Terminal,
    thousands,
};

impl From<PrecisionFlag> for Precision {
    fn from(precision: PrecisionFlag) -> Self {
        match precision {
            PrecisionFlag::F32 => Self::F32,
            PrecisionFlag::Tf32 => Self::Tf32,
            PrecisionFlag::Bf16 => Self::Bf16,
        }
    }
}

impl DeviceFlags {
    /// Creates the session that these flags describe, with one block for all images; sets process-wide switches.
    pub fn session(&self) -> Result<Session> {
        self.session_with(&BatchFlags::default(), 0)
    }

    /// Creates the session that these flags describe, with blocks and a seed.
    pub fn session_with(&self, batch: &BatchFlags, seed: u64) -> Result<Session> {
        let session = Session {
            precision: self.precision.into(),
            exact: self.exact,
            batch: batch.batch,
            deterministic: batch.deterministic,
            threads: self.threads,
            seed,
            ..Session::on(libtorch::device(&self.device)?)
        };
        session.apply()?;
        Ok(session)
    }
}

impl PlaceFlags {
    /// Creates the session that these flags describe, in f32; sets process-wide switches.
    pub fn session(&self) -> Result<Session> {
        let Self { device, exact, threads } = self.clone();
        DeviceFlags { device, precision: PrecisionFlag::F32, exact, threads }.session()
    }
}

impl ModelFlags {
    /// Opens MODEL, and prints its size and the assumptions about it.
    pub fn open(&self, model: &str, session: &Session, output: &OutputFlags) -> Result<Model> {
        let model = session.open_with(model, self.card.as_deref(), &self.set)?;
        output.introduce(&model, session);
        Ok(model)
    }

    /// Opens MODEL on the CPU in f32, for commands that inspect it without computing.
    pub fn on_cpu(&self, model: &str) -> Result<Model> {
        Ok(Model::open_with(model, self.card.as_deref(), &self.set, Device::Cpu, Kind::Float)?)
    }

    /// Returns the values that replaced the model card's own, for records.
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

    /// Creates the observer that shows progress and notes on the terminal.
    pub fn observer(&self) -> Terminal {
        Terminal::new(self)
    }

    /// Prints the size of a model, its device and the assumptions about it.
    pub fn introduce(&self, model: &Model, session: &Session) {
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
        if session.precision == Precision::Bf16 && !session.device.is_cuda() && !libtorch::convolves_bf16() {
            self.say("note: on a CPU without AVX-512, bf16 takes a hundred times as long as f32");
        }
    }
}
