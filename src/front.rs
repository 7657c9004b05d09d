//! The program that a user starts. It reads the command line and answers what needs no network: help, the version, completions
//! and mistakes in flags. For all else it becomes the engine, which is linked to libtorch and takes a quarter of a second to load.

#[path = "cli/args/mod.rs"]
mod args;

use std::{
    env,
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use clap::Parser;

/// The engine's file.
const ENGINE: &str = "tweedie-engine";

fn main() -> ExitCode {
    let cli = args::Cli::parse();
    let answered = match cli.command {
        args::Command::Completions(command) => command.run(),
        args::Command::Man(command) => command.run(),
        _ => Err(become_engine()),
    };
    match answered {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            let _ = writeln!(io::stderr(), "error: {e}");
            ExitCode::from(2)
        }
    }
}

/// Replaces this process by the engine; an error where there is none.
fn become_engine() -> io::Error {
    let Some(engine) = env::current_exe().ok().and_then(|program| engine(&program)) else {
        return io::Error::other(format!(
            "{ENGINE}, the part of this program that computes, is not beside it: `make build` makes both, `make install` \
             installs both"
        ));
    };
    let error = Command::new(&engine)
        .arg0("tweedie")
        .args(env::args_os().skip(1))
        .env("TWEEDIE_FRONT", env!("CARGO_PKG_VERSION"))
        .exec();
    io::Error::other(format!("{}: cannot be started: {error}", engine.display()))
}

/// Path of the engine: beside the program, or where `make install` puts it.
fn engine(program: &Path) -> Option<PathBuf> {
    let folder = program.canonicalize().ok()?.parent()?.to_owned();
    let places = [folder.join(ENGINE), folder.join("../libexec/tweedie").join(ENGINE)];
    places.into_iter().find(|place| place.is_file())
}
