//! Experiment on methods that restore the same measurements of the same images.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use tch::{Device, Kind as Precision, Tensor};

use super::{Kind, stated};
use crate::{
    Error,
    files::data::ImageSource,
    inverse::{
        likelihood::GaussianLikelihood,
        operators::AnyTask,
        restoration::{AnyMethod, Effort},
    },
    numbers::{
        plan::{AnySampler, Plan},
        schedule::AnySchedule,
    },
};

/// Methods on the same measurements of the same images.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RestorationExperiment {
    /// Kind of the experiment: [`Kind::Restorations`].
    pub kind: Kind,
    /// Question that the experiment answers.
    pub about: String,
    /// Model: a name, a card, a checkpoint or a folder.
    pub model: String,
    /// Shape of the network's images, `[channels, height, width]`, for dry runs; where there is a card, it states the
    /// shape.
    #[serde(default)]
    pub image: Option<[i64; 3]>,
    /// Smallest and largest σ of the network's training, for dry runs; the card states them as well.
    #[serde(default)]
    pub range: Option<(f64, f64)>,
    /// Images to restore.
    pub images: ImageSource,
    /// Maximum number of images: only the first ones are restored.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Number of samples of each posterior.
    pub samples: usize,
    /// Classifier of the features in which the distance from the truth is measured as well.
    #[serde(default)]
    pub features: Option<String>,
    /// Problems, a table for each.
    pub tasks: Vec<NamedProblem>,
    /// Methods to compare: the rows of the tables.
    pub methods: Vec<RestorationMethod>,
    /// Published figures, by the name of the method and of the task.
    #[serde(default)]
    pub published: BTreeMap<String, BTreeMap<String, String>>,
}

/// A problem of [`RestorationExperiment`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NamedProblem {
    /// Name in the table.
    pub name: String,
    /// The operator A.
    pub task: AnyTask,
    /// η for pixels 0 … 1, as on the command line: half of η in data units.
    pub noise: f64,
}

/// Cost of a line of [`RestorationExperiment`].
#[derive(Clone, Copy, Debug)]
pub struct RestorationEstimate {
    /// Numbers of evaluations and gradients for a sample.
    pub effort: Effort,
    /// Size of the sample's measurement, in bytes.
    pub measurement: usize,
    /// Size of the sample's state, in bytes.
    pub state: usize,
}

impl RestorationExperiment {
    /// Estimates the cost of a method for a problem, without the network; fails where the method does not suit the
    /// problem.
    pub fn estimate(&self, posed: &NamedProblem, way: &RestorationMethod) -> Result<RestorationEstimate, Error> {
        let image = stated::image(&self.model, self.image)?;
        let range = stated::range(&self.model, self.range)?;
        let operator = posed.task.get().operator(image, 0, Device::Cpu, Precision::Float)?;
        let [channels, height, width] = image;
        let y = operator.apply(&Tensor::zeros([1, channels, height, width], (Precision::Float, Device::Cpu)));
        let measurement = 4 * y.numel();
        let likelihood = GaussianLikelihood::new(operator, y, 2.0 * posed.noise, image)?;
        let method = way.method.get();
        method.check(&likelihood)?;
        let resolved = way.plan(&Plan::posterior(), None).resolve(range, method.step_limit(&likelihood))?;
        let state = 4 * (channels * height * width) as usize;
        Ok(RestorationEstimate { effort: method.effort(&resolved), measurement, state })
    }
}

/// A restoration method with its plan, as an experiment names it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RestorationMethod {
    /// Name in the table.
    pub name: String,
    /// The method.
    pub method: AnyMethod,
    /// Noise levels; the method's own if left out.
    #[serde(default)]
    pub schedule: Option<AnySchedule>,
    /// Sampler, for methods that leave it open.
    #[serde(default)]
    pub sampler: Option<AnySampler>,
    /// Number of levels, where the experiment has no columns for them.
    #[serde(default)]
    pub steps: Option<usize>,
}

impl RestorationMethod {
    /// Returns the method's own plan, or the default, with the replacements of the file.
    pub fn plan(&self, default: &Plan, steps: Option<usize>) -> Plan {
        let plan = self.method.get().plan().unwrap_or_else(|| default.clone());
        plan.with(self.schedule.clone(), steps.or(self.steps), self.sampler.clone())
    }
}
