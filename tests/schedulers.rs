//! Schedulers of diffusers: a folder's conventions are its configuration's, and its default walk ends where diffusers' ends.

use std::{fs, path::Path};

use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{
    models::card::Model,
    numbers::precondition::{Consistency, Flow, Precondition},
    run::sample::Sampling,
    scores::denoiser::Denoiser,
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
        let plan = tweedie::numbers::plan::Plan { steps: 10, ..model.card.sample.clone() };
        let first = plan.resolve(model.range(), f64::INFINITY).unwrap().sigmas.max();
        let begin = &noise * model.denoiser.precondition.start(first);
        let samples = Sampling::new(&model).plan(plan).seeds(0..1).init(begin).run(&()).unwrap();
        let (ours, theirs) = (samples.images, read(case, "final.npy"));
        let error = largest(&(ours - &theirs)) / largest(&theirs);
        assert!(error < tolerance, "{case}: {error:e}");
    }
}

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
        (json!({"_class_name": "DDIMScheduler", "set_alpha_to_one": false}), "set_alpha_to_one: false is not applied"),
        (
            json!({"_class_name": "DDPMScheduler", "variance_type": "learned_range"}),
            "variance_type learned_range is sampled with",
        ),
        (json!({"_class_name": "DDPMScheduler", "thresholding": true}), "thresholding is not applied"),
        (json!({"_class_name": "PNDMScheduler"}), "PNDMScheduler is not the default walk here: DDIM is"),
        (
            json!({"_class_name": "DPMSolverMultistepScheduler", "solver_order": 3}),
            "dpmsolver++ of order 3 is not the default walk",
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
        (json!({"_class_name": "DDPMScheduler", "beta_schedule": "laplace"}), "beta_schedule is \"laplace\""),
        (json!({"_class_name": "DDPMScheduler", "rescale_betas_zero_snr": true}), "its last level is infinite"),
        (json!({"_class_name": "DDPMScheduler", "prediction_type": "score"}), "prediction_type is \"score\""),
        (json!({"_class_name": "EDMEulerScheduler", "prediction_type": "v_prediction"}), "but epsilon is wanted"),
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
    assert_eq!(clip(&json!({"_class_name": "DDPMScheduler"})), Some(1.0), "diffusers' default");
    assert_eq!(clip(&json!({"_class_name": "DDPMScheduler", "clip_sample_range": 2.0})), Some(2.0));
    assert_eq!(clip(&json!({"_class_name": "DDIMScheduler", "clip_sample": false})), None);
    assert_eq!(clip(&json!({"_class_name": "CMStochasticIterativeScheduler"})), Some(1.0));
    assert_eq!(clip(&json!({"_class_name": "EulerDiscreteScheduler"})), None);
    let model = open(&folder(&json!({"_class_name": "DDPMScheduler"}))).unwrap();
    let drawn = |sampling: Sampling| largest(&sampling.steps(10).seeds(0..2).run(&()).unwrap().images);
    assert!(drawn(Sampling::new(&model)) <= 1.0, "the last step ends at the clipped image");
    assert!(drawn(Sampling::new(&model).clip(None).unwrap()) > 10.0, "a random network goes anywhere");
    assert!(Sampling::new(&model).clip(Some(-1.0)).is_err());
    let two = plan(&json!({"_class_name": "CMStochasticIterativeScheduler"}));
    assert!(two.steps == 2 && format!("{:?}", two.schedule).contains("[80.0, 2.24]"), "{two:?}");
}
