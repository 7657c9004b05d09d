//! Ways down the noise levels that are no rows: several scores a step, or memory of earlier ones. Pure arithmetic.
//!
//! Each is laid out as a [`Scheme`] in the frame x + σ n. In it the probability flow is dx/dσ = ε(x, σ) [EDM, Eq. 1], and
//! with h = ln(σ/σ′), half the growth of the log signal-to-noise ratio, α and s of the papers drop out of every formula.
//! The last step, to σ′ = 0, is x ← D(x, σ) in nearly all of them: there is no slope to be had at 0.

mod exponential;
mod time;

pub use exponential::{Expansion, SecondOrder};

use crate::{
    Error,
    numbers::{
        registry::{entries, modules},
        samplers::Sampler,
        scheme::{LinearCombination, Scheme, SolverStep, Stage},
        sigma::Sigmas,
        walk::Walk,
    },
};

/// The table of samplers that are no rows: each file, and the structs in it that are samplers.
macro_rules! solver_rows {
    ($then:ident $(, $($rest:tt)+)?) => {
        $then! { $($($rest)+,)? {
            ddpm_learned: DdpmLearned,
            deis: Deis,
            dpm: Dpm,
            dpm_ancestral: DpmAncestral DpmPlusPlusSde,
            dpm_multistep: DpmMultistep,
            dpm_plus_plus: DpmPlusPlus,
            dpm_singlestep: DpmSinglestep,
            heun: Heun,
            ipndm: Ipndm,
            lcm: Lcm,
            pndm: Pndm,
            predictor_corrector: PredictorCorrector,
            rk45: Rk45,
            runge_kutta: RungeKutta,
            sa: Sa,
            stochastic: EulerMaruyama ReverseDiffusion Sra1 StochasticHeun,
            unipc: Unipc,
        } }
    };
}
pub(crate) use solver_rows;

solver_rows!(modules);
solver_rows!(entries);

/// A rule that turns noise levels into a scheme.
pub trait Solver {
    /// The scheme down `sigmas`.
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error>;

    /// The solver as a walk, if each step is a row.
    fn row(&self, _: &Sigmas) -> Result<Option<Walk>, Error> {
        Ok(None)
    }
}

/// Every sampler that is a row asks for one score a step.
impl<S: Sampler> Solver for S {
    fn scheme(&self, sigmas: &Sigmas) -> Result<Scheme, Error> {
        Ok(Scheme::from(&self.walk(sigmas)?))
    }

    fn row(&self, sigmas: &Sigmas) -> Result<Option<Walk>, Error> {
        self.walk(sigmas).map(Some)
    }
}

/// One step for each pair (σ, σ′) above 0; to 0 it lands on the denoised image.
fn hops(sigmas: &Sigmas, hop: impl FnMut((f64, f64)) -> SolverStep) -> Scheme {
    let inner = sigmas.pairs().take_while(|(_, next)| *next > 0.0).map(hop);
    inner.chain(landing(sigmas)).collect()
}

/// The step that lands on the denoised image, if the walk ends at 0.
fn landing(sigmas: &Sigmas) -> Option<SolverStep> {
    (sigmas.end() == 0.0).then(|| SolverStep::denoise(sigmas.min()))
}

/// x ← x + Σⱼ weights\[j\] εⱼ with ε at the beginning of this step and of those before it, the newest first.
fn multistep(sigma: f64, weights: &[f64]) -> SolverStep {
    SolverStep {
        stages: vec![Stage::epsilon(LinearCombination::state(), sigma)],
        next: LinearCombination::new(1.0, weights),
    }
}

/// `order` if the method comes in this order.
fn order(order: usize, known: &[usize], want: &'static str) -> Result<usize, Error> {
    if known.contains(&order) {
        return Ok(order);
    }
    Err(Error::parameter("order", want, order))
}
