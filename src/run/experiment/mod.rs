//! Experiments as files: they compare methods, and give their figures as a table and a plot.

mod distance;
mod figures;
mod kind;
mod method;
mod points;
mod posteriors;
mod restorations;
mod running;
pub(crate) mod stated;

use std::path::Path;

pub use distance::DistanceExperiment;
pub use figures::{Caption, MethodFigure, mean_and_spread, plot, table, write};
pub use kind::Kind;
pub use method::SamplingMethod;
pub use points::{PointMeasure, PointStart, PointsExperiment};
pub use posteriors::PosteriorExperiment;
pub use restorations::{NamedProblem, RestorationEstimate, RestorationExperiment, RestorationMethod};
pub use running::ExperimentResult;
use serde::Deserialize;

use super::table::TableExperiment;
use crate::{Error, files::yaml};

/// An experiment of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyExperiment {
    /// Distances of images from photographs; see [`DistanceExperiment`].
    Distance(DistanceExperiment),
    /// A table of generated images; see [`TableExperiment`].
    Generation(Box<TableExperiment>),
    /// Points drawn with exact scores; see [`PointsExperiment`].
    Points(PointsExperiment),
    /// Points restored with exact scores; see [`PosteriorExperiment`].
    Posteriors(PosteriorExperiment),
    /// Methods that restore the same measurements; see [`RestorationExperiment`].
    Restorations(RestorationExperiment),
}

impl AnyExperiment {
    /// Reads the experiment in the file at `path`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        // The kind is read first and alone: a tagged enum loses the line numbers of the file, so errors of a single
        // reading could not name lines.
        #[derive(Deserialize)]
        struct Which {
            kind: Kind,
        }
        Ok(match yaml::read::<Which>(path)?.kind {
            Kind::Distance => Self::Distance(yaml::read(path)?),
            Kind::Generation => Self::Generation(yaml::read(path)?),
            Kind::Points => Self::Points(yaml::read(path)?),
            Kind::Posteriors => Self::Posteriors(yaml::read(path)?),
            Kind::Restorations => Self::Restorations(yaml::read(path)?),
        })
    }

    /// Returns the question that the experiment answers.
    pub fn about(&self) -> &str {
        match self {
            Self::Distance(distance) => &distance.about,
            Self::Generation(generation) => &generation.about,
            Self::Points(points) => &points.about,
            Self::Posteriors(posteriors) => &posteriors.about,
            Self::Restorations(restorations) => &restorations.about,
        }
    }
}
