//! Schedulers of diffusers: a folder's conventions are its configuration's, and its default walk ends where diffusers' ends.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{
    models::card::Model,
    networks::Network,
    numbers::{
        plan::{AnySampler, Plan},
        precondition::{AnyPrecondition, Consistency, DdpmConfig, Flow, Labels, Precondition, Prediction},
        schedule::{LinearBeta, Spacing, Subsequence},
        solvers::DdpmLearned,
    },
    run::sample::Sampling,
    scores::{
        denoiser::{Clip, Denoiser, FnDenoiser, Pretrained, Score},
        noise::Seeded,
        sample::sample_to_end,
    },
};

/// Made by `tests/parity/schedulers.py` with diffusers 0.42.1, and D at one σ for five configurations.
const GOLDEN: &str = "tests/golden/zoo/schedulers";

fn folder(scheduler: &Value) -> TempDir {
    let place = TempDir::new().unwrap();
    for name in ["config.json", "diffusion_pytorch_model.safetensors"] {
        fs::copy(Path::new(GOLDEN).join(name), place.path().join(name)).unwrap();
    }
    fs::write(place.path().join("scheduler_config.json"), scheduler.to_string()).unwrap();
    place
}

fn open(place: &TempDir) -> Result<Model, tweedie::Error> {
    Model::open_on(place.path().to_str().unwrap(), Device::Cpu, Kind::Float)
}

/// The golden folder with this scheduler's configuration as diffusers wrote it, −Infinity and all.
fn golden(case: &str) -> Model {
    let place = folder(&Value::Null);
    fs::copy(Path::new(GOLDEN).join(case).join("scheduler_config.json"), place.path().join("scheduler_config.json"))
        .unwrap();
    open(&place).unwrap_or_else(|cause| panic!("{case}: {cause}"))
}

fn read(case: &str, file: &str) -> Tensor {
    Tensor::read_npy(Path::new(GOLDEN).join(case).join(file)).unwrap()
}

fn largest(x: &Tensor) -> f64 {
    f64::try_from(x.abs().max()).unwrap()
}

#[test]
fn d_is_that_of_the_class_in_the_configuration() {
    for case in ["s-DPMSolverMultistepScheduler", "s-cm-iterative", "s-dpm-flow-sigmas", "s-edm-euler", "s-flowmatch"] {
        let text = fs::read_to_string(Path::new(GOLDEN).join(case).join("case.json")).unwrap();
        let flags: Value = serde_json::from_str(&text).unwrap();
        let sigma: f64 = flags["flags"].as_str().unwrap().rsplit_once(' ').unwrap().1.parse().unwrap();
        let (model, expected) = (golden(case), read(case, "denoised.npy"));
        let denoised = tch::no_grad(|| model.denoiser.denoise(&read(case, "z.npy"), sigma));
        let error = largest(&(denoised - &expected)) / largest(&expected);
        assert!(error < 1e-5, "{case}: {error:e}");
    }
}

#[test]
fn ten_steps_end_where_those_of_diffusers_end() {
    let noise = Tensor::read_npy(Path::new(GOLDEN).join("n.npy")).unwrap();
    for (case, tolerance) in [
        ("ddim", 1e-5),
        // Clipped to −1 … 1, the end is small beside the states on the way.
        ("ddim-clip", 1e-4),
        ("ddim-offset", 1e-5),
        ("ddim-trailing", 1e-5),
        ("dpm", 1e-5),
        ("dpm-leading", 1e-5),
        ("dpm-trailing", 1e-5),
        ("edm-dpm", 1e-5),
        ("edm-euler", 1e-5),
        ("euler", 1e-5),
        ("euler-leading", 1e-5),
        ("euler-trailing", 1e-5),
        // Pure noise, σ = ∞, is taken as t = 0.9999.
        ("flow", 1e-3),
        ("flow-shift", 1e-3),
        ("heun", 1e-5),
    ] {
        let model = golden(case);
        let plan = Plan { steps: 10, ..model.card.sample.clone() };
        let first = plan.resolve(model.range(), f64::INFINITY).unwrap().sigmas.max();
        let begin = &noise * model.denoiser.precondition.start(first);
        let samples = Sampling::new(&model).plan(plan).seeds(0..1).init(begin).run(&()).unwrap();
        let (ours, theirs) = (samples.images, read(case, "final.npy"));
        let error = largest(&(ours - &theirs)) / largest(&theirs);
        assert!(error < tolerance, "{case}: {error:e}");
    }
}

/// The end of a folder's default walk from the golden noise, in the frame of diffusers' state.
fn end(model: &Model, steps: usize, exploding: bool) -> Tensor {
    let noise = Tensor::read_npy(Path::new(GOLDEN).join("n.npy")).unwrap();
    let plan = Plan { steps, ..model.card.sample.clone() };
    let sigmas = plan.resolve(model.range(), f64::INFINITY).unwrap().sigmas;
    let begin = noise * model.denoiser.precondition.start(sigmas.max());
    let images = Sampling::new(model).plan(plan).seeds(0..1).init(begin).run(&()).unwrap().images;
    let own = !exploding && sigmas.end() > 0.0;
    images * if own { model.denoiser.precondition.at(sigmas.end()).input } else { 1.0 }
}

/// Random configurations of every class, by diffusers itself; those that draw noise were given ours.
#[test]
fn a_hundred_configurations_end_where_diffusers_ends() {
    let text = fs::read_to_string(Path::new(GOLDEN).join("walks.json")).unwrap();
    // −∞ is what diffusers takes where the key is null, too.
    let walks: Vec<Value> = serde_json::from_str(&text.replace("-Infinity", "null")).unwrap();
    let ends = Tensor::read_npy(Path::new(GOLDEN).join("walks.npy")).unwrap();
    let (mut right, mut named, mut wrong) = (0, 0, Vec::new());
    for (i, walk) in walks.iter().enumerate() {
        let config = &walk["config"];
        let name = config["_class_name"].as_str().unwrap();
        let model = match open(&folder(config)) {
            Ok(model) => model,
            Err(cause) => {
                wrong.push(format!("{i} {name}: refused: {cause}"));
                continue;
            }
        };
        let steps = walk["steps"].as_u64().unwrap() as usize;
        let ours = end(&model, steps, walk["frame"] == "exploding").flatten(0, -1);
        let ours = ours.slice(0, 0, None, 4);
        let theirs = ends.get(i as i64);
        let error = largest(&(ours - &theirs)) / largest(&theirs);
        println!("{i:3} {name:34} {error:.1e} {}", model.assumed);
        // diffusers' chains are of single precision, and our states at σ = 10⁴, where cosine chains and flows begin.
        if error < 1e-3 {
            right += 1;
        } else if DIFFERS.iter().any(|words| model.assumed.contains(words)) {
            named += 1;
        } else {
            wrong.push(format!("{i} {error:.1e} steps {steps} {config} {}", model.assumed));
        }
    }
    assert!(wrong.is_empty(), "{right} right, {named} named, {} wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(right >= 90, "{right} right, {named} named");
}

/// A network whose answer is in closed form: ε = sin z, and cos 2z for the share of the noise.
#[derive(Debug)]
struct Waves;

impl Network for Waves {
    fn forward(&self, x: &Tensor, _: &Tensor, _: Option<&Tensor>) -> Tensor {
        Tensor::cat(&[x.sin(), (x * 2.0).cos()], 1)
    }

    fn spreads(&self) -> bool {
        true
    }
}

#[test]
fn noise_of_the_networks_choice_is_that_of_diffusers() {
    let precondition = DdpmConfig {
        beta: LinearBeta::default().into(),
        prediction: Prediction::Epsilon,
        label_times: None,
        labels: Labels::Linear,
    };
    let precondition = AnyPrecondition::from(precondition).build().unwrap();
    let waves = Pretrained { network: Box::new(Waves), precondition };
    let schedule = Subsequence { spacing: Spacing::Leading, ..Subsequence::default() }.into();
    let plan = |sampler: AnySampler| Plan { schedule, steps: 10, sampler };
    let resolved = plan(DdpmLearned {}.into()).resolve(waves.precondition.range(), f64::INFINITY).unwrap();
    let noise = Tensor::read_npy(Path::new(GOLDEN).join("n.npy")).unwrap();
    let begin = noise * waves.precondition.start(resolved.sigmas.max());
    let drawn =
        |score: &dyn Score| sample_to_end(&resolved.scheme, begin.copy(), score, &Seeded(vec![0]), &mut |_| Ok(()));
    let (ours, theirs) = (drawn(&waves).unwrap().flatten(0, -1).slice(0, 0, None, 4), read("", "learned.npy"));
    let error = largest(&(ours - &theirs)) / largest(&theirs);
    assert!(error < 1e-5, "{error:e}");
    // Who says nothing of it is refused.
    let silent = FnDenoiser(|x: &Tensor, _: f64| x.zeros_like());
    let refused = drawn(&silent).unwrap_err().to_string();
    assert!(refused.contains("says how much noise a step adds, but is ddpm-learned"), "{refused}");
}

/// Notes on walks that end elsewhere than diffusers'.
const DIFFERS: [&str; 6] = [
    "sde-dpmsolver++ of order 3",
    "the last level is σ = 4096",
    "labels are cut to whole times",
    "levels half way are told the nearest whole time",
    "in diffusers' UniPC as 0.999999",
    "diffusers adds noise after the last step",
];

/// In closed form: v = n − x₀ gives D = z − t v, and a consistency function is the identity at σ_min.
#[test]
fn flows_and_consistency_functions_are_what_they_say() {
    let flow = Flow::default();
    for (sigma, clean, noise) in [(0.01, 0.3, -1.2), (0.7, -0.9, 0.4), (40.0, 0.2, 1.7)] {
        let (x, scaling) = (clean + sigma * noise, flow.at(sigma));
        let (t, velocity) = (sigma / (1.0 + sigma), noise - clean);
        let denoised = x + scaling.skip_minus_one * x + scaling.out * velocity;
        assert!((denoised - clean).abs() < 1e-12 && (scaling.label - 1000.0 * t).abs() < 1e-12);
        assert!((scaling.input * x - ((1.0 - t) * clean + t * noise)).abs() < 1e-12, "z of the process");
    }
    let consistency = Consistency::default();
    let at = consistency.at(0.002);
    assert!(at.skip_minus_one == 0.0 && at.out == 0.0, "the identity at the smallest level");
    assert!((consistency.at(80.0).label - 250.0 * 80f64.ln()).abs() < 1e-12);
}

#[test]
fn keys_that_change_results_are_honoured_named_or_refused() {
    let assumed = |scheduler: &Value| open(&folder(scheduler)).unwrap().assumed;
    let refused = |scheduler: &Value| open(&folder(scheduler)).unwrap_err().to_string();
    for name in [
        "IPNDMScheduler",
        "KarrasVeScheduler",
        "DDPMWuerstchenScheduler",
        "CogVideoXDDIMScheduler",
        "ScoreSdeVeScheduler",
        "OurOwn",
    ] {
        let cause = refused(&json!({"_class_name": name}));
        assert!(cause.contains(&format!("a network of {name} is not opened")), "{cause}");
    }
    for (scheduler, said) in [
        (json!({"_class_name": "DDIMScheduler", "clip_sample": true}), "clip_sample: ε follows from the clipped image"),
        (json!({"_class_name": "DDIMScheduler", "solver_order": 2}), "DDIMScheduler does not use solver_order"),
        (json!({"_class_name": "PNDMScheduler", "clip_sample": true}), "PNDMScheduler does not use clip_sample"),
        (
            json!({"_class_name": "DDPMScheduler", "variance_type": "learned_range"}),
            "variance_type learned_range is sampled with",
        ),
        (json!({"_class_name": "RePaintScheduler"}), "fills an image that is given: here DDIM draws"),
        (json!({"_class_name": "DDIMScheduler", "rescale_betas_zero_snr": true}), "the last level is σ = 4096"),
        (
            json!({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3, "algorithm_type": "sde-dpmsolver++"}),
            "sde-dpmsolver++ of order 3 weighs D″",
        ),
        (
            json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "use_dynamic_shifting": true}),
            "use_dynamic_shifting depends on",
        ),
    ] {
        let assumed = assumed(&scheduler);
        assert!(assumed.contains(said), "{scheduler}: {assumed}");
    }
    for (scheduler, said) in [
        (
            json!({"_class_name": "DDPMScheduler", "trained_betas": [0.1, "0.2"]}),
            "trained_betas must be a list of numbers",
        ),
        (json!({"_class_name": "DDPMScheduler", "beta_schedule": "square"}), "beta_schedule is \"square\""),
        (
            json!({"_class_name": "DPMSolverMultistepScheduler", "prediction_type": "flow_prediction"}),
            "flow_prediction, which needs use_flow_sigmas",
        ),
        (
            json!({"_class_name": "DEISMultistepScheduler", "use_flow_sigmas": true, "use_karras_sigmas": true}),
            "use_flow_sigmas does not go with levels of a chain",
        ),
        (
            json!({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3, "algorithm_type": "sde-dpmsolver"}),
            "solver_order is 3, but 1 or 2 (sde-dpmsolver) is wanted",
        ),
        (json!({"_class_name": "DDPMScheduler", "prediction_type": "score"}), "prediction_type is \"score\""),
        (
            json!({"_class_name": "EDMEulerScheduler", "prediction_type": "sample"}),
            "but epsilon or v_prediction is wanted",
        ),
        (
            json!({"_class_name": "DDIMScheduler", "timestep_spacing": "log"}),
            "but leading, trailing or linspace is wanted",
        ),
    ] {
        let cause = refused(&scheduler);
        assert!(cause.contains(said), "{scheduler}: {cause}");
    }
    let plan = |scheduler: &Value| open(&folder(scheduler)).unwrap().card.sample;
    assert_eq!(plan(&json!({"_class_name": "DDPMScheduler", "num_train_timesteps": 250})).steps, 250);
    let karras = plan(&json!({"_class_name": "EulerDiscreteScheduler", "use_karras_sigmas": true}));
    assert!(format!("{:?}", karras.schedule).starts_with("Karras"), "{karras:?}");
    let old = open(&folder(&json!({"_class_name": "DDIMScheduler", "predict_epsilon": false}))).unwrap();
    assert!(format!("{:?}", old.card.precondition).contains("prediction: Sample"), "{:?}", old.card.precondition);
    // Ten steps of DDIM with use_clipped_model_output by diffusers end within the range; so do ours.
    let clip = |scheduler: &Value| open(&folder(scheduler)).unwrap().card.clip;
    assert_eq!(clip(&json!({"_class_name": "DDPMScheduler"})), Some(Clip::Limit(1.0)), "diffusers' default");
    assert_eq!(clip(&json!({"_class_name": "DDPMScheduler", "clip_sample_range": 2.0})), Some(Clip::Limit(2.0)));
    assert_eq!(clip(&json!({"_class_name": "DDIMScheduler", "clip_sample": false})), None);
    assert_eq!(clip(&json!({"_class_name": "CMStochasticIterativeScheduler"})), Some(Clip::Limit(1.0)));
    assert_eq!(clip(&json!({"_class_name": "EulerDiscreteScheduler"})), None);
    let model = open(&folder(&json!({"_class_name": "DDPMScheduler"}))).unwrap();
    let drawn = |sampling: Sampling| largest(&sampling.steps(10).seeds(0..2).run(&()).unwrap().images);
    assert!(drawn(Sampling::new(&model)) <= 1.0, "the last step ends at the clipped image");
    assert!(drawn(Sampling::new(&model).clip(None).unwrap()) > 10.0, "a random network goes anywhere");
    assert!(Sampling::new(&model).clip(Some(-1.0)).is_err());
    let two = plan(&json!({"_class_name": "CMStochasticIterativeScheduler"}));
    assert!(two.steps == 2 && format!("{:?}", two.schedule).contains("[80.0, 2.24]"), "{two:?}");
}
