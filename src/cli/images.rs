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
    blocks::Block,
    denoiser::Score,
    follow::{Watched, follow},
    noise::{Noise, Seeded},
    scheme::Scheme,
};

use super::{
    guidance::{Cost, Prior},
    not_interrupted,
};

/// How a block of seeds becomes images.
pub struct Loop<'a> {
    /// The steps, capped already.
    pub scheme: &'a Scheme,
    /// `[channels, height, width]`.
    pub shape: [i64; 3],
    /// Standard deviation of the initial state.
    pub start: f64,
    /// Where to compute.
    pub device: Device,
    /// One image at a time.
    pub deterministic: bool,
    /// Advanced by one for each step and image.
    pub bar: &'a ProgressBar,
    /// The σ of all evaluations so far, where the state decides which they are.
    pub asked: Mutex<Vec<f64>>,
}

/// The score of the i-th piece of a block, and of its seeds.
pub type ScoreOf<'a> = dyn Fn(usize, &[u64]) -> Box<dyn Score + 'a> + 'a;

impl Loop<'_> {
    /// What each image of `blocks` has cost, on average where that was for the state to decide.
    pub fn cost(&self, prior: &Prior, blocks: &[Block]) -> Cost {
        match self.asked.lock() {
            Ok(asked) if self.scheme.is_adaptive() => {
                prior.cost(asked.iter().copied()) / blocks.iter().map(|block| block.seeds.len()).sum()
            }
            _ => prior.cost(self.scheme.asked()),
        }
    }

    /// The seeds that the network sees together.
    pub fn pieces<'a>(&self, seeds: &'a [u64]) -> Chunks<'a, u64> {
        // Where the state decides how long the steps are, no image may wait for the steps of another.
        seeds.chunks(if self.deterministic || self.scheme.is_adaptive() { 1 } else { seeds.len() })
    }

    /// The images of `seeds`, `[batch, channels, height, width]`, on the CPU; `init` replaces the initial noise.
    pub fn images(&self, seeds: &[u64], init: Option<&Tensor>, score: &ScoreOf) -> Result<Tensor> {
        let mut first = 0;
        let mut solved = Vec::new();
        for (i, seeds) in self.pieces(seeds).enumerate() {
            let count = seeds.len() as i64;
            solved.push(self.solve(seeds, init.map(|init| init.narrow(0, first, count)), &*score(i, seeds))?);
            first += count;
        }
        Ok(Tensor::cat(&solved, 0))
    }

    fn solve(&self, seeds: &[u64], init: Option<Tensor>, score: &dyn Score) -> Result<Tensor> {
        let noise = Seeded(seeds.to_vec());
        let [channels, height, width] = self.shape;
        let mut x = init.map_or_else(
            || {
                let zeros = Tensor::zeros([seeds.len() as i64, channels, height, width], (Kind::Float, self.device));
                noise.like(&zeros, 0, 0) * self.start
            },
            |init| init.to_device(self.device),
        );
        let watched = Watched::new(score);
        for state in follow(self.scheme, x.shallow_clone(), &watched, &noise) {
            not_interrupted()?;
            self.bar.inc(seeds.len() as u64);
            x = state;
        }
        watched.check(seeds)?;
        if self.scheme.is_adaptive()
            && let Ok(mut asked) = self.asked.lock()
        {
            asked.extend(watched.sigmas());
        }
        Ok(x.to_device(Device::Cpu))
    }
}

/// What a thread made of its job, or what it died of.
type Outcome<R> = Result<Result<R>, Box<dyn Any + Send>>;

/// Does `jobs` with `workers` replicas of the prior, each in a thread of its own, and gives the results to `take`, in the
/// order in which they come.
///
/// Jobs are made as they are needed, two for each worker ahead. After an error no further job begins, but what is under
/// way is finished and taken.
pub fn spread<J: Send, R: Send>(
    prior: &Prior,
    workers: usize,
    mut jobs: impl Iterator<Item = Result<J>>,
    work: impl Fn(&Prior, J) -> Result<R> + Sync,
    mut take: impl FnMut(R) -> Result<()>,
) -> Result<()> {
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
