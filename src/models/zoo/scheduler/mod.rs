//! Schedulers of diffusers: how a network was trained, and the walk with which its folder samples.
//!
//! Every class of diffusers 0.42.1 is a row: its conventions are honoured, or it is refused by name. What a configuration
//! says of the walk beyond them becomes the default plan, or is named in a note.

mod chain;
mod flow;
mod walk;

use std::{cell::RefCell, collections::BTreeSet};

use serde_json::{Map, Value as Json};

use self::walk::{End, Family};
use crate::{
    files::json,
    numbers::{
        plan::{AnySampler, Plan},
        precondition::{AnyPrecondition, Consistency, Edm},
        samplers::{Beta, Ddim, Ddpm, NonMarkovian, Variance},
        schedule::{AnySchedule, Geometric, Karras, List},
    },
    scores::denoiser::Clip,
};

/// One of the two configurations of a folder, or none.
pub(super) struct Config<'a> {
    pub known: Option<&'a Map<String, Json>>,
    pub file: &'static str,
    /// Keys that somebody asked for.
    read: RefCell<BTreeSet<String>>,
}

impl<'a> Config<'a> {
    pub fn new(known: Option<&'a Map<String, Json>>, file: &'static str) -> Self {
        Self { known, file, read: RefCell::default() }
    }

    /// A value that is there and not null.
    pub fn get(&self, key: &str) -> Option<&Json> {
        self.read.borrow_mut().insert(key.to_owned());
        self.known?.get(key).filter(|value| !value.is_null())
    }

    /// Counts these keys as read.
    fn skip(&self, keys: &[&str]) {
        self.read.borrow_mut().extend(keys.iter().map(|key| (*key).to_owned()));
    }

    /// Keys that nobody asked for and that say something.
    fn unread(&self) -> Vec<&'a str> {
        let read = self.read.borrow();
        let says = |value: &Json| !matches!(value, Json::Null | Json::Bool(false)) && *value != Json::Array(vec![]);
        let entries = self.known.into_iter().flatten().filter(|(_, value)| says(value));
        let keys = entries.map(|(key, _)| key.as_str());
        keys.filter(|key| !key.starts_with('_') && !INERT.contains(key) && !read.contains(*key)).collect()
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

/// Keys that change nothing by themselves: settings of what is off, and of pipelines.
const INERT: [&str; 14] = [
    "dynamic_thresholding_ratio",
    "sample_max_value",
    "clip_sample_range",
    "flow_shift",
    "time_shift_type",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "upscale_mode",
    "beta_start",
    "beta_end",
    "beta_schedule",
    "num_train_timesteps",
];

/// The network's frame and the walk of the folder, and what there is to know of them.
pub(super) struct Conventions {
    pub precondition: AnyPrecondition,
    pub sample: Plan,
    /// How the denoised image is held within its range at every step.
    pub clip: Option<Clip>,
    pub notes: Vec<String>,
}

impl Conventions {
    /// The same for a network that says how much noise a step adds, or does not.
    pub fn for_network(mut self, spreads: bool) -> Self {
        if !spreads && matches!(self.sample.sampler, AnySampler::DdpmLearned(_)) {
            self.sample.sampler = Ddpm { variance: Variance::Posterior }.into();
            let cause = "the network says nothing of it";
            self.notes.push(format!("variance_type learned_range is sampled with the posterior's variance: {cause}"));
        }
        self
    }
}

/// Conventions of a class.
#[derive(Clone, Copy)]
enum Class {
    Chain(Family),
    Flow(flow::Steps),
    Edm,
    Consistency,
}

/// Every class whose conventions are honoured.
const CLASSES: [(&str, Class); 29] = [
    ("DDIMScheduler", Class::Chain(Family::Ddim)),
    ("DDIMParallelScheduler", Class::Chain(Family::Ddim)),
    ("DDIMInverseScheduler", Class::Chain(Family::Upwards)),
    ("DDPMScheduler", Class::Chain(Family::Ddpm)),
    ("DDPMParallelScheduler", Class::Chain(Family::Ddpm)),
    ("EulerDiscreteScheduler", Class::Chain(Family::Euler)),
    ("EulerAncestralDiscreteScheduler", Class::Chain(Family::EulerAncestral)),
    ("HeunDiscreteScheduler", Class::Chain(Family::Heun)),
    ("DPMSolverMultistepScheduler", Class::Chain(Family::Multistep)),
    ("DPMSolverMultistepInverseScheduler", Class::Chain(Family::Upwards)),
    ("DPMSolverSinglestepScheduler", Class::Chain(Family::Singlestep)),
    ("DPMSolverSDEScheduler", Class::Chain(Family::DpmSde)),
    ("DEISMultistepScheduler", Class::Chain(Family::Deis)),
    ("KDPM2DiscreteScheduler", Class::Chain(Family::Kdpm2)),
    ("KDPM2AncestralDiscreteScheduler", Class::Chain(Family::Kdpm2Ancestral)),
    ("LCMScheduler", Class::Chain(Family::Lcm)),
    ("LMSDiscreteScheduler", Class::Chain(Family::Lms)),
    ("PNDMScheduler", Class::Chain(Family::Pndm)),
    ("RePaintScheduler", Class::Chain(Family::Repaint)),
    ("SASolverScheduler", Class::Chain(Family::Sa)),
    ("TCDScheduler", Class::Chain(Family::Tcd)),
    ("UniPCMultistepScheduler", Class::Chain(Family::Unipc)),
    ("UnCLIPScheduler", Class::Chain(Family::Unclip)),
    ("FlowMatchEulerDiscreteScheduler", Class::Flow(flow::Steps::Euler)),
    ("FlowMatchHeunDiscreteScheduler", Class::Flow(flow::Steps::Heun)),
    ("FlowMatchLCMScheduler", Class::Flow(flow::Steps::Lcm)),
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
            precondition: chain::trained(scheduler, chain::Defaults::usual())?.into(),
            sample: Plan::ddim(),
            clip: None,
            notes: Vec::new(),
        });
    };
    let class = CLASSES.iter().find(|(class, _)| *class == name).map(|(_, class)| *class);
    let class = class.ok_or_else(|| {
        format!("{}: a network of {name} is not opened: its conventions are not those of a chain, a flow, EDM or consistency", scheduler.file)
    })?;
    let mut conventions = match class {
        Class::Chain(family) => walk::conventions(scheduler, name, family),
        Class::Flow(steps) => flow::matched(scheduler, steps),
        Class::Edm => edm(scheduler, name),
        Class::Consistency => consistency(scheduler),
    }?;
    let unread = scheduler.unread();
    if !unread.is_empty() {
        conventions.notes.push(format!("{name} does not use {}", unread.join(", ")));
    }
    Ok(conventions)
}

/// Dynamic thresholding, where the configuration asks for it.
fn thresholding(scheduler: &Config) -> Result<Option<Clip>, String> {
    if !scheduler.flag("thresholding", false)? {
        return Ok(None);
    }
    let quantile = scheduler.number("dynamic_thresholding_ratio", 0.995)?;
    let max = scheduler.number("sample_max_value", 1.0)?;
    if !(0.0..=1.0).contains(&quantile) {
        return Err(scheduler.wrong("dynamic_thresholding_ratio", "a number from 0 to 1"));
    }
    // A largest value of 1 or less is plain clipping.
    Ok(Some(if max > 1.0 { Clip::Quantile { quantile, max } } else { Clip::Limit(1.0) }))
}

/// Whether the walk ends at its last level in place of images.
fn ends_with_noise(scheduler: &Config) -> Result<bool, String> {
    match scheduler.text("final_sigmas_type")?.unwrap_or("zero") {
        "zero" => Ok(false),
        "sigma_min" => Ok(true),
        _ => Err(scheduler.wrong("final_sigmas_type", "zero or sigma_min")),
    }
}

fn edm(scheduler: &Config, name: &str) -> Result<Conventions, String> {
    let v = match scheduler.text("prediction_type")?.unwrap_or("epsilon") {
        "epsilon" => false,
        "v_prediction" => true,
        _ => return Err(scheduler.wrong("prediction_type", "epsilon or v_prediction")),
    };
    let (min, max) = (scheduler.number("sigma_min", 0.002)?, scheduler.number("sigma_max", 80.0)?);
    let precondition = Edm { sigma_data: scheduler.number("sigma_data", 0.5)?, range: [min, max], v };
    let rho = scheduler.number("rho", 7.0)?;
    let levels: AnySchedule = match scheduler.text("sigma_schedule")?.unwrap_or("karras") {
        "karras" => Karras { rho, max: None, min: None }.into(),
        "exponential" => Geometric::default().into(),
        _ => return Err(scheduler.wrong("sigma_schedule", "karras or exponential")),
    };
    let mut notes = Vec::new();
    let (sampler, clip): (AnySampler, _) = if name == "EDMEulerScheduler" {
        (Ddim { eta: 0.0 }.into(), None)
    } else {
        (walk::multistep(scheduler, &mut notes)?, thresholding(scheduler)?)
    };
    let schedule = if ends_with_noise(scheduler)? { End::Last } else { End::Images }.of(levels);
    let sample = Plan { schedule, steps: 50, sampler };
    Ok(Conventions { precondition: precondition.into(), sample, clip, notes })
}

fn consistency(scheduler: &Config) -> Result<Conventions, String> {
    let (min, max) = (scheduler.number("sigma_min", 0.002)?, scheduler.number("sigma_max", 80.0)?);
    let precondition = Consistency { sigma_data: scheduler.number("sigma_data", 0.5)?, range: [min, max] };
    let second = if max > 2.24 { vec![max, 2.24] } else { vec![max, (max * min).sqrt()] };
    let sampler = NonMarkovian { beta: Beta::Fresh };
    let sample = Plan { schedule: List { sigmas: second }.into(), steps: 2, sampler: sampler.into() };
    let clip = scheduler.flag("clip_denoised", true)?.then_some(Clip::Limit(1.0));
    let mut notes = Vec::new();
    if scheduler.number("s_noise", 1.0)? != 1.0 {
        notes.push("s_noise: the noise between the steps is not scaled".to_owned());
    }
    // Only walks of other lengths depend on ρ: the two levels are those of the publication.
    scheduler.number("rho", 7.0)?;
    Ok(Conventions { precondition: precondition.into(), sample, clip, notes })
}
