//! Statistics of reference sets as files, in the layouts in which they are published.

use std::path::Path;

use tch::{Kind, Tensor};

use crate::{
    Error,
    evaluation::metrics::{Moments, Statistics},
    files::{images, npz},
};

/// Statistics of a reference set in a .npz file.
#[derive(Debug)]
pub struct Published {
    /// `mu` and `sigma` (pytorch-fid, EDM, ADM), or those of `pool_3`.
    pub statistics: Statistics,
    /// `mu_s` and `sigma_s`, for sFID (ADM).
    pub spatial: Option<Statistics>,
    /// `pool_3`, the features themselves (score_sde).
    pub features: Option<Tensor>,
}

impl Published {
    /// Reads a file; none if it holds neither statistics nor features, but images perhaps.
    pub fn read(path: &Path) -> Result<Option<Self>, Error> {
        let mut arrays = npz::read(path, |name| NAMES.contains(&name))?;
        let mut take = |name: &str| arrays.remove(name);
        let (mu, sigma, features) = (take("mu"), take("sigma"), take("pool_3"));
        let count = take("count").map(|count| number(path, &count)).transpose()?;
        let spatial = whole(path, take("mu_s"), take("sigma_s"), count)?;
        let features = features.map(|features| features.flatten(1, -1).to_kind(Kind::Float));
        let statistics = match (whole(path, mu, sigma, count)?, &features) {
            (Some(statistics), _) => statistics,
            (None, Some(features)) => of_all(features)?,
            (None, None) => return Ok(None),
        };
        Ok(Some(Self { statistics, spatial, features }))
    }
}

const NAMES: [&str; 6] = ["mu", "sigma", "mu_s", "sigma_s", "pool_3", "count"];

/// Both, and of shapes that go together; or neither.
fn whole(
    path: &Path,
    mean: Option<Tensor>,
    covariance: Option<Tensor>,
    count: Option<u64>,
) -> Result<Option<Statistics>, Error> {
    match (mean, covariance) {
        (None, None) => Ok(None),
        (Some(mean), Some(covariance)) if matches!(mean.size()[..], [n] if n > 0 && covariance.size() == [n, n]) => {
            let [mean, covariance] = [mean, covariance].map(|x| x.to_kind(Kind::Double));
            // ∞ and NaN survive no sum of numbers that are finite.
            if !f64::try_from(mean.sum(Kind::Double) + covariance.sum(Kind::Double))?.is_finite() {
                return Err(Error::file(path, "holds statistics that are not finite"));
            }
            let statistics = Statistics { count, mean, covariance };
            match count {
                Some(count) if !statistics.fits_count()? => Err(Error::file(
                    path,
                    format!(
                        "says that {count} images were counted, but its covariance is of more: correct or remove `count`"
                    ),
                )),
                _ => Ok(Some(statistics)),
            }
        }
        _ => Err(Error::file(path, "holds a mean and a covariance that do not go together: [n] and [n, n] are wanted")),
    }
}

/// The number of images that `count` holds.
fn number(path: &Path, count: &Tensor) -> Result<u64, Error> {
    let one =
        (count.numel() == 1).then(|| f64::try_from(count.to_kind(Kind::Double).reshape([-1]).get(0))).transpose()?;
    let number = one.filter(|count| *count >= 2.0 && *count < 9e15 && count.fract() == 0.0);
    let why = "holds a `count` that is no number of images, 2 or more: correct or remove it";
    number.map(|count| count as u64).ok_or_else(|| Error::file(path, why))
}

fn of_all(features: &Tensor) -> Result<Statistics, Error> {
    let mut moments = Moments::new(features.size()[1]);
    for piece in features.split(4096, 0) {
        moments.push(&piece);
    }
    moments.statistics()
}

/// Writes `mu` and `sigma`, where there are any `mu_s` and `sigma_s`, and of how many images they are as `count`.
pub fn save(path: &Path, statistics: &Statistics, spatial: Option<&Statistics>) -> Result<(), Error> {
    let named = |suffix: &str, statistics: &Statistics| {
        [("mu", &statistics.mean), ("sigma", &statistics.covariance)]
            .map(|(name, x)| (format!("{name}{suffix}"), x.shallow_clone()))
    };
    let mut arrays: Vec<_> = named("", statistics).into();
    arrays.extend(spatial.into_iter().flat_map(|spatial| named("_s", spatial)));
    arrays.extend(statistics.count.map(|count| ("count".to_owned(), Tensor::from(count as i64))));
    images::write_whole(path, &npz::npz(&arrays)?)
}
