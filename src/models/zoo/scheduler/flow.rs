//! Networks of flow matching, and other solvers on the path of a flow.

use super::{
    Config, Conventions,
    chain::{self, LevelLaw},
    walk::{End, Family},
};
use crate::numbers::{
    plan::{AnySampler, Plan},
    precondition::{Flow, Target},
    samplers::{Beta, Ddim, NonMarkovian},
    schedule::{AnyChain, AnySchedule, FlowEnds, FlowLaw, FlowTimes},
    sde::FlowMatching,
    solvers::RungeKutta,
};

/// Steps of the classes of flow matching.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Steps {
    Euler,
    Heun,
    Lcm,
}

/// The conventions of a class of flow matching.
pub(super) fn matched(scheduler: &Config, steps: Steps) -> Result<Conventions, String> {
    let mut notes = Vec::new();
    let times = scheduler.number("num_train_timesteps", 1000.0)?;
    let shift = shift(scheduler, "shift", times, &mut notes)?;
    // diffusers shifts when the scheduler is made and again when the times are set.
    let mut schedule = FlowTimes { shift, repeats: 2, times: times as usize, ..FlowTimes::default() };
    let mut target = Target::Velocity;
    if steps != Steps::Heun {
        schedule.terminal = terminal(scheduler)?;
        schedule.law = law(scheduler)?;
        if scheduler.flag("invert_sigmas", false)? {
            target = Target::Inverted;
        }
    }
    let fresh = steps == Steps::Lcm || (steps == Steps::Euler && scheduler.flag("stochastic_sampling", false)?);
    if fresh && target == Target::Inverted {
        notes.push("invert_sigmas: fresh noise has the level of the next time, which diffusers' has not".to_owned());
    }
    let sampler: AnySampler = match steps {
        Steps::Heun => RungeKutta { order: 2, sde: FlowMatching::default().into() }.into(),
        _ if fresh => NonMarkovian { beta: Beta::Fresh }.into(),
        _ => Ddim { eta: 0.0 }.into(),
    };
    let precondition = Flow { times, range: range(times), target, whole: false };
    let sample = Plan { schedule: schedule.into(), steps: 50, sampler };
    Ok(Conventions { precondition: precondition.into(), sample, clip: None, notes })
}

fn range(times: f64) -> [f64; 2] {
    [1.0 / (times - 1.0), Flow::LARGEST]
}

fn shift(scheduler: &Config, key: &str, times: f64, notes: &mut Vec<String>) -> Result<f64, String> {
    let shift = scheduler.number(key, 1.0)?;
    if !(times > 1.0 && shift > 0.0) {
        return Err(scheduler.wrong(key, "a positive number"));
    }
    if !scheduler.flag("use_dynamic_shifting", false)? {
        return Ok(shift);
    }
    notes.push(
        "use_dynamic_shifting depends on the pipeline: no shift is applied (`schedule` '{kind: flow-times, shift: S}')"
            .to_owned(),
    );
    Ok(1.0)
}

fn terminal(scheduler: &Config) -> Result<Option<f64>, String> {
    let terminal = scheduler.number("shift_terminal", 0.0)?;
    Ok((terminal != 0.0).then_some(terminal))
}

fn law(scheduler: &Config) -> Result<FlowLaw, String> {
    for (key, law) in [
        ("use_karras_sigmas", FlowLaw::Karras),
        ("use_exponential_sigmas", FlowLaw::Exponential),
        ("use_beta_sigmas", FlowLaw::Beta),
    ] {
        if scheduler.flag(key, false)? {
            return Ok(law);
        }
    }
    Ok(FlowLaw::Shifted)
}

/// What a solver of chains has on the path of a flow.
pub(super) struct Path {
    pub precondition: Flow,
    pub schedule: AnySchedule,
    /// Where the walk ends if it ends with noise.
    pub end: End,
}

/// The path of a flow for a solver of chains with `use_flow_sigmas`.
pub(super) fn path(
    scheduler: &Config,
    family: Family,
    beta: &AnyChain,
    notes: &mut Vec<String>,
) -> Result<Path, String> {
    let times = scheduler.number("num_train_timesteps", 1000.0)?;
    let target = match scheduler.text("prediction_type")?.unwrap_or("epsilon") {
        "flow_prediction" => Target::Velocity,
        "epsilon" => Target::Noise,
        "sample" => Target::Sample,
        _ => return Err(scheduler.wrong("prediction_type", "flow_prediction, epsilon or sample (use_flow_sigmas)")),
    };
    let levels = beta.get().times().map_err(|e| e.to_string())?;
    let smallest = levels.range().0;
    let schedule = match chain::law(scheduler, family)? {
        None => by_time(scheduler, family, times, notes)?.into(),
        Some(LevelLaw::Karras) if family == Family::Unipc => {
            let (min, max) = chain::ends(scheduler, family)?;
            let (low, high) = levels.range();
            LevelLaw::Karras.schedule((min.or(Some(low)), max.or(Some(high))))
        }
        Some(_) => {
            let cause = "use_flow_sigmas does not go with levels of a chain, which are not times of a flow";
            return Err(format!("{}: {cause}", scheduler.file));
        }
    };
    // The chain's smallest level serves as a time.
    let end = match family {
        Family::Multistep | Family::Singlestep => End::At(smallest / (1.0 - smallest)),
        _ => End::Last,
    };
    Ok(Path { precondition: Flow { times, range: range(times), target, whole: true }, schedule, end })
}

fn by_time(scheduler: &Config, family: Family, times: f64, notes: &mut Vec<String>) -> Result<FlowTimes, String> {
    let shift = shift(scheduler, "flow_shift", times, notes)?;
    let (ends, terminal) = match family {
        Family::Unipc => {
            notes.push("pure noise is taken as t = 0.9999, in diffusers' UniPC as 0.999999".to_owned());
            (FlowEnds::First, terminal(scheduler)?)
        }
        _ => (FlowEnds::Last, None),
    };
    Ok(FlowTimes { shift, repeats: 1, times: times as usize, ends, terminal, law: FlowLaw::Shifted })
}
