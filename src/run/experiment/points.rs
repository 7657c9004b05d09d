//! Experiment on points drawn with exact scores: their distance from the target.

use serde::{Deserialize, Serialize};
use tch::{Kind as Precision, Tensor};

use super::{
    Kind, MethodFigure, SamplingMethod,
    figures::{FIRST, TARGET},
};
use crate::{
    Error,
    numbers::{
        plan::ResolvedPlan,
        scheme::Scheme,
        sde::{AnySde, Edm},
        sigma::Sigmas,
        solvers::{Rk45, Solver},
    },
    run::observer::{Observer, go_on},
    scores::{
        analytic::Mixture,
        denoiser::Score,
        sample::sample,
        toy::{self, AnyToyData, BiasedScore},
    },
};

/// Distance of points drawn with exact scores from their target.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PointsExperiment {
    /// Kind of the experiment: [`Kind::Points`].
    pub kind: Kind,
    /// Question that the experiment answers.
    pub about: String,
    /// Target set.
    pub data: AnyToyData,
    /// Number of points.
    pub count: usize,
    /// Quantity to measure.
    pub measure: PointMeasure,
    /// Numbers of levels, a column for each.
    pub levels: Vec<usize>,
    /// Smallest and largest σ, for schedules that do not fix their own ends.
    pub range: (f64, f64),
    /// Initial states.
    #[serde(default)]
    pub start: PointStart,
    /// Lengths of a constant error of the score, in the frame of each method's process.
    #[serde(default = "none")]
    pub errors: Vec<f64>,
    /// Methods to compare: the rows of the table.
    pub methods: Vec<SamplingMethod>,
}

fn none() -> Vec<f64> {
    vec![0.0]
}

/// Initial states of the points of a [`PointsExperiment`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointStart {
    /// Noise alone: the prior of the method's process, or N(0, σ²).
    #[default]
    Prior,
    /// Points of the set with noise of the first level, so that all errors come from the steps.
    Set,
}

/// Quantity that a [`PointsExperiment`] measures.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointMeasure {
    /// W₂ (sliced in the plane) between the points and as many points of the set.
    Distance,
    /// Root mean square distance of the points from the ends of their exact flows.
    Path,
}

impl PointsExperiment {
    /// Measures all figures, row after row.
    pub fn run(&self, observer: &dyn Observer) -> Result<Vec<MethodFigure>, Error> {
        let exact = toy::denoiser(self.data.get())?;
        let target = toy::draw(self.data.get(), self.count, TARGET)?;
        observer.begun("walking", (self.errors.len() * self.methods.len() * self.levels.len()) as u64);
        let mut figures = Vec::new();
        for &error in &self.errors {
            for method in &self.methods {
                for &levels in &self.levels {
                    go_on(observer)?;
                    figures.push(self.figure(method, levels, error, (&exact, &target))?);
                    observer.advanced(1);
                }
            }
        }
        observer.ended();
        Ok(figures)
    }

    fn figure(
        &self,
        method: &SamplingMethod,
        levels: usize,
        error: f64,
        (exact, target): (&Mixture, &Tensor),
    ) -> Result<MethodFigure, Error> {
        let ResolvedPlan { sigmas, scheme, .. } = method.plan(levels).resolve(self.range, f64::INFINITY)?;
        let still = AnySde::Edm(Edm { end: self.range.1 });
        let sde = method.sde.as_ref().unwrap_or(&still);
        let deviation = match &method.sde {
            Some(sde) if self.start == PointStart::Prior => sde.get().prior() / sde.get().alpha(sde.get().end()),
            _ => sigmas.max(),
        };
        let (noise, mut x) = toy::start(self.count, target.size()[3], deviation);
        if self.start == PointStart::Set {
            x += toy::draw(self.data.get(), self.count, FIRST)?;
        }
        let score = BiasedScore { exact, sde, error };
        let end = |scheme: Scheme, score: &dyn Score| {
            sample(scheme, x.shallow_clone(), score, &noise).last().unwrap_or_else(|| x.shallow_clone())
        };
        let ends = end(scheme.clone(), &score);
        let value = match self.measure {
            PointMeasure::Distance => toy::distance(&ends, target),
            PointMeasure::Path => {
                let whole = Sigmas::new(vec![sigmas.max(), sigmas.min()])?;
                let flow = Rk45 { absolute: 1e-9, relative: 1e-9 }.scheme(&whole)?;
                (ends - end(flow, exact)).square().mean(Precision::Double).double_value(&[]).sqrt()
            }
        };
        let name = &method.name;
        let name = if error == 0.0 { name.clone() } else { format!("{name}, score off by {error}") };
        Ok(MethodFigure { method: name, at: levels, value, spread: None, evaluations: scheme.evaluations() })
    }

    /// Measures the distance of as many other points of the set: no sample can be expected to lie nearer.
    pub fn floor(&self) -> Result<Option<f64>, Error> {
        if self.measure == PointMeasure::Path {
            return Ok(None);
        }
        let [one, other] = [TARGET, TARGET + 1].map(|seed| toy::draw(self.data.get(), self.count, seed));
        Ok(Some(toy::distance(&one?, &other?)))
    }
}
