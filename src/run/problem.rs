//! Inverse problems y = A(x) + noise: measurements, the operator that made them, and the images themselves where they
//! are known.

use std::{
    collections::BTreeSet,
    fmt,
    ops::Deref,
    sync::{Mutex, PoisonError},
};

use serde_json::Value;
use tch::{Device, Kind, Tensor};

use super::session::Session;
use crate::{
    Error,
    files::depth::Depth,
    inverse::{
        detectors::{Detector, Measurement},
        likelihood::GaussianLikelihood,
        operators::{AnyTask, LinearOperator, Operator},
    },
    models::card::sha256,
};

/// Function that builds another instance of an operator, for another thread.
type Build<'a> = Box<dyn Fn() -> Result<Operator, Error> + 'a>;

/// Source of a problem's operator.
///
/// An operator of the caller's own is one value, which one thread uses at a time. A task, or any function that builds
/// operators, serves all computing threads: each has an instance of its own, built once.
pub struct OperatorSource<'a> {
    first: Operator,
    more: Option<Build<'a>>,
    description: Value,
    seed: u64,
    device: Option<Device>,
}

impl fmt::Debug for OperatorSource<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OperatorSource").field("operator", &self.first).finish_non_exhaustive()
    }
}

impl<O: Into<Operator>> From<O> for OperatorSource<'_> {
    /// Wraps one operator; records describe it by its `Debug` text.
    fn from(operator: O) -> Self {
        let first = operator.into();
        let description = Value::String(format!("{first:?}"));
        Self { first, more: None, description, seed: 0, device: None }
    }
}

impl<'a> OperatorSource<'a> {
    /// Creates the operator of a task for images of `shape` = `[channels, height, width]`, on the device and with the
    /// seed of `session`.
    pub fn task(task: &AnyTask, shape: [i64; 3], session: &Session) -> Result<Self, Error> {
        let (own, device, seed) = (task.clone(), session.device, session.seed);
        let description = serde_json::to_value(task).map_err(Error::request)?;
        let source = Self::built(move || own.get().operator(shape, seed, device, Kind::Float))?;
        Ok(Self { description, seed, device: Some(device), ..source })
    }

    /// Creates a source from `build`, which is called once for each thread.
    pub fn built(build: impl Fn() -> Result<Operator, Error> + 'a) -> Result<Self, Error> {
        let first = build()?;
        Ok(Self { more: Some(Box::new(build)), ..Self::from(first) })
    }

    /// Sets the operator's description in records: the degradation of the images, as JSON.
    #[must_use]
    pub fn described(self, description: Value) -> Self {
        Self { description, ..self }
    }

    /// Returns the shape of a measurement, `[1, …]`, of an image of `shape`.
    pub(crate) fn measured_shape(&self, [channels, height, width]: [i64; 3]) -> Result<Vec<i64>, Error> {
        let blank = self.beside(&Tensor::f_zeros([1, channels, height, width], (Kind::Float, Device::Cpu))?);
        Ok(tch::no_grad(|| self.first.apply(&blank)).size())
    }

    /// Computes A 1, where A is linear.
    pub(crate) fn bright(&self, [channels, height, width]: [i64; 3]) -> Result<Option<Tensor>, Error> {
        let ones = self.beside(&Tensor::f_ones([1, channels, height, width], (Kind::Float, Device::Cpu))?);
        Ok(self.first.linear().map(|linear| tch::no_grad(|| linear.apply(&ones))))
    }

    /// Converts a measurement of pixels 0 … 1 to one of data units: A (2 u − 1) = 2 A u − A 1.
    pub(crate) fn in_data_units(&self, y: &Tensor, shape: [i64; 3]) -> Result<Tensor, Error> {
        let cause = "`units`: a nonlinear task measures pixels −1 … 1, and what it makes of others cannot be converted";
        let bright = self.bright(shape)?.ok_or_else(|| Error::request(cause))?;
        Ok(self.beside(y) * 2.0 - bright)
    }

    /// Moves x to the operator's device, where that is known.
    fn beside(&self, x: &Tensor) -> Tensor {
        self.device.map_or_else(|| x.shallow_clone(), |device| x.to_device(device))
    }
}

/// Measurements from which images are to be restored.
///
/// ```no_run
/// use tweedie::{inverse::operators::{AnyTask, InpaintRandom}, run::problem::{OperatorSource, Problem}, Session};
///
/// let session = Session::default();
/// let images = tch::Tensor::zeros([3, 1, 32, 32], (tch::Kind::Float, session.device));
/// let task = AnyTask::from(InpaintRandom::default());
/// let problem = Problem::new(OperatorSource::task(&task, [1, 32, 32], &session)?, &images, 0.05, 0)?;
/// # Ok::<(), tweedie::Error>(())
/// ```
pub struct Problem<'a> {
    pub(crate) names: Vec<String>,
    /// Images, `[count, channels, height, width]`, in data units; absent where only the measurement is known.
    pub(crate) truth: Option<Tensor>,
    /// Measurements y, `[count, …]`.
    pub(crate) measurement: Tensor,
    /// Shape of the images, `[channels, height, width]`.
    pub(crate) shape: [i64; 3],
    /// η in data units.
    pub(crate) eta: f64,
    /// Degradation, as it is recorded.
    pub(crate) task: Value,
    pub(crate) detector: Option<Detector>,
    /// Notes for a reader of the results.
    pub(crate) notes: Vec<String>,
    /// Depth of the pictures of results.
    pub(crate) depth: Depth,
    seed: u64,
    more: Option<Build<'a>>,
    pub(crate) pool: Pool,
}

impl fmt::Debug for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { names, task, eta, .. } = self;
        f.debug_struct("Problem").field("names", names).field("task", task).field("eta", eta).finish_non_exhaustive()
    }
}

impl<'a> Problem<'a> {
    /// Damages images `[count, channels, height, width]` in data units: y = A(x) + η n.
    ///
    /// `noise` is η for pixels 0 … 1, half of η in data units −1 … 1; image i is measured with the noise of `seed` + i.
    pub fn new(source: impl Into<OperatorSource<'a>>, images: &Tensor, noise: f64, seed: u64) -> Result<Self, Error> {
        let eta = eta(noise)?;
        Ok(Self { detector: None, ..Self::detected(source, images, Detector::Gaussian { eta }, seed)? })
    }

    /// Simulates the measurement with the noise of any detector; methods treat it as Gaussian noise of the same
    /// variance.
    pub fn detected(
        source: impl Into<OperatorSource<'a>>,
        images: &Tensor,
        detector: Detector,
        seed: u64,
    ) -> Result<Self, Error> {
        let source = source.into();
        let truth = source.beside(images);
        let shape = shape(&truth)?;
        let clean = source.first.apply(&truth);
        let seeds: Vec<u64> = (0..truth.size()[0] as u64).map(|i| seed + i).collect();
        let measurement = detector.measure(&clean, &seeds)?;
        let eta = if let Detector::Gaussian { eta } = detector {
            eta
        } else {
            let seen = source.first.seen(shape, (clean.kind(), clean.device()))?;
            seen.mean(&(&measurement - &clean).square())?.sqrt()
        };
        if eta == 0.0 {
            let cause = "`detector`: adds no noise to these images, and without any no method is defined";
            return Err(Error::request(cause));
        }
        let problem = Self::assembled(source, measurement, (eta, shape))?;
        Ok(Self { truth: Some(truth), detector: Some(detector), ..problem })
    }

    /// Creates a problem from measurements `[count, …]` of unknown images of `shape` = `[channels, height, width]`.
    pub fn measured(
        source: impl Into<OperatorSource<'a>>,
        measurement: &Tensor,
        noise: f64,
        shape: [i64; 3],
    ) -> Result<Self, Error> {
        let (source, eta) = (source.into(), eta(noise)?);
        let measurement = source.beside(measurement);
        if let Some(linear) = source.first.linear().filter(|_| measurement.dim() > 1) {
            linear.check(&measurement)?;
        }
        let given = measurement.shallow_clone();
        let problem = Self::assembled(source, measurement, (eta, shape))?;
        let hidden = i64::try_from(given.ne_tensor(&problem.measurement).sum(Kind::Int64))?;
        let note =
            format!("{hidden} of the {} values of the measurement lie where the task sees nothing", given.numel());
        Ok(problem.noting((hidden > 0).then_some(note)))
    }

    fn assembled(
        source: OperatorSource<'a>,
        measurement: Tensor,
        (eta, shape): (f64, [i64; 3]),
    ) -> Result<Self, Error> {
        let OperatorSource { first, more, description, seed, .. } = source;
        let likelihood = GaussianLikelihood::new(first, measurement, eta, shape)?;
        let measurement = likelihood.measurement.shallow_clone();
        Ok(Self {
            names: Self::numbers(measurement.size()[0]),
            truth: None,
            measurement,
            shape,
            eta,
            task: description,
            detector: None,
            notes: Vec::new(),
            depth: Depth::default(),
            seed,
            more,
            pool: Pool(Mutex::new(vec![likelihood])),
        })
    }

    /// Names so many images by their numbers.
    pub(crate) fn numbers(count: i64) -> Vec<String> {
        (0..count).map(|i| format!("{i:05}")).collect()
    }

    /// Adds a note for a reader of the results.
    pub(crate) fn noting(mut self, note: Option<String>) -> Self {
        self.notes.extend(note);
        self
    }

    /// Sets the depth of the pictures of results; it is 8 bits without this call.
    #[must_use]
    pub fn depth(self, depth: Depth) -> Self {
        Self { depth, ..self }
    }

    /// Names the images; their files and rows have these names.
    pub fn named(self, names: Vec<String>) -> Result<Self, Error> {
        if names.len() != self.names.len() {
            let cause = format!("{} names were given for {} images", names.len(), self.names.len());
            return Err(Error::request(cause));
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
            let cause = format!("two images are called {twice}: their results need different names");
            return Err(Error::request(cause));
        }
        Ok(Self { names, ..self })
    }

    /// Returns the names of the images.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Returns the measurements y, `[count, …]`, in data units.
    pub fn measurement(&self) -> &Tensor {
        &self.measurement
    }

    /// Returns the images themselves, `[count, channels, height, width]`, where they are known.
    pub fn truth(&self) -> Option<&Tensor> {
        self.truth.as_ref()
    }

    /// Returns η for pixels 0 … 1, half of η in data units.
    pub fn noise(&self) -> f64 {
        self.eta / 2.0
    }

    /// Builds an operator for each of `workers` threads and for the thread that takes results; returns the number of
    /// threads that may work.
    pub(crate) fn prepare(&self, workers: usize) -> Result<usize, Error> {
        let Some(more) = self.more.as_ref().filter(|_| workers > 1) else { return Ok(1) };
        let like = || self.measurement.narrow(0, 0, 1);
        while self.pool.count() <= workers {
            self.pool.put(GaussianLikelihood::new(more()?, like(), self.eta, self.shape)?);
        }
        Ok(workers)
    }

    /// Selects the measurements of these images, one for each row of a batch.
    pub(crate) fn rows(&self, images: &[i64]) -> Tensor {
        self.measurement.index_select(0, &Tensor::from_slice(images).to_device(self.measurement.device()))
    }

    /// Computes the SHA-256 of the measurements.
    pub(crate) fn sha256(&self) -> Result<String, Error> {
        Ok(sha256(&crate::files::images::npy(&self.measurement)?))
    }

    /// Writes the data that other programs need to solve the same problem; see [`Measurement::write_npz`].
    pub(crate) fn write_npz(&self, path: &std::path::Path) -> Result<(), Error> {
        let task = self.task.to_string();
        let Self { measurement: y, shape, eta, seed, .. } = self;
        self.pool.lend(|likelihood| {
            let operator = &likelihood.operator;
            Measurement { y, task: &task, operator, shape: *shape, eta: *eta, seed: *seed }.write_npz(path)
        })?
    }

    /// Passes A to `work`, if A is linear.
    pub(crate) fn linear<R>(&self, work: impl FnOnce(&dyn LinearOperator) -> R) -> Result<Option<R>, Error> {
        self.pool.lend(|likelihood| likelihood.operator.linear().map(work))
    }
}

/// A problem of one request, or one that several share.
#[derive(Debug)]
pub enum ProblemRef<'a> {
    /// A problem owned by this request alone.
    Own(Box<Problem<'a>>),
    /// A problem shared with other requests.
    Shared(&'a Problem<'a>),
}

impl<'a> From<Problem<'a>> for ProblemRef<'a> {
    fn from(problem: Problem<'a>) -> Self {
        Self::Own(Box::new(problem))
    }
}

impl<'a> From<&'a Problem<'a>> for ProblemRef<'a> {
    fn from(problem: &'a Problem<'a>) -> Self {
        Self::Shared(problem)
    }
}

impl<'a> Deref for ProblemRef<'a> {
    type Target = Problem<'a>;

    fn deref(&self) -> &Problem<'a> {
        match self {
            Self::Own(problem) => problem,
            Self::Shared(problem) => problem,
        }
    }
}

/// Pool of likelihoods with operators of their own, each lent to one thread at a time.
pub(crate) struct Pool(Mutex<Vec<GaussianLikelihood>>);

impl Pool {
    fn count(&self) -> usize {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn put(&self, likelihood: GaussianLikelihood) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(likelihood);
    }

    /// Passes a likelihood to `work`; no other thread uses it meanwhile.
    pub fn lend<R>(&self, work: impl FnOnce(&mut GaussianLikelihood) -> R) -> Result<R, Error> {
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut likelihood = free.ok_or_else(|| Error::request("the operator is in use by another thread"))?;
        let made = work(&mut likelihood);
        self.put(likelihood);
        Ok(made)
    }
}

/// Converts η from pixels 0 … 1 to data units.
fn eta(noise: f64) -> Result<f64, Error> {
    if noise.is_finite() && noise > 0.0 {
        return Ok(2.0 * noise);
    }
    Err(Error::request(format!("`noise` must be positive, but is {noise}")))
}

/// Returns `[channels, height, width]` of images `[count, channels, height, width]`.
fn shape(images: &Tensor) -> Result<[i64; 3], Error> {
    match images.size()[..] {
        [count, channels, height, width] if count > 0 => Ok([channels, height, width]),
        _ => Err(Error::Shape {
            what: "the set of images",
            got: images.size(),
            want: "[count, channels, height, width]".to_owned(),
        }),
    }
}
