//! How much of one set lies within another, by nearest neighbours among features.

use serde::Serialize;
use tch::{Kind, Tensor};

use crate::Error;

/// Distances that are held at once.
const BLOCK: i64 = 1 << 25;

/// The shares of two sets that lie near each other.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Neighbours {
    /// The k of all four.
    pub k: i64,
    /// Of the images, those within the ball of some reference, which reaches to its k-th neighbour
    /// [Kynkäänniemi et al. 2019, Eq. 2].
    pub precision: f64,
    /// Of the reference, those within the ball of some image.
    pub recall: f64,
    /// 1/(k n) Σ over images of how many references' balls they lie in [Naeem et al. 2020, Eq. 3].
    pub density: f64,
    /// Of the reference, those with an image in their ball [Naeem et al. 2020, Eq. 4].
    pub coverage: f64,
}

/// Precision, recall, density and coverage of features `[n, dimensions]` against those of a reference, `[m, dimensions]`.
///
/// Published precision and recall are with k = 3 and ≤ at the border, density and coverage with k = 5 and <.
pub fn neighbours(images: &Tensor, reference: &Tensor, k: i64) -> Result<Neighbours, Error> {
    let (n, m) = (images.size()[0], reference.size()[0]);
    if n.min(m) <= k {
        return Err(Error::parameter("the number of images", "larger than the number of neighbours", n.min(m)));
    }
    let [images, reference] = [images, reference].map(|features| features.to_kind(Kind::Double));
    let (own, others) = (radii(&images, k), radii(&reference, k));
    let (mut within, mut reached, mut nearest) = (0.0, Vec::new(), Vec::new());
    let mut balls = 0.0;
    for (rows, radius) in images.split(block(m), 0).iter().zip(own.split(block(m), 0)) {
        let apart = distances(rows, &reference);
        within += f64::try_from(apart.le_tensor(&others).any_dim(1, false).sum(Kind::Double))?;
        balls += f64::try_from(apart.lt_tensor(&others).sum(Kind::Double))?;
        reached.push(apart.le_tensor(&radius.unsqueeze(1)).any_dim(0, false));
        nearest.push(apart.amin([0i64].as_slice(), false));
    }
    let share = |of: Tensor| f64::try_from(of.to_kind(Kind::Double).mean(Kind::Double));
    Ok(Neighbours {
        k,
        precision: within / n as f64,
        recall: share(Tensor::stack(&reached, 0).any_dim(0, false))?,
        density: balls / (k * n) as f64,
        coverage: share(Tensor::stack(&nearest, 0).amin([0i64].as_slice(), false).lt_tensor(&others))?,
    })
}

/// The distance of each to its k-th nearest other.
fn radii(features: &Tensor, k: i64) -> Tensor {
    let rows = features.split(block(features.size()[0]), 0);
    // The nearest of all is itself.
    let radius = |rows: &Tensor| distances(rows, features).kthvalue(k + 1, 1, false).0;
    Tensor::cat(&rows.iter().map(radius).collect::<Vec<_>>(), 0)
}

/// How many rows of distances to so many others are held at once.
fn block(others: i64) -> i64 {
    (BLOCK / others.max(1)).max(1)
}

/// Of all pairs, by ‖a‖² + ‖b‖² − 2 a·b, which f64 can afford.
fn distances(a: &Tensor, b: &Tensor) -> Tensor {
    Tensor::cdist(a, b, 2.0, 1)
}
