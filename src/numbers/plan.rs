//! How to walk: which levels, how many, and which sampler goes down them.

use serde::{Deserialize, Serialize};

use crate::{
    Error,
    numbers::{
        registry::one_of,
        samplers::{
            AnnealedLangevin, Churn, Consistent, Ddim, Ddpm, ExponentialIntegrator, NonMarkovian, ProbabilityFlow,
            Ramp, Simplified, Snr, VeAncestral, VeEulerMaruyama, VeReverseDiffusion, VpAncestral,
        },
        schedule::{AnySchedule, Geometric, Karras, count},
        scheme::Scheme,
        sigma::Sigmas,
        solvers::{
            Deis, Dpm, DpmPlusPlus, EulerMaruyama, Heun, Ipndm, PredictorCorrector, ReverseDiffusion, Rk45, RungeKutta,
            Solver, Sra1, StochasticHeun, Unipc,
        },
        walk::Walk,
    },
};

one_of! {
    /// What `sampler:` may name.
    pub enum AnySampler: Solver {
        AnnealedLangevin, Churn, Consistent, Ddim, Ddpm, Deis, Dpm, DpmPlusPlus, EulerMaruyama, ExponentialIntegrator,
        Heun, Ipndm, NonMarkovian, PredictorCorrector, ProbabilityFlow, ReverseDiffusion, Rk45, RungeKutta, Simplified,
        Snr, Sra1, StochasticHeun, Unipc, VeAncestral, VeEulerMaruyama, VeReverseDiffusion, VpAncestral
    }
}

/// A plan laid out for a model.
#[derive(Clone, Debug, PartialEq)]
pub struct ResolvedPlan {
    /// Its levels.
    pub sigmas: Sigmas,
    /// The rows, if the sampler has rows.
    pub walk: Option<Walk>,
    /// What the loop carries out.
    pub scheme: Scheme,
}

/// A walk before its model is known.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// Where the levels lie.
    pub schedule: AnySchedule,
    /// How many levels.
    pub steps: usize,
    /// How to walk down them.
    pub sampler: AnySampler,
}

impl Plan {
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

    /// The same by another sampler than the plan's own, one that no list holds.
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
