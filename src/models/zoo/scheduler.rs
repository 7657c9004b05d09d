//! Schedulers of diffusers: how a network was trained, and the walk with which its folder samples.
//!
//! Every class of diffusers 0.42.1 is a row: its conventions are honoured, or it is refused by name. What a configuration
//! says of the walk beyond them becomes the default plan, or is named in a note.

use serde_json::{Map, Value as Json};

use crate::{
    files::json,
    numbers::{
        plan::{AnySampler, Plan},
        precondition::{AnyPrecondition, Consistency, DdpmConfig, Edm, Flow, Prediction},
        samplers::{Beta, Ddim, Ddpm, NonMarkovian, Variance, VeAncestral},
        schedule::{
            AnyChain, AnySchedule, Betas, Cosine, FlowTimes, Geometric, Karras, LinearBeta, List, ScaledLinear,
            SigmoidBeta, Spacing, Subsequence,
        },
        solvers::{DpmPlusPlus, Heun},
    },
};

/// One of the two configurations of a folder, or none.
pub(super) struct Config<'a> {
    pub known: Option<&'a Map<String, Json>>,
    pub file: &'static str,
}

impl Config<'_> {
    /// A value that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.known?.get(key).filter(|value| !value.is_null())
    }

    pub fn wrong(&self, key: &str, want: &str) -> String {
        let value = self.get(key).unwrap_or(&Json::Null);
        format!("{}: {key} is {value}, but {want} is wanted", self.file)
    }

    pub fn text(&self, key: &str) -> Result<Option<&str>, String> {
        let value = self.get(key);
        value.map(|value| value.as_str().ok_or_else(|| self.wrong(key, "a text"))).transpose()
    }

    pub fn integer(&self, key: &str) -> Result<Option<i64>, String> {
        let value = self.get(key);
        value.map(|value| value.as_i64().ok_or_else(|| self.wrong(key, "an integer"))).transpose()
    }

    pub fn number(&self, key: &str, default: f64) -> Result<f64, String> {
        self.get(key).map_or(Ok(default), |value| json::number(value).ok_or_else(|| self.wrong(key, "a number")))
    }

    pub fn flag(&self, key: &str, default: bool) -> Result<bool, String> {
        self.get(key).map_or(Ok(default), |value| value.as_bool().ok_or_else(|| self.wrong(key, "true or false")))
    }

    pub fn is_one_of(&self, key: &str, values: &[&str]) -> Result<(), String> {
        match self.get(key) {
            Some(value) if !value.as_str().is_some_and(|value| values.contains(&value)) => {
                Err(self.wrong(key, if values.is_empty() { "null" } else { values[0] }))
            }
            _ => Ok(()),
        }
    }
}

/// The network's frame and the walk of the folder, and what there is to know of them.
pub(super) struct Conventions {
    pub precondition: AnyPrecondition,
    pub sample: Plan,
    /// Limit within which the denoised image is held at every step.
    pub clip: Option<f64>,
    pub notes: Vec<String>,
}

/// Steps of a class down a chain.
#[derive(Clone, Copy)]
enum Steps {
    Ddim,
    Ddpm,
    Euler,
    EulerAncestral,
    Heun,
    DpmPlusPlus,
    /// From images to noise.
    Upwards,
    /// A sampler that is not here, or other levels.
    Others,
}

/// Conventions of a class.
#[derive(Clone, Copy)]
enum Class {
    Chain(Steps),
    Flow,
    Edm,
    Consistency,
}

/// Every class whose conventions are honoured.
const CLASSES: [(&str, Class); 29] = [
    ("DDIMScheduler", Class::Chain(Steps::Ddim)),
    ("DDIMParallelScheduler", Class::Chain(Steps::Ddim)),
    ("DDIMInverseScheduler", Class::Chain(Steps::Upwards)),
    ("DDPMScheduler", Class::Chain(Steps::Ddpm)),
    ("DDPMParallelScheduler", Class::Chain(Steps::Ddpm)),
    ("EulerDiscreteScheduler", Class::Chain(Steps::Euler)),
    ("EulerAncestralDiscreteScheduler", Class::Chain(Steps::EulerAncestral)),
    ("HeunDiscreteScheduler", Class::Chain(Steps::Heun)),
    ("DPMSolverMultistepScheduler", Class::Chain(Steps::DpmPlusPlus)),
    ("DPMSolverMultistepInverseScheduler", Class::Chain(Steps::Upwards)),
    ("DPMSolverSinglestepScheduler", Class::Chain(Steps::Others)),
    ("DPMSolverSDEScheduler", Class::Chain(Steps::Others)),
    ("DEISMultistepScheduler", Class::Chain(Steps::Others)),
    ("KDPM2DiscreteScheduler", Class::Chain(Steps::Others)),
    ("KDPM2AncestralDiscreteScheduler", Class::Chain(Steps::Others)),
    ("LCMScheduler", Class::Chain(Steps::Others)),
    ("LMSDiscreteScheduler", Class::Chain(Steps::Others)),
    ("PNDMScheduler", Class::Chain(Steps::Others)),
    ("RePaintScheduler", Class::Chain(Steps::Others)),
    ("SASolverScheduler", Class::Chain(Steps::Others)),
    ("TCDScheduler", Class::Chain(Steps::Others)),
    ("UniPCMultistepScheduler", Class::Chain(Steps::Others)),
    ("UnCLIPScheduler", Class::Chain(Steps::Others)),
    ("FlowMatchEulerDiscreteScheduler", Class::Flow),
    ("FlowMatchHeunDiscreteScheduler", Class::Flow),
    ("FlowMatchLCMScheduler", Class::Flow),
    ("EDMEulerScheduler", Class::Edm),
    ("EDMDPMSolverMultistepScheduler", Class::Edm),
    ("CMStochasticIterativeScheduler", Class::Consistency),
];

/// The class of score_sde's networks, which NCSN++ takes.
pub(super) const VE: &str = "ScoreSdeVeScheduler";

/// The conventions of a positional U-Net beside this configuration, or none.
pub(super) fn conventions(scheduler: &Config) -> Result<Conventions, String> {
    let Some(name) = scheduler.text("_class_name")? else {
        return Ok(Conventions {
            precondition: chain(scheduler)?.into(),
            sample: Plan::ddim(),
            clip: None,
            notes: Vec::new(),
        });
    };
    let class = CLASSES.iter().find(|(class, _)| *class == name).map(|(_, class)| *class);
    let class = class.ok_or_else(|| {
        format!("{}: a network of {name} is not opened: its conventions are not those of a chain, a flow, EDM or consistency", scheduler.file)
    })?;
    let steps = match class {
        Class::Chain(_) if scheduler.text("prediction_type")? == Some("flow_prediction") => {
            return flow(scheduler, name, "flow_shift");
        }
        Class::Chain(steps) => steps,
        Class::Flow => return flow(scheduler, name, "shift"),
        Class::Edm => return edm(scheduler, name),
        Class::Consistency => return consistency(scheduler),
    };
    let config = chain(scheduler)?;
    let (sample, mut notes) = walk(scheduler, name, steps, &config.beta)?;
    notes.extend(passed_over(scheduler)?);
    // diffusers clips by default in these two.
    let usual = matches!(steps, Steps::Ddim | Steps::Ddpm);
    let clip = scheduler.flag("clip_sample", usual)?.then(|| scheduler.number("clip_sample_range", 1.0)).transpose()?;
    if clip.is_some() && matches!(steps, Steps::Ddim) {
        notes.push(
            "clip_sample: ε follows from the clipped image, as with diffusers' use_clipped_model_output".to_owned(),
        );
    }
    Ok(Conventions { precondition: config.into(), sample, clip, notes })
}

/// The walk of a class down a chain, with the steps of its pipeline.
fn walk(scheduler: &Config, name: &str, steps: Steps, beta: &AnyChain) -> Result<(Plan, Vec<String>), String> {
    let mut notes = Vec::new();
    let sampler = sampler(scheduler, name, steps, &mut notes)?;
    let (usual, even, open) = match steps {
        Steps::Euler | Steps::EulerAncestral | Steps::Heun => ("linspace", true, false),
        Steps::DpmPlusPlus => ("linspace", false, true),
        Steps::Ddim | Steps::Ddpm | Steps::Upwards | Steps::Others => ("leading", false, false),
    };
    let spacing = match scheduler.text("timestep_spacing")?.unwrap_or(usual) {
        "leading" => Spacing::Leading,
        "trailing" => Spacing::Trailing,
        "linspace" if even => Spacing::Even,
        "linspace" => Spacing::Linspace,
        _ => return Err(scheduler.wrong("timestep_spacing", "leading, trailing or linspace")),
    };
    if matches!((steps, spacing), (Steps::Ddim, Spacing::Linspace)) {
        notes.push(
            "diffusers' DDIM steps over N/K times, which are not the distances of linspace: here it steps to the next"
                .to_owned(),
        );
    }
    let offset = if matches!(spacing, Spacing::Leading) { scheduler.integer("steps_offset")?.unwrap_or(0) } else { 0 };
    let offset = usize::try_from(offset).map_err(|_| scheduler.wrong("steps_offset", "0 or more"))?;
    let schedule = if scheduler.flag("use_karras_sigmas", false)? {
        AnySchedule::Karras(Karras { rho: 7.0, max: None, min: None })
    } else {
        Subsequence { beta: beta.clone(), spacing, offset, open }.into()
    };
    let steps = if matches!(steps, Steps::Ddpm) { 1000 } else { 50 };
    let times = beta.get().times().map_err(|e| e.to_string())?.levels().len();
    Ok((Plan { schedule, steps: steps.min(times), sampler }, notes))
}

/// The sampler of a class; a note where it is not here.
fn sampler(scheduler: &Config, name: &str, steps: Steps, notes: &mut Vec<String>) -> Result<AnySampler, String> {
    Ok(match steps {
        Steps::Ddim | Steps::Euler => Ddim { eta: 0.0 }.into(),
        Steps::EulerAncestral => VeAncestral::default().into(),
        Steps::Heun => Heun::default().into(),
        Steps::Ddpm => {
            let variance = match scheduler.text("variance_type")?.unwrap_or("fixed_small") {
                "fixed_small" | "fixed_small_log" => Variance::Posterior,
                "fixed_large" | "fixed_large_log" => Variance::Beta,
                other => {
                    notes.push(format!("variance_type {other} is sampled with the posterior's variance"));
                    Variance::Posterior
                }
            };
            Ddpm { variance }.into()
        }
        Steps::DpmPlusPlus => {
            let algorithm = scheduler.text("algorithm_type")?.unwrap_or("dpmsolver++");
            let order = scheduler.integer("solver_order")?.unwrap_or(2);
            let midpoint = scheduler.text("solver_type")?.unwrap_or("midpoint") == "midpoint";
            if algorithm == "dpmsolver++" && order == 2 && midpoint {
                return Ok(DpmPlusPlus::default().into());
            }
            notes.push(format!("{name} by {algorithm} of order {order} is not the default walk here: DDIM is"));
            Ddim { eta: 0.0 }.into()
        }
        Steps::Upwards => {
            notes.push(format!("{name} goes from images to noise: here DDIM goes from noise to images"));
            Ddim { eta: 0.0 }.into()
        }
        Steps::Others => {
            notes.push(format!(
                "{name} is not the default walk here: DDIM is (`sampler` {name} says what comes nearest)"
            ));
            Ddim { eta: 0.0 }.into()
        }
    })
}

/// Settings of the walk that are not honoured, each with what is done instead.
fn passed_over(scheduler: &Config) -> Result<Vec<String>, String> {
    let mut notes = Vec::new();
    for (key, done) in [
        ("thresholding", "is not applied"),
        ("use_exponential_sigmas", "is not applied: `schedule` geometric has these levels"),
        ("use_beta_sigmas", "is not applied"),
        ("use_lu_lambdas", "is not applied"),
    ] {
        if scheduler.flag(key, false)? {
            notes.push(format!("{key} {done}"));
        }
    }
    if !scheduler.flag("set_alpha_to_one", true)? {
        notes.push("set_alpha_to_one: false is not applied: the last step ends at the denoised image".to_owned());
    }
    if scheduler.text("final_sigmas_type")?.is_some_and(|kind| kind != "zero") {
        notes.push("final_sigmas_type: the last step ends at the denoised image".to_owned());
    }
    Ok(notes)
}

fn flow(scheduler: &Config, name: &str, shift: &'static str) -> Result<Conventions, String> {
    let times = scheduler.number("num_train_timesteps", 1000.0)?;
    let mut factor = scheduler.number(shift, 1.0)?;
    if !(times > 1.0 && factor > 0.0) {
        return Err(scheduler.wrong(shift, "a positive number"));
    }
    let mut notes = Vec::new();
    if scheduler.flag("use_dynamic_shifting", false)? {
        factor = 1.0;
        notes.push("use_dynamic_shifting depends on the pipeline: no shift is applied (`schedule` '{kind: flow-times, shift: S}')".to_owned());
    }
    for key in
        ["use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas", "invert_sigmas", "stochastic_sampling"]
    {
        if scheduler.flag(key, false)? {
            notes.push(format!("{key} is not applied"));
        }
    }
    if scheduler.get("shift_terminal").is_some() {
        notes.push("shift_terminal is not applied".to_owned());
    }
    if name != "FlowMatchEulerDiscreteScheduler" {
        notes.push(format!("{name} is not the default walk here: Euler's steps are"));
    }
    // diffusers shifts when the scheduler is made and again when the times are set.
    let schedule = FlowTimes { shift: factor, repeats: if shift == "shift" { 2 } else { 1 }, times: times as usize };
    let precondition = Flow { times, range: [1.0 / (times - 1.0), Flow::LARGEST] };
    let sample = Plan { schedule: schedule.into(), steps: 50, sampler: Ddim { eta: 0.0 }.into() };
    Ok(Conventions { precondition: precondition.into(), sample, clip: None, notes })
}

fn edm(scheduler: &Config, name: &str) -> Result<Conventions, String> {
    scheduler.is_one_of("prediction_type", &["epsilon"])?;
    let (min, max) = (scheduler.number("sigma_min", 0.002)?, scheduler.number("sigma_max", 80.0)?);
    let precondition = Edm { sigma_data: scheduler.number("sigma_data", 0.5)?, range: [min, max] };
    let rho = scheduler.number("rho", 7.0)?;
    let schedule = match scheduler.text("sigma_schedule")?.unwrap_or("karras") {
        "karras" => Karras { rho, max: None, min: None }.into(),
        "exponential" => AnySchedule::Geometric(Geometric::default()),
        _ => return Err(scheduler.wrong("sigma_schedule", "karras or exponential")),
    };
    let sampler: AnySampler =
        if name == "EDMEulerScheduler" { Ddim { eta: 0.0 }.into() } else { DpmPlusPlus::default().into() };
    let sample = Plan { schedule, steps: 50, sampler };
    Ok(Conventions { precondition: precondition.into(), sample, clip: None, notes: passed_over(scheduler)? })
}

fn consistency(scheduler: &Config) -> Result<Conventions, String> {
    let (min, max) = (scheduler.number("sigma_min", 0.002)?, scheduler.number("sigma_max", 80.0)?);
    let precondition = Consistency { sigma_data: scheduler.number("sigma_data", 0.5)?, range: [min, max] };
    // x ← D + σ′ n: noise all fresh.
    let sampler = NonMarkovian { beta: Beta::Shares { shares: vec![1.0] } };
    let second = if max > 2.24 { vec![max, 2.24] } else { vec![max, (max * min).sqrt()] };
    let sample = Plan { schedule: List { sigmas: second }.into(), steps: 2, sampler: sampler.into() };
    let clip = scheduler.flag("clip_denoised", true)?.then_some(1.0);
    Ok(Conventions { precondition: precondition.into(), sample, clip, notes: Vec::new() })
}

/// The chain with which the network was trained, and what it predicts.
fn chain(scheduler: &Config) -> Result<DdpmConfig, String> {
    if scheduler.flag("rescale_betas_zero_snr", false)? {
        return Err(scheduler.wrong("rescale_betas_zero_snr", "false (its last level is infinite otherwise)"));
    }
    let (first, last) = (scheduler.number("beta_start", 1e-4)?, scheduler.number("beta_end", 0.02)?);
    let times = scheduler.integer("num_train_timesteps")?.unwrap_or(1000);
    let times = usize::try_from(times).map_err(|_| scheduler.wrong("num_train_timesteps", "a positive number"))?;
    let trained = scheduler.get("trained_betas").map(|betas| {
        let numbers = betas.as_array().and_then(|betas| betas.iter().map(Json::as_f64).collect::<Option<Vec<f64>>>());
        numbers.ok_or_else(|| format!("{}: trained_betas must be a list of numbers", scheduler.file))
    });
    let beta = match (trained.transpose()?, scheduler.text("beta_schedule")?.unwrap_or("linear")) {
        (Some(betas), _) => AnyChain::Betas(Betas { betas }),
        (None, "linear") => AnyChain::LinearBeta(LinearBeta { first, last, times }),
        (None, "scaled_linear") => AnyChain::ScaledLinear(ScaledLinear { first, last, times }),
        (None, "squaredcos_cap_v2") => AnyChain::Cosine(Cosine { times, ..Cosine::default() }),
        (None, "sigmoid") => AnyChain::SigmoidBeta(SigmoidBeta { first, last, times }),
        _ => return Err(scheduler.wrong("beta_schedule", "linear, scaled_linear, squaredcos_cap_v2 or sigmoid")),
    };
    // Before 0.9 a flag said whether the network predicts ε or the image.
    let usual = if scheduler.flag("predict_epsilon", true)? { "epsilon" } else { "sample" };
    let prediction = match scheduler.text("prediction_type")?.unwrap_or(usual) {
        "epsilon" => Prediction::Epsilon,
        "v_prediction" => Prediction::V,
        "sample" => Prediction::Sample,
        _ => return Err(scheduler.wrong("prediction_type", "epsilon, v_prediction, sample or flow_prediction")),
    };
    Ok(DdpmConfig { beta, prediction, label_times: None })
}
