//! `tweedie table`: writes all results beside the published ones, as Markdown and as one page.

use anyhow::Result;
use tweedie::run::report::ReportRequest;

use super::{args::table::TableArgs, command};

impl TableArgs {
    pub fn run(&self) -> Result<()> {
        let Self { experiments, results, .. } = self;
        let request = ReportRequest { experiments: experiments.clone(), results: results.clone(), command: command() };
        let written = request.write()?;
        let (markdown, html) = (written.markdown.display(), written.html.display());
        self.output.say(format_args!("{} results in {markdown} and {html}", written.results));
        self.output.record(&written)
    }
}
