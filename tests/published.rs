//! The configurations released with the paper: what they ask for, and what their walks make of a Gaussian prior.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tch::{Device, Kind, Tensor};
use tweedie::{
    files::images,
    inverse::{
        detectors::Detector,
        likelihood::Likelihood,
        operators::{AnyTask, DownsampleKernel, InpaintBox, InpaintRandom, SuperResolution},
        restoration::{self, InverseProblem, Method},
    },
    models::card::Model,
    numbers::{
        plan::AnySampler,
        samplers::{Ramp, Simplified},
        schedule::{AnySchedule, Geometric, LinearBeta, Schedule, Sigmoid},
        walk::{GaussianPixel, PixelMoments},
    },
    run::released::{Perturbation, PublishedProblem, Released, Start},
    scores::noise::Seeded,
};

use crate::{cli::Place, common::relative};

/// All of a variance-preserving file but its walk and its measurement.
const VP: &str = "
machinesetup: {gpu_idx: 0, save_dir: ./results}
data: {name: ffhq, root: ./images/}
model:
  pretrained_check_point: ./pretrained/ffhq_10m.pt
  noise_perturbation_type: vp
  image_size: 256
  num_channels: 128
  num_res_blocks: 1
  channel_mult: \"\"
  learn_sigma: True
  attention_resolutions: 16
  num_head_channels: 64
  use_scale_shift_norm: True
  resblock_updown: True
vp_diffusion:
  sampler: ddpm
  steps: 1000
  beta_at_clean: 0.0001
  noise_schedule: linear
  model_mean_type: epsilon
  model_var_type: learned_range
  clip_denoised: True
";

/// All of a variance-exploding one.
const VE: &str = "
machinesetup:
  gpu_idx: 0        # of the graphics cards
  save_dir: ./results
data: {name: ffhq, root: ./images/}
imagedetail: {num_channels: 3, image_size: 256, centered: false}
model:
  pretrained_check_point: ./pretrained/checkpoint_48.pth
  noise_perturbation_type: ve
  name: ncsnpp
  sigma_max: 348
  sigma_min: 0.01
  nf: 128
  ch_mult: [1, 1, 2, 2, 2, 2, 2]
  fir_kernel: [1, 3, 3, 1]
training: {continuous: true, sde: vesde, lr: 2e-4}
sampling: {method: pc, snr: 0.075}
eval: {batch_size: 1}
optim: {optimizer: Adam}
seed: 42
";

const FREE: &str = "{operator: {name: uncondition}, noise: {name: gaussian, sigma: 0.}}";
const INPAINTING: &str = "
  operator: {name: inpainting}
  mask_opt:
    mask_type: random
    mask_len_range: !!python/tuple [128, 129]
    mask_prob_range: !!python/tuple [0.92, 0.92]
    image_size: 256
  noise: {name: gaussian, sigma: 0.2}
";
const SUPER_RESOLUTION: &str = "
  operator: {name: super_resolution, in_shape: !!python/tuple [1, 3, 256, 256], scale_factor: 4}
  noise: {name: gaussian, sigma: 0.2}
";

/// Network, schedule, K, T₀, c, measurement: the paper's runs.
const RUNS: [(&str, &str, usize, &str, f64, &str); 7] = [
    (VP, "denoiser", 1000, "0.4", 0.4, FREE),
    (VP, "sigmoid", 100, "0.1", 0.7, FREE),
    (VE, "", 1000, "0.4", 0.16, FREE),
    (VP, "sigmoid", 750, ".0", 0.776_83, INPAINTING),
    (VP, "sigmoid", 750, ".0", 0.156_51, SUPER_RESOLUTION),
    (VE, "", 1000, ".0", 0.294_87, INPAINTING),
    (VE, "", 1000, ".0", 0.156_51, SUPER_RESOLUTION),
];

fn text((network, schedule, steps, temperature, c, measurement): (&str, &str, usize, &str, f64, &str)) -> String {
    let schedule = if schedule.is_empty() { String::new() } else { format!("  schedule: {schedule}\n") };
    format!(
        "langevin_hyperparam:\n{schedule}  num_iters: {steps}\n  temperature: {temperature}\n  \
         scaling_constant_of_step_size: {c}\n  save_image: true\nmeasurement: {measurement}\n{network}"
    )
}

fn parse(text: &str) -> Result<Released, String> {
    Released::parse(text, Path::new("run.yaml")).map_err(|error| error.to_string())
}

/// K, T₀, c and η of the paper's runs, its schedules, and all of it in data units.
#[test]
fn the_seven_configurations_ask_for_what_the_paper_ran() {
    let chain = LinearBeta { first: 1e-4, last: 0.02, times: 1000 };
    let ends = chain.sigmas(2, (0.0, 0.0)).unwrap();
    for run in RUNS {
        let (network, schedule, steps, temperature, c, measurement) = run;
        let published = parse(&text(run)).unwrap();
        let t0 = temperature.parse().unwrap();
        assert_eq!(published.plan.steps, steps);
        assert_eq!(published.plan.sampler, AnySampler::Simplified(Simplified { c, t0, ramp: Ramp::Linear }));
        let (unit, wanted) = match (network == VE, schedule) {
            (true, _) => (2.0, AnySchedule::Geometric(Geometric { max: Some(696.0), min: Some(0.02) })),
            (_, "denoiser") => (1.0, AnySchedule::LinearBeta(chain.clone())),
            _ => {
                let (max, min) = (Some(ends.max()), Some(ends.min()));
                (1.0, AnySchedule::Sigmoid(Sigmoid { start: 0.0, end: 3.0, tau: 0.3, max, min }))
            }
        };
        assert_eq!(published.plan.schedule, wanted);
        let task = match measurement {
            FREE => None,
            INPAINTING => Some(AnyTask::InpaintRandom(InpaintRandom { hidden: 0.92 })),
            _ => Some(AnyTask::SuperResolution(SuperResolution { factor: 4, kernel: DownsampleKernel::Bicubic })),
        };
        assert_eq!(published.problem, task.map(|task| PublishedProblem { task, eta: 0.2 * unit }));
        // N(0, I) of pixels of 0 … 1 is N(−1, 4 I) in data units.
        assert_eq!(published.start, Start { mean: 1.0 - unit, deviation: unit });
        let kind = if network == VE { Perturbation::Ve } else { Perturbation::Vp };
        assert!(
            published.network.perturbation == kind && published.network.side == 256 && published.network.width == 128
        );
        let file = if network == VE { "checkpoint_48.pth" } else { "ffhq_10m.pt" };
        assert_eq!(published.model, Path::new("./pretrained").join(file));
        assert!(published.images == Path::new("./images/") && published.results == Path::new("./results"));
    }
}

/// The levels of the two schedules of five steps, as the released program makes them before it moves them to its grid.
#[test]
fn levels_run_between_the_ends_of_the_network() {
    let levels = |i: usize| -> Vec<f64> {
        let (network, schedule, _, temperature, c, measurement) = RUNS[i];
        let published = parse(&text((network, schedule, 5, temperature, c, measurement))).unwrap();
        published.plan.sigmas((0.5, 2.0)).unwrap().iter().collect()
    };
    let sigmoid = [157.407_280_810_407_57, 23.877_619, 2.102_772_6, 0.169_735_71, 0.010_000_657];
    let geometric = [348.0, 25.479_120_5, 1.865_475_8, 0.136_582_4, 0.01].map(|sigma| 2.0 * sigma);
    for (found, wanted) in [(levels(1), sigmoid), (levels(2), geometric)] {
        // The digits written above.
        let near = |(a, b): (&f64, &f64)| relative(*a, *b) < 1e-6;
        assert!(found.len() == 5 && found.iter().zip(&wanted).all(near), "{found:?} {wanted:?}");
    }
}

/// What becomes of a pixel N(m, v), v in the pixels of the file.
fn last(published: &Released, v: f64, gain: f64) -> (PixelMoments, GaussianPixel) {
    let unit = published.start.deviation;
    let data = |x: f64| unit * x + published.start.mean;
    let limit = published.problem.as_ref().map_or(f64::INFINITY, |problem| problem.eta * problem.eta);
    let walk = published.plan.resolve((0.01, 157.0), limit).unwrap().walk.unwrap();
    let eta = published.problem.as_ref().map_or(1.0, |problem| problem.eta);
    // y = h m + 0.5 in the file's pixels: in data units it is shifted as A does a grey image.
    let mean = data(0.3);
    let pixel = GaussianPixel { mean, variance: unit * unit * v, gain, measurement: gain * mean + unit * 0.5, eta };
    let start = PixelMoments { mean: published.start.mean, variance: unit * unit };
    (walk.moments(&pixel, start).last().unwrap(), pixel)
}

/// V_K/v for images of variance v, computed apart from this program, in the file's own pixels.
#[test]
fn free_walks_leave_the_variance_that_the_released_ones_do() {
    let variances = [1.0, 0.25, 0.05, 0.01, 0.001, 1e-4];
    let golden = [
        [1.0206, 1.0699, 1.1516, 1.2938, 1.7795, 3.5611],
        [0.8771, 0.9530, 1.0410, 1.1276, 1.2371, 1.3562],
        [0.8896, 0.9319, 0.9801, 1.0281, 1.1398, 1.8892],
    ];
    for (run, golden) in RUNS.into_iter().zip(golden) {
        let published = parse(&text(run)).unwrap();
        for (v, golden) in variances.into_iter().zip(golden) {
            let (found, pixel) = last(&published, v, 0.0);
            let ratio = found.variance / pixel.variance;
            // Four digits, and the grid of levels that the released program has.
            assert!((ratio - golden).abs() < 2e-4 * golden, "{}: {v}: {ratio} {golden}", run.1);
            assert!((found.mean - pixel.mean).abs() < 1e-9);
        }
    }
}

/// V_K/V_post with η = 0.2, v = 0.25 for a pixel that is seen, hidden, or one of sixteen that a coarse one averages.
#[test]
fn restorations_leave_the_variance_that_the_released_ones_do() {
    for (i, gain, golden) in [(3, 1.0, 0.934), (3, 0.0, 0.878), (4, 0.25, 0.842), (5, 1.0, 0.900), (5, 0.0, 0.842)] {
        let (found, pixel) = last(&parse(&text(RUNS[i])).unwrap(), 0.25, gain);
        let ratio = found.variance / pixel.posterior().variance;
        assert!((ratio - golden).abs() < 1e-3, "run {i}, gain {gain}: {ratio} {golden}");
    }
}

/// τ ≤ η², although ‖A‖² = 1/16 would allow sixteen times as much.
#[test]
fn steps_are_as_short_as_the_released_ones() {
    for (i, eta) in [(4, 0.2), (6, 0.4)] {
        let problem = parse(&text(RUNS[i])).unwrap().problem.unwrap();
        let shape = [1, 16, 16];
        let operator = problem.task.get().operator(shape, 0, Device::Cpu, Kind::Double).unwrap();
        let measurement = Tensor::zeros([1, 1, 4, 4], (Kind::Double, Device::Cpu));
        let likelihood = problem.likelihood(operator, measurement, shape).unwrap();
        assert!((likelihood.step_limit() - eta * eta).abs() < 1e-15);
    }
}

#[test]
fn first_states_are_standard_normal_in_the_pixels_of_the_file() {
    let like = Tensor::zeros([4, 1, 64, 64], (Kind::Double, Device::Cpu));
    let states = parse(&text(RUNS[2])).unwrap().start.states(&like, &Seeded(vec![0, 1, 2, 3]));
    let pixels = (states + 1.0) / 2.0;
    let mean = pixels.mean(Kind::Double).double_value(&[]);
    let variance = pixels.square().mean(Kind::Double).double_value(&[]);
    // Five standard errors of 16384 draws.
    assert!(mean.abs() < 5.0 / 128.0 && (variance - 1.0).abs() < 5.0 * 2f64.sqrt() / 128.0, "{mean} {variance}");
}

/// A box of 128 pixels, 16 from the border.
#[test]
fn a_hidden_box_is_read() {
    let inpainting = INPAINTING.replace("mask_type: random", "mask_type: box");
    let (network, schedule, steps, temperature, c, _) = RUNS[3];
    let published = parse(&text((network, schedule, steps, temperature, c, &inpainting))).unwrap();
    let hidden = InpaintBox { height: 0.5, width: 0.5, margin: 1.0 / 16.0 };
    assert_eq!(published.problem.unwrap().task, AnyTask::InpaintBox(hidden));
}

/// One sentence, with the line in which the slip is.
#[test]
fn slips_are_told_with_their_line() {
    for (run, from, to, told) in [
        (3, "num_iters", "num_iter", "did you mean `num_iters`?"),
        (3, "mask_type", "mask_typ", "did you mean `mask_type`?"),
        (3, "schedule: sigmoid", "schedule: sigmoidal", "did you mean `sigmoid`?"),
        (3, "num_iters: 750", "num_iters: 0", "num_iters must be 1 or larger, but is 0"),
        (3, "num_iters: 750", "num_iters: many", "invalid u64"),
        (3, "temperature: .0", "temperature: -1.0", "temperature must be 0 or larger, but is -1"),
        (3, "size: 0.77683", "size: 0.0", "scaling_constant_of_step_size must be positive, but is 0"),
        (3, "sigma: 0.2", "sigma: 0.0", "sigma must be positive, but is 0"),
        (3, "[0.92, 0.92]", "[0.3, 0.92]", "mask_prob_range must be one part of 0 … 1, given twice"),
        (3, "[0.92, 0.92]", "[0.92]", "line"),
        (3, "name: inpainting", "name: colorization", "colorization"),
        (3, "name: gaussian", "name: poisson", "poisson"),
        (3, "steps: 1000", "steps: 500", "steps must be 1000, but is 500"),
        (3, "mask_type: random", "mask_type: extreme", "extreme"),
        (3, "  schedule: sigmoid\n", "", "vp networks need schedule, which is missing"),
        (3, "mask_prob_range:", "mask_len_range:", "mask_len_range"),
        (
            3,
            "    image_size: 256\n  noise",
            "    image_size: 64\n  noise",
            "image_size must be that of the network, but is 64",
        ),
        (4, "scale_factor: 4", "scale_factor: 0", "scale_factor must be 1 or larger, but is 0"),
        (4, ", scale_factor: 4", "", "super_resolution needs scale_factor, which is missing"),
        (5, "sigma_max: 348", "sigma_max: -1", "sigma_max must be positive, but is -1"),
        (5, "centered: false", "centered: true", "centered must be false, but is true"),
    ] {
        let right = text(RUNS[run]);
        let wrong = right.replacen(from, to, 1);
        assert_ne!(right, wrong, "{from}");
        let cause = parse(&wrong).unwrap_err();
        // Where the first word of the slip stands, or that which needs what is gone.
        let line = right[..right.find(from).unwrap()].lines().count().max(1);
        let near = [line, line + 1].map(|line| format!("line {line}"));
        let placed = if to.is_empty() { cause.contains("line ") } else { near.iter().any(|line| cause.contains(line)) };
        assert!(cause.starts_with("run.yaml: ") && cause.contains(told) && placed, "{from}: {cause}");
        assert!(!cause.contains('\n'), "{cause}");
    }
}

/// The command draws the images that the library's own parts do: the released start, and the released rows.
#[test]
fn sample_runs_a_configuration_as_it_is() {
    let place = Place::new();
    let golden = fs::canonicalize("tests/golden/zoo/guided-diffusion/model.pt").unwrap();
    let file = golden.to_str().unwrap();
    let small = text((VP, "sigmoid", 6, "0.1", 0.7, FREE))
        .replace("image_size: 256", "image_size: 32")
        .replace("num_channels: 128", "num_channels: 32");
    fs::write(place.path("run.yaml"), &small).unwrap();
    let heads = "heads={width: 16}";
    let sample = ["sample", file, "--set", heads, "--config", "run.yaml", "--seeds", "3", "--states", "--out", "out"];
    place.succeed(&sample);
    let model = Model::open_with(file, None, &[heads.to_owned()], Device::Cpu, Kind::Float).unwrap();
    let published = parse(&small).unwrap();
    let noise = Seeded(vec![3]);
    let like = Tensor::zeros([1, 3, 32, 32], (Kind::Float, Device::Cpu));
    let scheme = published.plan.resolve(model.range(), f64::INFINITY).unwrap().scheme;
    let x = published.start.states(&like, &noise);
    let expected = tweedie::scores::sample::sample(&scheme, x, &model.denoiser, &noise).last().unwrap();
    let found = Tensor::read_npy(place.path("out/000003.npy")).unwrap();
    assert!(found.equal(&expected.get(0)));
    // It is written for another network, or restores.
    fs::write(place.path("run.yaml"), text(RUNS[1])).unwrap();
    let complaint = place.complaint(&sample);
    assert!(complaint.ends_with("an ADM of width 128 for images of 256×256"), "{complaint}");
    fs::write(place.path("run.yaml"), text(RUNS[3])).unwrap();
    assert_eq!(place.complaint(&sample), "run.yaml: restores images: it is for `tweedie restore`");
}

/// The released files themselves, for whoever has them: RANDOM_WALKS is their folder.
#[test]
#[ignore = "needs the seven released files"]
fn the_released_files_are_read() {
    let folder = std::env::var("RANDOM_WALKS").expect("set RANDOM_WALKS to the folder of the seven files");
    let names = [
        "vp_uncond_pretrainedSchedule",
        "vp_uncond_sigmoidSchedule",
        "ve_uncond_pretrainedSchedule",
        "vp_inpainting",
        "vp_super_resolution",
        "ve_inpainting",
        "ve_super_resolution",
    ];
    for (name, run) in names.into_iter().zip(RUNS) {
        let released = Released::read(&Path::new(&folder).join(format!("{name}.yaml"))).unwrap();
        let ours = parse(&text(run)).unwrap();
        assert_eq!((released.plan, released.start), (ours.plan, ours.start), "{name}");
        assert_eq!((released.problem, released.network), (ours.problem, ours.network), "{name}");
    }
}

/// A small published network of each kind, and a configuration written for it, for a folder of images beside it.
fn small(run: usize) -> (PathBuf, Vec<&'static str>, String, i64) {
    let (network, schedule, _, temperature, c, measurement) = RUNS[run];
    let text = text((network, schedule, 6, temperature, c, measurement));
    let golden = |name: &str| fs::canonicalize(Path::new("tests/golden/zoo").join(name)).unwrap();
    if network == VP {
        let text = text.replace("image_size: 256", "image_size: 32").replace("num_channels: 128", "num_channels: 32");
        return (golden("guided-diffusion/model.pt"), vec!["--set", "heads={width: 16}"], text, 32);
    }
    let text = text.replace("image_size: 256", "image_size: 32").replace("nf: 128", "nf: 8");
    (golden("scoresde-ncsnpp-ve/checkpoint.pth"), Vec::new(), text, 32)
}

/// The command restores the images that the library's own parts do: the released start and rows, the exact likelihood with the
/// released limit, the mask and the noise of the file; and it writes down what it did.
#[test]
fn restore_runs_a_configuration_as_it_is() {
    for run in [3, 4, 5, 6] {
        let (file, heads, text, side) = small(run);
        let place = Place::new();
        fs::write(place.path("run.yaml"), &text).unwrap();
        fs::create_dir(place.path("images")).unwrap();
        let truth = Tensor::arange(3 * side * side, (Kind::Int64, Device::Cpu)).remainder(251).to_kind(Kind::Uint8);
        let truth = truth.view([3, side, side]);
        images::write_png(&place.path("images/ramp.png"), &truth).unwrap();
        let file = file.to_str().unwrap();
        let command =
            [&["restore", file][..], &heads, &["--config", "run.yaml", "--samples", "1", "--out", "out"]].concat();
        let said = place.succeed(&command);
        let published = parse(&text).unwrap();
        let problem = published.problem.unwrap();
        assert!(
            said.contains(&format!("η = {} for pixels 0 … 1", problem.eta / 2.0)) && said.contains("walk"),
            "{said}"
        );

        let settings: Vec<String> = heads.iter().skip(1).map(ToString::to_string).collect();
        let model = Model::open_with(file, None, &settings, Device::Cpu, Kind::Float).unwrap();
        let operator = problem.task.get().operator([3, side, side], 0, Device::Cpu, Kind::Float).unwrap();
        let clean = operator.apply(&images::from_bytes(&truth).unsqueeze(0));
        let y = Detector::Gaussian { eta: problem.eta }.measure(&clean, &[0]).unwrap();
        let likelihood = problem.likelihood(operator, y, [3, side, side]).unwrap();
        let method = restoration::Walk { limit: PublishedProblem::LIMIT };
        let resolved = published.plan.resolve(model.range(), method.step_limit(&likelihood)).unwrap();
        let noise = Seeded(vec![0]);
        let x = published.start.states(&Tensor::zeros([1, 3, side, side], (Kind::Float, Device::Cpu)), &noise);
        let posed = InverseProblem { prior: &model.denoiser, likelihood: &likelihood, plan: &resolved, noise: &noise };
        let expected = restoration::restore(&method, &posed, x, &mut |_| Ok(())).unwrap().get(0);
        let found = images::read_as_is(&place.path("out/ramp-sample-000.png")).unwrap();
        assert!(found.equal(&images::to_bytes(&expected)), "run {run}");

        for name in ["ramp.json", "table.md", "sheet.png", "index.html", "measurement.npz"] {
            assert!(place.path("out").join(name).exists(), "{name}");
        }
        let record = fs::read_to_string(place.path("out/record.json")).unwrap();
        assert!(record.contains("\"simplified\"") && record.contains("\"steps\": 6"), "{record}");
    }
}

/// One sentence each, before anything is computed.
#[test]
fn restore_refuses_what_a_configuration_is_not_for() {
    let (file, heads, right, _) = small(3);
    let place = Place::new();
    let file = file.to_str().unwrap();
    let command = [&["restore", file][..], &heads, &["--config", "run.yaml"]].concat();
    let complaint = |text: &str, more: &[&str]| {
        fs::write(place.path("run.yaml"), text).unwrap();
        place.complaint(&[&command[..], more].concat())
    };
    assert!(complaint(&right, &[]).contains("images"), "the folder that it names is not there");
    let (operator, network) = (right.find("  operator:").unwrap(), right.find("machinesetup").unwrap());
    let free = format!("{}{}\n{}", right[..operator].trim_end(), format_args!(" {FREE}"), &right[network..]);
    assert_eq!(complaint(&free, &[]), "run.yaml: draws images freely: it is for `tweedie sample`");
    let other = complaint(&text(RUNS[3]), &[]);
    assert!(other.ends_with("an ADM of width 128 for images of 256×256"), "{other}");
    let ve = complaint(&small(5).2, &[]);
    assert!(ve.ends_with("an NCSN++ of width 8 for images of 32×32"), "{ve}");
    let both = complaint(&right, &["--noise", "0.1"]);
    assert!(both.contains("--config") && both.contains("--noise"), "{both}");
    fs::remove_file(place.path("run.yaml")).unwrap();
    assert!(place.complaint(&command).contains("run.yaml: cannot be read"));
}
