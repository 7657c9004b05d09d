//! The library's lists: every entry is what its row says, and every name leads to it.

use std::{collections::BTreeSet, process::Command};

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tweedie::{
    evaluation::features::Metric,
    inverse::{likelihood::GaussianLikelihood, operators::Operator, restoration::AnyMethod, tasks::AnyTask},
    models::zoo,
    numbers::{
        plan::{AnySampler, Plan},
        registry::{Info, List},
        samplers,
        schedule::{AnyChain, AnySchedule, Karras, Schedule},
        scheme::{Scheme, Update},
        sde::AnySde,
        solvers,
    },
    scores::toy::AnyToyData,
    training::AnyDistribution,
};

/// Twelve levels.
const LEVELS: usize = 12;
/// The range of a model.
const RANGE: (f64, f64) = (0.01, 80.0);
/// An image that every task takes.
const SHAPE: [i64; 3] = [3, 16, 16];

fn scheme(sampler: &AnySampler) -> Scheme {
    sampler.get().scheme(&Karras::default().sigmas(LEVELS, RANGE).unwrap()).unwrap()
}

fn yaml<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    tweedie::files::yaml::parse(text, "list".as_ref()).map_err(|e| e.to_string())
}

/// The entry by its name alone, in YAML; nothing where a parameter has no default.
fn bare<T: DeserializeOwned>(info: &Info) -> Option<T> {
    if info.required().next().is_some() {
        let refused = yaml::<T>(info.name).err().expect(info.name);
        assert!(refused.contains("needs") && refused.ends_with(&info.asked()), "{refused}");
        return None;
    }
    Some(yaml(info.name).unwrap_or_else(|e| panic!("{}: {e}", info.name)))
}

/// That names, aliases, parameters, defaults, ranges and examples of a list are those of its structs.
fn is_true<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(list: &List) {
    let read = |value: &Value| serde_json::from_value::<T>(value.clone());
    let names: Vec<_> = list.names().chain(list.others.iter().map(|(name, _)| *name)).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len(), "{names:?}");
    for info in list.entries {
        let mut whole = (info.defaults)();
        let keys: Vec<String> = whole.as_object().unwrap().keys().cloned().collect();
        let mut declared: Vec<_> = info.parameters.iter().map(|p| p.name).collect();
        declared.sort_unstable();
        assert_eq!(keys, declared, "{}", info.name);
        whole["kind"] = json!(info.name);
        if let Some(chosen) = bare::<T>(info) {
            assert_eq!(serde_json::to_value(&chosen).unwrap(), whole);
            assert_eq!(read(&whole).unwrap(), chosen);
            assert_eq!(yaml::<T>(&format!("{{kind: {}}}", info.name)).unwrap(), chosen);
        }
        whole["nonsense"] = json!(1);
        assert!(read(&whole).is_err(), "{}", info.name);
        words::<T>(info);
        yaml::<T>(&info.asked()).unwrap_or_else(|e| panic!("{}: {e}", info.asked()));
        for alias in info.aliases {
            let same: T = yaml(alias.name).unwrap_or_else(|e| panic!("{}: {e}", alias.name));
            assert_eq!(yaml::<T>(&format!("{{kind: {}}}", alias.name)).unwrap(), same);
            assert_eq!(serde_json::to_value(&same).unwrap()["kind"], info.name);
        }
        assert!(!info.what.is_empty() && !info.text.is_empty(), "{}", info.name);
        assert!(info.parameters.iter().all(|p| !p.meaning.trim().is_empty() && !p.range.is_empty()), "{}", info.name);
    }
    for (name, sentence) in list.others {
        let refused = yaml::<T>(name).unwrap_err();
        assert!(refused.ends_with(sentence), "{refused}");
        let mut rest = *sentence;
        while let Some(start) = rest.find("{kind") {
            let choice = &rest[start..=start + closing(&rest[start..])];
            yaml::<T>(choice).unwrap_or_else(|e| panic!("{name}: {choice}: {e}"));
            rest = &rest[start + choice.len()..];
        }
    }
    let slip = format!("{}x", list.entries[0].name);
    let refused = yaml::<T>(&slip).unwrap_err();
    assert!(refused.contains(&format!("did you mean `{}`?", list.entries[0].name)), "{refused}");
}

/// Where the bracket at the beginning is closed.
fn closing(text: &str) -> usize {
    let mut depth = 0;
    let place = text.char_indices().find(|(_, c)| {
        depth += i32::from(*c == '{') - i32::from(*c == '}');
        depth == 0
    });
    place.unwrap().0
}

/// Where the default is a word, every word of the range is one.
fn words<T: DeserializeOwned>(info: &Info) {
    for parameter in info.parameters {
        if info.default(parameter).is_some_and(|default| default.is_string()) {
            for word in parameter.range.split(", ") {
                let mut whole = (info.defaults)();
                whole["kind"] = json!(info.name);
                whole[parameter.name] = json!(word);
                serde_json::from_value::<T>(whole).unwrap_or_else(|e| panic!("{}: {word}: {e}", info.name));
            }
        }
    }
}

#[test]
fn rows_of_every_list_are_what_their_structs_are() {
    is_true::<AnySampler>(&AnySampler::LIST);
    is_true::<AnySchedule>(&AnySchedule::LIST);
    is_true::<AnyChain>(&AnyChain::LIST);
    is_true::<AnySde>(&AnySde::LIST);
    is_true::<AnyTask>(&AnyTask::LIST);
    is_true::<AnyMethod>(&AnyMethod::LIST);
    is_true::<AnyToyData>(&AnyToyData::LIST);
    is_true::<AnyDistribution>(&AnyDistribution::LIST);
    for info in Metric::LIST.entries {
        assert_eq!(serde_json::to_value(Metric::parse(info.name).unwrap()).unwrap(), info.name);
        let same = |alias: &str| Metric::parse(alias).unwrap() == Metric::parse(info.name).unwrap();
        assert!(info.aliases.iter().all(|alias| same(alias.name)), "{}", info.name);
    }
    assert!(zoo::LIST.entries.len() >= 7);
}

/// What a row's column says.
fn fact<'a>(info: &'a Info, name: &str) -> &'a str {
    info.facts.iter().find(|(key, _)| *key == name).unwrap().1
}

fn noisy(scheme: &Scheme) -> bool {
    scheme.0.iter().any(|update| match update {
        Update::SolverStep(step) => {
            step.next.noise.iter().chain(step.stages.iter().flat_map(|s| &s.at.noise)).any(|n| *n > 0.0)
        }
        Update::Langevin(_) | Update::Spread(_) => true,
        Update::Adaptive(_) => false,
    })
}

#[test]
fn every_sampler_runs_by_its_name_and_is_as_random_as_its_row_says() {
    assert_eq!(samplers::ENTRIES.len() + solvers::ENTRIES.len(), AnySampler::LIST.entries.len());
    for info in AnySampler::LIST.entries {
        let scheme = scheme(&bare(info).unwrap());
        match fact(info, "random") {
            "yes" => assert!(noisy(&scheme), "{}", info.name),
            "no" => assert!(!noisy(&scheme), "{}", info.name),
            condition => assert!(condition.starts_with("if "), "{condition}"),
        }
        // All levels but the last, from which every solver goes straight to D.
        match fact(info, "scores") {
            "1" => assert_eq!(scheme.evaluations() % LEVELS, 0, "{}", info.name),
            "2" => assert_eq!(scheme.evaluations(), 2 * (LEVELS - 1) + 1, "{}", info.name),
            _ => {}
        }
    }
}

#[test]
fn every_schedule_chain_and_process_runs_by_its_name_or_its_example() {
    for info in AnySchedule::LIST.entries {
        let schedule: AnySchedule = bare(info).unwrap_or_else(|| yaml(&info.asked()).unwrap());
        let levels = schedule.get().levels().unwrap_or(LEVELS);
        assert!(schedule.get().sigmas(levels, RANGE).unwrap().iter().len() >= levels, "{}", info.name);
    }
    for info in AnyChain::LIST.entries {
        let chain: AnyChain = bare(info).unwrap_or_else(|| yaml(&info.asked()).unwrap());
        assert!(chain.get().times().unwrap().last() >= 2.0, "{}", info.name);
    }
    for info in AnySde::LIST.entries {
        let sde: AnySde = bare(info).unwrap_or_else(|| yaml(&info.asked()).unwrap());
        sde.get().check().unwrap();
    }
}

/// The operator by its name, and how its row has it; nothing for those that want a file or other tasks.
fn operators() -> Vec<(&'static Info, Operator)> {
    let build = |info: &&'static Info| {
        let task: AnyTask = bare(info)?;
        Some((*info, task.get().operator(SHAPE, 1, Device::Cpu, Kind::Double).unwrap()))
    };
    AnyTask::LIST.entries.iter().filter_map(build).collect()
}

#[test]
fn every_task_is_the_map_that_its_row_says() {
    let x = Tensor::rand([1, 3, 16, 16], (Kind::Double, Device::Cpu));
    for (info, operator) in operators() {
        let _ = operator.apply(&x);
        let found = match operator.linear() {
            None => "nonlinear",
            Some(linear) if linear.svd().is_some() => "linear, svd",
            Some(_) if fact(info, "map") == "linear, svd if circular" => {
                let circular: AnyTask = yaml(&format!("{{kind: {}, boundary: circular}}", info.name)).unwrap();
                let circular = circular.get().operator(SHAPE, 1, Device::Cpu, Kind::Double).unwrap();
                assert!(circular.linear().unwrap().svd().is_some(), "{}", info.name);
                "linear, svd if circular"
            }
            Some(_) => "linear",
        };
        assert_eq!(found, fact(info, "map"), "{}", info.name);
    }
}

#[test]
fn every_method_takes_the_tasks_that_its_row_says() {
    for info in AnyMethod::LIST.entries {
        let method: AnyMethod = bare(info).unwrap();
        for (_, operator) in operators() {
            let want = match (fact(info, "tasks"), operator.linear()) {
                ("any", _) => true,
                ("linear", linear) => linear.is_some(),
                (_, linear) => linear.is_some_and(|linear| linear.svd().is_some()),
            };
            let y = operator.apply(&Tensor::zeros([1, 3, 16, 16], (Kind::Double, Device::Cpu)));
            let likelihood = GaussianLikelihood::new(operator, y, 0.1, SHAPE).unwrap();
            assert_eq!(method.get().check(&likelihood).is_ok(), want, "{}", info.name);
        }
    }
}

/// Names of diffusers and k-diffusion, and the case in `solvers.json` in which that package came by our states.
const PEERS: [(&str, &str); 25] = [
    ("euler", "k-diffusion sample_euler"),
    ("sample_euler", "k-diffusion sample_euler"),
    ("EulerDiscreteScheduler", "EulerDiscrete"),
    ("EDMEulerScheduler", "EDMEuler"),
    ("DDIMScheduler", "DDIM, untouched"),
    ("EulerAncestralDiscreteScheduler", "EulerAncestralDiscrete"),
    ("DDPMScheduler", "DDPM variance_type=fixed_small, untouched"),
    ("ddpm_fixed_small", "DDPM variance_type=fixed_small"),
    ("ddpm_fixed_large", "DDPM variance_type=fixed_large"),
    ("dpm_2", "k-diffusion sample_dpm_2"),
    ("sample_dpm_2", "k-diffusion sample_dpm_2"),
    ("KDPM2DiscreteScheduler", "KDPM2Discrete"),
    ("DPMSolverMultistepScheduler", "DPMSolverMultistep, untouched"),
    ("EDMDPMSolverMultistepScheduler", "EDMDPMSolverMultistep"),
    ("DPMSolverSinglestepScheduler", "DPMSolverSinglestep solver_order=2"),
    ("dpmpp_2m", "k-diffusion sample_dpmpp_2m"),
    ("sample_dpmpp_2m", "k-diffusion sample_dpmpp_2m"),
    ("dpmpp_2s", "k-diffusion sample_dpmpp_2s_ancestral eta=0.0"),
    ("dpmpp_2m_sde", "k-diffusion sample_dpmpp_2m_sde"),
    ("sample_dpmpp_2m_sde", "k-diffusion sample_dpmpp_2m_sde"),
    ("sample_heun", "k-diffusion sample_heun"),
    ("HeunDiscreteScheduler", "HeunDiscrete"),
    ("UniPCMultistepScheduler", "UniPCMultistep, untouched"),
    ("FlowMatchEulerDiscreteScheduler", "FlowMatchEulerDiscrete"),
    ("FlowMatchHeunDiscreteScheduler", "FlowMatchHeunDiscrete"),
];

/// k-diffusion's ancestral Euler by the same numbers as {kind: ddim, eta: 1}, with which `solvers.json` compares it.
const ANCESTRAL: [&str; 3] = ["euler_a", "euler_ancestral", "sample_euler_ancestral"];

/// Largest relative difference of two ways to compute the same coefficients.
const ROUNDING: f64 = 1e-12;

#[test]
fn names_of_other_packages_are_those_of_the_samplers_whose_states_they_share() {
    let golden: Value = serde_json::from_str(include_str!("golden/solvers.json")).unwrap();
    let cases = golden["cases"].as_array().unwrap();
    for (name, peer) in PEERS {
        let ours: AnySampler = yaml(name).unwrap();
        let same = |case: &Value| {
            case["peer"] == peer && yaml::<AnySampler>(case["sampler"].as_str().unwrap()) == Ok(ours.clone())
        };
        assert!(cases.iter().any(same), "{name} is not {peer}");
    }
    let ancestral = scheme(&yaml("{kind: ddim, eta: 1}").unwrap());
    for name in ANCESTRAL {
        let ours = scheme(&yaml(name).unwrap());
        for (a, b) in ours.0.iter().zip(&ancestral.0) {
            let numbers = |update: &Update| {
                let step = update.hop().unwrap();
                [step.next.state, step.next.values[0], step.next.noise.first().copied().unwrap_or(0.0)]
            };
            let apart = numbers(a).into_iter().zip(numbers(b)).map(|(a, b)| (a - b).abs() / b.abs().max(1.0));
            assert!(apart.fold(0.0, f64::max) < ROUNDING, "{name}");
        }
    }
    let tested: BTreeSet<_> = PEERS.iter().map(|(name, _)| *name).chain(ANCESTRAL).collect();
    let aliases = AnySampler::LIST.entries.iter().flat_map(|info| info.aliases).map(|alias| alias.name);
    assert_eq!(aliases.collect::<BTreeSet<_>>(), tested, "every alias of a sampler is proven");
}

#[test]
fn levels_may_be_written_out_and_count_themselves() {
    let plan: Plan = yaml("schedule: [80, 10, 1]\nsampler: euler").unwrap();
    assert_eq!((plan.steps, plan.sigmas(RANGE).unwrap().iter().collect::<Vec<_>>()), (3, vec![80.0, 10.0, 1.0]));
    let record = json!({"schedule": {"kind": "list", "sigmas": [80.0, 10.0, 1.0]}, "steps": 3, "sampler": {"kind": "ddim", "eta": 0.0}});
    assert_eq!(serde_json::to_value(&plan).unwrap(), record);
    let other: Plan = yaml("{schedule: [80, 10], steps: 3, sampler: ddim}").unwrap();
    let refused = other.sigmas(RANGE).unwrap_err().to_string();
    assert_eq!(refused, "steps must be the length of the list of levels, but is 3 (the list has 2)");
    let times: Plan = yaml("{schedule: {kind: times, times: [999, 500.5, 0]}, sampler: ddim}").unwrap();
    let chain = yaml::<AnyChain>("linear-beta").unwrap().get().times().unwrap();
    let expected = [999.0, 500.5, 0.0].map(|t| chain.sigma(t));
    assert_eq!(times.sigmas(RANGE).unwrap().iter().collect::<Vec<_>>(), expected);
    let beyond: AnySchedule = yaml("{kind: times, times: [1000, 0]}").unwrap();
    let refused = beyond.get().sigmas(2, RANGE).unwrap_err().to_string();
    assert_eq!(refused, "times must be within the times of the chain, but is 1000 of 0 … 999");
    assert!(yaml::<Plan>("{schedule: karras, sampler: ddim}").unwrap_err().contains("`steps`"));
    let with = Plan::ddim().with(Some(yaml("[3, 2]").unwrap()), None, None);
    assert_eq!((with.steps, Plan::ddim().with(None, Some(7), None).steps), (2, 7));
}

#[test]
fn an_alias_goes_with_other_parameters_but_not_with_those_that_it_sets() {
    let both: AnySampler = yaml("{eta: 0.5, kind: DDIMScheduler}").unwrap();
    assert_eq!(both, yaml("{kind: ddim, eta: 0.5}").unwrap());
    let refused = yaml::<AnySampler>("{kind: dpmpp_2m, variant: 2s}").unwrap_err();
    assert!(refused.contains("sets `variant` itself"), "{refused}");
    let refused = yaml::<AnySampler>("{eta: 0.5}").unwrap_err();
    assert!(refused.contains("`kind`"), "{refused}");
    let refused = yaml::<AnySchedule>("{kind: list, sigma: [1]}").unwrap_err();
    assert!(refused.contains("did you mean `sigmas`?"), "{refused}");
}

fn printed(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_tweedie")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn the_program_lists_what_the_library_has() {
    let read = |arguments: &[&str]| -> Value { serde_json::from_str(&printed(arguments)).unwrap() };
    let names = |list: &Value| -> Vec<String> {
        let name = |entry: &Value| entry.get("name").unwrap_or(&entry[0]).as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(name).collect()
    };
    let all = |entries: &[&Info]| entries.iter().map(|info| info.name.to_owned()).collect::<Vec<_>>();
    let listed = read(&["samplers", "--json"]);
    assert_eq!(names(&listed["rows"]), all(samplers::ENTRIES));
    assert_eq!(names(&listed["solvers"]), all(solvers::ENTRIES));
    assert_eq!(names(&listed["schedules"]), all(AnySchedule::LIST.entries));
    assert_eq!(names(&listed["processes"]), all(AnySde::LIST.entries));
    let lists = [
        ("schedules", AnySchedule::LIST),
        ("tasks", AnyTask::LIST),
        ("methods", AnyMethod::LIST),
        ("metrics", Metric::LIST),
        ("families", zoo::LIST),
    ];
    for (command, list) in lists {
        assert_eq!(names(&read(&[command, "--json"])), all(list.entries));
        for info in list.entries {
            assert!(printed(&[command]).contains(info.name));
        }
        let last = list.entries[list.entries.len() - 1];
        assert_eq!(read(&[command, last.name, "--json"]), last.json());
        let page = printed(&[command, last.name]);
        assert!(page.contains(last.what) && page.contains("Example:\n  tweedie "), "{page}");
        assert!(last.parameters.iter().all(|p| page.contains(p.name) && page.contains(p.range)), "{page}");
    }
}
