//! The kernel distance between two sets of features [Bińkowski et al. 2018].

use tch::{Kind, Tensor};

use super::spread::{Spread, subset};
use crate::Error;

/// The unbiased MMD² of two sets `[m, dimensions]`, `[n, dimensions]` under k(x, y) = (x·y / dimensions + 1)³
/// [Bińkowski et al. 2018, Eq. 4].
pub fn kernel_distance(x: &Tensor, y: &Tensor) -> Result<f64, Error> {
    let [x, y] = [x, y].map(|features| features.to_kind(Kind::Double));
    let kernel = |a: &Tensor, b: &Tensor| (a.matmul(&b.tr()) / a.size()[1] as f64 + 1.0).pow_tensor_scalar(3);
    let within = |a: &Tensor| {
        let (count, all) = (a.size()[0] as f64, kernel(a, a));
        (all.sum(Kind::Double) - all.trace()) / (count * (count - 1.0))
    };
    let between = kernel(&x, &y).mean(Kind::Double);
    Ok(f64::try_from(within(&x) + within(&y) - between * 2.0)?)
}

/// KID: mean and spread of [`kernel_distance`] over `subsets` pairs of subsets of `size` features, without replacement.
///
/// Published figures are of 100 subsets of 1000; where there are fewer features, subsets are as large as the smaller set.
pub fn kid(x: &Tensor, y: &Tensor, subsets: u64, size: i64, seed: u64) -> Result<Spread, Error> {
    let size = size.min(x.size()[0]).min(y.size()[0]);
    if size < 2 {
        return Err(Error::parameter("the number of images", "at least 2", size));
    }
    let one = |k: u64| {
        let draw = |set: &Tensor, which| set.index_select(0, &subset(set.size()[0], size, seed, 2 * k + which));
        kernel_distance(&draw(x, 0), &draw(y, 1))
    };
    Ok(Spread::from_values(&(0..subsets).map(one).collect::<Result<Vec<_>, _>>()?))
}
