//! Overlap of two sets, by nearest neighbours among features.

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
    /// Share of the images within the ball of some reference, which reaches to its k-th neighbour [Kynkäänniemi et al.
    /// 2019, Eq. 2].
    pub precision: f64,
    /// Share of the reference that lies within the ball of some image.
    pub recall: f64,
    /// 1/(k n) Σ over images of how many references' balls they lie in [Naeem et al. 2020, Eq. 3].
    pub density: f64,
    /// Share of the reference with an image in its ball [Naeem et al. 2020, Eq. 4].
    pub coverage: f64,
}

/// Features with the distances of each to its nearest others, which need to be found only once.
#[derive(Debug)]
pub struct Neighbourhood {
    /// `[n, dimensions]`, f64.
    features: Tensor,
    /// `[n, NEAREST]`, from the nearest on.
    nearest: Tensor,
}

/// Number of nearest neighbours that are kept.
pub const NEAREST: i64 = 5;

impl Neighbourhood {
    /// The neighbourhoods of features `[n, dimensions]`; n must be larger than five.
    pub fn new(features: &Tensor) -> Result<Self, Error> {
        let features = features.to_kind(Kind::Double);
        let count = features.size()[0];
        if count <= NEAREST {
            return Err(Error::parameter("the number of images", "larger than the number of neighbours", count));
        }
        // The nearest of all is itself.
        let nearest =
            |rows: &Tensor| distances(rows, &features).topk(NEAREST + 1, 1, false, true).0.narrow(1, 1, NEAREST);
        let parts: Vec<Tensor> = features.split(block(count), 0).iter().map(nearest).collect();
        Ok(Self { nearest: Tensor::cat(&parts, 0), features })
    }

    /// The distance of each to its k-th nearest other, k = 1 … 5.
    fn radii(&self, k: i64) -> Result<Tensor, Error> {
        if (1..=NEAREST).contains(&k) {
            return Ok(self.nearest.select(1, k - 1));
        }
        Err(Error::parameter("the number of neighbours", "from 1 to 5", k))
    }
}

/// Precision, recall, density and coverage of n features against m of a reference.
///
/// Published precision and recall are with k = 3 and ≤ at the border, density and coverage with k = 5 and <.
pub fn neighbours(images: &Neighbourhood, reference: &Neighbourhood, k: i64) -> Result<Neighbours, Error> {
    let (own, others) = (images.radii(k)?, reference.radii(k)?);
    let (images, reference) = (&images.features, &reference.features);
    let (n, m) = (images.size()[0], reference.size()[0]);
    let (mut within, mut reached, mut nearest) = (0.0, Vec::new(), Vec::new());
    let mut balls = 0.0;
    for (rows, radius) in images.split(block(m), 0).iter().zip(own.split(block(m), 0)) {
        let apart = distances(rows, reference);
        within += f64::try_from(apart.le_tensor(&others).any_dim(1, false).sum(Kind::Double))?;
        balls += f64::try_from(apart.lt_tensor(&others).sum(Kind::Double))?;
        reached.push(apart.le_tensor(&radius.unsqueeze(1)).any_dim(0, false));
        nearest.push(apart.amin([0i64].as_slice(), false));
    }
    let share = |hits: Tensor| f64::try_from(hits.to_kind(Kind::Double).mean(Kind::Double));
    Ok(Neighbours {
        k,
        precision: within / n as f64,
        recall: share(Tensor::stack(&reached, 0).any_dim(0, false))?,
        density: balls / (k * n) as f64,
        coverage: share(Tensor::stack(&nearest, 0).amin([0i64].as_slice(), false).lt_tensor(&others))?,
    })
}

/// Number of rows of distances to so many others that are held at once.
fn block(others: i64) -> i64 {
    (BLOCK / others.max(1)).max(1)
}

/// Squared distances of all pairs, by ‖a‖² + ‖b‖² − 2 a·b, which f64 can afford.
fn distances(a: &Tensor, b: &Tensor) -> Tensor {
    Tensor::cdist(a, b, 2.0, 1)
}
