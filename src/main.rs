//! The command line.

mod cli;

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before the arguments are parsed: libtorch reads its switches once, when it is opened.
    tweedie::backend::libtorch::start(std::env::args().any(|argument| argument.ends_with("tf32")));
    cli::main()
}
