//! Experiment on points restored with exact scores: their distance from the exact posterior.

use serde::{Deserialize, Serialize};
use tch::{Device, Kind as Precision, Tensor};

use super::{
    Kind, MethodFigure, RestorationMethod,
    figures::{FIRST, TARGET},
};
use crate::{
    Error,
    inverse::{
        likelihood::GaussianLikelihood,
        operators::AnyTask,
        restoration::{self, Effort, InverseProblem},
    },
    numbers::plan::Plan,
    run::observer::{Observer, go_on},
    scores::{
        analytic::Mixture,
        toy::{self, AnyToyData},
    },
};

/// Distance of points restored with exact scores from the exact posterior.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PosteriorExperiment {
    /// Kind of the experiment: [`Kind::Posteriors`].
    pub kind: Kind,
    /// Question that the experiment answers.
    pub about: String,
    /// Set that is the prior.
    pub data: AnyToyData,
    /// Operator A; points are images of one row.
    pub task: AnyTask,
    /// Point that is measured.
    pub point: Vec<f64>,
    /// η, the standard deviation of the measurement's noise.
    pub noise: f64,
    /// Number of samples.
    pub count: usize,
    /// Numbers of levels, a column for each.
    pub levels: Vec<usize>,
    /// Smallest and largest σ, for schedules that do not fix their own ends.
    pub range: (f64, f64),
    /// Methods to compare: the rows of the table.
    pub methods: Vec<RestorationMethod>,
}

impl PosteriorExperiment {
    fn likelihood(&self) -> Result<GaussianLikelihood, Error> {
        let shape = [1, 1, self.point.len() as i64];
        let operator = self.task.get().operator(shape, 0, Device::Cpu, Precision::Double)?;
        let y = operator.apply(&Tensor::from_slice(&self.point).view([1, 1, 1, -1]));
        GaussianLikelihood::new(operator, y, self.noise, shape)
    }

    fn exact(&self, seed: u64) -> Result<Tensor, Error> {
        let shape = [1, 1, self.point.len() as i64];
        toy::denoiser(self.data.get())?.posterior(&self.likelihood()?.linear("posteriors")?, shape, self.count, seed)
    }

    /// Measures all figures, row after row.
    pub fn run(&self, observer: &dyn Observer) -> Result<Vec<MethodFigure>, Error> {
        let (prior, target) = (toy::denoiser(self.data.get())?, self.exact(TARGET)?);
        let mean = toy::draw(self.data.get(), 10_000, FIRST)?.mean_dim([0i64].as_slice(), true, None);
        observer.begun("walking", (self.methods.len() * self.levels.len()) as u64);
        let mut figures = Vec::new();
        for way in &self.methods {
            for &at in &self.levels {
                go_on(observer)?;
                figures.extend(self.figure(way, at, (&prior, &mean, &target))?);
                observer.advanced(1);
            }
        }
        observer.ended();
        Ok(figures)
    }

    /// Measures a figure; `None` where the method cannot run with so many levels.
    fn figure(
        &self,
        way: &RestorationMethod,
        at: usize,
        (prior, mean, target): (&Mixture, &Tensor, &Tensor),
    ) -> Result<Option<MethodFigure>, Error> {
        let (likelihood, method) = (self.likelihood()?, way.method.get());
        let plan = way.plan(&Plan::posterior(), Some(at));
        let Ok(resolved) = plan.resolve(self.range, method.step_limit(&likelihood)) else { return Ok(None) };
        let (noise, x) = toy::start(self.count, self.point.len() as i64, resolved.sigmas.max());
        let problem = InverseProblem { prior, likelihood: &likelihood, plan: &resolved, noise: &noise };
        let ends = restoration::restore(method, &problem, x + mean, &mut |_| Ok(()))?;
        let Effort { evaluations, gradients } = method.effort(&resolved);
        let value = toy::distance(&ends, target);
        let evaluations = evaluations + gradients;
        Ok(Some(MethodFigure { method: way.name.clone(), at, value, spread: None, evaluations }))
    }

    /// Measures the distance of as many other samples of the exact posterior.
    pub fn floor(&self) -> Result<f64, Error> {
        Ok(toy::distance(&self.exact(TARGET + 1)?, &self.exact(TARGET)?))
    }
}
