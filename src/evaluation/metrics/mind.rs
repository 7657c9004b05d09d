//! The Monge Inception Distance: how far sets of features lie apart along random lines [Berthet et al. 2026].

use tch::{Kind, Tensor};

use super::spread::subset;
use crate::{
    Error,
    scores::noise::{Noise, Seeded},
};

/// M, as its authors and torch-fidelity have it.
const DIRECTIONS: i64 = 1000;
/// Directions along which all features are sorted at once.
const TOGETHER: i64 = 50;

/// 3 d · 1/M Σ W₂²(⟨u, x⟩, ⟨u, y⟩) of two sets `[m, d]`, `[n, d]`, over M = 1000 directions u drawn by `seed`.
///
/// Along a line the optimal transport pairs by order: W₂² = 1/n Σ (x₍ᵢ₎ − y₍ᵢ₎)². It pairs sets of one size; of the larger set
/// as many are drawn as the smaller one has, as torch-fidelity does.
pub fn mind(x: &Tensor, y: &Tensor, seed: u64) -> Result<f64, Error> {
    let ((m, dimensions), n) = (x.size2()?, y.size()[0]);
    let count = m.min(n);
    if count == 0 {
        return Err(Error::parameter("the number of images", "at least 1", count));
    }
    let draw = |set: &Tensor, which| {
        let all = set.to_kind(Kind::Double);
        if set.size()[0] == count { all } else { all.index_select(0, &subset(set.size()[0], count, seed, which)) }
    };
    let (x, y) = (draw(x, 0), draw(y, 1));
    let directions =
        Seeded(vec![seed]).like(&Tensor::zeros([1, DIRECTIONS, dimensions], (Kind::Double, x.device())), 0, 0);
    let directions = directions.squeeze_dim(0);
    let length = directions.square().sum_dim_intlist([1i64].as_slice(), true, None).sqrt();
    let apart = |u: &Tensor| {
        let sorted = |set: &Tensor| set.matmul(&u.tr()).sort(0, false).0;
        f64::try_from((sorted(&x) - sorted(&y)).square().mean_dim([0i64].as_slice(), false, None).sum(Kind::Double))
    };
    let sums = (directions / length).split(TOGETHER, 0).iter().map(apart).collect::<Result<Vec<_>, _>>()?;
    Ok(3.0 * dimensions as f64 * sums.iter().sum::<f64>() / DIRECTIONS as f64)
}
