//! `tweedie table`: all results beside what papers print, as Markdown and as one page.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;
use tweedie::run::report::ReportRequest;

use super::{command, flags::OutputFlags};

/// Write all results as one table: published, measured, what it cost, and how to have it again
///
/// Writes RESULTS/tables.md, and RESULTS/tables.html, which a browser shows without a network.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie table
  tweedie table experiments/published --results experiments/results")]
pub struct Table {
    /// The folder of experiments, with those within it
    #[arg(default_value = "experiments", value_name = "DIR")]
    experiments: PathBuf,
    /// Where `tweedie run` has put records and plots
    #[arg(long, default_value = "experiments/results", value_name = "DIR")]
    results: PathBuf,
    #[command(flatten)]
    output: OutputFlags,
}

impl Table {
    pub fn run(&self) -> Result<()> {
        let Self { experiments, results, .. } = self;
        let request = ReportRequest { experiments: experiments.clone(), results: results.clone(), command: command() };
        let written = request.write()?;
        let (markdown, html) = (written.markdown.display(), written.html.display());
        self.output.say(format_args!("{} results in {markdown} and {html}", written.results));
        self.output.record(&written)
    }
}
