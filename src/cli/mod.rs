//! Subcommands, a file for each, and the code that they share.

pub mod args;
mod bench;
mod check;
mod classes;
mod convert;
mod denoise;
mod doctor;
mod evaluate;
mod flags;
mod information;
mod inspect;
mod lists;
mod plan;
mod progress;
mod restore;
mod run;
mod sample;
mod table;
mod train;
mod walk;

use std::{
    fmt,
    io::{self, Write},
    panic,
    path::Path,
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use anyhow::Result;
use args::{Cli, Command};
use clap::{CommandFactory, FromArgMatches};
use serde::de::DeserializeOwned;
use tweedie::{
    evaluation::features::Target,
    files::{data::AnyData, yaml},
    report::text::thousands,
};

/// Flag that Ctrl-C sets; the observer of a run reads it between two steps.
static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Exit code that shells expect of a program ended by Ctrl-C.
const EXIT_INTERRUPTED: u8 = 130;

/// Error of a command that Ctrl-C ended; the text says what the interruption leaves.
#[derive(Debug)]
struct Interrupted(String);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Describes what an interruption of `command` leaves behind; `None` for commands that it ends at once, since they
/// write nothing for long.
fn left_behind(command: &str) -> Option<&'static str> {
    match command {
        "sample" | "restore" | "run" => Some("finished images are kept, and the same command resumes from there"),
        "denoise" | "evaluate" | "information" => Some("nothing was written"),
        "train" => Some("--resume goes on from the last checkpoint"),
        "bench" => Some("the rows above are complete"),
        _ => None,
    }
}

/// Runs the command line; the exit code is 0, 1 where an expectation was missed, 2 after an error, which is one
/// sentence, or 130 after an interruption.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    let name = matches.subcommand_name().unwrap_or_default();
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    panic::set_hook(Box::new(|_| {}));
    listen(left_behind(name).is_some());
    let result =
        panic::catch_unwind(|| run(&cli.command)).unwrap_or_else(|cause| Err(anyhow::anyhow!(first_line(&*cause))));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            let (text, code) = ending(&e, name);
            let _ = writeln!(io::stderr(), "{text}");
            ExitCode::from(code)
        }
    }
}

/// Makes Ctrl-C ask a patient command to stop, and end any other at once.
///
/// A second Ctrl-C ends every command at once: only temporary files can be unfinished then.
fn listen(patient: bool) {
    let _ = ctrlc::set_handler(move || {
        if INTERRUPTED.swap(true, Ordering::Relaxed) || !patient {
            std::process::exit(i32::from(EXIT_INTERRUPTED));
        }
    });
}

/// Returns the last line of a command that failed, and its exit code.
fn ending(error: &anyhow::Error, command: &str) -> (String, u8) {
    if let Some(Interrupted(text)) = error.downcast_ref() {
        return (text.clone(), EXIT_INTERRUPTED);
    }
    if error.downcast_ref().is_some_and(tweedie::Error::is_interruption) {
        let left = left_behind(command).unwrap_or("nothing was written");
        return (format!("interrupted; {left}"), EXIT_INTERRUPTED);
    }
    let text = format!("error: {}", with_flags(&format!("{error:#}"), command));
    (text, if error.is::<check::Missed>() { 1 } else { 2 })
}

fn run(command: &Command) -> Result<()> {
    match command {
        Command::Sample(command) => command.run(),
        Command::Restore(command) => command.run(),
        Command::Denoise(command) => command.run(),
        Command::Walk(command) => command.run(),
        Command::Train(command) => command.run(),
        Command::Evaluate(command) => command.run(),
        Command::Information(command) => command.run(),
        Command::Run(command) => command.run(),
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
        Command::Completions(command) => Ok(command.run()?),
        Command::Man(command) => Ok(command.run()?),
    }
}

/// Rewrites a message of the library for the user of this program: the field `name` of a request becomes the flag
/// --name of the command.
fn with_flags(message: &str, command: &str) -> String {
    let cli = Cli::command();
    let flags = cli.find_subcommand(command).into_iter().flat_map(clap::Command::get_arguments);
    flags.filter_map(clap::Arg::get_long).fold(message.to_owned(), |text, flag| {
        text.replace(&format!("`{}`", flag.replace('-', "_")), &format!("--{flag}"))
    })
}

/// Returns the first line of a panic's message, which is useful to a user: libtorch reports failures such as lack of
/// memory by panics.
fn first_line(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str).or_else(|| cause.downcast_ref::<&str>().copied());
    let line = text.and_then(|text| text.lines().next()).unwrap_or("an unknown failure");
    let remedy = if line.contains("out of memory") || line.contains("not enough memory") {
        ": try a smaller --batch"
    } else {
        ": please report it with the command that led here"
    };
    format!("inside the program: {line}{remedy}")
}

/// Detects a closed pipe, as in `tweedie walk | head`, which is no error.
fn broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|e| e.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe))
}

/// Returns this process's command line, quoted for a shell.
fn command() -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./=,:@%+".contains(c);
    let quoted = |word: String| {
        let bare = word.chars().all(plain) && !word.is_empty();
        if bare { word } else { format!("'{}'", word.replace('\'', r"'\''")) }
    };
    let words = std::env::args_os().skip(1).map(|word| quoted(word.to_string_lossy().into_owned()));
    std::iter::once("tweedie".to_owned()).chain(words).collect::<Vec<_>>().join(" ")
}

/// Parses a choice given as a bare name, as YAML in braces or brackets, or as a YAML file.
fn choice<T: DeserializeOwned>(text: &str, what: &str) -> Result<T> {
    let path = Path::new(text);
    if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
        return Ok(yaml::read(path)?);
    }
    let yaml = if text.contains(['{', ':', '[']) { text.to_owned() } else { format!("{{kind: {text}}}") };
    Ok(yaml::parse(&yaml, Path::new(&format!("{what} {text}")))?)
}

/// Parses a set of images: a folder, a .zip, .npz or .bin file, or YAML in braces.
fn data(text: &str, channels: i64, what: &str) -> Result<AnyData> {
    Ok(target(text, what)?.data(channels))
}

/// Parses a set of images or a file of statistics.
fn target(text: &str, what: &str) -> Result<Target> {
    let data = text.starts_with('{').then(|| yaml::parse(text, Path::new(what)));
    Ok(data.transpose()?.map_or_else(|| Target::File(text.into()), Target::Data))
}
