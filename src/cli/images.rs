//! The loop that `sample` and `restore` share: blocks of seeds in, images out.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    slice::Chunks,
    sync::{Mutex, mpsc},
    thread,
};

use anyhow::{Result, anyhow};
use indicatif::ProgressBar;
use tch::{Device, Kind, Tensor};
use tweedie::{
    Error,
    backend::host_copy::HostCopy,
    inverse::restoration::Seen,
    run::blocks::Block,
    scores::{
        denoiser::Denoiser,
        noise::{Noise, Seeded},
        sample::{FiniteCheck, FiniteGuard},
    },
};

use super::{guidance::Prior, not_interrupted};

/// How a block of seeds becomes images.
pub struct Loop<'a> {
    /// `[channels, height, width]`.
    pub shape: [i64; 3],
    /// Standard deviation of the initial state.
    pub start: f64,
    /// Where to compute.
    pub device: Device,
    /// One image at a time.
    pub alone: bool,
    /// Advanced by one for each evaluation and image.
    pub bar: &'a ProgressBar,
    /// The σ of all evaluations so far, if there is anybody to ask for them.
    pub asked: Option<Mutex<Vec<f64>>>,
}

/// The denoiser for these seeds.
pub type PriorOf<'a> = dyn Fn(&[u64]) -> Box<dyn Denoiser + 'a> + 'a;

/// From the initial states of the i-th piece of a block to its images.
pub type Way<'a> = dyn Fn(usize, &dyn Denoiser, Tensor, &Seeded, &mut Seen) -> Result<Tensor, Error> + 'a;

/// Images of a block as the device has them, or will have them.
pub struct Drawn {
    /// `[batch, channels, height, width]`.
    pub x: Tensor,
    /// Whether they are what they should be.
    pub verdicts: Vec<FiniteCheck>,
}

/// A block on its way to files.
pub struct Landing {
    /// Whose images they are.
    pub block: Block,
    /// Bytes, `[batch, channels, height, width]`.
    pub pixels: HostCopy,
    /// The states themselves, if they are wanted.
    pub states: Option<HostCopy>,
    /// Whether they are what they should be.
    pub verdicts: Vec<FiniteCheck>,
}

/// An image that is wanted, and its state.
pub type Landed = (u64, Tensor, Option<Tensor>);

impl Landing {
    /// The images that are wanted, by their seeds, once they are there.
    pub fn wait(self) -> Result<Vec<Landed>, Error> {
        let Self { block, pixels, states, verdicts } = self;
        verdicts.into_iter().try_for_each(FiniteCheck::check)?;
        let (pixels, states) = (pixels.wait()?, states.map(HostCopy::wait).transpose()?);
        let row = |x: &Tensor, i: usize| x.get(i as i64);
        let each = |&i: &usize| (block.seeds[i], row(&pixels, i), states.as_ref().map(|states| row(states, i)));
        Ok(block.wanted.iter().map(each).collect())
    }
}

impl Loop<'_> {
    /// The seeds that the network sees together.
    pub fn pieces<'a>(&self, seeds: &'a [u64]) -> Chunks<'a, u64> {
        seeds.chunks(if self.alone { 1 } else { seeds.len() })
    }

    /// The images of `seeds`, `[batch, channels, height, width]`, on the CPU; `init` replaces the initial noise.
    pub fn images(&self, seeds: &[u64], init: Option<&Tensor>, prior: &PriorOf, way: &Way) -> Result<Tensor> {
        let Drawn { x, verdicts } = self.draw(seeds, init, prior, way)?;
        verdicts.into_iter().try_for_each(FiniteCheck::check)?;
        Ok(x.to_device(Device::Cpu))
    }

    /// The same while the device may still be at work on them.
    pub fn draw(&self, seeds: &[u64], init: Option<&Tensor>, prior: &PriorOf, way: &Way) -> Result<Drawn> {
        let mut first = 0;
        let (mut solved, mut verdicts) = (Vec::new(), Vec::new());
        for (i, seeds) in self.pieces(seeds).enumerate() {
            let count = seeds.len() as i64;
            let x = self.start(seeds, init.map(|init| init.narrow(0, first, count)));
            let prior = prior(seeds);
            let (x, verdict) = self.solve(seeds, x, &*prior, |prior, x, noise, seen| way(i, prior, x, noise, seen))?;
            solved.push(x);
            verdicts.push(verdict);
            first += count;
        }
        Ok(Drawn { x: Tensor::cat(&solved, 0), verdicts })
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
        way: impl Fn(&dyn Denoiser, Tensor, &Seeded, &mut Seen) -> Result<Tensor, Error>,
    ) -> Result<(Tensor, FiniteCheck)> {
        let watched = FiniteGuard::new(prior);
        let mut told = 0;
        let x = way(&watched, x, &Seeded(seeds.to_vec()), &mut |_| {
            let evaluations = watched.evaluations();
            self.bar.inc((seeds.len() * (evaluations - told)) as u64);
            told = evaluations;
            not_interrupted()
        })?;
        if let Some(Ok(mut asked)) = self.asked.as_ref().map(Mutex::lock) {
            asked.extend(watched.sigmas());
        }
        Ok((x, watched.verdict(seeds)))
    }
}

/// What a thread made of its job, or what it died of.
type Outcome<R> = Result<Result<R>, Box<dyn Any + Send>>;

/// Does `jobs` with `workers` replicas of the prior, each in a thread of its own, and gives the results to `take`, in the
/// order in which they come.
///
/// A single worker is this thread and this prior: what they have learnt, as cuDNN its algorithms, serves the next call as well.
/// Of several, jobs are made as they are needed, two for each worker ahead. After an error no further job begins, but what is under
/// way is finished and taken.
pub fn spread<J: Send, R: Send>(
    prior: &Prior,
    workers: usize,
    mut jobs: impl Iterator<Item = Result<J>>,
    work: impl Fn(&Prior, J) -> Result<R> + Sync,
    mut take: impl FnMut(R) -> Result<()>,
) -> Result<()> {
    if workers == 1 {
        return jobs.try_for_each(|job| take(work(prior, job?)?));
    }
    let replicas = (0..workers).map(|_| prior.replica()).collect::<Result<Vec<_>>>()?;
    let (give, waiting) = mpsc::channel::<J>();
    let (finish, finished) = mpsc::channel::<Outcome<R>>();
    let waiting = Mutex::new(waiting);
    thread::scope(|scope| {
        for replica in replicas {
            let (waiting, work, finish) = (&waiting, &work, finish.clone());
            scope.spawn(move || {
                let next = || waiting.lock().ok()?.recv().ok();
                while let Some(job) = next() {
                    if finish.send(catch_unwind(AssertUnwindSafe(|| work(&replica, job)))).is_err() {
                        break;
                    }
                }
            });
        }
        // What is left to this thread ends with it, and the others with that.
        let (give, finished) = (give, finished);
        let (mut ahead, mut failure) = (0, None);
        loop {
            while ahead < 2 * workers && failure.is_none() {
                match jobs.next() {
                    None => break,
                    Some(Err(error)) => failure = Some(error),
                    Some(Ok(job)) => {
                        give.send(job).map_err(|_| anyhow!("the threads that compute have ended"))?;
                        ahead += 1;
                    }
                }
            }
            if ahead == 0 {
                return failure.map_or(Ok(()), Err);
            }
            ahead -= 1;
            let outcome = finished.recv().map_err(|_| anyhow!("the threads that compute have ended"))?;
            let taken = outcome.unwrap_or_else(|cause| resume_unwind(cause)).and_then(&mut take);
            if let Err(error) = taken {
                failure.get_or_insert(error);
            }
        }
    })
}
