//! Detectors, which add noise to A(x), and a measurement in a file.

use std::path::Path;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    Error,
    files::{images, npz::npz},
    inverse::operators::{LinearOperator, Operator},
    numbers::stream,
    scores::noise::{Noise, Seeded},
};

/// Noise of a measurement beside A(x); data units are −1 … 1 throughout.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Detector {
    /// y = A(x) + η n, n ~ N(0, I).
    Gaussian {
        /// η in data units: twice what it is for pixels 0 … 1.
        eta: f64,
    },
    /// (y + 1)/2 = N/g, N ~ Poisson(g u), u = (A(x) + 1)/2 ≥ 0, g = 255 · rate photons for white [DPS, §4.1].
    ///
    /// Where A(x) is darker than black no photon comes. DPS cuts y off at white as well; here all photons count.
    Poisson {
        /// Photons for each of the 255 steps from black to white.
        rate: f64,
    },
    /// A share of all values is lost: half of them are read as −1, half as 1.
    SaltAndPepper {
        /// The share of the values that are replaced, 0 … 1.
        share: f64,
    },
}

/// Draws of [`stream`], apart from those of operators and samplers.
mod draw {
    pub const POISSON: u64 = u64::from_be_bytes(*b"\0poisson");
    pub const SALT: u64 = u64::from_be_bytes(*b"\0\0\0\0salt");
}

/// Most photons a value is drawn at once: e⁻⁵¹² is still a number of full precision.
const AT_ONCE: f64 = 512.0;

/// More photons for white than any camera's pixel holds.
const MOST_RATE: f64 = 1e4;

impl Detector {
    /// y for `clean` = A(x), `[batch, …]`: a pure function of each image and its seed.
    pub fn measure(&self, clean: &Tensor, seeds: &[u64]) -> Result<Tensor, Error> {
        self.check()?;
        if clean.size().first() != Some(&(seeds.len() as i64)) {
            let want = format!("one image for each of {} seeds,", seeds.len());
            return Err(Error::Shape { what: "the clean measurement", got: clean.size(), want });
        }
        match *self {
            Self::Gaussian { eta } => Ok(clean + Seeded(seeds.to_vec()).like(clean, 0, 1) * eta),
            Self::Poisson { rate } => each(clean, seeds, |seed, values| photons(seed, values, photons_of_white(rate))),
            Self::SaltAndPepper { share } => each(clean, seeds, |seed, values| lost(seed, values, share)),
        }
    }

    fn check(&self) -> Result<(), Error> {
        match *self {
            Self::Gaussian { eta } if !eta.is_finite() || eta < 0.0 => {
                Err(Error::parameter("eta", "0 or positive", eta))
            }
            Self::Poisson { rate } if !(rate > 0.0 && rate <= MOST_RATE) => {
                Err(Error::parameter("rate", "positive and at most 10000", rate))
            }
            Self::SaltAndPepper { share } if !(0.0..=1.0).contains(&share) => {
                Err(Error::parameter("share", "between 0 and 1", share))
            }
            _ => Ok(()),
        }
    }
}

/// g of a rate.
pub(crate) fn photons_of_white(rate: f64) -> f64 {
    255.0 * rate
}

/// Each image's values, changed by what is drawn with its seed.
fn each(clean: &Tensor, seeds: &[u64], change: impl Fn(u64, &mut [f64])) -> Result<Tensor, Error> {
    let mut values = Vec::<f64>::try_from(clean.to_device(tch::Device::Cpu).to_kind(Kind::Double).flatten(0, -1))?;
    let count = (values.len() / seeds.len().max(1)).max(1);
    for (&seed, values) in seeds.iter().zip(values.chunks_mut(count)) {
        change(seed, values);
    }
    Ok(Tensor::from_slice(&values).view_as(clean).to_kind(clean.kind()).to_device(clean.device()))
}

fn photons(seed: u64, values: &mut [f64], white: f64) {
    let mut uniform = stream::uniform(seed, 0, draw::POISSON);
    for value in values {
        let count = poisson(white * ((*value + 1.0) / 2.0).max(0.0), &mut uniform);
        *value = 2.0 * count / white - 1.0;
    }
}

/// A Poisson number: a sum of those of smaller means, each by inversion of its distribution.
fn poisson(mean: f64, uniform: &mut impl Iterator<Item = f64>) -> f64 {
    let parts = (mean / AT_ONCE).ceil();
    (0..parts as u64).map(|_| inverted(mean / parts, uniform.next().unwrap_or(1.0))).sum()
}

/// The least k with P(N ≤ k) ≥ u.
fn inverted(mean: f64, u: f64) -> f64 {
    let mut chance = libm::exp(-mean);
    let (mut below, mut k) = (chance, 0.0);
    // Far beyond the mean the chances vanish, and rounding may have left their sum just below 1.
    while below < u && (chance > f64::EPSILON * below || k < mean) {
        k += 1.0;
        chance *= mean / k;
        below += chance;
    }
    k
}

fn lost(seed: u64, values: &mut [f64], share: f64) {
    for (value, u) in values.iter_mut().zip(stream::uniform(seed, 0, draw::SALT)) {
        if u <= share {
            *value = if u <= share / 2.0 { -1.0 } else { 1.0 };
        }
    }
}

/// All that another program needs to restore an image.
#[derive(Debug)]
pub struct Measurement<'a> {
    /// y, `[count, …]`, in data units.
    pub y: &'a Tensor,
    /// Degradation of the images, as JSON.
    pub task: &'a str,
    /// A itself, whose arrays are saved where it has some.
    pub operator: &'a Operator,
    /// Size of the images, `[channels, height, width]`.
    pub shape: [i64; 3],
    /// η in data units; 0 where the noise is not Gaussian.
    pub eta: f64,
    /// Seed of everything random in A.
    pub seed: u64,
}

impl Measurement<'_> {
    /// Writes a NumPy archive (`.npz`), whole or not at all.
    ///
    /// | array | what |
    /// | --- | --- |
    /// | `y` | f32, data units −1 … 1 |
    /// | `eta`, `eta_unit` | η in data units, and for pixels 0 … 1: half of that |
    /// | `shape`, `seed` | of the images; of the operator |
    /// | `task` | the task as JSON, UTF-8 bytes: `json.loads(bytes(z["task"]))` |
    /// | `operator_…` | mask, kernel, matrices and so on, where A has them |
    pub fn write_npz(&self, path: &Path) -> Result<(), Error> {
        let mut arrays = vec![
            ("y".to_owned(), self.y.to_kind(Kind::Float)),
            ("eta".to_owned(), Tensor::from(self.eta)),
            ("eta_unit".to_owned(), Tensor::from(self.eta / 2.0)),
            ("shape".to_owned(), Tensor::from_slice(&self.shape)),
            ("seed".to_owned(), Tensor::from(self.seed as i64)),
            ("task".to_owned(), Tensor::from_slice(self.task.as_bytes())),
        ];
        let tables = self.operator.linear().map(LinearOperator::tables).unwrap_or_default();
        arrays.extend(tables.into_iter().map(|(name, table)| (format!("operator_{name}"), table)));
        images::write_whole(path, &npz(&arrays)?)
    }
}
