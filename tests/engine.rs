//! The engine by the library: callbacks, trajectories, explicit levels, samplers of the caller's own; in memory and in files.

use std::{ops::ControlFlow, sync::Mutex};

use tch::{Device, Kind, Tensor};
use tweedie::{
    Error, Model, Session,
    files::images,
    inverse::{
        operators::InpaintRandom,
        restoration::{AnyMethod, Diffpir, Mmps},
    },
    numbers::{
        plan::{AnySampler, Plan},
        samplers::{Ddim, Sampler},
        schedule::{AnySchedule, Karras},
        sigma::Sigmas,
        walk::{Step, Walk},
    },
    run::{
        SamplingStep,
        figures::RestoredRow,
        problem::{OperatorSource, Problem},
        restore::Restoration,
        restored::RestorationFolder,
        sample::{SampleFolder, Sampling},
    },
    scores::{
        denoiser::Denoiser,
        noise::{Noise, Seeded},
    },
};

use crate::cli::Place;

/// Numbers of a few units, rounded in a few operations of f32.
const ROUNDING: f64 = 1e-4;

fn tiny(place: &Place) -> Model {
    Model::open_on(place.path("tiny.safetensors").to_str().unwrap(), Device::Cpu, Kind::Float).unwrap()
}

/// Six levels of DDIM without noise.
fn plan() -> Plan {
    let schedule = AnySchedule::Karras(Karras { rho: 7.0, max: Some(10.0), min: Some(0.05) });
    Plan { schedule, steps: 6, sampler: AnySampler::Ddim(Ddim { eta: 0.0 }) }
}

fn levels(model: &Model) -> Vec<f64> {
    plan().sigmas(model.range()).unwrap().iter().collect()
}

fn sampling(model: &Model) -> Sampling<'_> {
    Sampling::new(model).plan(plan()).seeds(0..4)
}

fn distance(a: &Tensor, b: &Tensor) -> f64 {
    f64::try_from((a - b).abs().max()).unwrap()
}

/// Index, σ, D and the state after the step.
type Observed = (usize, f64, Tensor, Tensor);

#[test]
fn a_callback_sees_step_level_state_and_denoised_image() {
    let place = Place::new();
    let model = tiny(&place);
    let seen: Mutex<Vec<Observed>> = Mutex::default();
    let look = |step: &mut SamplingStep| {
        assert_eq!(step.seeds, [0, 1, 2, 3]);
        seen.lock().unwrap().push((step.index, step.sigma, step.denoised.copy(), step.x.copy()));
        Ok(ControlFlow::Continue(()))
    };
    let drawn = sampling(&model).on_step(&look).run(&()).unwrap();
    let seen = seen.into_inner().unwrap();
    let levels = levels(&model);
    assert_eq!(seen.iter().map(|(index, ..)| *index).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5]);
    let zeros = Tensor::zeros([4, 1, 8, 8], (Kind::Float, Device::Cpu));
    let mut x = Seeded(vec![0, 1, 2, 3]).like(&zeros, 0, 0) * model.denoiser.precondition.start(levels[0]);
    for ((_, sigma, denoised, after), level) in seen.iter().zip(&levels) {
        assert_eq!(sigma, level);
        let expected = tch::no_grad(|| model.denoiser.denoise(&x, *sigma));
        assert!(distance(denoised, &expected) < ROUNDING, "σ = {sigma}");
        x = after.shallow_clone();
    }
    assert_eq!(x, drawn.images);
}

/// Without noise of its own, a walk whose state was replaced is the walk that begins there.
#[test]
fn a_state_that_a_callback_replaces_is_where_the_next_step_begins() {
    let place = Place::new();
    let model = tiny(&place);
    let other = Tensor::arange(256, (Kind::Float, Device::Cpu)).view([4, 1, 8, 8]) / 100.0;
    let shared = Mutex::new(other.copy());
    let replace = |step: &mut SamplingStep| {
        if step.index == 1 {
            *step.x = shared.lock().unwrap().copy();
        }
        Ok(ControlFlow::Continue(()))
    };
    let replaced = sampling(&model).on_step(&replace).run(&()).unwrap();
    let begun = sampling(&model).sigmas(&levels(&model)[2..]).init(other.copy()).run(&()).unwrap();
    assert_eq!(replaced.images, begun.images, "bit for bit");
    assert_ne!(replaced.images, sampling(&model).run(&()).unwrap().images);
}

#[test]
fn a_callback_stops_the_walk_where_it_is_and_its_error_ends_the_run() {
    let place = Place::new();
    let model = tiny(&place);
    let whole = sampling(&model).trajectories().run(&()).unwrap();
    let stop =
        |step: &mut SamplingStep| Ok(if step.index == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
    let stopped = sampling(&model).on_step(&stop).trajectories().run(&()).unwrap();
    for (i, (whole, stopped_at)) in whole.trajectories.iter().zip(&stopped.trajectories).enumerate() {
        assert_eq!(stopped_at.size()[0], 3);
        assert_eq!(stopped.images.get(i as i64), whole.get(2), "bit for bit");
        assert_eq!(stopped_at.get(2), whole.get(2));
    }
    let fail = |_: &mut SamplingStep| Err(Error::request("enough"));
    assert_eq!(sampling(&model).on_step(&fail).run(&()).unwrap_err().to_string(), "enough");
}

#[test]
fn a_request_that_makes_no_sense_is_refused() {
    let place = Place::new();
    let model = tiny(&place);
    let told = |request: Sampling| request.run(&()).unwrap_err().to_string();
    assert_eq!(told(sampling(&model).seeds([])), "`seeds` must be at least one, but is none");
    let short = Tensor::zeros([3, 1, 8, 8], (Kind::Float, Device::Cpu));
    let want = "`init` has shape [3, 1, 8, 8], but [4, 1, 8, 8] for seeds up to 3 is wanted";
    assert_eq!(told(sampling(&model).init(short)), want);
    assert_eq!(told(sampling(&model).steps(0)), "steps must be at least 1, but is 0");
}

#[test]
fn trajectories_end_in_the_images() {
    let place = Place::new();
    let model = tiny(&place);
    let drawn = sampling(&model).trajectories().run(&()).unwrap();
    assert_eq!((drawn.seeds.as_slice(), drawn.trajectories.len()), (&[0, 1, 2, 3][..], 4));
    for (i, states) in drawn.trajectories.iter().enumerate() {
        assert_eq!(states.size(), [6, 1, 8, 8]);
        assert_eq!(states.get(5), drawn.images.get(i as i64), "bit for bit");
    }
    assert_eq!(drawn.images, sampling(&model).run(&()).unwrap().images);
}

#[test]
fn levels_as_a_list_give_the_bits_of_the_plan_that_makes_them() {
    let place = Place::new();
    let model = tiny(&place);
    for eta in [0.0, 1.0] {
        let by_plan = sampling(&model).sampler(Ddim { eta }).run(&()).unwrap();
        let by_list = sampling(&model).sampler(Ddim { eta }).sigmas(&levels(&model)).run(&()).unwrap();
        assert_eq!(by_plan.images, by_list.images, "η = {eta}");
    }
    let rising = sampling(&model).sigmas(&[1.0, 2.0]).run(&()).unwrap_err().to_string();
    assert_eq!(rising, "noise levels must be finite, positive and strictly decreasing, but level 1 is 2");
}

#[test]
fn images_in_memory_are_the_states_of_the_folder() {
    let place = Place::new();
    let model = tiny(&place);
    let folder = SampleFolder { out: place.path("out"), states: true, ..SampleFolder::default() };
    let written = sampling(&model).write(&folder, &()).unwrap();
    assert_eq!((written.images, written.new), (4, 4));
    let drawn = sampling(&model).run(&()).unwrap();
    for seed in 0..4 {
        let state = Tensor::read_npy(place.path(&format!("out/{seed:06}.npy"))).unwrap();
        assert_eq!(state, drawn.images.get(seed), "bit for bit");
    }
    assert_eq!(sampling(&model).write(&folder, &()).unwrap().new, 0);
    // The program draws the same.
    let levels = levels(&model).iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let schedule = format!("{{kind: list, sigmas: [{levels}]}}");
    let how = ["--sampler", "ddim", "--schedule", &schedule, "--steps", "6", "--seeds", "0-3", "--states"];
    place.succeed(&[&["sample", "tiny.safetensors", "--out", "program"], &how[..]].concat());
    let state = |out: &str| std::fs::read(place.path(&format!("{out}/000003.npy"))).unwrap();
    assert!(state("out") == state("program"), "bit for bit");
}

/// DDIM's rows as anybody may write them: τ = σ(σ − σ′), T = 0.
struct Own;

impl Sampler for Own {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let levels: Vec<f64> = sigmas.iter().chain([0.0]).collect();
        let row = |pair: &[f64]| Step { sigma: pair[0], tau: pair[0] * (pair[0] - pair[1]), temperature: 0.0 };
        Ok(Walk(levels.windows(2).map(row).collect()))
    }
}

#[test]
fn a_sampler_of_ones_own_is_a_sampler() {
    let place = Place::new();
    let model = tiny(&place);
    let own = sampling(&model).solver(&Own).run(&()).unwrap();
    let listed = sampling(&model).run(&()).unwrap();
    assert!(distance(&own.images, &listed.images) < ROUNDING);
    let folder = SampleFolder { out: place.path("out"), ..SampleFolder::default() };
    let told = sampling(&model).solver(&Own).write(&folder, &()).unwrap_err().to_string();
    assert!(told.contains("draw in memory") && !place.path("out").exists(), "{told}");
}

/// Three samples of each image, on four levels.
fn restoration<'a>(model: &'a Model, problem: &'a Problem<'a>, session: &Session) -> Restoration<'a> {
    Restoration::new(model, problem).session(session).steps(4).samples(3)
}

#[test]
fn restorations_in_memory_are_the_states_and_figures_of_the_folder() {
    let place = Place::new();
    let model = tiny(&place);
    // Blocks of four: the second image's samples lie in two of them.
    let session = Session { batch: Some(4), seed: 7, ..Session::on(Device::Cpu) };
    let truth = Tensor::arange(128, (Kind::Float, Device::Cpu)).view([2, 1, 8, 8]) / 64.0 - 1.0;
    let task = OperatorSource::task(&InpaintRandom { hidden: 0.75 }.into(), [1, 8, 8], &session).unwrap();
    let problem = Problem::new(task, &truth, 0.05, session.seed).unwrap();
    let problem = problem.named(vec!["one".to_owned(), "two".to_owned()]).unwrap();
    for method in [AnyMethod::from(Mmps::default()), Diffpir::default().into()] {
        let folder =
            RestorationFolder { out: place.path(&format!("{method:?}")), states: true, ..RestorationFolder::default() };
        let request = || restoration(&model, &problem, &session).method(method.clone());
        request().write(&folder, &()).unwrap();
        let restored = request().run(&()).unwrap();
        assert_eq!(restored.images.len(), 2);
        for image in &restored.images {
            for (i, sample) in (0..3).map(|i| (i, image.samples.get(i))) {
                let state = Tensor::read_npy(folder.out.join(format!("{}-sample-{i:03}.npy", image.name))).unwrap();
                assert_eq!(state, sample, "bit for bit: {method:?}, {}, sample {i}", image.name);
            }
            let mean = images::read(&folder.out.join(format!("{}-mean.png", image.name)), 1).unwrap();
            assert_eq!(mean, images::to_bytes(&image.mean), "{method:?}, {}", image.name);
            assert_eq!(image.mean, image.samples.mean_dim([0i64].as_slice(), false, None));
            let row = RestoredRow {
                name: image.name.clone(),
                samples: 3,
                residual: image.residual,
                truth: image.comparison.clone(),
                lpips: None,
                features: None,
            };
            let file = std::fs::read_to_string(folder.out.join(format!("{}.json", image.name))).unwrap();
            assert_eq!(file, serde_json::to_string_pretty(&row).unwrap(), "{method:?}");
        }
    }
}
