//! Data consistency: what a measurement adds to the score.

use std::fmt;

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use crate::{
    Error,
    inverse::{
        detectors::photons_of_white,
        operators::{LinearOperator, Operator, Seen},
    },
    scores::denoiser::Score,
};

/// log f(y | x), through its gradient.
pub trait Likelihood {
    /// ∇ₓ log f(y | x) for each image of `x`, `[batch, channels, height, width]`.
    fn score(&self, x: &Tensor) -> Tensor;

    /// The largest τ for which a step along this score does not overshoot, in squared data units.
    fn step_limit(&self) -> f64;
}

/// Rule for the longest step along the likelihood's score.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepLimit {
    /// η² / ‖A‖², the inverse of the score's Lipschitz constant [Random Walks].
    #[default]
    Norm,
    /// η², as in the code released with the paper; it overshoots where ‖A‖² > 2 [Random Walks].
    Paper,
}

/// y = A x + e with e ~ N(0, η² I).
#[derive(Debug)]
pub struct GaussianLikelihood {
    pub(crate) operator: Operator,
    pub(crate) measurement: Tensor,
    pub(crate) eta: f64,
    pub(crate) seen: Seen,
    limit: StepLimit,
}

impl GaussianLikelihood {
    /// η is in the units of the model's own pixel range: for −1 … 1 twice what it is for 0 … 1.
    ///
    /// `measurement` is `[1, …]`, one for the whole batch, or `[batch, …]`, one for each image. It must be what
    /// `operator` makes of images of `shape` = `[channels, height, width]`, on the same device and of the same kind. Its
    /// entries that the operator does not see say nothing of the image, and are left out.
    pub fn new(operator: impl Into<Operator>, measurement: Tensor, eta: f64, shape: [i64; 3]) -> Result<Self, Error> {
        if !eta.is_finite() || eta <= 0.0 {
            return Err(Error::parameter("the noise level η of the measurement", "positive", eta));
        }
        let operator = operator.into();
        let seen = checked(&operator, &measurement, shape)?;
        Ok(Self { operator, measurement: seen.alone(&measurement), eta, seen, limit: StepLimit::default() })
    }

    /// Sets other measurements of the same shape, already known to be finite; the map and η stay.
    pub(crate) fn measure(&mut self, measurement: Tensor) {
        self.measurement = measurement;
    }

    /// The parts, for what is only known to do with linear maps; an error that says so of `method` for others.
    pub fn linear(&self, method: &'static str) -> Result<LinearGaussian<'_>, Error> {
        let Self { operator, measurement, eta, .. } = self;
        match operator.linear() {
            Some(operator) => Ok(LinearGaussian { operator, measurement, eta: *eta }),
            None => Err(Error::parameter(method, "used with a linear task", "asked for another")),
        }
    }

    /// The longest step by this rule, in squared data units.
    pub fn limited(&self, limit: StepLimit) -> f64 {
        let square = self.eta * self.eta;
        match limit {
            StepLimit::Norm => square / self.operator.norm_squared(),
            StepLimit::Paper => square,
        }
    }

    /// Sets another rule for the longest step.
    #[must_use]
    pub fn with_limit(self, limit: StepLimit) -> Self {
        Self { limit, ..self }
    }
}

/// y = A x + e with a linear A.
#[derive(Clone, Copy, Debug)]
pub struct LinearGaussian<'a> {
    /// A.
    pub operator: &'a dyn LinearOperator,
    /// y, one for the whole batch or one for each image.
    pub measurement: &'a Tensor,
    /// η, in data units.
    pub eta: f64,
}

/// What `operator` sees; an error unless `measurement` has the shape of its results and finite values.
fn checked(operator: &Operator, measurement: &Tensor, shape: [i64; 3]) -> Result<Seen, Error> {
    let seen = operator.seen(shape, (measurement.kind(), measurement.device()))?;
    let (want, got) = (seen.blank.size(), measurement.size());
    if got.get(1..) != want.get(1..) || got[0] == 0 {
        let want = format!("{want:?}, or as many of them as images,");
        return Err(Error::Shape { what: "the measurement", got, want });
    }
    let lost = i64::try_from(measurement.isfinite().logical_not().sum(Kind::Int64))?;
    if lost == 0 {
        return Ok(seen);
    }
    let value = format!("NaN or infinite in {lost} of its {} values", measurement.numel());
    Err(Error::parameter("the measurement", "finite", value))
}

impl Likelihood for GaussianLikelihood {
    /// Aᵀ (y − A x) / η², with the Jacobian's transpose where A is not linear.
    fn score(&self, x: &Tensor) -> Tensor {
        self.operator.pull(x, |seen| &self.measurement - seen) / (self.eta * self.eta)
    }

    fn step_limit(&self) -> f64 {
        self.limited(self.limit)
    }
}

/// Photon counts N = g (y + 1)/2 ~ Poisson(λ), λ = g (A x + 1)/2, g = 255 · rate.
///
/// log f(y | x) = Σ N ln λ − λ, but below λ = N/2, where such a count is unlikely, its parabola there: then the score is
/// defined where a walk makes λ negative, and its slope is bounded by (g/2)² ‖A‖² 4/N for the smallest N > 0.
#[derive(Debug)]
pub struct PoissonLikelihood {
    operator: Operator,
    /// N.
    counts: Tensor,
    /// g.
    white: f64,
    /// The least N above 0, or infinity.
    least: f64,
}

impl PoissonLikelihood {
    /// `rate` is that of [`Detector::Poisson`](crate::inverse::detectors::Detector); `measurement` is y in data units, `[1, …]` or
    /// `[batch, …]`, as `operator` makes it of images of `shape` = `[channels, height, width]`.
    pub fn new(operator: impl Into<Operator>, measurement: &Tensor, rate: f64, shape: [i64; 3]) -> Result<Self, Error> {
        if !rate.is_finite() || rate <= 0.0 {
            return Err(Error::parameter("the rate of photons", "positive", rate));
        }
        let operator = operator.into();
        let measurement = checked(&operator, measurement, shape)?.alone(measurement);
        let white = photons_of_white(rate);
        let counts = (measurement + 1.0) * (0.5 * white);
        let lowest = f64::try_from(counts.min())?;
        // A measurement in f32 may miss a whole number of photons by as much.
        let rounding = f64::from(f32::EPSILON) * white;
        if lowest < -rounding {
            let want = "at least −1, where no photon came";
            return Err(Error::parameter("the measurement", want, 2.0 * lowest / white - 1.0));
        }
        let counts = counts.where_scalarother(&counts.gt(rounding), 0.0);
        let least = f64::try_from(counts.where_scalarother(&counts.gt(0.0), f64::INFINITY).min())?;
        Ok(Self { operator, counts, white, least })
    }

    fn light(&self, seen: &Tensor) -> Tensor {
        (seen + 1.0) * (0.5 * self.white)
    }

    /// Value from which on the likelihood is the exact one; 1 where no photon came, whose likelihood is −λ everywhere.
    fn knee(&self) -> Tensor {
        (&self.counts / 2.0).where_scalarother(&self.counts.gt(0.0), 1.0)
    }

    /// log f(y | x) + constant, `[batch]`.
    pub fn log_density(&self, x: &Tensor) -> Tensor {
        let (light, knee) = (self.light(&self.operator.apply(x)), self.knee());
        let beyond = light.maximum(&knee);
        let short = (&beyond - &light) / &knee;
        // N (ln κ − s − s²/2) is the parabola of N ln λ at κ, s = (κ − λ)/κ.
        let each = &self.counts * (beyond.log() - &short - short.square() / 2.0) - light;
        each.flatten(1, -1).sum_dim_intlist([1i64].as_slice(), false, None)
    }
}

impl Likelihood for PoissonLikelihood {
    /// (∂A/∂x)ᵀ (N/λ − 1) g/2.
    fn score(&self, x: &Tensor) -> Tensor {
        self.operator.pull(x, |seen| {
            let (light, knee) = (self.light(seen), self.knee());
            let beyond = light.maximum(&knee);
            let short = (&beyond - light) / &knee;
            (&self.counts / beyond * (short + 1.0) - 1.0) * (0.5 * self.white)
        })
    }

    fn step_limit(&self) -> f64 {
        self.least / (self.white * self.white * self.operator.norm_squared())
    }
}

/// The posterior of annealed Langevin dynamics [Jalal et al. 2021]: no measurement is trusted more than x itself.
///
/// ```text
/// ∇ log f_σ(x) + min(1, ℓ/σ²) ∇ log f(y | x),   ℓ = step limit of the likelihood
/// ```
///
/// With ℓ = η²/‖A‖² that is Aᵀ(y − A x)/(η² + γ²) with γ² = max(0, σ²‖A‖² − η²), where the paper leaves γ free: at level σ the likelihood is as broad as the noise of x is when
/// measured, and once σ‖A‖ ≤ η it is the exact one. Thus τ = c σ² with c ≤ 1 never overshoots, where the exact likelihood
/// allows η²/‖A‖² only; and what the image shows is decided while σ is large, before the measurement pins single pixels.
pub struct AnnealedPosterior<'a> {
    /// The score of the images.
    pub prior: &'a dyn Score,
    /// The likelihood of the measurement.
    pub likelihood: &'a dyn Likelihood,
}

impl fmt::Debug for AnnealedPosterior<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnnealedPosterior")
            .field("exact_below", &self.likelihood.step_limit().sqrt())
            .finish_non_exhaustive()
    }
}

impl Score for AnnealedPosterior<'_> {
    fn score(&self, x: &Tensor, sigma: f64) -> Tensor {
        let trust = (self.likelihood.step_limit() / (sigma * sigma)).min(1.0);
        self.prior.score(x, sigma) + self.likelihood.score(x) * trust
    }

    fn step_limit(&self) -> f64 {
        self.prior.step_limit()
    }
}

/// Bayes: ∇ log f(x | y) = ∇ log f(x) + ∇ log f(y | x), both at the same x [Random Walks].
///
/// At level σ the prior is that of the noisy images while the likelihood stays as it is, so what a walk follows tends to
/// the posterior as σ falls. `walk.capped(posterior.step_limit())` keeps its steps short enough.
pub struct Posterior<'a> {
    /// The score of the images.
    pub prior: &'a dyn Score,
    /// The likelihood of the measurement.
    pub likelihood: &'a dyn Likelihood,
}

impl fmt::Debug for Posterior<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Posterior").field("step_limit", &self.step_limit()).finish_non_exhaustive()
    }
}

impl Score for Posterior<'_> {
    fn score(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.prior.score(x, sigma) + self.likelihood.score(x)
    }

    fn step_limit(&self) -> f64 {
        self.prior.step_limit().min(self.likelihood.step_limit())
    }
}
