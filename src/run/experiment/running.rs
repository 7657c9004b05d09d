//! Runs of experiments of any kind.

use std::time::Instant;

use serde_json::json;

use super::{AnyExperiment, Caption, DistanceExperiment, MethodFigure, PointMeasure, PointsExperiment, figures};
use crate::{
    Error,
    backend::libtorch,
    run::{
        comparison::Compared,
        observer::Observer,
        records::{self, Record},
        request::ExperimentRequest,
        session::Session,
    },
};

/// A finished experiment.
#[derive(Clone, Debug)]
pub enum ExperimentResult {
    /// Distances, points or posteriors: NAME.md, NAME.png, NAME.json, and a line in the records.
    Figures {
        /// Figures, row after row.
        figures: Vec<MethodFigure>,
        /// Figure of as many samples of the reference set itself.
        floor: Option<f64>,
        /// The figures as Markdown.
        table: String,
    },
    /// A table of images: a record for each row.
    Records(Vec<Record>),
    /// Restorations: NAME.md and NAME.json.
    Compared(Compared),
}

/// Figures of a table, and the floor.
type TableFigures = (Vec<MethodFigure>, Option<f64>);

impl AnyExperiment {
    /// Runs the whole experiment; parts that an earlier run has finished are not repeated.
    pub fn run(
        &self,
        request: &ExperimentRequest,
        session: &Session,
        observer: &dyn Observer,
    ) -> Result<ExperimentResult, Error> {
        let begun = Instant::now();
        let found: TableFigures = match self {
            Self::Generation(experiment) => {
                return experiment.run(request, session, observer).map(ExperimentResult::Records);
            }
            Self::Restorations(experiment) => {
                let model = request.open(&experiment.model, &[], session)?;
                observer.opened(&model);
                return experiment.run(&model, request, session, observer).map(ExperimentResult::Compared);
            }
            Self::Distance(experiment) => experiment.run(request, session, observer)?,
            Self::Points(experiment) => (experiment.run(observer)?, experiment.floor()?),
            Self::Posteriors(experiment) => (experiment.run(observer)?, Some(experiment.floor()?)),
        };
        self.conclude(found, begun, request, session)
    }

    /// Renders the costs of the whole experiment as a table, without the network.
    pub fn dry_table(&self) -> Result<String, Error> {
        match self {
            Self::Generation(experiment) => experiment.dry_table(),
            Self::Restorations(experiment) => experiment.dry_table(),
            _ => Err(Error::request("`dry_run`: is for experiments that restore or generate")),
        }
    }

    /// Writes table, plot and figures, and a line into the records.
    fn conclude(
        &self,
        (figures, floor): TableFigures,
        begun: Instant,
        request: &ExperimentRequest,
        session: &Session,
    ) -> Result<ExperimentResult, Error> {
        let caption = Caption { floor, ..self.caption() };
        let record = record(request, session, &figures, begun.elapsed().as_secs_f64());
        records::append(&request.results.join(records::FILE), &record)?;
        let heading = format!("# {}\n\n`{}`{}", self.about(), request.command, self.settings(request, session));
        figures::write(&request.results, &request.name, &heading, &figures, &caption)?;
        let table = figures::table(&figures, &caption);
        Ok(ExperimentResult::Figures { figures, floor, table })
    }

    fn caption(&self) -> Caption<'_> {
        let levels = |value| Caption { title: self.about(), columns: "levels", value, floor: None, order: false };
        match self {
            Self::Points(PointsExperiment { measure: PointMeasure::Path, .. }) => {
                Caption { order: true, ..levels("Distance from the exact path (root mean square)") }
            }
            Self::Points(_) => levels("W₂ from the set"),
            Self::Posteriors(_) => levels("W₂ from the exact posterior"),
            _ => {
                Caption { columns: "evaluations", ..levels("Fréchet distance in the classifier's features (not FID)") }
            }
        }
    }

    /// Describes the settings besides the file on which the figures depend.
    fn settings(&self, request: &ExperimentRequest, session: &Session) -> String {
        let exact = |count: usize| format!("; {count} points, exact scores in f64.");
        match self {
            Self::Points(experiment) => exact(experiment.count),
            Self::Posteriors(experiment) => exact(experiment.count),
            Self::Distance(DistanceExperiment { model, blocks, images, .. }) => format!(
                "{}; {model}, {blocks} blocks of {images} images, in {:?}; ± is the standard deviation over the blocks.",
                if request.set.is_empty() { String::new() } else { format!(" with {:?}", request.set) },
                session.precision
            ),
            Self::Generation(_) | Self::Restorations(_) => String::new(),
        }
    }
}

/// Creates the line in the record of all runs, for experiments that write a table of their own.
fn record(request: &ExperimentRequest, session: &Session, figures: &[MethodFigure], seconds: f64) -> Record {
    let identity = json!({
        "text": request.text, "version": env!("CARGO_PKG_VERSION"), "libtorch": libtorch::VERSION,
        "set": request.set, "precision": session.precision.name(),
    });
    let figure = |figure: &MethodFigure| (format!("{}, {}", figure.method, figure.at), (figure.value, figure.spread));
    Record {
        id: records::id(&identity),
        experiment: request.name.clone(),
        text: request.text.clone(),
        command: request.typed.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        libtorch: libtorch::VERSION.to_owned(),
        device: libtorch::kind(session.device).to_owned(),
        identity,
        seconds,
        figures: figures.iter().map(figure).collect(),
        ..Record::default()
    }
}
