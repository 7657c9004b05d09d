//! Experiments as files: methods beside each other, and what was measured of them as a table and a plot.

use std::{collections::BTreeMap, fmt::Write as _, path::Path};

use serde::{Deserialize, Serialize};
use tch::{Device, Kind as Precision, Tensor};

use crate::{
    Error,
    files::{data::AnyData, images, yaml},
    inverse::{
        likelihood::GaussianLikelihood,
        operators::AnyTask,
        restoration::{self, AnyMethod, Effort},
    },
    numbers::{
        plan::{AnySampler, Plan, ResolvedPlan},
        schedule::AnySchedule,
        scheme::Scheme,
        sde::AnySde,
        sigma::Sigmas,
        solvers::{Rk45, Solver},
    },
    report::sheet::{self, Series},
    run::table::Generation,
    scores::{
        analytic::Mixture,
        denoiser::Score,
        sample::sample,
        toy::{self, AnyToyData, BiasedScore},
    },
};

/// What an experiment's file may state.
#[derive(Clone, Debug, PartialEq)]
pub enum AnyExperiment {
    /// See [`Distance`].
    Distance(Distance),
    /// See [`Generation`].
    Generation(Box<Generation>),
    /// See [`Points`].
    Points(Points),
    /// See [`Posteriors`].
    Posteriors(Posteriors),
    /// See [`Restorations`].
    Restorations(Restorations),
}

/// Which of them.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// See [`Distance`].
    Distance,
    /// See [`Generation`].
    Generation,
    /// See [`Points`].
    Points,
    /// See [`Posteriors`].
    Posteriors,
    /// See [`Restorations`].
    Restorations,
}

impl AnyExperiment {
    /// The experiment in the file at `path`.
    pub fn read(path: &Path) -> Result<Self, Error> {
        // In two readings: a slip is then told with its line, which one reading of a tagged enum has forgotten.
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

    /// What it asks.
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

/// One way to sample.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Method {
    /// What the table calls it.
    pub name: String,
    /// How to go down the levels.
    pub sampler: AnySampler,
    /// Where they lie.
    pub schedule: AnySchedule,
    /// The process from whose prior points start, and in whose frame scores err; x = N(0, σ²) and the σ frame without.
    #[serde(default)]
    pub sde: Option<AnySde>,
    /// The most evaluations for an image, if this row's columns are others than the experiment's.
    #[serde(default)]
    pub evaluations: Option<Vec<usize>>,
}

impl Method {
    /// The method with the most levels whose evaluations do not exceed `budget`, and how many that are; none if even one
    /// level takes more, or if the state decides.
    pub fn within(&self, budget: usize, range: (f64, f64)) -> Option<(Plan, usize)> {
        let scheme = |steps: usize| Some(self.plan(steps).resolve(range, f64::INFINITY).ok()?.scheme);
        if scheme(2).is_some_and(|scheme| scheme.is_adaptive()) {
            return None;
        }
        let spent = |steps: usize| scheme(steps).map(|scheme| (steps, scheme.evaluations()));
        let (steps, evaluations) = (1..=budget).rev().filter_map(spent).find(|(_, spent)| *spent <= budget)?;
        Some((self.plan(steps), evaluations))
    }

    fn plan(&self, steps: usize) -> Plan {
        Plan { schedule: self.schedule.clone(), steps, sampler: self.sampler.clone() }
    }
}

/// How far images drawn within a number of evaluations lie from photographs.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Distance {
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
    pub methods: Vec<Method>,
}

/// How far points that are drawn with exact scores end from where they should.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Points {
    /// [`Kind::Points`].
    pub kind: Kind,
    /// What is asked.
    pub about: String,
    /// The set.
    pub data: AnyToyData,
    /// How many points.
    pub count: usize,
    /// What is measured.
    pub measure: Measure,
    /// Numbers of levels.
    pub levels: Vec<usize>,
    /// The smallest and the largest σ, for schedules that fix no ends of their own.
    pub range: (f64, f64),
    /// Where points begin.
    #[serde(default)]
    pub start: Start,
    /// Lengths of a constant error of the score, in the frame of each method's process.
    #[serde(default = "none")]
    pub errors: Vec<f64>,
    /// The rows of the table.
    pub methods: Vec<Method>,
}

fn none() -> Vec<f64> {
    vec![0.0]
}

/// See [`Points`].
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Start {
    /// In noise alone: the prior of the method's process, or N(0, σ²).
    #[default]
    Prior,
    /// In points of the set with noise of the first level, so that the steps alone are to blame.
    Set,
}

/// See [`Points`].
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// W₂ (sliced in the plane) between the points and as many of the set.
    Distance,
    /// The root mean square distance of each point from where the exact flow takes it.
    Path,
}

/// One figure of a table.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Figure {
    /// The row.
    pub method: String,
    /// The column: evaluations, or levels.
    pub at: usize,
    /// What was measured.
    pub value: f64,
    /// Its standard deviation over blocks, where there are several.
    pub spread: Option<f64>,
    /// Evaluations that were really made for an image or a point.
    pub evaluations: usize,
}

impl Points {
    /// All figures, row after row; `done` is told of each.
    pub fn run(&self, mut done: impl FnMut(&Figure)) -> Result<Vec<Figure>, Error> {
        let exact = toy::denoiser(self.data.get())?;
        let target = toy::draw(self.data.get(), self.count, TARGET)?;
        let mut figures = Vec::new();
        for &error in &self.errors {
            for method in &self.methods {
                for &levels in &self.levels {
                    let figure = self.figure(method, levels, error, (&exact, &target))?;
                    done(&figure);
                    figures.push(figure);
                }
            }
        }
        Ok(figures)
    }

    fn figure(
        &self,
        method: &Method,
        levels: usize,
        error: f64,
        (exact, target): (&Mixture, &Tensor),
    ) -> Result<Figure, Error> {
        let ResolvedPlan { sigmas, scheme, .. } = method.plan(levels).resolve(self.range, f64::INFINITY)?;
        let still = AnySde::Edm(crate::numbers::sde::Edm { end: self.range.1 });
        let sde = method.sde.as_ref().unwrap_or(&still);
        let deviation = match &method.sde {
            Some(sde) if self.start == Start::Prior => sde.get().prior() / sde.get().alpha(sde.get().end()),
            _ => sigmas.max(),
        };
        let (noise, mut x) = toy::start(self.count, target.size()[3], deviation);
        if self.start == Start::Set {
            x += toy::draw(self.data.get(), self.count, FIRST)?;
        }
        let score = BiasedScore { exact, sde, error };
        let end = |scheme: Scheme, score: &dyn Score| {
            sample(scheme, x.shallow_clone(), score, &noise).last().unwrap_or_else(|| x.shallow_clone())
        };
        let ends = end(scheme.clone(), &score);
        let value = match self.measure {
            Measure::Distance => toy::distance(&ends, target),
            Measure::Path => {
                let whole = Sigmas::new(vec![sigmas.max(), sigmas.min()])?;
                let flow = Rk45 { absolute: 1e-9, relative: 1e-9 }.scheme(&whole)?;
                (ends - end(flow, exact)).square().mean(Precision::Double).double_value(&[]).sqrt()
            }
        };
        let name = &method.name;
        let name = if error == 0.0 { name.clone() } else { format!("{name}, score off by {error}") };
        Ok(Figure { method: name, at: levels, value, spread: None, evaluations: scheme.evaluations() })
    }

    /// The distance of as many other points of the set: no sample can be expected to lie nearer.
    pub fn floor(&self) -> Result<Option<f64>, Error> {
        if self.measure == Measure::Path {
            return Ok(None);
        }
        let [one, other] = [TARGET, TARGET + 1].map(|seed| toy::draw(self.data.get(), self.count, seed));
        Ok(Some(toy::distance(&one?, &other?)))
    }
}

/// How far points that are restored with exact scores end from the exact posterior.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Posteriors {
    /// [`Kind::Posteriors`].
    pub kind: Kind,
    /// What is asked.
    pub about: String,
    /// The set.
    pub data: AnyToyData,
    /// A: points are images of one row.
    pub task: AnyTask,
    /// The point that is measured.
    pub point: Vec<f64>,
    /// η.
    pub noise: f64,
    /// How many samples.
    pub count: usize,
    /// Numbers of levels.
    pub levels: Vec<usize>,
    /// The smallest and the largest σ, for schedules that fix no ends of their own.
    pub range: (f64, f64),
    /// The rows of the table.
    pub methods: Vec<Restoring>,
}

/// Methods on the same measurements of the same images.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Restorations {
    /// [`Kind::Restorations`].
    pub kind: Kind,
    /// What is asked.
    pub about: String,
    /// MODEL.
    pub model: String,
    /// `[channels, height, width]`, and the smallest and the largest σ of its training: what a dry run has to know.
    pub image: [i64; 3],
    /// See `image`.
    pub range: (f64, f64),
    /// The images.
    pub images: AnyData,
    /// Only the first so many.
    #[serde(default)]
    pub limit: Option<usize>,
    /// Of each posterior.
    pub samples: usize,
    /// The classifier in whose features the distance from the truth is told as well.
    #[serde(default)]
    pub features: Option<String>,
    /// The problems: a table for each.
    pub tasks: Vec<NamedProblem>,
    /// The rows of the tables.
    pub methods: Vec<Restoring>,
    /// What a paper prints, by the name of the method and of the task.
    #[serde(default)]
    pub published: BTreeMap<String, BTreeMap<String, String>>,
}

/// A problem of [`Restorations`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NamedProblem {
    /// What the table calls it.
    pub name: String,
    /// A.
    pub task: AnyTask,
    /// η, for pixels 0 … 1 as on the command line: half of what it is in data units.
    pub noise: f64,
}

/// What a line of [`Restorations`] will cost.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// For a sample.
    pub effort: Effort,
    /// Of its measurement, in bytes.
    pub measurement: usize,
    /// Of its state, in bytes.
    pub state: usize,
}

impl Restorations {
    /// What a method costs for a problem, without the network; an error where it is not made for it.
    pub fn estimate(&self, posed: &NamedProblem, way: &Restoring) -> Result<Estimate, Error> {
        let operator = posed.task.get().operator(self.image, 0, Device::Cpu, Precision::Float)?;
        let [channels, height, width] = self.image;
        let y = operator.apply(&Tensor::zeros([1, channels, height, width], (Precision::Float, Device::Cpu)));
        let measurement = 4 * y.numel();
        let likelihood = GaussianLikelihood::new(operator, y, 2.0 * posed.noise, self.image)?;
        let method = way.method.get();
        method.check(&likelihood)?;
        let resolved = way.plan(&Plan::posterior(), None).resolve(self.range, method.step_limit(&likelihood))?;
        let state = 4 * (channels * height * width) as usize;
        Ok(Estimate { effort: method.effort(&resolved), measurement, state })
    }
}

/// One way to restore.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Restoring {
    /// What the table calls it.
    pub name: String,
    /// The method.
    pub method: AnyMethod,
    /// Where the levels lie, if not where the method has them.
    #[serde(default)]
    pub schedule: Option<AnySchedule>,
    /// How to go down them, for methods that leave it open.
    #[serde(default)]
    pub sampler: Option<AnySampler>,
    /// How many levels, where the experiment has no columns for them.
    #[serde(default)]
    pub steps: Option<usize>,
}

impl Restoring {
    /// The plan: the method's own, or the default, with what the file says.
    pub fn plan(&self, default: &Plan, steps: Option<usize>) -> Plan {
        let plan = self.method.get().plan().unwrap_or_else(|| default.clone());
        plan.with(self.schedule.clone(), steps.or(self.steps), self.sampler.clone())
    }
}

impl Posteriors {
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

    /// All figures, row after row; `done` is told of each.
    pub fn run(&self, mut done: impl FnMut(&Figure)) -> Result<Vec<Figure>, Error> {
        let (prior, target) = (toy::denoiser(self.data.get())?, self.exact(TARGET)?);
        let mean = toy::draw(self.data.get(), 10_000, FIRST)?.mean_dim([0i64].as_slice(), true, None);
        let mut figures = Vec::new();
        for way in &self.methods {
            for &at in &self.levels {
                let (likelihood, method) = (self.likelihood()?, way.method.get());
                let plan = way.plan(&Plan::posterior(), Some(at));
                let Ok(resolved) = plan.resolve(self.range, method.step_limit(&likelihood)) else { continue };
                let (noise, x) = toy::start(self.count, self.point.len() as i64, resolved.sigmas.max());
                let posed = restoration::InverseProblem {
                    prior: &prior,
                    likelihood: &likelihood,
                    plan: &resolved,
                    noise: &noise,
                };
                let ends = restoration::restore(method, &posed, x + &mean, &mut |_| Ok(()))?;
                let Effort { evaluations, gradients } = method.effort(&resolved);
                let value = toy::distance(&ends, &target);
                let figure =
                    Figure { method: way.name.clone(), at, value, spread: None, evaluations: evaluations + gradients };
                done(&figure);
                figures.push(figure);
            }
        }
        Ok(figures)
    }

    /// The distance of as many other samples of the exact posterior.
    pub fn floor(&self) -> Result<f64, Error> {
        Ok(toy::distance(&self.exact(TARGET + 1)?, &self.exact(TARGET)?))
    }
}

/// The seed of the points that samples are compared with.
const TARGET: u64 = 1 << 40;
/// That of the points to begin with.
const FIRST: u64 = 1 << 41;

/// A mean with its standard deviation, if there are several.
pub fn mean_and_spread(values: &[f64]) -> (f64, Option<f64>) {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
    (mean, (values.len() > 1).then(|| (squares / (count - 1.0)).sqrt()))
}

/// What a table and a plot say besides their figures.
#[derive(Clone, Debug)]
pub struct Caption<'a> {
    /// Above them.
    pub title: &'a str,
    /// What the columns count.
    pub columns: &'a str,
    /// What the figures are.
    pub value: &'a str,
    /// The figure of as many of the set itself.
    pub floor: Option<f64>,
    /// Whether the order of convergence is a column.
    pub order: bool,
}

/// Row after row, in the order in which they came.
fn rows(figures: &[Figure]) -> Vec<(&str, Vec<&Figure>)> {
    let mut rows: Vec<(&str, Vec<&Figure>)> = Vec::new();
    for figure in figures {
        match rows.iter_mut().find(|(name, _)| *name == figure.method) {
            Some((_, row)) => row.push(figure),
            None => rows.push((&figure.method, vec![figure])),
        }
    }
    rows
}

/// The figures as Markdown.
pub fn table(figures: &[Figure], caption: &Caption) -> String {
    let mut columns: Vec<usize> = figures.iter().map(|figure| figure.at).collect();
    columns.sort_unstable();
    columns.dedup();
    let mut text = format!("| {} |", caption.columns);
    for at in &columns {
        let _ = write!(text, " {at} |");
    }
    text += if caption.order { " order |\n| --- |" } else { "\n| --- |" };
    text += &" --- |".repeat(columns.len() + usize::from(caption.order));
    for (name, row) in rows(figures) {
        let _ = write!(text, "\n| {name} |");
        for at in &columns {
            let cell = row.iter().find(|figure| figure.at == *at).map_or_else(|| "–".to_owned(), |f| cell(f));
            let _ = write!(text, " {cell} |");
        }
        if caption.order {
            let _ = if row.len() > 1 { write!(text, " {:.2} |", order(&row)) } else { write!(text, " – |") };
        }
    }
    let _ = write!(text, "\n\n{}.", caption.value);
    if let Some(floor) = caption.floor {
        let _ = write!(text, " As many of the set itself: {}.", number(floor));
    }
    text + "\n"
}

fn cell(figure: &Figure) -> String {
    let spread = figure.spread.map_or_else(String::new, |spread| format!(" ± {}", number(spread)));
    number(figure.value) + &spread
}

/// Three digits that count.
fn number(value: f64) -> String {
    let digits = (2.0 - value.abs().log10().floor()).clamp(0.0, 4.0) as usize;
    if value != 0.0 && value.abs() < 1e-3 { format!("{value:.2e}") } else { format!("{value:.digits$}") }
}

/// −slope of ln value over ln columns, by least squares.
fn order(row: &[&Figure]) -> f64 {
    let points: Vec<(f64, f64)> = row.iter().map(|f| ((f.at as f64).ln(), f.value.ln())).collect();
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let above: f64 = points.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    -above / points.iter().map(|p| (p.0 - x).powi(2)).sum::<f64>()
}

/// The figures as a plot with logarithmic axes, `[3, height, width]`.
pub fn plot(figures: &[Figure], caption: &Caption) -> Result<Tensor, Error> {
    let series = |(name, row): (&str, Vec<&Figure>)| Series {
        name: name.to_owned(),
        points: row.iter().map(|figure| (figure.at as f64, figure.value)).collect(),
    };
    let series: Vec<Series> = rows(figures).into_iter().map(series).collect();
    sheet::lines(caption.title, (caption.columns, caption.value), &series, caption.floor)
}

/// Writes NAME.md, NAME.png and NAME.json into `folder`, each whole or not at all.
pub fn write(folder: &Path, name: &str, heading: &str, figures: &[Figure], caption: &Caption) -> Result<(), Error> {
    let text = format!("{heading}\n\n{}\n![{}]({name}.png)\n", table(figures, caption), caption.title);
    images::write_whole(&folder.join(format!("{name}.md")), text.as_bytes())?;
    let json = serde_json::to_vec_pretty(figures).map_err(|e| Error::file(folder, e))?;
    images::write_whole(&folder.join(format!("{name}.json")), &json)?;
    images::write_png(&folder.join(format!("{name}.png")), &plot(figures, caption)?)
}
