//! `tweedie doctor`: what works, what is missing, what to do.

use std::{
    io::{self, Write},
    thread,
};

use anyhow::Result;
use clap::Args;
use tch::{Device, Kind, Tensor};
use tweedie::{
    backend::{cuda::Graphs, kernels::device, libtorch},
    evaluation::features,
    models::card,
};

use super::flags::OutputFlags;

/// Say what libtorch, devices and models were found
#[derive(Args, Debug)]
pub struct Doctor {
    #[command(flatten)]
    output: OutputFlags,
}

impl Doctor {
    pub fn run(&self) -> Result<()> {
        let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let folder = libtorch::folder();
        let product = tch::no_grad(|| {
            let ones = Tensor::ones([64, 64], (Kind::Float, Device::Cpu));
            ones.matmul(&ones).double_value(&[0, 0])
        });
        let cuda = libtorch::cuda();
        let kernels = cuda.as_ref().ok().map(|count| match (0..*count as usize).try_for_each(serves) {
            Ok(()) => "compiled, checked".to_owned(),
            Err(why) => format!("no, libtorch alone: {why}"),
        });
        let graphs = cuda.is_ok().then(|| Graphs::new(0).check());
        let models: Vec<&str> = card::names().collect();
        let features: Vec<&str> = features::names().collect();
        if self.output.json {
            return self.output.record(&serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"), "libtorch": folder, "cpu_works": product == 64.0,
                "cores": cores, "cuda": cuda, "cuda_kernels": kernels, "graphs": graphs, "models": models,
                "features": features,
            }));
        }
        let mut out = io::stdout();
        writeln!(out, "tweedie    {}", env!("CARGO_PKG_VERSION"))?;
        writeln!(out, "libtorch   {} in {}", libtorch::VERSION, folder.display())?;
        writeln!(out, "CPU        {} on {cores} cores", if product == 64.0 { "works" } else { "computes wrongly" })?;
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

/// Whether our kernels serve on the GPU of this number.
fn serves(number: usize) -> Result<(), String> {
    device::status(Device::Cuda(number)).map_err(|why| format!("GPU {number}: {why}"))
}
