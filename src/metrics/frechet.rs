//! The Fréchet distance between two sets of features [Heusel et al. 2017, Eq. 6].

use tch::{Kind, Tensor};

use crate::Error;

/// Count, mean and covariance of features that come in batches, summed in f64.
#[derive(Debug)]
pub struct Moments {
    count: f64,
    sum: Tensor,
    products: Tensor,
}

impl Moments {
    /// Of nothing yet, for vectors of `dimensions` features.
    pub fn new(dimensions: i64) -> Self {
        let options = (Kind::Double, tch::Device::Cpu);
        Self {
            count: 0.0,
            sum: Tensor::zeros([dimensions], options),
            products: Tensor::zeros([dimensions; 2], options),
        }
    }

    /// Adds `[batch, dimensions]`.
    pub fn push(&mut self, features: &Tensor) {
        let features = features.to_kind(Kind::Double).to_device(tch::Device::Cpu);
        self.count += features.size()[0] as f64;
        self.sum += features.sum_dim_intlist([0i64].as_slice(), false, None);
        self.products += features.tr().matmul(&features);
    }

    /// Σ 1, Σ f and Σ f fᵀ over the vectors: what [`Self::of_sums`] takes.
    pub fn sums(&self) -> (f64, &Tensor, &Tensor) {
        (self.count, &self.sum, &self.products)
    }

    /// Of vectors with these sums, in f64.
    pub fn of_sums(count: f64, sum: Tensor, products: Tensor) -> Self {
        Self { count, sum, products }
    }

    /// Adds what others have summed up.
    pub fn merge(&mut self, other: &Self) {
        self.count += other.count;
        self.sum += &other.sum;
        self.products += &other.products;
    }

    /// How many vectors there were.
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
}

/// ‖μ₁ − μ₂‖² + tr(C₁ + C₂ − 2 (C₁^½ C₂ C₁^½)^½), by symmetric eigenvalues: never NaN, and right where a covariance
/// is singular.
pub fn frechet(a: &Moments, b: &Moments) -> Result<f64, Error> {
    for moments in [a, b] {
        if moments.count < 2.0 {
            return Err(Error::parameter("the number of images", "at least 2", moments.count));
        }
    }
    let (first, second) = (a.covariance(), b.covariance());
    let root = square_root(&first)?;
    let cross = root.matmul(&second).matmul(&root);
    let cross = (&cross + cross.tr()) / 2.0;
    let overlap = cross.f_linalg_eigvalsh("L")?.clamp_min(0.0).sqrt().sum(Kind::Double);
    let means = (a.mean() - b.mean()).square().sum(Kind::Double);
    Ok(f64::try_from(means + first.trace() + second.trace() - overlap * 2.0)?)
}

/// The symmetric square root of a covariance.
fn square_root(covariance: &Tensor) -> Result<Tensor, Error> {
    let (values, vectors) = covariance.f_linalg_eigh("L")?;
    Ok((&vectors * values.clamp_min(0.0).sqrt()).matmul(&vectors.tr()))
}
