//! The walk of each class down its chain.

use super::{
    Config, Conventions,
    chain::{self, Levels},
    ends_with_noise, flow, thresholding,
};
use crate::{
    numbers::{
        plan::{AnySampler, Plan},
        precondition::{AnyPrecondition, DdpmConfig, Edm, Labels, Prediction},
        samplers::{Ddim, Ddpm, Tcd, Variance, VeAncestral},
        schedule::{AnyChain, AnySchedule, Ending, Spacing},
        solvers::{
            DdpmLearned, Deis, Dpm, DpmAncestral, DpmMultistep, DpmPlusPlusSde, DpmSinglestep, Expansion, Heun, Lcm,
            Pndm, PndmStart, Sa, SecondOrder, Unipc, Variable, Width,
        },
    },
    scores::denoiser::Clip,
};

/// Classes that step down a chain in the same way.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Family {
    Ddim,
    Ddpm,
    Unclip,
    Repaint,
    Pndm,
    Euler,
    EulerAncestral,
    Heun,
    Lms,
    Kdpm2,
    Kdpm2Ancestral,
    DpmSde,
    Multistep,
    Singlestep,
    Deis,
    Unipc,
    Sa,
    Lcm,
    Tcd,
    /// From images to noise.
    Upwards,
}

impl Family {
    /// K + 1 times are picked, and the last is left out.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Multistep | Self::Singlestep | Self::Deis | Self::Unipc | Self::Sa)
    }

    /// Times may lie between whole ones.
    pub fn is_continuous(self) -> bool {
        matches!(
            self,
            Self::Euler
                | Self::EulerAncestral
                | Self::Heun
                | Self::Lms
                | Self::Kdpm2
                | Self::Kdpm2Ancestral
                | Self::DpmSde
        )
    }

    /// Levels may be laid between their ends.
    pub fn lays_levels(self) -> bool {
        self.is_open() || (self.is_continuous() && self != Self::EulerAncestral)
    }

    /// The configuration says how times are spaced.
    pub fn has_spacing(self) -> bool {
        !matches!(self, Self::Singlestep | Self::Unclip | Self::Repaint | Self::Lcm | Self::Tcd)
    }

    /// Steps of the class's pipeline.
    fn steps(self) -> usize {
        match self {
            Self::Ddpm => 1000,
            Self::Unclip => 25,
            Self::Lcm | Self::Tcd => 4,
            _ => 50,
        }
    }
}

/// The conventions of a class that steps down a chain.
pub(super) fn conventions(scheduler: &Config, name: &str, family: Family) -> Result<Conventions, String> {
    let mut notes = Vec::new();
    if family.is_open() && scheduler.flag("use_flow_sigmas", false)? {
        return on_flow(scheduler, family, notes);
    }
    let mut config = chain::of_class(scheduler, family, &mut notes)?;
    let times = config.beta.get().times().map_err(|e| e.to_string())?;
    let Levels { schedule, spacing, labels, laid } = chain::levels(scheduler, family, &config.beta)?;
    config.labels = labels;
    if labels == Labels::Below {
        notes.push(
            "labels are cut to whole times, as diffusers does, whose ends may be one lower by rounding".to_owned(),
        );
    }
    let end = match (noise_left(scheduler, family)?, laid) {
        (false, _) => End::Images,
        (true, true) if matches!(family, Family::Unipc | Family::Deis | Family::Sa) => End::Last,
        (true, _) => End::At(times.range().0),
    };
    let steps = family.steps().min(times.levels().len());
    let marks = Marks { steps, spacing, noisy: noisy_times(labels, laid, &config.beta)? };
    let sampler = sampler(scheduler, name, (family, &config), &marks, &mut notes)?;
    let sample = Plan { schedule: end.of(schedule), steps, sampler };
    let clip = clip(scheduler, family, &mut notes)?;
    scheduler.skip(inert(family));
    let precondition = precondition(scheduler, family, config)?;
    Ok(Conventions { precondition, sample, clip, notes })
}

/// Where a walk ends.
#[derive(Clone, Copy)]
pub(super) enum End {
    /// At images.
    Images,
    /// At the schedule's last level.
    Last,
    /// At this level.
    At(f64),
}

impl End {
    /// The levels of a walk that ends there.
    pub fn of(self, levels: AnySchedule) -> AnySchedule {
        let at = match self {
            Self::Images => return levels,
            Self::Last => None,
            Self::At(level) => Some(level),
        };
        Ending { levels: Box::new(levels), at }.into()
    }
}

/// A solver of chains on the path of a flow.
fn on_flow(scheduler: &Config, family: Family, mut notes: Vec<String>) -> Result<Conventions, String> {
    let beta = chain::beta(scheduler)?;
    let flow::Path { precondition, schedule, end } = flow::path(scheduler, family, &beta, &mut notes)?;
    let end = if noise_left(scheduler, family)? { end } else { End::Images };
    // SA-Solver adds noise where the whole label lies in 200 … 800.
    let sigma = |t: f64| if t < precondition.times { t / (precondition.times - t) } else { f64::MAX };
    let marks = Marks { steps: 50, spacing: Spacing::Linspace, noisy: (sigma(200.0), sigma(800.999)) };
    let config = DdpmConfig { beta, prediction: Prediction::Epsilon, label_times: None, labels: Labels::default() };
    let sampler = sampler(scheduler, "", (family, &config), &marks, &mut notes)?;
    let sample = Plan { schedule: end.of(schedule), steps: 50, sampler };
    let clip = clip(scheduler, family, &mut notes)?;
    scheduler.skip(&["timestep_spacing", "steps_offset", "lambda_min_clipped", "rescale_betas_zero_snr"]);
    scheduler.skip(inert(family));
    Ok(Conventions { precondition: precondition.into(), sample, clip, notes })
}

/// Whether the walk ends above σ = 0.
fn noise_left(scheduler: &Config, family: Family) -> Result<bool, String> {
    match family {
        Family::Deis | Family::Sa | Family::Tcd => Ok(true),
        Family::Ddim => Ok(!scheduler.flag("set_alpha_to_one", true)?),
        Family::Pndm => Ok(!scheduler.flag("set_alpha_to_one", false)?),
        Family::Euler | Family::Multistep | Family::Singlestep | Family::Unipc => ends_with_noise(scheduler),
        _ => Ok(false),
    }
}

/// What samplers need to know of the levels.
struct Marks {
    steps: usize,
    spacing: Spacing,
    /// The smallest and largest σ at which SA-Solver adds noise.
    noisy: (f64, f64),
}

/// The levels of the times 200 to 800, where those are labels.
fn noisy_times(labels: Labels, laid: bool, beta: &AnyChain) -> Result<(f64, f64), String> {
    let times = beta.get().times().map_err(|e| e.to_string())?;
    let (first, last) = match labels {
        Labels::Nearest if laid => (199.5, 800.5),
        Labels::Below if laid => (200.0, 800.999),
        _ => (200.0, 800.0),
    };
    let none = times.last() < 200.0;
    Ok(if none { (f64::MAX, f64::MAX) } else { (times.sigma(first), times.sigma(last)) })
}

/// The network's frame: its chain, or EDM's where labels are ln(σ)/4.
fn precondition(scheduler: &Config, family: Family, config: DdpmConfig) -> Result<AnyPrecondition, String> {
    let continuous = family == Family::Euler
        && scheduler.text("timestep_type")?.is_some_and(|kind| kind == "continuous")
        && config.prediction == Prediction::V;
    if !continuous {
        return Ok(config.into());
    }
    let (min, max) = config.beta.get().times().map_err(|e| e.to_string())?.range();
    let given = chain::ends(scheduler, family)?;
    Ok(Edm { sigma_data: 1.0, range: [given.0.unwrap_or(min), given.1.unwrap_or(max)], v: true }.into())
}

/// How the denoised image is held within its range.
fn clip(scheduler: &Config, family: Family, notes: &mut Vec<String>) -> Result<Option<Clip>, String> {
    let usual = match family {
        // diffusers clips by default in these.
        Family::Ddim | Family::Ddpm | Family::Unclip | Family::Repaint | Family::Upwards => Some(true),
        Family::Heun | Family::Lcm => Some(false),
        _ => None,
    };
    let thresholds = match family {
        Family::Ddim | Family::Ddpm | Family::Lcm => true,
        // Of ε it thresholds nothing.
        Family::Unipc => scheduler.flag("predict_x0", true)?,
        _ => family.is_open(),
    };
    let dynamic = if thresholds { thresholding(scheduler)? } else { None };
    let limit = match usual {
        Some(usual) if scheduler.flag("clip_sample", usual)? => Some(scheduler.number("clip_sample_range", 1.0)?),
        _ => None,
    };
    let clip = dynamic.or(limit.map(Clip::Limit));
    if clip.is_some() && family == Family::Ddim {
        notes.push(
            "clip_sample: ε follows from the clipped image, as with diffusers' use_clipped_model_output".to_owned(),
        );
    }
    Ok(clip)
}

/// Keys of a class that its own steps do not look at.
fn inert(family: Family) -> &'static [&'static str] {
    match family {
        Family::Lcm => &["set_alpha_to_one", "steps_offset", "timestep_spacing"],
        Family::Tcd => {
            &["set_alpha_to_one", "steps_offset", "timestep_spacing", "timestep_scaling", "clip_sample", "thresholding"]
        }
        Family::Multistep | Family::Singlestep | Family::Sa => &["variance_type"],
        Family::DpmSde => &["noise_sampler_seed"],
        Family::Euler => &["timestep_type", "sigma_min", "sigma_max"],
        Family::Unipc => &["sigma_min", "sigma_max", "thresholding"],
        Family::Deis => &["algorithm_type", "solver_type"],
        Family::Upwards => &["timestep_spacing", "steps_offset", "set_alpha_to_one"],
        _ => &[],
    }
}

/// The sampler of a class; a note where it is not here.
fn sampler(
    scheduler: &Config,
    name: &str,
    (family, config): (Family, &DdpmConfig),
    marks: &Marks,
    notes: &mut Vec<String>,
) -> Result<AnySampler, String> {
    noted(scheduler, name, (family, config), marks, notes)?;
    Ok(match family {
        Family::Ddim | Family::Euler | Family::Upwards | Family::Repaint => Ddim { eta: 0.0 }.into(),
        Family::EulerAncestral => VeAncestral::default().into(),
        Family::Heun => Heun::default().into(),
        Family::Lms => Deis { order: 4, variable: Variable::Sigma, extrapolate: true, ..Deis::default() }.into(),
        Family::Kdpm2 => Dpm { order: 2 }.into(),
        Family::Kdpm2Ancestral => DpmAncestral::default().into(),
        Family::DpmSde => DpmPlusPlusSde::default().into(),
        Family::Ddpm | Family::Unclip => ancestral(scheduler, family, marks, notes)?,
        Family::Multistep => multistep(scheduler, notes)?,
        Family::Singlestep => singlestep(scheduler, notes)?,
        Family::Deis => deis(scheduler)?,
        Family::Unipc => unipc(scheduler)?,
        Family::Sa => sa(scheduler, marks)?,
        Family::Pndm => pndm(scheduler, config)?,
        Family::Lcm => {
            let (beta, scaling) = (config.beta.clone(), scheduler.number("timestep_scaling", 10.0)?);
            Lcm { beta, scaling, ..Lcm::default() }.into()
        }
        Family::Tcd => Tcd { beta: config.beta.clone(), ..Tcd::default() }.into(),
    })
}

/// Names what is done otherwise than by the class.
fn noted(
    scheduler: &Config,
    name: &str,
    (family, config): (Family, &DdpmConfig),
    marks: &Marks,
    notes: &mut Vec<String>,
) -> Result<(), String> {
    let halves = matches!(family, Family::Kdpm2 | Family::Kdpm2Ancestral);
    match family {
        Family::Ddim | Family::Pndm => strides(family, marks, &config.beta, notes)?,
        _ if halves && config.labels == Labels::Nearest => {
            notes.push("levels half way are told the nearest whole time as well, in diffusers the fraction".to_owned());
        }
        Family::Euler if chain::interpolates(scheduler, family)? && chain::law(scheduler, family)?.is_none() => {
            let done = "is not applied: `schedule` geometric has these levels";
            notes.push(format!("interpolation_type log_linear {done}"));
        }
        Family::Upwards => {
            notes.push(format!("{name} goes from images to noise: here DDIM goes from noise to images"));
        }
        Family::Repaint => {
            notes.push(format!("{name} fills an image that is given: here DDIM draws new ones"));
            scheduler.number("eta", 0.0)?;
        }
        _ => {}
    }
    Ok(())
}

fn deis(scheduler: &Config) -> Result<AnySampler, String> {
    Ok(Deis {
        order: order(scheduler, "solver_order", 2)?,
        variable: Variable::LogSigma,
        lower_final: scheduler.flag("lower_order_final", true)?,
        ..Deis::default()
    }
    .into())
}

/// Names the spacings along which diffusers' step and its next time do not meet.
fn strides(family: Family, marks: &Marks, beta: &AnyChain, notes: &mut Vec<String>) -> Result<(), String> {
    let times = beta.get().times().map_err(|e| e.to_string())?.levels().len();
    let name = if family == Family::Pndm { "PNDM" } else { "DDIM" };
    match marks.spacing {
        Spacing::Linspace => notes.push(format!(
            "diffusers' {name} steps over N/K times, which are not the distances of linspace: here it steps to the next"
        )),
        Spacing::Trailing if times % marks.steps != 0 => notes.push(format!(
            "diffusers' {name} steps over ⌊N/K⌋ times, which are not quite the distances of trailing: here it steps to the next"
        )),
        _ => {}
    }
    Ok(())
}

fn ancestral(scheduler: &Config, family: Family, marks: &Marks, notes: &mut Vec<String>) -> Result<AnySampler, String> {
    let usual = if family == Family::Unclip { "fixed_small_log" } else { "fixed_small" };
    let variance = match scheduler.text("variance_type")?.unwrap_or(usual) {
        "fixed_small" | "fixed_small_log" => Variance::Posterior,
        large @ ("fixed_large" | "fixed_large_log") => {
            if matches!(marks.spacing, Spacing::Trailing) || scheduler.integer("steps_offset")?.is_some_and(|o| o > 0) {
                notes.push(format!(
                    "{large}: diffusers adds noise after the last step as well, where its time is not 0"
                ));
            }
            Variance::Beta
        }
        "learned_range" => return Ok(DdpmLearned::default().into()),
        other => {
            notes.push(format!("variance_type {other} is sampled with the posterior's variance"));
            Variance::Posterior
        }
    };
    Ok(Ddpm { variance }.into())
}

fn order(scheduler: &Config, key: &str, usual: i64) -> Result<usize, String> {
    let given = scheduler.integer(key)?.unwrap_or(usual);
    usize::try_from(given).ok().filter(|order| (1..=3).contains(order)).ok_or_else(|| scheduler.wrong(key, "1, 2 or 3"))
}

/// What DPM solvers expand, and how.
fn expansion(scheduler: &Config, notes: &mut Vec<String>) -> Result<(usize, Expansion, SecondOrder), String> {
    let order = order(scheduler, "solver_order", 2)?;
    let expansion = match scheduler.text("algorithm_type")?.unwrap_or("dpmsolver++") {
        "dpmsolver++" | "deis" => Expansion::Denoised,
        "dpmsolver" => Expansion::Noise,
        "sde-dpmsolver++" => Expansion::SdeDenoised,
        "sde-dpmsolver" if order < 3 => Expansion::SdeNoise,
        "sde-dpmsolver" => return Err(scheduler.wrong("solver_order", "1 or 2 (sde-dpmsolver)")),
        _ => return Err(scheduler.wrong("algorithm_type", "dpmsolver++, dpmsolver, sde-dpmsolver++ or sde-dpmsolver")),
    };
    let second = match scheduler.text("solver_type")?.unwrap_or("midpoint") {
        "midpoint" | "logrho" | "bh1" | "bh2" => SecondOrder::Midpoint,
        "heun" => SecondOrder::Heun,
        _ => return Err(scheduler.wrong("solver_type", "midpoint or heun")),
    };
    if order == 3 && expansion == Expansion::SdeDenoised {
        notes.push(
            "sde-dpmsolver++ of order 3 weighs D″ as the form of the flow does, by ½ − …; diffusers by −½ − …"
                .to_owned(),
        );
    }
    Ok((order, expansion, second))
}

/// DPM solvers of several steps.
pub(super) fn multistep(scheduler: &Config, notes: &mut Vec<String>) -> Result<AnySampler, String> {
    let (order, expansion, second) = expansion(scheduler, notes)?;
    let lower_final = scheduler.flag("lower_order_final", true)?;
    let euler_final = scheduler.flag("euler_at_final", false)?;
    Ok(DpmMultistep { order, expansion, second, lower_final, euler_final }.into())
}

fn singlestep(scheduler: &Config, notes: &mut Vec<String>) -> Result<AnySampler, String> {
    let (order, expansion, second) = expansion(scheduler, notes)?;
    let lower_final = scheduler.flag("lower_order_final", false)?;
    Ok(DpmSinglestep { order, expansion, second, lower_final }.into())
}

fn unipc(scheduler: &Config) -> Result<AnySampler, String> {
    let width = match scheduler.text("solver_type")?.unwrap_or("bh2") {
        "bh1" => Width::Bh1,
        "bh2" | "midpoint" | "heun" | "logrho" => Width::Bh2,
        _ => return Err(scheduler.wrong("solver_type", "bh1 or bh2")),
    };
    let listed = scheduler.get("disable_corrector").map(|steps| {
        let steps = steps.as_array().map(|steps| steps.iter().map(|k| k.as_u64().map(|k| k as usize)).collect());
        steps.flatten().ok_or_else(|| scheduler.wrong("disable_corrector", "a list of steps"))
    });
    Ok(Unipc {
        order: order(scheduler, "solver_order", 2)?,
        width,
        noise: !scheduler.flag("predict_x0", true)?,
        lower_final: scheduler.flag("lower_order_final", true)?,
        uncorrected: listed.transpose()?.unwrap_or_default(),
    }
    .into())
}

fn sa(scheduler: &Config, marks: &Marks) -> Result<AnySampler, String> {
    let noise = match scheduler.text("algorithm_type")?.unwrap_or("data_prediction") {
        "data_prediction" => false,
        "noise_prediction" => true,
        _ => return Err(scheduler.wrong("algorithm_type", "data_prediction or noise_prediction")),
    };
    Ok(Sa {
        predictor: order(scheduler, "predictor_order", 2)?,
        corrector: order(scheduler, "corrector_order", 2)?,
        noise,
        tau: 1.0,
        tau_min: marks.noisy.0,
        tau_max: marks.noisy.1,
        lower_final: scheduler.flag("lower_order_final", true)?,
    }
    .into())
}

fn pndm(scheduler: &Config, config: &DdpmConfig) -> Result<AnySampler, String> {
    let start = if scheduler.flag("skip_prk_steps", false)? { PndmStart::Heun } else { PndmStart::RungeKutta };
    Ok(Pndm { start, v: config.prediction == Prediction::V, beta: config.beta.clone() }.into())
}
