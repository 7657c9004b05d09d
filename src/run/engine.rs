//! Loop shared by all runs: it turns blocks of seeds into images, on one or more threads.

use std::{
    any::Any,
    cell::RefCell,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    slice::Chunks,
    sync::{Mutex, mpsc},
    thread,
};

use tch::{Device, Kind, Tensor};

use super::{blocks::Block, observer::Observer, observer::go_on, prior::Prior};
use crate::{
    Error,
    backend::host_copy::HostCopy,
    inverse::restoration::OnState,
    scores::{
        denoiser::Denoiser,
        noise::{Noise, Seeded},
        sample::{FiniteCheck, FiniteGuard},
    },
};

/// One step of a run, as a callback receives it.
#[derive(Debug)]
pub struct SamplingStep<'a> {
    /// Seeds of the images, one for each row of `x`.
    pub seeds: &'a [u64],
    /// Number of steps taken before this one.
    pub index: usize,
    /// σ at which the step began, in data units.
    pub sigma: f64,
    /// State after the step, `[batch, channels, height, width]` in the σ frame; the next step begins at the value that
    /// the callback leaves here.
    pub x: &'a mut Tensor,
    /// First D(x, σ) of the step.
    pub denoised: &'a Tensor,
}

/// Callback after every step, called from the computing threads (which share a tensor through a `Mutex`): `Break` ends
/// the walk of these images at their present state, an error ends the run.
pub type OnStep<'a> = dyn Fn(&mut SamplingStep) -> Result<ControlFlow<()>, Error> + Sync + 'a;

/// Turns a block of seeds into images.
pub(crate) struct Engine<'a> {
    /// Shape of an image, `[channels, height, width]`.
    pub shape: [i64; 3],
    /// Standard deviation of the initial state.
    pub start: f64,
    pub device: Device,
    /// Whether images are computed one at a time.
    pub alone: bool,
    /// Observer that is notified of every evaluation of every image.
    pub observer: &'a dyn Observer,
    /// σ of all evaluations so far, where the state decides them.
    pub asked: Option<Mutex<Vec<f64>>>,
    pub on_step: Option<&'a OnStep<'a>>,
}

/// Function that creates the denoiser for given seeds.
pub(crate) type DenoiserFor<'a> = dyn Fn(&[u64]) -> Box<dyn Denoiser + 'a> + 'a;

/// Function that computes the images of the i-th piece of a block from its initial states.
pub(crate) type Solve<'a> = dyn Fn(usize, &dyn Denoiser, Tensor, &Seeded, &mut OnState) -> Result<Tensor, Error> + 'a;

/// Images of a block on the device, which may still be computing them.
pub(crate) struct Batch {
    /// Images, `[batch, channels, height, width]`.
    pub x: Tensor,
    /// Pending checks that every answer of the network is finite.
    pub checks: Vec<FiniteCheck>,
}

/// A block on its way to the host.
pub(crate) struct PendingImages {
    pub block: Block,
    /// Images as bytes, `[batch, channels, height, width]`.
    pub pixels: HostCopy,
    /// Unrounded states, if they are wanted.
    pub states: Option<HostCopy>,
    pub checks: Vec<FiniteCheck>,
}

/// Seed, bytes and state of an image.
pub(crate) type Image = (u64, Tensor, Option<Tensor>);

impl PendingImages {
    /// Waits for the copies and returns the wanted images with their seeds.
    pub fn wait(self) -> Result<Vec<Image>, Error> {
        let Self { block, pixels, states, checks } = self;
        checks.into_iter().try_for_each(FiniteCheck::check)?;
        let (pixels, states) = (pixels.wait()?, states.map(HostCopy::wait).transpose()?);
        let row = |x: &Tensor, i: usize| x.get(i as i64);
        let each = |&i: &usize| (block.seeds[i], row(&pixels, i), states.as_ref().map(|states| row(states, i)));
        Ok(block.wanted.iter().map(each).collect())
    }
}

impl Engine<'_> {
    /// Splits the seeds into pieces that pass through the network together.
    pub fn pieces<'a>(&self, seeds: &'a [u64]) -> Chunks<'a, u64> {
        seeds.chunks(if self.alone { 1 } else { seeds.len() })
    }

    /// Computes the images of `seeds`, `[batch, channels, height, width]`, on the CPU; `init` replaces the initial
    /// noise.
    pub fn images(
        &self,
        seeds: &[u64],
        init: Option<&Tensor>,
        prior: &DenoiserFor,
        solve: &Solve,
    ) -> Result<Tensor, Error> {
        let Batch { x, checks } = self.draw(seeds, init, prior, solve)?;
        checks.into_iter().try_for_each(FiniteCheck::check)?;
        Ok(x.to_device(Device::Cpu))
    }

    /// Launches the computation of a block; the device may still be at work on the images when this returns.
    pub fn draw(
        &self,
        seeds: &[u64],
        init: Option<&Tensor>,
        prior: &DenoiserFor,
        solve: &Solve,
    ) -> Result<Batch, Error> {
        let mut first = 0;
        let (mut solved, mut checks) = (Vec::new(), Vec::new());
        for (i, seeds) in self.pieces(seeds).enumerate() {
            let count = seeds.len() as i64;
            let x = self.start(seeds, init.map(|init| init.narrow(0, first, count)));
            let prior = prior(seeds);
            let (x, check) = self.solve(seeds, x, &*prior, |prior, x, noise, seen| solve(i, prior, x, noise, seen))?;
            solved.push(x);
            checks.push(check);
            first += count;
        }
        Ok(Batch { x: Tensor::cat(&solved, 0), checks })
    }

    fn start(&self, seeds: &[u64], init: Option<Tensor>) -> Tensor {
        if let Some(init) = init {
            return init.to_device(self.device);
        }
        let [channels, height, width] = self.shape;
        let zeros = Tensor::zeros([seeds.len() as i64, channels, height, width], (Kind::Float, self.device));
        Seeded(seeds.to_vec()).like(&zeros, 0, 0) * self.start
    }

    fn solve(
        &self,
        seeds: &[u64],
        x: Tensor,
        prior: &dyn Denoiser,
        solve: impl Fn(&dyn Denoiser, Tensor, &Seeded, &mut OnState) -> Result<Tensor, Error>,
    ) -> Result<(Tensor, FiniteCheck), Error> {
        let mut guard = FiniteGuard::new(prior);
        guard.keep_answers(self.on_step.is_some());
        let stopped = RefCell::new(None);
        let mut steps = Steps { engine: self, seeds, guard: &guard, index: 0, heard: 0, stopped: &stopped };
        let solved = solve(&guard, x, &Seeded(seeds.to_vec()), &mut |x| steps.taken(x));
        let x = match (solved, stopped.take()) {
            (Err(Error::Stopped), Some(x)) => x,
            (solved, _) => solved?,
        };
        if let Some(Ok(mut asked)) = self.asked.as_ref().map(Mutex::lock) {
            asked.extend(guard.sigmas());
        }
        Ok((x, guard.check(seeds)))
    }
}

/// Record of the steps of a piece.
struct Steps<'a> {
    engine: &'a Engine<'a>,
    seeds: &'a [u64],
    guard: &'a FiniteGuard<'a>,
    index: usize,
    /// Number of evaluations that were reported to the observer.
    heard: usize,
    /// State at which a callback stopped the walk.
    stopped: &'a RefCell<Option<Tensor>>,
}

impl Steps<'_> {
    fn taken(&mut self, x: &mut Tensor) -> Result<(), Error> {
        let evaluations = self.guard.evaluations();
        self.engine.observer.advanced((self.seeds.len() * (evaluations - self.heard)) as u64);
        self.heard = evaluations;
        if let (Some(on_step), Some((sigma, denoised))) = (self.engine.on_step, self.guard.first_answer()) {
            let denoised = one_of_each(denoised, self.seeds.len() as i64);
            let mut step = SamplingStep { seeds: self.seeds, index: self.index, sigma, x, denoised: &denoised };
            if on_step(&mut step)?.is_break() {
                self.stopped.replace(Some(x.shallow_clone()));
                return Err(Error::Stopped);
            }
        }
        self.index += 1;
        go_on(self.engine.observer)
    }
}

/// Selects the answer for the first particle of each of `count` images, where a method has several particles per image.
fn one_of_each(denoised: Tensor, count: i64) -> Tensor {
    match denoised.size()[0] / count {
        1 => denoised,
        particles => denoised.slice(0, None, None, particles),
    }
}

/// Result of a thread's job, or the panic that ended it.
type Outcome<R> = Result<Result<R, Error>, Box<dyn Any + Send>>;

fn ended<T>(_: T) -> Error {
    Error::request("the threads that compute have ended")
}

/// Does `jobs` with `workers` replicas of the prior, each in a thread of its own, and passes the results to `take` in
/// the order of completion.
///
/// A single worker uses this thread and this prior, so that their caches, such as cuDNN's choice of algorithms, serve
/// the next call as well. With several workers, jobs are created as needed, at most two ahead for each worker. After an
/// error no further job is created, but jobs under way are finished and their results taken.
pub(crate) fn spread<J: Send, R: Send>(
    prior: &Prior,
    workers: usize,
    mut jobs: impl Iterator<Item = Result<J, Error>>,
    work: impl Fn(&Prior, J) -> Result<R, Error> + Sync,
    mut take: impl FnMut(R) -> Result<(), Error>,
) -> Result<(), Error> {
    if workers == 1 {
        return jobs.try_for_each(|job| take(work(prior, job?)?));
    }
    let replicas = (0..workers).map(|_| prior.replica()).collect::<Result<Vec<_>, _>>()?;
    let (give, waiting) = mpsc::channel::<J>();
    let (finish, finished) = mpsc::channel::<Outcome<R>>();
    let waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        for replica in replicas {
            let (waiting, work, finish) = (&waiting, &work, finish.clone());
            scope.spawn(move || {
                let next = || waiting.lock().ok()?.recv().ok();
                while let Some(job) = next() {
                    if finish.send(catch_unwind(AssertUnwindSafe(|| work(&Prior::from(&replica), job)))).is_err() {
                        break;
                    }
                }
            });
        }
        // `hand_out` owns the sending side of the queue: when it returns, the queue closes and the workers end.
        hand_out((give, finished), 2 * workers, &mut jobs, &mut take)
    })
}

/// Sends jobs to the workers, at most `most` ahead, and takes their results.
fn hand_out<J, R>(
    (give, finished): (mpsc::Sender<J>, mpsc::Receiver<Outcome<R>>),
    most: usize,
    jobs: &mut dyn Iterator<Item = Result<J, Error>>,
    take: &mut dyn FnMut(R) -> Result<(), Error>,
) -> Result<(), Error> {
    let (mut ahead, mut failure) = (0, None);
    loop {
        while ahead < most && failure.is_none() {
            match jobs.next() {
                None => break,
                Some(Err(error)) => failure = Some(error),
                Some(Ok(job)) => {
                    give.send(job).map_err(ended)?;
                    ahead += 1;
                }
            }
        }
        if ahead == 0 {
            return failure.map_or(Ok(()), Err);
        }
        ahead -= 1;
        let outcome = finished.recv().map_err(ended)?;
        let taken = outcome.unwrap_or_else(|cause| resume_unwind(cause)).and_then(&mut *take);
        if let Err(error) = taken {
            failure.get_or_insert(error);
        }
    }
}
