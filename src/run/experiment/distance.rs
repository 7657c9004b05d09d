//! Distances of generated images from photographs, by the number of evaluations.

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

/// Distance of drawn images from photographs, by number of evaluations.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DistanceExperiment {
    /// [`Kind::Distance`].
    pub kind: Kind,
    /// The question that the experiment answers.
    pub about: String,
    /// The model: a name, a card, a checkpoint or a folder.
    pub model: String,
    /// Images in a block.
    pub images: u64,
    /// Blocks of seeds: each gives a distance, and all of them a spread.
    pub blocks: u64,
    /// Images to compare with.
    pub reference: AnyData,
    /// Images that are as good as can be, whose own distance is the floor.
    #[serde(default)]
    pub floor: Option<AnyData>,
    /// The network in whose features distances are measured.
    pub network: String,
    /// The most evaluations for an image.
    pub evaluations: Vec<usize>,
    /// The rows of the table.
    pub methods: Vec<SamplingMethod>,
}

/// The network of features, and what it makes of the reference.
type FeatureReference = (Features, Moments);

impl DistanceExperiment {
    /// All figures, row after row, and the floor, if the file names one.
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

    /// The images of one method, from files: those of an earlier run are not drawn again.
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

    /// The mean distance of the blocks, and its standard deviation.
    fn apart(&self, images: &Images, (network, reference): &FeatureReference) -> Result<(f64, Option<f64>), Error> {
        let block = |i: u64| frechet(&network.measure(&part(images, i, self.images))?.0, reference);
        Ok(mean_and_spread(&(0..self.blocks).map(block).collect::<Result<Vec<_>, Error>>()?))
    }
}

/// The i-th `count` images of a set, which begins again at its end.
fn part(images: &Images, i: u64, count: u64) -> Images {
    let all = images.count() as u64;
    let indices: Vec<i64> = (i * count..(i + 1) * count).map(|index| (index % all) as i64).collect();
    Images { pixels: images.pixels.index_select(0, &Tensor::from_slice(&indices)), labels: None }
}
