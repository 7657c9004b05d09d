//! Distances of generated images from photographs, by the number of evaluations.

use serde::{Deserialize, Serialize};

use super::{Kind, SamplingMethod};
use crate::files::data::AnyData;

/// How far images drawn within a number of evaluations lie from photographs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DistanceExperiment {
    /// [`Kind::Distance`].
    pub kind: Kind,
    /// What is asked.
    pub about: String,
    /// MODEL.
    pub model: String,
    /// Images in a block.
    pub images: u64,
    /// Blocks of seeds: each gives a distance, and all of them a spread.
    pub blocks: u64,
    /// What images should resemble.
    pub reference: AnyData,
    /// Images that are as good as can be, whose own distance is the floor.
    #[serde(default)]
    pub floor: Option<AnyData>,
    /// In whose features.
    pub network: String,
    /// The most evaluations for an image.
    pub evaluations: Vec<usize>,
    /// The rows of the table.
    pub methods: Vec<SamplingMethod>,
}
