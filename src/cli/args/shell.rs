//! Flags of the commands that write completions for a shell and pages for `man`.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Cli;

/// Print the completions of a shell
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie completions bash > ~/.local/share/bash-completion/completions/tweedie
  tweedie completions zsh > ~/.zfunc/_tweedie
  tweedie completions fish > ~/.config/fish/completions/tweedie.fish")]
pub struct CompletionsArgs {
    /// Shell whose completions to print
    pub shell: Shell,
}

/// Write the manual: tweedie.1, and a page for each command
#[derive(Args, Debug)]
pub struct ManArgs {
    /// Folder for the pages
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

impl CompletionsArgs {
    pub fn run(&self) -> io::Result<()> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tweedie", &mut text);
        io::stdout().write_all(&text)
    }
}

impl ManArgs {
    pub fn run(&self) -> io::Result<()> {
        fs::create_dir_all(&self.folder)?;
        clap_mangen::generate_to(Cli::command().disable_help_subcommand(true), &self.folder)
    }
}
