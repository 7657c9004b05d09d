//! The engine: the commands. The program `tweedie` (front.rs) becomes it once the command line is read.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    if let Ok(front) = std::env::var("TWEEDIE_FRONT")
        && front != env!("CARGO_PKG_VERSION")
    {
        eprintln!(
            "error: tweedie is of version {front}, but its engine of {}: install both again",
            env!("CARGO_PKG_VERSION")
        );
        return ExitCode::from(2);
    }
    // Before the arguments are parsed: libtorch reads its switches once, when it is opened.
    tweedie::backend::libtorch::start(std::env::args().any(|argument| argument.ends_with("tf32")));
    cli::main()
}
