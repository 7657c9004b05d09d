//! The chain with which a network was trained, and the levels that are picked of it.

use serde_json::Value as Json;

use super::{Config, walk::Family};
use crate::numbers::{
    precondition::{DdpmConfig, Labels, Prediction},
    schedule::{
        AnyChain, AnySchedule, BetaQuantiles, Betas, Cosine, Falling, Geometric, Karras, Law, LinearBeta, ScaledLinear,
        SigmoidBeta, Spacing, Subsequence, Within, ZeroSnr,
    },
};

/// What a class takes of a chain where its configuration says nothing.
pub(super) struct Defaults {
    pub beta: (f64, f64),
    pub schedule: &'static str,
}

impl Defaults {
    pub fn usual() -> Self {
        Self { beta: (1e-4, 0.02), schedule: "linear" }
    }

    fn of(family: Family) -> Self {
        match family {
            Family::Heun | Family::Kdpm2 | Family::Kdpm2Ancestral | Family::DpmSde => {
                Self { beta: (0.00085, 0.012), schedule: "linear" }
            }
            Family::Lcm | Family::Tcd => Self { beta: (0.00085, 0.012), schedule: "scaled_linear" },
            Family::Unclip => Self { schedule: "squaredcos_cap_v2", ..Self::usual() },
            _ => Self::usual(),
        }
    }
}

/// The chain of a class, and what its network predicts.
pub(super) fn of_class(scheduler: &Config, family: Family, notes: &mut Vec<String>) -> Result<DdpmConfig, String> {
    let mut config = trained(scheduler, Defaults::of(family))?;
    let knows = matches!(
        family,
        Family::Ddim
            | Family::Ddpm
            | Family::Euler
            | Family::EulerAncestral
            | Family::Multistep
            | Family::Unipc
            | Family::Lcm
            | Family::Tcd
            | Family::Upwards
    );
    if knows && scheduler.flag("rescale_betas_zero_snr", false)? {
        config.beta = ZeroSnr { beta: Box::new(config.beta) }.into();
        notes.push("rescale_betas_zero_snr: the last level is σ = 4096, where ᾱ = 2⁻²⁴".to_owned());
    }
    Ok(config)
}

/// The chain with which the network was trained, and what it predicts.
pub(super) fn trained(scheduler: &Config, defaults: Defaults) -> Result<DdpmConfig, String> {
    let beta = beta_of(scheduler, defaults)?;
    Ok(DdpmConfig { beta, prediction: prediction(scheduler)?, label_times: None, labels: Labels::default() })
}

/// The chain of a solver on the path of a flow, which gives the ends of some levels.
pub(super) fn beta(scheduler: &Config) -> Result<AnyChain, String> {
    beta_of(scheduler, Defaults::usual())
}

fn beta_of(scheduler: &Config, defaults: Defaults) -> Result<AnyChain, String> {
    let first = scheduler.number("beta_start", defaults.beta.0)?;
    let last = scheduler.number("beta_end", defaults.beta.1)?;
    let times = scheduler.integer("num_train_timesteps")?.unwrap_or(1000);
    let times = usize::try_from(times).map_err(|_| scheduler.wrong("num_train_timesteps", "a positive number"))?;
    let trained = scheduler.get("trained_betas").map(|betas| {
        let numbers = betas.as_array().and_then(|betas| betas.iter().map(Json::as_f64).collect::<Option<Vec<f64>>>());
        numbers.ok_or_else(|| format!("{}: trained_betas must be a list of numbers", scheduler.file))
    });
    let falling = |law| AnyChain::Falling(Falling { law, times, ..Falling::default() });
    Ok(match (trained.transpose()?, scheduler.text("beta_schedule")?.unwrap_or(defaults.schedule)) {
        (Some(betas), _) => AnyChain::Betas(Betas { betas }),
        (None, "linear") => AnyChain::LinearBeta(LinearBeta { first, last, times }),
        (None, "scaled_linear") => AnyChain::ScaledLinear(ScaledLinear { first, last, times }),
        (None, "squaredcos_cap_v2") => AnyChain::Cosine(Cosine { times, ..Cosine::default() }),
        (None, "sigmoid") => AnyChain::SigmoidBeta(SigmoidBeta { first, last, times }),
        (None, "laplace") => falling(Law::Laplace),
        (None, "exp") => falling(Law::Exponential),
        _ => {
            let want = "linear, scaled_linear, squaredcos_cap_v2, sigmoid, laplace or exp";
            return Err(scheduler.wrong("beta_schedule", want));
        }
    })
}

fn prediction(scheduler: &Config) -> Result<Prediction, String> {
    // Before 0.9 a flag said whether the network predicts ε or the image.
    let usual = if scheduler.flag("predict_epsilon", true)? { "epsilon" } else { "sample" };
    match scheduler.text("prediction_type")?.unwrap_or(usual) {
        "epsilon" => Ok(Prediction::Epsilon),
        "v_prediction" => Ok(Prediction::V),
        "sample" | "original_sample" => Ok(Prediction::Sample),
        "flow_prediction" => {
            Err(format!("{}: prediction_type is flow_prediction, which needs use_flow_sigmas", scheduler.file))
        }
        _ => Err(scheduler.wrong("prediction_type", "epsilon, v_prediction, sample or flow_prediction")),
    }
}

/// Levels of a walk down a chain.
pub(super) struct Levels {
    pub schedule: AnySchedule,
    pub spacing: Spacing,
    pub labels: Labels,
    /// Whether the levels are laid out between ends, not picked by time.
    pub laid: bool,
}

/// Law by which levels are laid between their ends, if they are.
pub(super) fn law(scheduler: &Config, family: Family) -> Result<Option<LevelLaw>, String> {
    if !family.lays_levels() {
        return Ok(None);
    }
    let flag = |key| scheduler.flag(key, false);
    let chosen = [
        (flag("use_karras_sigmas")?, LevelLaw::Karras),
        (family == Family::Multistep && flag("use_lu_lambdas")?, LevelLaw::Lu),
        (flag("use_exponential_sigmas")?, LevelLaw::Exponential),
        (flag("use_beta_sigmas")?, LevelLaw::Beta),
    ];
    Ok(chosen.into_iter().find(|(asked, _)| *asked).map(|(_, law)| law))
}

/// Laws of diffusers.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum LevelLaw {
    Karras,
    Lu,
    Exponential,
    Beta,
}

impl LevelLaw {
    /// The schedule between these ends, where they are given.
    pub fn schedule(self, (min, max): (Option<f64>, Option<f64>)) -> AnySchedule {
        match self {
            Self::Karras => Karras { rho: 7.0, max, min }.into(),
            // Lu's λ in equal steps.
            Self::Lu | Self::Exponential => Geometric { max, min }.into(),
            Self::Beta => BetaQuantiles { max, min, ..BetaQuantiles::default() }.into(),
        }
    }

    /// Labels of levels that lie between whole times.
    fn labels(self, family: Family, beta: &AnyChain) -> Labels {
        let rounds = matches!(self, Self::Karras | Self::Lu);
        match family {
            Family::Kdpm2 | Family::Kdpm2Ancestral if rounds => Labels::Nearest,
            Family::Multistep if rounds && matches!(beta, AnyChain::Cosine(_)) => Labels::Below,
            _ if family.is_open() => {
                if rounds {
                    Labels::Nearest
                } else {
                    Labels::Below
                }
            }
            _ => Labels::Logarithmic,
        }
    }
}

/// The levels of a class down its chain.
pub(super) fn levels(scheduler: &Config, family: Family, beta: &AnyChain) -> Result<Levels, String> {
    let spacing = spacing(scheduler, family)?;
    let offset = if family.has_spacing() { scheduler.integer("steps_offset")?.unwrap_or(0) } else { 0 };
    let offset = if matches!(spacing, Spacing::Leading) { offset } else { 0 };
    let offset = usize::try_from(offset).map_err(|_| scheduler.wrong("steps_offset", "0 or more"))?;
    let picked: AnySchedule = Subsequence {
        beta: beta.clone(),
        spacing,
        offset,
        open: family.is_open(),
        distilled: distilled(scheduler, family)?,
        max: largest(scheduler, family)?,
    }
    .into();
    let Some(law) = law(scheduler, family)? else {
        // Levels half way between two others are told by ln σ.
        let halves = matches!(family, Family::Kdpm2 | Family::Kdpm2Ancestral | Family::DpmSde);
        let labels = if halves { Labels::Logarithmic } else { Labels::Linear };
        return Ok(Levels { schedule: picked, spacing, labels, laid: false });
    };
    let schedule = law.schedule(ends(scheduler, family)?);
    // The ends are those of the picked times, of open spacings those of the chain.
    let whole = family.is_open() || matches!(spacing, Spacing::Even) || interpolates(scheduler, family)?;
    let schedule = if whole { schedule } else { Within { levels: Box::new(schedule), ends: Box::new(picked) }.into() };
    Ok(Levels { schedule, spacing, labels: law.labels(family, beta), laid: true })
}

/// Whether Euler's levels are geometric between the ends of the chain.
pub(super) fn interpolates(scheduler: &Config, family: Family) -> Result<bool, String> {
    Ok(family == Family::Euler && scheduler.text("interpolation_type")?.is_some_and(|kind| kind == "log_linear"))
}

fn spacing(scheduler: &Config, family: Family) -> Result<Spacing, String> {
    let even = !family.is_open() && family.is_continuous();
    let usual = if family.is_open() || even { "linspace" } else { "leading" };
    match family {
        Family::Lcm | Family::Tcd => return Ok(Spacing::Distilled),
        Family::Unclip => return Ok(Spacing::Respaced),
        Family::Singlestep => return Ok(Spacing::Linspace),
        _ => {}
    }
    match scheduler.text("timestep_spacing")?.unwrap_or(usual) {
        "leading" => Ok(Spacing::Leading),
        "trailing" => Ok(Spacing::Trailing),
        "linspace" if even => Ok(Spacing::Even),
        "linspace" => Ok(Spacing::Linspace),
        _ => Err(scheduler.wrong("timestep_spacing", "leading, trailing or linspace")),
    }
}

/// σ_min and σ_max of the two classes that have them.
pub(super) fn ends(scheduler: &Config, family: Family) -> Result<(Option<f64>, Option<f64>), String> {
    if !matches!(family, Family::Euler | Family::Unipc) {
        return Ok((None, None));
    }
    let end = |key: &str| scheduler.get(key).map(|_| scheduler.number(key, 0.0)).transpose();
    Ok((end("sigma_min")?, end("sigma_max")?))
}

fn distilled(scheduler: &Config, family: Family) -> Result<usize, String> {
    let usual = Subsequence::default().distilled;
    if !matches!(family, Family::Lcm | Family::Tcd) {
        return Ok(usual);
    }
    let given = scheduler.integer("original_inference_steps")?.map(usize::try_from).transpose();
    Ok(given.map_err(|_| scheduler.wrong("original_inference_steps", "a positive number"))?.unwrap_or(usual))
}

/// The largest level whose time is picked.
fn largest(scheduler: &Config, family: Family) -> Result<Option<f64>, String> {
    if !matches!(family, Family::Multistep | Family::Singlestep | Family::Sa) {
        return Ok(None);
    }
    let lambda = scheduler.number("lambda_min_clipped", f64::NEG_INFINITY)?;
    Ok((lambda > f64::NEG_INFINITY).then(|| (-lambda).exp()))
}
