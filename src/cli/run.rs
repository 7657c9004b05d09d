//! `tweedie run`: an experiment, as a table and a plot.

use std::{path::PathBuf, time::Duration};

use anyhow::Result;
use clap::Args;
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
    command,
    flags::{BatchFlags, DeviceFlags, OutputFlags, SeedFlag},
};

/// Run an experiment: methods beside each other, as a table and a plot
///
/// What is finished is kept: the same command goes on where it stopped.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie run experiments/discretisation.yaml
  tweedie run experiments/sampler-menu.yaml --precision bf16
  tweedie run experiments/published/edm-cifar10.yaml --models DIR --row 'F, unconditional, VP'
  srun --ntasks-per-node 8 tweedie run experiments/quick-table.yaml    # or torchrun --no-python, or mpirun")]
pub struct Run {
    /// The experiment
    #[arg(value_name = "FILE.yaml")]
    experiment: PathBuf,
    /// Where table, plot and figures go: NAME.md, NAME.png, NAME.json
    #[arg(long, default_value = "experiments/results", value_name = "DIR")]
    results: PathBuf,
    /// Where images go, in a folder for each method
    #[arg(long, default_value = "out/experiments", value_name = "DIR")]
    out: PathBuf,
    /// Restorations and tables of generated images: what they cost, without the network
    #[arg(long = "dry-run")]
    dry: bool,
    /// Tables of generated images: where checkpoints are that are not where the file names them
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Tables of generated images: only rows whose names contain this
    #[arg(long, value_name = "NAME")]
    row: Option<String>,
    /// Tables of generated images: only so many in place of the file's number, for a first look
    #[arg(long, value_name = "N")]
    images: Option<u64>,
    /// Tables of generated images: measure nothing; `tweedie evaluate` does it later of the stored images
    #[arg(long)]
    draw_only: bool,
    /// Tables of generated images: after how many seconds of silence another process takes over the work of one
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u64,
    /// Replaces a value of the models' cards, which `tweedie inspect` shows; may be given several times
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Model")]
    set: Vec<String>,
    #[command(flatten)]
    device: DeviceFlags,
    #[command(flatten)]
    batch: BatchFlags,
    #[command(flatten)]
    seed: SeedFlag,
    #[command(flatten)]
    output: OutputFlags,
}

impl Run {
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
            (ExperimentResult::Records(records), AnyExperiment::Generation(of)) => {
                output.say(markdown(of, &records));
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

    /// The first of several processes speaks.
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
