//! `tweedie doctor`: reports the parts that work, the parts that are missing, and the remedies.

use std::{
    io::{self, Write},
    thread,
};

use anyhow::Result;
use tch::{Device, Kind, Tensor};
use tweedie::{
    backend::{cuda::Graphs, kernels::device, libtorch},
    evaluation::features,
    models::card,
};

use super::args::doctor::DoctorArgs;

/// State of the machine, of libtorch and of the kernels.
struct Diagnosis {
    cores: usize,
    cpu_works: bool,
    cuda: Result<i64, String>,
    kernels: Option<String>,
    graphs: Option<Result<(), String>>,
    models: Vec<&'static str>,
    features: Vec<&'static str>,
}

impl DoctorArgs {
    pub fn run(&self) -> Result<()> {
        let found = Diagnosis::now();
        if self.output.json {
            let Diagnosis { cores, cpu_works, cuda, kernels, graphs, models, features } = found;
            return self.output.record(&serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"), "libtorch": libtorch::folder(), "cpu_works": cpu_works,
                "cores": cores, "cuda": cuda, "cuda_kernels": kernels, "graphs": graphs, "models": models,
                "features": features,
            }));
        }
        found.print(&mut io::stdout())
    }
}

impl Diagnosis {
    fn now() -> Self {
        let product = tch::no_grad(|| {
            let ones = Tensor::ones([64, 64], (Kind::Float, Device::Cpu));
            ones.matmul(&ones).double_value(&[0, 0])
        });
        let cuda = libtorch::cuda();
        let kernels = |count: i64| match (0..count as usize).try_for_each(serves) {
            Ok(()) => "compiled, checked".to_owned(),
            Err(why) => format!("no, libtorch alone: {why}"),
        };
        Self {
            cores: thread::available_parallelism().map_or(1, std::num::NonZero::get),
            cpu_works: product == 64.0,
            kernels: cuda.as_ref().ok().copied().map(kernels),
            graphs: cuda.is_ok().then(|| Graphs::new(0).check()),
            cuda,
            models: card::names().collect(),
            features: features::names().collect(),
        }
    }

    fn print(&self, out: &mut impl Write) -> Result<()> {
        let Self { cores, cpu_works, cuda, kernels, graphs, models, features } = self;
        writeln!(out, "tweedie    {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(out, "libtorch   {} in {}", libtorch::VERSION, libtorch::folder().display())?;
        writeln!(out, "CPU        {} on {cores} cores", if *cpu_works { "works" } else { "computes wrongly" })?;
        match cuda {
            Ok(count) => writeln!(out, "CUDA       works: {count} GPUs")?,
            Err(why) => writeln!(out, "CUDA       no: {why}")?,
        }
        if let Some(kernels) = kernels {
            writeln!(out, "kernels    {kernels}")?;
        }
        match graphs {
            Some(Ok(())) => writeln!(out, "graphs     work: a network's evaluation is one launch")?,
            Some(Err(why)) => writeln!(out, "graphs     no: {why}; each layer is launched by itself")?,
            None => {}
        }
        for (what, names) in [("models", models), ("features", features)] {
            let none = "none ship with this build: make train".to_owned();
            writeln!(out, "{what:<11}{}", if names.is_empty() { none } else { names.join(", ") })?;
        }
        Ok(())
    }
}

/// Checks that this crate's kernels run on GPU `number`.
fn serves(number: usize) -> Result<(), String> {
    device::status(Device::Cuda(number)).map_err(|why| format!("GPU {number}: {why}"))
}
