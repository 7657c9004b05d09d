//! Command line: every command with its flags, without any computation. Both programs use it: the front, which is not
//! linked to libtorch, and the engine.

pub mod bench;
pub mod check;
pub mod classes;
pub mod convert;
pub mod denoise;
pub mod doctor;
pub mod evaluate;
pub mod flags;
pub mod information;
pub mod inspect;
pub mod lists;
pub mod plan;
pub mod restore;
pub mod run;
pub mod sample;
pub mod shell;
pub mod table;
pub mod train;
pub mod walk;

use clap::{Parser, Subcommand};

/// Sample from and restore images with any pretrained score network.
///
/// Every method is a walk x ← x + τ s(x, σ) + √(2τT) n, where s is the network's score.
#[derive(Debug, Parser)]
#[command(name = "tweedie", version, arg_required_else_help = true, max_term_width = 100)]
#[command(after_help = "Examples:
  tweedie sample fashion-mnist --seeds 0-63 --out out/samples
  tweedie restore fashion-mnist --image photos/ --task inpaint-random --samples 8 --out out/restored
  tweedie walk --sampler ddim --steps 10
  tweedie doctor")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Sample(sample::SampleArgs),
    Restore(Box<restore::RestoreArgs>),
    Denoise(denoise::DenoiseArgs),
    Walk(walk::WalkArgs),
    Train(train::TrainArgs),
    Evaluate(evaluate::EvaluateArgs),
    Information(information::InformationArgs),
    Run(Box<run::RunArgs>),
    Table(table::TableArgs),
    Check(check::CheckArgs),
    Inspect(inspect::InspectArgs),
    Bench(bench::BenchArgs),
    Convert(convert::ConvertArgs),
    Models(lists::ModelsArgs),
    Samplers(lists::SamplersArgs),
    Schedules(lists::SchedulesArgs),
    Tasks(lists::TasksArgs),
    Methods(lists::MethodsArgs),
    Metrics(lists::MetricsArgs),
    Families(lists::FamiliesArgs),
    Doctor(doctor::DoctorArgs),
    Completions(shell::CompletionsArgs),
    Man(shell::ManArgs),
}

/// Help text of the argument MODEL.
pub const MODEL: &str = "A card's name, a card (.yaml), a checkpoint (.safetensors, .pth, .pt, .ckpt, .bin, .pkl), or a folder of diffusers";
