//! Plans: the noise levels, and the sampler that goes down them.

use serde::{Deserialize, Serialize};

#[allow(clippy::wildcard_imports, reason = "the tables name what is in them")]
use crate::numbers::{samplers::*, solvers::*};
use crate::{
    Error,
    numbers::{
        registry::one_of,
        schedule::{AnySchedule, Geometric, Karras, count},
        scheme::Scheme,
        sigma::Sigmas,
        walk::Walk,
    },
};

sampler_rows!(solver_rows, one_of, {
    /// The entries that `sampler:` may name.
    pub enum AnySampler: Solver = "sampler", others: OTHERS
});

/// Samplers of diffusers and k-diffusion that are not quite any of ours: how they differ, and what comes nearest.
const OTHERS: &[(&str, &str)] = &[
    ("lms", LMS),
    ("sample_lms", LMS),
    ("LMSDiscreteScheduler", LMS),
    (
        "DEISMultistepScheduler",
        "it is {kind: deis, order: 2, variable: log-sigma, lower_final: true} on levels of the schedule `ending`",
    ),
    ("IPNDMScheduler", "`ipndm` takes its weights, but ends with the denoised image where diffusers extrapolates"),
    ("PNDMScheduler", "it is `pndm` with `beta` the network’s own chain, on levels of the schedule `ending`"),
    ("plms", "it is {kind: pndm, start: heun}, whose last step extrapolates"),
    (
        "SASolverScheduler",
        "it is `sa` on levels of the schedule `ending`, with noise between the levels of t = 200 and 800",
    ),
    (
        "LCMScheduler",
        "it is `lcm` with `beta` the network’s own chain, on distilled times of the schedule `subsequence`",
    ),
    (
        "TCDScheduler",
        "it is `tcd` with `beta` the network’s own chain, on distilled times of the schedule `subsequence`",
    ),
    ("dpm_2_a", ANCESTRAL),
    ("dpm_2_ancestral", ANCESTRAL),
    ("KDPM2AncestralDiscreteScheduler", ANCESTRAL),
    ("dpmpp_2s_a", TWO_S),
    ("dpmpp_2s_ancestral", TWO_S),
    ("sample_dpmpp_2s_ancestral", TWO_S),
    ("dpmpp_sde", SDE),
    ("sample_dpmpp_sde", SDE),
    ("DPMSolverSDEScheduler", SDE),
    ("dpmpp_3m_sde", THREE_M),
    ("sample_dpmpp_3m_sde", THREE_M),
    ("dpm_fast", "it mixes orders to meet a number of evaluations; {kind: dpm, order: 3} keeps one order"),
    ("dpm_adaptive", "`rk45` chooses its steps by an estimate of the error as well, with another pair of methods"),
    (
        "ScoreSdeVeScheduler",
        "diffusers corrects with snr 0.15 over the whole batch: {kind: predictor-corrector, \
      snr: 0.15, norms: batch}; its predictor alone is `ve-reverse-diffusion`",
    ),
    ("ScoreSdeVpScheduler", "it is {kind: euler-maruyama, sde: vp} but for its last step, which adds noise"),
    ("pc", "it is `predictor-corrector`"),
    ("ancestral", "there are ve-ancestral, vp-ancestral and {kind: ddim, eta: 1}"),
    ("langevin", "it is `annealed-langevin`"),
];

const LMS: &str = "it is {kind: deis, order: 4, variable: sigma, extrapolate: true}";
const ANCESTRAL: &str = "it is `dpm-ancestral`";
const TWO_S: &str = "its ancestral noise is not here; {kind: dpm-plus-plus, variant: 2s} is the same with eta = 0";
const SDE: &str = "it is `dpm-plus-plus-sde`";
const THREE_M: &str = "{kind: dpm-multistep, order: 3, expansion: sde-denoised} has the third order with the same noise, \
                       but other weights";

/// A plan laid out for a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedPlan {
    /// Noise levels.
    pub sigmas: Sigmas,
    /// The rows, if the sampler has rows.
    pub walk: Option<Walk>,
    /// The steps that the loop carries out.
    pub scheme: Scheme,
}

/// A walk before its model is known.
///
/// A file may leave out `steps` where the schedule itself says how many levels there are.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "PlanFields")]
pub struct Plan {
    /// Noise levels.
    pub schedule: AnySchedule,
    /// Number of levels.
    pub steps: usize,
    /// Sampler that goes down them.
    pub sampler: AnySampler,
}

/// A plan as a file writes it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFields {
    schedule: AnySchedule,
    steps: Option<usize>,
    sampler: AnySampler,
}

impl TryFrom<PlanFields> for Plan {
    type Error = &'static str;

    fn try_from(PlanFields { schedule, steps, sampler }: PlanFields) -> Result<Self, Self::Error> {
        let steps = steps.or_else(|| schedule.get().levels()).ok_or("missing field `steps`, the number of levels")?;
        Ok(Self { schedule, steps, sampler })
    }
}

impl Plan {
    /// The plan with these in place of its own; a schedule that is written out says itself how many levels it has.
    #[must_use]
    pub fn with(self, schedule: Option<AnySchedule>, steps: Option<usize>, sampler: Option<AnySampler>) -> Self {
        let written = schedule.as_ref().and_then(|schedule| schedule.get().levels());
        Self {
            steps: steps.or(written).unwrap_or(self.steps),
            schedule: schedule.unwrap_or(self.schedule),
            sampler: sampler.unwrap_or(self.sampler),
        }
    }

    /// Fifty evaluations of DDIM on Karras' levels from σ = 80: right for any network until somebody knows better.
    pub fn ddim() -> Self {
        let schedule = AnySchedule::Karras(Karras { rho: 7.0, max: Some(80.0), min: None });
        Self { schedule, steps: 50, sampler: AnySampler::Ddim(Ddim { eta: 0.0 }) }
    }

    /// Fifty evaluations of DDIM on Karras' levels over the network's own range.
    pub fn within_range() -> Self {
        let schedule = AnySchedule::Karras(Karras { rho: 7.0, max: None, min: None });
        Self { schedule, steps: 50, sampler: AnySampler::Ddim(Ddim { eta: 0.0 }) }
    }

    /// Twenty-five levels of the VE chain's ancestral sampler, from σ = 5 to 0.06, for posteriors by matched moments; with
    /// data of −1 … 1 in mind.
    pub fn posterior() -> Self {
        let schedule = AnySchedule::Geometric(Geometric { max: Some(5.0), min: Some(0.06) });
        Self { schedule, steps: 25, sampler: AnySampler::VeAncestral(VeAncestral::default()) }
    }

    /// A hundred evaluations from σ = 2 to 0.06 for annealed posteriors, with data of −1 … 1 in mind.
    ///
    /// On a Gaussian prior with the covariance of Fashion-MNIST, three quarters of the pixels hidden, this ends with the
    /// variance of the posterior and 0.3 dB from its mean; half the levels lose another 0.4 dB. Beginning at σ = 1 is as
    /// good there, but leaves in some samples what only the first image had.
    pub fn annealed_posterior() -> Self {
        let schedule = AnySchedule::Geometric(Geometric { max: Some(2.0), min: Some(0.06) });
        Self { schedule, steps: 100, sampler: AnySampler::Consistent(Consistent { c: 0.9, v: 0.05 }) }
    }

    /// The walk for exact likelihoods: τ = σ², T = 1, from σ = 0.4 to 0.06, with τ ≤ η²/‖A‖² to come from the likelihood.
    ///
    /// Below η the step is no longer capped, and at c = 1 the last one goes all the way to D. Beginning much higher costs
    /// (v + σ²)/η² steps for every e-fold by which hidden pixels of variance v forget their start.
    pub fn exact_posterior() -> Self {
        let schedule = AnySchedule::Geometric(Geometric { max: Some(0.4), min: Some(0.06) });
        let sampler = AnySampler::Simplified(Simplified { c: 1.0, t0: 1.0, ramp: Ramp::Constant });
        Self { schedule, steps: 150, sampler }
    }

    /// The levels, for a model that was trained from σ = `range.0` to `range.1`.
    pub fn sigmas(&self, range: (f64, f64)) -> Result<Sigmas, Error> {
        self.schedule.get().sigmas(count("steps", self.steps)?, range)
    }

    /// The whole of it, for a model that was trained from σ = `range.0` to `range.1`.
    ///
    /// Rows are shortened to τ ≤ `limit`; an error if there is a limit and the sampler has no rows.
    pub fn resolve(&self, range: (f64, f64), limit: f64) -> Result<ResolvedPlan, Error> {
        self.resolve_with(self.sampler.get(), range, limit)
    }

    /// Resolves the plan with another sampler than its own, one that no list holds.
    pub fn resolve_with(&self, solver: &dyn Solver, range: (f64, f64), limit: f64) -> Result<ResolvedPlan, Error> {
        let sigmas = self.sigmas(range)?;
        let walk = solver.row(&sigmas)?.map(|walk| walk.capped(limit));
        let scheme = match &walk {
            Some(walk) => Scheme::from(walk),
            None if limit.is_finite() => {
                let want =
                    "one with rows, whose steps a likelihood beside the score can shorten (or take --method mmps)";
                return Err(Error::parameter("the sampler", want, "one without"));
            }
            None => solver.scheme(&sigmas)?,
        };
        Ok(ResolvedPlan { sigmas, walk, scheme })
    }
}
