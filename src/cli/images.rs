//! The loop that `sample` and `restore` share: blocks of seeds in, images out.

use anyhow::Result;
use indicatif::ProgressBar;
use tch::{Device, Kind, Tensor};
use tweedie::{
    denoiser::Score,
    noise::{Noise, Seeded},
    solvers::{Watched, follow},
    walk::Walk,
};

use super::not_interrupted;

/// How a block of seeds becomes images.
pub struct Loop<'a> {
    /// The steps, capped already.
    pub walk: &'a Walk,
    /// `[channels, height, width]`.
    pub shape: [i64; 3],
    /// Standard deviation of the initial state.
    pub start: f64,
    /// Where to compute.
    pub device: Device,
    /// One image at a time.
    pub deterministic: bool,
    /// Advanced by one for each evaluation and image.
    pub bar: &'a ProgressBar,
}

/// A score for the images of these seeds.
pub type ScoreOf<'a> = dyn Fn(&[u64]) -> Result<Box<dyn Score + 'a>> + 'a;

impl Loop<'_> {
    /// The images of `seeds`, `[batch, channels, height, width]`, on the CPU; `init` replaces the initial noise.
    pub fn images(&self, seeds: &[u64], init: Option<&Tensor>, score: &ScoreOf) -> Result<Tensor> {
        let micro = if self.deterministic { 1 } else { seeds.len() };
        let pieces: Result<Vec<Tensor>> = seeds
            .chunks(micro)
            .enumerate()
            .map(|(i, seeds)| {
                let init = init.map(|init| init.narrow(0, (i * micro) as i64, seeds.len() as i64));
                self.solve(seeds, init, &*score(seeds)?)
            })
            .collect();
        Ok(Tensor::cat(&pieces?, 0))
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
        for state in follow(self.walk, x.shallow_clone(), &watched, &noise) {
            not_interrupted()?;
            self.bar.inc(seeds.len() as u64);
            x = state;
        }
        watched.check(seeds)?;
        Ok(x.to_device(Device::Cpu))
    }
}
