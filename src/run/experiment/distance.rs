//! Experiment on the distance of generated images from photographs, as a function of the number of evaluations.

use serde::{Deserialize, Serialize};

use tch::Tensor;

use super::{Kind, MethodFigure, SamplingMethod, mean_and_spread};
use crate::{
    Error,
    error::Within,
    evaluation::{
        features::Features,
        metrics::{Moments, frechet},
    },
    files::data::{AnyData, Folder, Images},
    models::card::Model,
    numbers::plan::Plan,
    run::{
        observer::{Observer, go_on},
        request::ExperimentRequest,
        sample::{SampleFolder, Sampling},
        session::Session,
    },
};

/// Distance of drawn images from photographs, as a function of the number of evaluations.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DistanceExperiment {
    /// Kind of the experiment: [`Kind::Distance`].
    pub kind: Kind,
    /// Question that the experiment answers.
    pub about: String,
    /// Model: a name, a card, a checkpoint or a folder.
    pub model: String,
    /// Number of images in a block.
    pub images: u64,
    /// Number of blocks of seeds: each gives a distance, and all of them a spread.
    pub blocks: u64,
    /// Images to compare with.
    pub reference: AnyData,
    /// Images of the best attainable quality; their distance from the reference is the floor.
    #[serde(default)]
    pub floor: Option<AnyData>,
    /// Network of the features in which distances are measured.
    pub network: String,
    /// Maximum numbers of evaluations for an image, a column for each.
    pub evaluations: Vec<usize>,
    /// Methods to compare: the rows of the table.
    pub methods: Vec<SamplingMethod>,
}

/// Network of features, and the moments of the reference's features.
type FeatureReference = (Features, Moments);

impl DistanceExperiment {
    /// Measures all figures, row after row, and the floor, if the file names one.
    pub fn run(
        &self,
        request: &ExperimentRequest,
        session: &Session,
        observer: &dyn Observer,
    ) -> Result<(Vec<MethodFigure>, Option<f64>), Error> {
        if self.images == 0 || self.blocks == 0 {
            return Err(Error::request("images and blocks must be at least 1"));
        }
        let model = request.open(&self.model, &[], session)?;
        observer.opened(&model);
        let network = Features::open(&self.network, session.device)?;
        let moments = network.measure(&self.reference.load()?)?.0;
        let reference = (network, moments);
        let mut figures = Vec::new();
        for method in &self.methods {
            for &budget in method.evaluations.as_ref().unwrap_or(&self.evaluations) {
                go_on(observer)?;
                let Some((plan, evaluations)) = method.within(budget, model.range()) else { continue };
                let images = self.images(&model, plan, (&method.name, budget), (request, session, observer))?;
                let (value, spread) = self.apart(&images, &reference)?;
                observer.measured(&format!("{}, {budget} evaluations: {value:.4}", method.name));
                figures.push(MethodFigure { method: method.name.clone(), at: budget, value, spread, evaluations });
            }
        }
        let floor = self.floor.as_ref().map(|data| self.apart(&data.load()?, &reference)).transpose()?;
        Ok((figures, floor.map(|floor| floor.0)))
    }

    /// Draws the images of one method and reads their files; images of an earlier run are not drawn again.
    fn images(
        &self,
        model: &Model,
        plan: Plan,
        (method, budget): (&str, usize),
        (request, session, observer): (&ExperimentRequest, &Session, &dyn Observer),
    ) -> Result<Images, Error> {
        let out = request.folder(method).join(budget.to_string());
        let folder = SampleFolder {
            out: out.clone(),
            command: request.typed.clone(),
            origin: request.origin(&[]),
            ..SampleFolder::default()
        };
        let sampling = Sampling::new(model).session(session).plan(plan).seeds(0..self.images * self.blocks);
        sampling.write(&folder, observer).within(|| out.display().to_string())?;
        AnyData::Folder(Folder { path: out, channels: model.card.image[0] }).load()
    }

    /// Measures the mean distance of the blocks, and its standard deviation.
    fn apart(&self, images: &Images, (network, reference): &FeatureReference) -> Result<(f64, Option<f64>), Error> {
        let block = |i: u64| frechet(&network.measure(&part(images, i, self.images))?.0, reference);
        Ok(mean_and_spread(&(0..self.blocks).map(block).collect::<Result<Vec<_>, Error>>()?))
    }
}

/// Selects the i-th group of `count` images of a set, which begins again at its end.
fn part(images: &Images, i: u64, count: u64) -> Images {
    let all = images.count() as u64;
    let indices: Vec<i64> = (i * count..(i + 1) * count).map(|index| (index % all) as i64).collect();
    Images { pixels: images.pixels.index_select(0, &Tensor::from_slice(&indices)), labels: None }
}
