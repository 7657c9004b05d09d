//! The Fréchet distance between two sets of features [Heusel et al. 2017, Eq. 6].

use rand_chacha::{
    ChaCha8Rng,
    rand_core::{RngCore, SeedableRng},
};
use tch::{Device, Kind, Tensor};

use crate::Error;

/// Count, mean and covariance of features that come in batches, summed in f64: memory does not grow with their number.
#[derive(Debug)]
pub struct Moments {
    count: f64,
    sum: Tensor,
    products: Tensor,
}

impl Moments {
    /// The moments of no vector yet, for `dimensions` features.
    pub fn new(dimensions: i64) -> Self {
        let options = (Kind::Double, Device::Cpu);
        Self {
            count: 0.0,
            sum: Tensor::zeros([dimensions], options),
            products: Tensor::zeros([dimensions; 2], options),
        }
    }

    /// The moments of features `[batch, dimensions]`.
    pub fn from_features(features: &Tensor) -> Self {
        let features = features.to_kind(Kind::Double).to_device(Device::Cpu);
        Self {
            count: features.size()[0] as f64,
            sum: features.sum_dim_intlist([0i64].as_slice(), false, None),
            products: features.tr().matmul(&features),
        }
    }

    /// Adds `[batch, dimensions]`.
    pub fn push(&mut self, features: &Tensor) {
        self.merge(&Self::from_features(features));
    }

    /// Adds those of another set.
    ///
    /// Sums of blocks that are merged in the order of the blocks are the same to the last bit whoever computed them, and a
    /// batch that is pushed is such a block.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += &other.sum;
        self.products += &other.products;
    }

    /// Σ 1, Σ f and Σ f fᵀ over the vectors: what [`Self::of_sums`] takes.
    pub fn sums(&self) -> (f64, &Tensor, &Tensor) {
        (self.count, &self.sum, &self.products)
    }

    /// The moments of vectors with these sums, in f64.
    pub fn of_sums(count: f64, sum: Tensor, products: Tensor) -> Self {
        Self { count, sum, products }
    }

    /// Number of vectors.
    pub fn count(&self) -> f64 {
        self.count
    }

    /// μ.
    pub fn mean(&self) -> Tensor {
        &self.sum / self.count
    }

    /// C, with n − 1 in the denominator, as `numpy.cov` has it.
    pub fn covariance(&self) -> Tensor {
        let mean = self.mean();
        (&self.products - mean.outer(&mean) * self.count) / (self.count - 1.0)
    }

    /// μ and C; an error of fewer than two vectors.
    pub fn statistics(&self) -> Result<Statistics, Error> {
        if self.count < 2.0 {
            return Err(Error::parameter("the number of images", "at least 2", self.count));
        }
        Ok(Statistics { count: Some(self.count as u64), mean: self.mean(), covariance: self.covariance() })
    }
}

/// Statistics of a set of features: μ and C, in f64.
#[derive(Debug)]
pub struct Statistics {
    /// The number of vectors, where it is known.
    pub count: Option<u64>,
    /// `[dimensions]`.
    pub mean: Tensor,
    /// `[dimensions, dimensions]`.
    pub covariance: Tensor,
}

impl Statistics {
    /// Number of features.
    pub fn dimensions(&self) -> i64 {
        self.mean.size()[0]
    }

    /// ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁^½ C₂ C₁^½)^½).
    pub fn distance(&self, other: &Self) -> Result<f64, Error> {
        let (fewer, more) = if self.rank() <= other.rank() { (self, other) } else { (other, self) };
        fewer.factored()?.distance(more)
    }

    /// The most that the rank of C can be.
    fn rank(&self) -> i64 {
        let dimensions = self.dimensions();
        self.count.map_or(dimensions, |count| (count as i64 - 1).min(dimensions))
    }

    /// Whether C has at most the rank count − 1 of so many vectors: Q then holds all its variance, tr(Qᵀ C Q) = tr C.
    pub fn fits_count(&self) -> Result<bool, Error> {
        /// Roundings of a covariance that programs store as f32.
        const ROUNDING: f64 = 1e-4;
        let rank = self.rank();
        if rank == self.dimensions() {
            return Ok(true);
        }
        if rank < 1 {
            return Ok(false);
        }
        let (_, within) = confined(&self.covariance, rank)?;
        let (held, all) = (f64::try_from(within.trace())?, f64::try_from(self.covariance.trace())?);
        Ok((all - held).abs() <= ROUNDING * all)
    }

    /// Prepared for distances to many others.
    pub fn factored(&self) -> Result<Factored<'_>, Error> {
        let rank = self.rank();
        if rank == self.dimensions() {
            return Ok(Factored { statistics: self, factor: factor(&self.covariance)? });
        }
        let (basis, within) = confined(&self.covariance, rank)?;
        Ok(Factored { statistics: self, factor: basis.matmul(&factor(&within)?) })
    }
}

/// μ and C = A Aᵀ.
#[derive(Debug)]
pub struct Factored<'a> {
    statistics: &'a Statistics,
    factor: Tensor,
}

impl Factored<'_> {
    /// See [`Statistics::distance`]. The eigenvalues of Aᵀ C₂ A are those of C₁ C₂ but for zeros: they are real and not
    /// negative, so that the distance is never NaN, and right where a covariance is singular.
    pub fn distance(&self, other: &Statistics) -> Result<f64, Error> {
        if self.statistics.dimensions() != other.dimensions() {
            let want = format!("{} features as in the other set", self.statistics.dimensions());
            return Err(Error::Shape { what: "a mean", got: other.mean.size(), want });
        }
        let cross = self.factor.tr().matmul(&other.covariance).matmul(&self.factor);
        let cross = (&cross + cross.tr()) / 2.0;
        let overlap = cross.f_linalg_eigvalsh("L")?.clamp_min(0.0).sqrt().sum(Kind::Double);
        let means = (&self.statistics.mean - &other.mean).square().sum(Kind::Double);
        let distance = means + self.statistics.covariance.trace() + other.covariance.trace() - overlap * 2.0;
        // Roundings take the distance of a set from itself below 0.
        Ok(f64::try_from(distance.clamp_min(0.0))?)
    }
}

/// Q and B with C = Q B Qᵀ, of a C of at most this rank, which is much less work for fewer images than features: Q is
/// orthonormal in the range of C Ω, with random signs Ω [Halko et al. 2011, §5.1].
fn confined(covariance: &Tensor, rank: i64) -> Result<(Tensor, Tensor), Error> {
    let mut random = ChaCha8Rng::seed_from_u64(0);
    let signs: Vec<f64> =
        (0..covariance.size()[0] * rank).map(|_| if random.next_u32() & 1 == 0 { 1.0 } else { -1.0 }).collect();
    let range = covariance.matmul(&Tensor::from_slice(&signs).view([-1, rank]));
    let (basis, _) = Tensor::f_linalg_qr(&range, "reduced")?;
    let within = basis.tr().matmul(covariance).matmul(&basis);
    Ok((basis, (&within + within.tr()) / 2.0))
}

/// A with C = A Aᵀ: Cholesky's, or by eigenvectors, without those of rounding, where C is singular.
fn factor(covariance: &Tensor) -> Result<Tensor, Error> {
    let smallest = covariance.size()[0] as f64 * f64::EPSILON;
    let (lower, failed) = covariance.f_linalg_cholesky_ex(false, false)?;
    let pivots = lower.diagonal(0, 0, 1).square();
    let ratio = f64::try_from(pivots.min())? / f64::try_from(covariance.diagonal(0, 0, 1).max())?;
    if i64::try_from(failed)? == 0 && ratio > 100.0 * smallest {
        return Ok(lower);
    }
    let (values, vectors) = covariance.f_linalg_eigh("L")?;
    let kept = values.gt_tensor(&(values.max() * smallest)).nonzero().squeeze_dim(1);
    Ok(vectors.index_select(1, &kept) * values.index_select(0, &kept).sqrt())
}

/// ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁^½ C₂ C₁^½)^½), by symmetric eigenvalues: never NaN, and right where a covariance
/// is singular.
pub fn frechet(a: &Moments, b: &Moments) -> Result<f64, Error> {
    a.statistics()?.distance(&b.statistics()?)
}
