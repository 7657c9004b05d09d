//! Networks that know a list of noise levels by their numbers [NCSN].

use serde::{Deserialize, Serialize};

use super::{Precondition, Scaling};
use crate::{
    Error,
    numbers::schedule::{Geometric, Schedule},
};

/// Levels σ₀ > … > σ_{L−1} in geometric progression; the network's label is the index of the level nearest to σ
/// [NCSN, §4; NCSNv2, §3].
///
/// ```text
/// skip = 1   input = 1   label = argmin_i |ln σ − ln σ_i|
/// out = σ            where F estimates −n, as NCSNv2 and score_sde do before their division by σ
/// out = σ σ_i / 2    where F is the score itself, for pixels of 0 … 1 (NCSN)
/// ```
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LevelsConfig {
    /// σ_{L−1} and σ₀, for pixels of −1 … 1: twice what they are for 0 … 1.
    pub range: [f64; 2],
    /// L.
    pub count: usize,
    /// F is the score.
    #[serde(default)]
    pub score: bool,
}

/// See [`LevelsConfig`].
#[derive(Clone, Debug)]
pub struct Levels {
    levels: Vec<f64>,
    score: bool,
}

impl Levels {
    /// Makes the table of levels.
    pub fn new(config: &LevelsConfig) -> Result<Self, Error> {
        let (min, max) = super::interval(config.range)?;
        let levels = Geometric { max: None, min: None }.sigmas(config.count, (min, max))?.iter().collect();
        Ok(Self { levels, score: config.score })
    }
}

impl Precondition for Levels {
    fn at(&self, sigma: f64) -> Scaling {
        let below = self.levels.partition_point(|level| *level > sigma).min(self.levels.len() - 1);
        let above = below.saturating_sub(1);
        // The middle of two neighbours is their geometric mean.
        let index = if sigma * sigma > self.levels[above] * self.levels[below] { above } else { below };
        let out = if self.score { sigma * self.levels[index] / 2.0 } else { sigma };
        Scaling { skip_minus_one: 0.0, out, input: 1.0, label: index as f64 }
    }

    fn range(&self) -> (f64, f64) {
        (self.levels[self.levels.len() - 1], self.levels[0])
    }
}
