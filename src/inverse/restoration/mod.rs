//! Methods that restore: from a prior and a measurement to samples of the posterior, or to its peak.
//!
//! All of them work on x = clean + σ n; formulas that papers write in other frames are translated, and the translation is stated.
//! Each image of a batch is treated alone: norms, step lengths and random numbers are its own.

use std::fmt;

use tch::{Kind, Tensor};

use crate::{
    Error,
    inverse::{
        likelihood::{GaussianLikelihood, LinearGaussian},
        operators::Svd,
        tasks,
    },
    numbers::{
        plan::{Plan, ResolvedPlan},
        registry::{modules, one_of},
        samplers::Ddpm,
    },
    scores::{
        denoiser::{Denoiser, Score},
        noise::Noise,
        sample::sample_to_end,
    },
};

/// The table of methods: each file, and the struct in it.
macro_rules! method_rows {
    ($then:ident $(, $($rest:tt)+)?) => {
        $then! { $($($rest)+,)? {
            annealed: Annealed,
            daps: Daps,
            ddnm: Ddnm,
            ddrm: Ddrm,
            diffpir: Diffpir,
            dpir: Dpir,
            dps: Dps,
            mcg: Mcg,
            mmps: Mmps,
            pigdm: Pigdm,
            pnp_admm: PnpAdmm,
            projection: Projection,
            red_diff: RedDiff,
            repaint: Repaint,
            smc: Smc,
            split_gibbs: SplitGibbs,
            walk: Walk,
        } }
    };
}

method_rows!(modules);

/// A problem as a method finds it.
pub struct InverseProblem<'a> {
    /// D(x, σ) of the images.
    pub prior: &'a dyn Denoiser,
    /// y = A x + η e.
    pub likelihood: &'a GaussianLikelihood,
    /// The levels, and how to go down them.
    pub plan: &'a ResolvedPlan,
    /// Fresh for each image.
    pub noise: &'a dyn Noise,
}

impl fmt::Debug for InverseProblem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InverseProblem").field("likelihood", self.likelihood).finish_non_exhaustive()
    }
}

/// Hears of every state on the way and may change it; an error ends the run.
pub type OnState<'a> = dyn FnMut(&mut Tensor) -> Result<(), Error> + 'a;

/// Cost of an image.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Effort {
    /// Evaluations of the denoiser.
    pub evaluations: usize,
    /// Products with its Jacobian, each about as much as one more evaluation.
    pub gradients: usize,
}

/// A way to restore.
pub trait Method: fmt::Debug + Send + Sync {
    /// The plan to follow where none is given; the network's own plan for restorations if there is none.
    fn plan(&self) -> Option<Plan> {
        None
    }

    /// Whether the method uses the plan's sampler, or its levels alone.
    fn samples(&self) -> bool {
        false
    }

    /// The longest step that a row of the plan may take.
    fn step_limit(&self, _: &GaussianLikelihood) -> f64 {
        f64::INFINITY
    }

    /// An error where a parameter makes no sense, or where the method is not made for such a measurement.
    fn check(&self, likelihood: &GaussianLikelihood) -> Result<(), Error>;

    /// Cost along this plan, without the evaluations that only the state decides on.
    fn effort(&self, plan: &ResolvedPlan) -> Effort;

    /// The images that it ends with, from x = E\[X\] + σ n of the first level, `[batch, channels, height, width]`.
    ///
    /// Called by [`restore`].
    fn run(&self, problem: &InverseProblem, x: Tensor, seen: &mut OnState) -> Result<Tensor, Error>;
}

method_rows!(one_of, {
    /// The entries that `method:` may name.
    pub enum AnyMethod: Method = "method", others: OTHERS
});

/// Methods of other packages that are not quite any of ours.
const OTHERS: &[(&str, &str)] = &[
    ("tmpd", "`mmps` with many iterations is TMPD without its diagonal approximation"),
    ("langevin", "`annealed` goes down the levels; `walk` takes Langevin steps with the exact likelihood"),
    ("hqs", "`dpir` is half-quadratic splitting"),
    ("admm", "`pnp-admm` is ADMM with a denoiser"),
];

/// Restores from x = E\[X\] + σ n of the first level; gradients are taken where the method needs them, and only there.
pub fn restore(method: &dyn Method, problem: &InverseProblem, x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
    let _guard = tch::no_grad_guard();
    method.check(problem.likelihood)?;
    method.run(problem, x, seen)
}

/// Follows the plan's sampler with the score of a posterior.
fn to_the_end(problem: &InverseProblem, score: &dyn Score, x: Tensor, seen: &mut OnState) -> Result<Tensor, Error> {
    sample_to_end(&problem.plan.scheme, x, score, problem.noise, seen)
}

/// Number of evaluations of the plan's sampler.
fn asked(plan: &ResolvedPlan) -> usize {
    plan.scheme.asked().count()
}

/// Number of levels.
fn levels(plan: &ResolvedPlan) -> usize {
    plan.sigmas.iter().len()
}

/// The ancestral step from σ to σ′, given D: D + (σ′/σ)² (x − D) + σ′ √(1 − (σ′/σ)²) n [DDPM, Eq. 7].
fn ancestral(x: &Tensor, denoised: &Tensor, (sigma, next): (f64, f64), noise: &Tensor) -> Tensor {
    let share = (next / sigma).powi(2);
    denoised * (1.0 - share) + x * share + noise * (next * (1.0 - share).sqrt())
}

/// D(x, σ), and the gradient by x of what `loss`, `[batch, …]`, makes of it.
fn value_and_grad(prior: &dyn Denoiser, x: &Tensor, sigma: f64, loss: impl Fn(&Tensor) -> Tensor) -> (Tensor, Tensor) {
    let leaf = x.detach().set_requires_grad(true);
    let (denoised, loss) = tch::with_grad(|| {
        let denoised = &leaf + prior.residual(&leaf, sigma);
        let loss = loss(&denoised);
        (denoised, loss.sum(loss.kind()))
    });
    let gradient = Tensor::run_backward(&[loss], &[&leaf], false, false).remove(0);
    (denoised.detach(), gradient)
}

/// ‖e‖ of each image, in a shape that multiplies them.
fn length(e: &Tensor) -> Tensor {
    squares(e).clamp_min(f64::from(f32::MIN_POSITIVE)).sqrt()
}

/// ‖e‖² of each image, in a shape that multiplies them.
fn squares(e: &Tensor) -> Tensor {
    let rest: Vec<i64> = (1..e.dim() as i64).collect();
    e.square().sum_dim_intlist(rest.as_slice(), true, None::<Kind>)
}

/// The minimum over x of ‖y − A x‖²/w + ‖x − z‖²: (AᵀA + w I)⁻¹ (Aᵀ y + w z).
fn proximal(likelihood: &LinearGaussian, z: &Tensor, weight: f64) -> Tensor {
    likelihood.operator.regularised(&(likelihood.operator.adjoint(likelihood.measurement) + z * weight), weight)
}

/// z + A⁺(y − A z), or where y has noise and z errs by r n: the mean of x given both, z + Aᵀ(AAᵀ + (η/r)² I)⁻¹(y − A z), which
/// tends to it as η/r falls. Without this the noise of what A hardly shows would be blown up without bound.
fn fitted(likelihood: &LinearGaussian, z: &Tensor, y: &Tensor, r: f64) -> Tensor {
    let weight = (likelihood.eta / r).powi(2).max(1e-12 * likelihood.operator.norm_squared());
    z + likelihood.operator.regularised(&likelihood.operator.adjoint(&(y - likelihood.operator.apply(z))), weight)
}

/// A sample of N(x; z, r² I) · N(y; A x, η² I): the minimum for data to which noise is added [Papandreou & Yuille 2010].
fn between(likelihood: &LinearGaussian, z: &Tensor, r: f64, noise: [Tensor; 2]) -> Tensor {
    let [ours, theirs] = noise;
    let weight = (likelihood.eta / r).powi(2);
    let measured = likelihood.operator.adjoint(&(likelihood.measurement + theirs * likelihood.eta));
    likelihood.operator.regularised(&(measured + (z + ours * r) * weight), weight)
}

/// A measurement in A's singular vectors, for methods that work there.
struct Spectral<'a> {
    svd: &'a dyn Svd,
    /// 1 where s is larger than rounding.
    known: Tensor,
    /// ȳ = Uᵀy/s; where nothing is known it does not matter.
    measured: Tensor,
    /// η/s, infinite where nothing is known.
    width: Tensor,
}

impl<'a> Spectral<'a> {
    /// Singular values below `zero` times the largest count as hidden.
    fn new(likelihood: &LinearGaussian<'a>, kind: Kind, zero: f64, method: &'static str) -> Result<Self, Error> {
        let svd = decomposed(likelihood, method)?;
        let singular = svd.singular(kind);
        let known = singular.ge(zero.max(1e-6) * likelihood.operator.norm_squared().sqrt());
        let measured = svd.measured(likelihood.measurement) / singular.where_scalarother(&known, 1.0);
        let width = singular.where_scalarother(&known, 0.0).reciprocal() * likelihood.eta;
        Ok(Self { svd, known, measured, width })
    }
}

/// The singular value decomposition, or who has one.
fn decomposed<'a>(likelihood: &LinearGaussian<'a>, method: &'static str) -> Result<&'a dyn Svd, Error> {
    likelihood.operator.svd().ok_or_else(|| {
        let known = tasks::decomposed();
        Error::request(format!("`method` {method} needs a task whose singular vectors are known: {known}"))
    })
}

/// The chain of DDPM: what most of the methods were published with.
fn chain(steps: usize) -> Plan {
    let schedule = crate::numbers::schedule::AnySchedule::LinearBeta(crate::numbers::schedule::LinearBeta::default());
    Plan { schedule, steps, sampler: crate::numbers::plan::AnySampler::Ddpm(Ddpm::default()) }
}
