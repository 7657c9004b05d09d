//! `tweedie run`: an experiment, as a table and a plot.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::Value;
use tweedie::{
    backend::libtorch,
    evaluation::{features::Features, metrics::frechet},
    files::data::{AnyData, Folder, Images},
    numbers::plan::Plan,
    run::{
        experiment::{self, AnyExperiment, Caption, Distance, Figure, Measure, Points, Posteriors},
        records::{self, Record},
        table::{self, Generation},
    },
};

use super::{
    Common,
    generate::{self, Wish},
    not_interrupted,
    restorations::{self, Place},
    sample::Sample,
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
    #[command(flatten)]
    common: Common,
}

impl Run {
    pub fn run(&self) -> Result<()> {
        let begun = Instant::now();
        let experiment = AnyExperiment::read(&self.experiment)?;
        let name = self.experiment.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let command = format!("tweedie run {}", self.experiment.display());
        if self.dry && !matches!(experiment, AnyExperiment::Restorations(_) | AnyExperiment::Generation(_)) {
            bail!("--dry-run: is for experiments that restore or generate");
        }
        let ((figures, floor), caption, settings) = match &experiment {
            AnyExperiment::Distance(distance) => {
                (self.distances(distance, &name)?, of_distances(distance), settings(distance, &self.common))
            }
            AnyExperiment::Generation(generation) if self.dry => return generate::dry(generation, &self.common),
            AnyExperiment::Generation(generation) => return self.generation(generation, &name, command),
            AnyExperiment::Points(points) => (self.points(points)?, of_points(points), exact(points.count)),
            AnyExperiment::Posteriors(posteriors) => {
                (self.posteriors(posteriors)?, of_posteriors(posteriors), exact(posteriors.count))
            }
            AnyExperiment::Restorations(restorations) if self.dry => {
                return restorations::dry(restorations, &self.common);
            }
            AnyExperiment::Restorations(restorations) => {
                let place = Place { name: &name, results: &self.results, out: &self.out, command };
                return restorations::run(restorations, &place, &self.common);
            }
        };
        let caption = Caption { floor, ..caption };
        self.log(&name, &figures, begun.elapsed().as_secs_f64())?;
        let heading = format!("# {}\n\n`{command}`{settings}", experiment.about());
        experiment::write(&self.results, &name, &heading, &figures, &caption)?;
        self.common.say(experiment::table(&figures, &caption));
        self.common.say(format_args!("table and plot in {}", self.results.join(format!("{name}.md")).display()));
        self.common.record(&serde_json::json!({"experiment": name, "figures": figures, "floor": floor}))
    }

    /// A line in the record of all runs, for experiments that write a table of their own.
    fn log(&self, name: &str, figures: &[Figure], seconds: f64) -> Result<()> {
        let path = &self.experiment;
        let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let identity = serde_json::json!({
            "text": text, "version": env!("CARGO_PKG_VERSION"), "libtorch": libtorch::VERSION, "set": self.common.set,
            "precision": self.common.precision.name(),
        });
        let figure = |figure: &Figure| (format!("{}, {}", figure.method, figure.at), (figure.value, figure.spread));
        let record = Record {
            id: table::id(&identity),
            experiment: name.to_owned(),
            command: super::command(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: libtorch::VERSION.to_owned(),
            device: self.common.device.clone(),
            identity,
            text,
            seconds,
            figures: figures.iter().map(figure).collect(),
            ..Record::default()
        };
        Ok(records::append(&self.results.join(records::FILE), &record)?)
    }

    fn generation(&self, of: &Generation, name: &str, command: String) -> Result<()> {
        let path = &self.experiment;
        let text = std::fs::read_to_string(path).with_context(|| format!("{}: cannot be read", path.display()))?;
        let wish = Wish {
            models: self.models.as_deref(),
            rows: self.row.as_deref(),
            patience: Duration::from_secs(self.patience),
            images: of.images,
            text: &text,
        };
        let evaluate = if self.draw_only { Vec::new() } else { of.evaluate.clone() };
        let of = Generation { images: self.images.unwrap_or(of.images), evaluate, ..of.clone() };
        let place = Place { name, results: &self.results, out: &self.out, command };
        generate::run(&of, &place, &wish, &self.common)
    }

    fn points(&self, points: &Points) -> Result<(Vec<Figure>, Option<f64>)> {
        let count = points.errors.len() * points.methods.len() * points.levels.len();
        let bar = self.common.bar(count as u64, "walking");
        let figures = points.run(|_| bar.inc(1))?;
        bar.finish_and_clear();
        Ok((figures, points.floor()?))
    }

    fn posteriors(&self, posteriors: &Posteriors) -> Result<(Vec<Figure>, Option<f64>)> {
        let bar = self.common.bar((posteriors.methods.len() * posteriors.levels.len()) as u64, "restoring");
        let figures = posteriors.run(|_| bar.inc(1))?;
        bar.finish_and_clear();
        Ok((figures, Some(posteriors.floor()?)))
    }

    fn distances(&self, distance: &Distance, name: &str) -> Result<(Vec<Figure>, Option<f64>)> {
        if distance.images == 0 || distance.blocks == 0 {
            bail!("{}: images and blocks must be at least 1", self.experiment.display());
        }
        let (model, device) = self.common.open(&distance.model)?;
        let network = Features::open(&distance.network, device)?;
        let reference = network.measure(&distance.reference.load()?)?.0;
        let apart = |images: &Images| -> Result<(f64, Option<f64>)> {
            let block = |i: u64| Ok(frechet(&network.measure(&part(images, i, distance.images))?.0, &reference)?);
            let each = (0..distance.blocks).map(block).collect::<Result<Vec<_>>>()?;
            Ok(experiment::mean_and_spread(&each))
        };
        let mut figures = Vec::new();
        for method in &distance.methods {
            for &budget in method.evaluations.as_ref().unwrap_or(&distance.evaluations) {
                not_interrupted()?;
                let Some((plan, evaluations)) = method.within(budget, model.range()) else { continue };
                let out = self.out.join(name).join(folder(&method.name)).join(budget.to_string());
                self.draw(distance, &plan, &out)?;
                let channels = model.card.image[0];
                let (value, spread) = apart(&AnyData::Folder(Folder { path: out, channels }).load()?)?;
                self.common.say(format_args!("{}, {budget} evaluations: {value:.4}", method.name));
                figures.push(Figure { method: method.name.clone(), at: budget, value, spread, evaluations });
            }
        }
        let floor = distance.floor.as_ref().map(|data| apart(&data.load()?)).transpose()?;
        Ok((figures, floor.map(|floor| floor.0)))
    }

    /// The images of one method, by `tweedie sample`.
    fn draw(&self, distance: &Distance, plan: &Plan, out: &Path) -> Result<Value> {
        let seeds = format!("0-{}", distance.images * distance.blocks - 1);
        Sample::new(&distance.model, plan, &seeds, out, &self.common)?.draw().with_context(|| out.display().to_string())
    }
}

/// The i-th `count` images of a set, which begins again at its end.
fn part(images: &Images, i: u64, count: u64) -> Images {
    let all = images.count() as u64;
    let indices: Vec<i64> = (i * count..(i + 1) * count).map(|index| (index % all) as i64).collect();
    Images { pixels: images.pixels.index_select(0, &tch::Tensor::from_slice(&indices)), labels: None }
}

/// A name that may stand in a path.
pub fn folder(name: &str) -> String {
    name.chars().map(|c| if c.is_alphanumeric() || "-+.=".contains(c) { c } else { '-' }).collect()
}

fn of_distances(distance: &Distance) -> Caption<'_> {
    Caption {
        title: &distance.about,
        columns: "evaluations",
        value: "Fréchet distance in the classifier's features (not FID)",
        floor: None,
        order: false,
    }
}

fn of_points(points: &Points) -> Caption<'_> {
    Caption {
        title: &points.about,
        columns: "levels",
        value: match points.measure {
            Measure::Distance => "W₂ from the set",
            Measure::Path => "Distance from the exact path (root mean square)",
        },
        floor: None,
        order: points.measure == Measure::Path,
    }
}

fn of_posteriors(posteriors: &Posteriors) -> Caption<'_> {
    let value = "W₂ from the exact posterior";
    Caption { title: &posteriors.about, columns: "levels", value, floor: None, order: false }
}

/// On what the figures depend besides the file.
fn settings(distance: &Distance, common: &Common) -> String {
    format!(
        "{}; {}, {} blocks of {} images, in {:?}; ± is the standard deviation over the blocks.",
        if common.set.is_empty() { String::new() } else { format!(" with {:?}", common.set) },
        distance.model,
        distance.blocks,
        distance.images,
        common.precision
    )
}

fn exact(count: usize) -> String {
    format!("; {count} points, exact scores in f64.")
}
