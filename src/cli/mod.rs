//! One file for each subcommand; here is what they share.

mod bench;
mod check;
mod classes;
mod columns;
mod convert;
mod denoise;
mod doctor;
mod evaluate;
mod flags;
mod inspect;
mod lists;
mod progress;
mod sample;
mod table;
mod train;
mod walk;

use std::{
    io::{self, Write},
    panic,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::{Context, Result, bail};
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::{Device, Kind};
use tweedie::{
    backend::{kernels, libtorch},
    evaluation::features::Target,
    files::{data::AnyData, yaml},
    models::card::{Model, sha256},
};

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
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Sample(sample::Sample),
    Denoise(denoise::Denoise),
    Walk(walk::Walk),
    Train(train::Train),
    Evaluate(evaluate::Evaluate),
    Table(table::Table),
    Check(check::Check),
    Inspect(inspect::Inspect),
    Bench(bench::Bench),
    Convert(convert::Convert),
    Models(lists::Models),
    Samplers(lists::Samplers),
    Schedules(lists::Schedules),
    Tasks(lists::Tasks),
    Methods(lists::Methods),
    Metrics(lists::Metrics),
    Families(lists::Families),
    Doctor(doctor::Doctor),
}

/// What MODEL may be.
const MODEL: &str = "A card's name, a card (.yaml), a checkpoint (.safetensors, .pth, .pt, .ckpt, .bin, .pkl), or a folder of diffusers";

/// What every command takes.
#[derive(Args, Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "flags are bools")]
pub struct Common {
    /// Replaces a value of the model's card, which `tweedie inspect` shows; may be given several times
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Everywhere")]
    set: Vec<String>,
    /// A card in place of the model's own: what the network is, and by which conventions it is used
    #[arg(long, value_name = "FILE.yaml", help_heading = "Everywhere")]
    card: Option<PathBuf>,
    /// auto (CUDA where it is), cpu, cuda or cuda:N
    #[arg(long, default_value = "auto", help_heading = "Everywhere")]
    device: String,
    /// How the network computes; the state of the walk is f32 always
    #[arg(long, value_enum, default_value = "f32", help_heading = "Everywhere")]
    precision: Precision,
    /// Without kernels of our own, by libtorch alone: on the CPU no Winograd convolutions, whose rounding is larger
    #[arg(long, help_heading = "Everywhere")]
    exact: bool,
    /// Images computed together [default: 16, on CUDA 64]
    #[arg(long, value_name = "N", help_heading = "Everywhere")]
    batch: Option<u64>,
    /// The same bits at any batch size: the network sees one image at a time
    #[arg(long, help_heading = "Everywhere")]
    deterministic: bool,
    /// CPU threads of libtorch [default: OMP_NUM_THREADS, or all physical cores]
    #[arg(long, value_name = "N", help_heading = "Everywhere")]
    threads: Option<i32>,
    /// Of all that is random besides the images' own seeds
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Everywhere")]
    seed: u64,
    /// No progress, no prose
    #[arg(long, short, help_heading = "Everywhere")]
    quiet: bool,
    /// One JSON record on standard output instead of prose
    #[arg(long, help_heading = "Everywhere")]
    json: bool,
}

/// How the network computes.
#[derive(Clone, Copy, Debug, PartialEq, ValueEnum)]
enum Precision {
    F32,
    Tf32,
    Bf16,
}

impl Precision {
    /// As the command line writes it.
    fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::Bf16 => "bf16",
        }
    }
}

/// Set by Ctrl-C; loops look at it between two steps.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Stops a loop that Ctrl-C has interrupted.
pub fn not_interrupted() -> Result<(), tweedie::Error> {
    if INTERRUPTED.load(Ordering::Relaxed) { Err(tweedie::Error::Interrupted) } else { Ok(()) }
}

/// Runs the command line; the exit code is 0, 1 where an expectation was missed, or 2 after an error told in one sentence.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    panic::set_hook(Box::new(|_| {}));
    // A second Ctrl-C ends the program at once: only temporary files can be unfinished then.
    let _ = ctrlc::set_handler(|| {
        if INTERRUPTED.swap(true, Ordering::Relaxed) {
            std::process::exit(2);
        }
    });
    let result = panic::catch_unwind(|| run(&cli.command)).unwrap_or_else(|cause| Err(anyhow::anyhow!(told(&*cause))));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "error: {}", with_flags(&format!("{e:#}")));
            ExitCode::from(if e.is::<check::Missed>() { 1 } else { 2 })
        }
    }
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Sample(command) => command.run(),
        Command::Denoise(command) => command.run(),
        Command::Walk(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Evaluate(command) => command.run(),
        Command::Table(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Bench(command) => command.run(),
        Command::Convert(command) => command.run(),
        Command::Models(command) => command.run(),
        Command::Samplers(command) => command.run(),
        Command::Schedules(command) => command.run(),
        Command::Tasks(command) => command.run(),
        Command::Methods(command) => command.run(),
        Command::Metrics(command) => command.run(),
        Command::Families(command) => command.run(),
        Command::Doctor(command) => command.run(),
    }
}

/// A message of the library as this program's user knows it: what the library calls `name` is the flag --name here.
fn with_flags(message: &str) -> String {
    let cli = Cli::command();
    let flags = cli.get_subcommands().flat_map(clap::Command::get_arguments).filter_map(clap::Arg::get_long);
    flags.fold(message.to_owned(), |text, flag| {
        text.replace(&format!("`{}`", flag.replace('-', "_")), &format!("--{flag}"))
    })
}

/// libtorch tells its failures (out of memory, say) by panics; their first line is what a user can use.
fn told(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    let line = text.and_then(|text| text.lines().next()).unwrap_or("an unknown failure");
    let remedy = if line.contains("out of memory") || line.contains("not enough memory") {
        ": try a smaller --batch"
    } else {
        ": please report it with the command that led here"
    };
    format!("inside the program: {line}{remedy}")
}

/// `tweedie walk | head` is no error.
fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

impl Common {
    /// The device asked for; threads are set on the way.
    fn device(&self) -> Result<Device> {
        // A second thread on the same core only gets into the way of the first; a container may have less than all of them.
        let allowed = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cores = num_cpus::get_physical().min(allowed) as i32;
        let asked = std::env::var("OMP_NUM_THREADS").ok().and_then(|threads| threads.parse().ok());
        let threads = self.threads.or(asked).unwrap_or(cores);
        if threads < 1 {
            bail!("--threads must be at least 1, but is {threads}");
        }
        tch::set_num_threads(threads);
        kernels::set_exact(self.exact);
        let device = libtorch::device(&self.device)?;
        if device.is_cuda() {
            // cuDNN then times its convolutions once for each shape and takes the fastest, which need not be the same every time.
            tch::Cuda::cudnn_set_benchmark(!self.deterministic);
        }
        Ok(device)
    }

    /// The same for the library.
    fn session(&self, device: Device) -> tweedie::run::session::Session {
        tweedie::run::session::Session {
            precision: match self.precision {
                Precision::F32 => tweedie::run::session::Precision::F32,
                Precision::Tf32 => tweedie::run::session::Precision::Tf32,
                Precision::Bf16 => tweedie::run::session::Precision::Bf16,
            },
            exact: self.exact,
            batch: self.batch,
            deterministic: self.deterministic,
            threads: self.threads.map(|threads| threads as usize),
            seed: self.seed,
            ..tweedie::run::session::Session::on(device)
        }
    }

    /// How the network computes, in words.
    fn arithmetic(&self) -> String {
        let precision = self.precision.name();
        if self.exact { format!("{precision}, exact") } else { precision.to_owned() }
    }

    /// The kind of the network's numbers.
    fn kind(&self, device: Device) -> Result<Kind> {
        match self.precision {
            Precision::F32 => Ok(Kind::Float),
            Precision::Bf16 => Ok(Kind::BFloat16),
            Precision::Tf32 if device.is_cuda() => Ok(Kind::Float),
            Precision::Tf32 => bail!("--precision tf32 is a CUDA mode: use f32 or bf16 on this device"),
        }
    }

    /// Opens MODEL as the flags say.
    fn open(&self, model: &str) -> Result<(Model, Device)> {
        let device = self.device()?;
        Ok((self.load(model, self.card.as_deref(), &self.set, device)?, device))
    }

    /// Opens a model with its own card, or with this one, and with these of its values replaced.
    fn load(&self, model: &str, card: Option<&Path>, set: &[String], device: Device) -> Result<Model> {
        let model = Model::open_with(model, card, set, device, self.kind(device)?)?;
        self.say(format_args!(
            "{}: {} parameters on {}",
            model.card.name,
            thousands(model.count()),
            if device.is_cuda() {
                format!("{device:?}")
            } else {
                format!("the CPU, {} threads", tch::get_num_threads())
            }
        ));
        if !model.assumed.is_empty() {
            self.say(format_args!("assumed: {}", model.assumed));
        }
        if self.precision == Precision::Bf16 && !device.is_cuda() && !libtorch::convolves_bf16() {
            self.say("note: on a CPU without AVX-512, bf16 takes a hundred times as long as f32");
        }
        Ok(model)
    }

    /// SHA-256 of the card that was given.
    fn card_hash(&self) -> Result<Option<String>> {
        let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("{}: cannot be read", path.display()));
        Ok(self.card.as_ref().map(read).transpose()?.map(|bytes| sha256(&bytes)))
    }

    /// The size of a block of seeds.
    fn batch(&self, device: Device, images: usize) -> Result<u64> {
        let most = if device.is_cuda() { 64 } else { 16 };
        match self.batch {
            Some(0) => bail!("--batch must be at least 1, but is 0"),
            Some(batch) => Ok(batch),
            None => Ok((images as u64).next_power_of_two().min(most)),
        }
    }

    /// Prose, unless silence or JSON was asked for.
    fn say(&self, text: impl std::fmt::Display) {
        if !self.quiet && !self.json {
            let _ = writeln!(io::stdout(), "{text}");
        }
    }

    /// The record, if JSON was asked for.
    fn record(&self, record: &impl Serialize) -> Result<()> {
        if self.json {
            writeln!(io::stdout(), "{}", serde_json::to_string(record)?)?;
        }
        Ok(())
    }

    /// A bar on standard error, if that is a terminal.
    fn bar(&self, length: u64, what: &str) -> ProgressBar {
        let target = if self.quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {per_sec:.dim} eta {eta} {msg}");
        ProgressBar::with_draw_target(Some(length), target)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
            .with_prefix(what.to_owned())
    }
}

/// How many of `jobs` to compute at the same time: on the CPU, threads that work apart need not wait for each other at
/// every layer. libtorch's own threads share what is left.
fn workers(device: Device, jobs: usize) -> usize {
    if device.is_cuda() {
        return 1;
    }
    let threads = tch::get_num_threads().max(1);
    let workers = (threads as usize).min(jobs.max(1));
    tch::set_num_threads(threads / workers as i32);
    workers
}

/// The command line, as a shell takes it.
fn command() -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:@%+".contains(c);
    let quoted = |word: String| {
        let bare = word.chars().all(plain) && !word.is_empty();
        if bare { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy().into_owned()));
    std::iter::once("tweedie".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// A choice given as a bare name, as YAML in braces or brackets, or as a YAML file.
fn choice<T: DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    let path = Path::new(text);
    if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
        return Ok(yaml::read(path)?);
    }
    let yaml = if text.contains(['{', ':', '[']) { text.to_owned() } else { format!("{{kind: {text}}}") };
    Ok(yaml::parse(&yaml, Path::new(&format!("{what} {text}")))?)
}

/// A set of images: a folder, a .zip, .npz or .bin file, or YAML in braces.
fn data(text: &str, channels: i64, what: &str) -> Result<AnyData> {
    Ok(target(text, what)?.data(channels))
}

/// The same, or a file of statistics.
fn target(text: &str, what: &str) -> Result<Target> {
    let data = text.starts_with('{').then(|| yaml::parse(text, Path::new(what)));
    Ok(data.transpose()?.map_or_else(|| Target::File(text.into()), Target::Data))
}

/// 1234567 as 1,234,567.
fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> = digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).unwrap_or("")).collect();
    groups.join(",")
}
