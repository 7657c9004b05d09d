//! `tweedie run`: runs an experiment and writes a table and a plot.

use std::time::Duration;

use anyhow::Result;
use serde_json::json;
use tweedie::{
    backend::libtorch,
    run::{
        experiment::{AnyExperiment, ExperimentResult},
        leases::Rank,
        records,
        report::markdown,
        request::ExperimentRequest,
    },
};

use super::{
    args::{
        flags::{DeviceFlags, OutputFlags},
        run::RunArgs,
    },
    command,
};

impl RunArgs {
    pub fn run(&self) -> Result<()> {
        let experiment = AnyExperiment::read(&self.experiment)?;
        if self.dry {
            self.output.say(experiment.dry_table()?);
            return Ok(());
        }
        let rank = Rank::here();
        let output = self.output_of(rank);
        let request = self.request(rank)?;
        let device = libtorch::device_of_rank(&self.device.device, rank.local);
        let session = DeviceFlags { device, ..self.device.clone() }.session_with(&self.batch, self.seed.seed)?;
        match (experiment.run(&request, &session, &output.observer())?, &experiment) {
            (ExperimentResult::Figures { figures, floor, table }, _) => {
                output.say(table);
                output.say(format_args!("table and plot in {}", request.result("md").display()));
                output.record(&json!({"experiment": request.name, "figures": figures, "floor": floor}))
            }
            (ExperimentResult::Records(records), AnyExperiment::Generation(table)) => {
                output.say(markdown(table, &records));
                let lines = self.results.join(records::FILE);
                output.say(format_args!("records in {}; `tweedie table` makes a page of them", lines.display()));
                output.record(&records)
            }
            (ExperimentResult::Records(records), _) => output.record(&records),
            (ExperimentResult::Compared(compared), _) => {
                output.say(&compared.text);
                output.record(&compared.lines)
            }
        }
    }

    /// Returns the output flags of a process: only the first of several prints.
    fn output_of(&self, rank: Rank) -> OutputFlags {
        let OutputFlags { quiet, json } = self.output;
        let is_silent = rank.rank > 0;
        OutputFlags { quiet: quiet || is_silent, json: json && !is_silent }
    }

    fn request(&self, rank: Rank) -> Result<ExperimentRequest> {
        Ok(ExperimentRequest {
            typed: command(),
            results: self.results.clone(),
            out: self.out.clone(),
            set: self.set.clone(),
            models: self.models.clone(),
            row: self.row.clone(),
            images: self.images,
            draw_only: self.draw_only,
            patience: Duration::from_secs(self.patience),
            rank,
            ..ExperimentRequest::new(&self.experiment)?
        })
    }
}
