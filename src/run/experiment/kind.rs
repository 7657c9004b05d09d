//! Kinds of experiments.

use serde::{Deserialize, Serialize};

/// Kind of an experiment: the word after `kind:` in its file.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Distances of sets of images from photographs, as a function of the number of evaluations.
    Distance,
    /// A table of many images and their figures.
    Generation,
    /// Points drawn with exact scores.
    Points,
    /// Points restored with exact scores.
    Posteriors,
    /// Methods that restore the same measurements.
    Restorations,
}
