//! The one loop on tensors against the same scheme carried out in numbers, for every sampler that can be named.

use tch::{Device, Kind, Tensor};
use tweedie::{
    inverse::{likelihood::GaussianLikelihood, moment_matching::MomentMatching, operators::Identity},
    numbers::{
        plan::{AnySampler, Plan},
        schedule::{AnySchedule, Karras},
        stream,
    },
    scores::{
        analytic::{Gaussian, Mixture},
        denoiser::Denoiser,
        noise::{Noise, Seeded},
        sample::{FiniteGuard, sample},
    },
};

use crate::common::{Line, carry_out};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Every sampler and solver whose coefficients are known beforehand, by the name that a file would use.
const SAMPLERS: [&str; 33] = [
    r#"{"kind": "annealed-langevin", "epsilon": 2e-5, "repeats": 2}"#,
    r#"{"kind": "churn", "lambda": 0.5}"#,
    r#"{"kind": "consistent", "c": 0.9, "v": 1.0}"#,
    r#"{"kind": "ddim", "eta": 0.5}"#,
    r#"{"kind": "ddpm"}"#,
    r#"{"kind": "deis"}"#,
    r#"{"kind": "deis", "order": 4, "variable": "sigma"}"#,
    r#"{"kind": "dpm", "order": 1}"#,
    r#"{"kind": "dpm", "order": 2}"#,
    r#"{"kind": "dpm", "order": 3}"#,
    r#"{"kind": "dpm-plus-plus"}"#,
    r#"{"kind": "dpm-plus-plus", "variant": "2s"}"#,
    r#"{"kind": "dpm-plus-plus", "variant": "sde-2m"}"#,
    r#"{"kind": "euler-maruyama"}"#,
    r#"{"kind": "euler-maruyama", "rho": 0.3, "sde": {"kind": "csub-vp", "beta_max": 10}}"#,
    r#"{"kind": "exponential-integrator", "frozen": "score"}"#,
    r#"{"kind": "exponential-integrator", "frozen": "denoised"}"#,
    r#"{"kind": "heun"}"#,
    r#"{"kind": "heun", "churn": 10, "churn_noise": 1.003}"#,
    r#"{"kind": "ipndm"}"#,
    r#"{"kind": "non-markovian", "beta": {"kind": "frozen", "rho": 0.7}}"#,
    r#"{"kind": "probability-flow"}"#,
    r#"{"kind": "reverse-diffusion"}"#,
    r#"{"kind": "runge-kutta", "sde": {"kind": "vp"}}"#,
    r#"{"kind": "simplified", "c": 0.5, "t0": 0.3}"#,
    r#"{"kind": "snr", "gamma": 0.04}"#,
    r#"{"kind": "snr", "rho": 1, "gamma": 0.1, "delta": 0.2}"#,
    r#"{"kind": "sra1"}"#,
    r#"{"kind": "stochastic-heun", "sde": {"kind": "sub-vp"}}"#,
    r#"{"kind": "unipc", "order": 3}"#,
    r#"{"kind": "ve-ancestral"}"#,
    r#"{"kind": "ve-euler-maruyama"}"#,
    r#"{"kind": "vp-ancestral"}"#,
];

/// What is decided on the way, for each image by itself.
const CORRECTED: &str = r#"{"kind": "predictor-corrector", "predictor": {"kind": "ddim", "eta": 0}, "snr": 0.05}"#;

fn plan(sampler: &str) -> Plan {
    let sampler: AnySampler = serde_json::from_str(sampler).unwrap_or_else(|e| panic!("{sampler}: {e}"));
    Plan { schedule: AnySchedule::Karras(Karras { rho: 7.0, max: Some(10.0), min: Some(0.05) }), steps: 12, sampler }
}

/// The golden mixture in each of three pixels of its own.
fn mixture() -> Mixture {
    let images = Line::golden();
    let column = |i: usize| images.components.iter().map(|c| c[i]).collect::<Vec<f64>>();
    let variances: Vec<f64> = column(2).iter().map(|d| d * d).collect();
    let means = Tensor::from_slice(&column(1)).view([2, 1, 1, 1]);
    Mixture::new(&Tensor::from_slice(&column(0)), &means, &Tensor::from_slice(&variances)).unwrap()
}

/// Two images of one pixel: each follows its own path, whichever they are computed with.
#[test]
fn the_loop_does_what_the_scheme_says() {
    let (images, line) = (mixture(), Line::golden());
    let score = |x: f64, sigma: f64| line.score(x, sigma);
    for sampler in SAMPLERS {
        let resolved = plan(sampler).resolve((0.01, 10.0), f64::INFINITY).unwrap();
        let (noise, start) = (Seeded(vec![3, 8]), [12.0, -7.0]);
        let watched = FiniteGuard::new(&images);
        let x = Tensor::from_slice(&start).view([2, 1, 1, 1]);
        let states: Vec<Tensor> = sample(&resolved.scheme, x, &watched, &noise).collect();
        assert_eq!(watched.evaluations(), resolved.scheme.evaluations(), "{sampler}");
        assert_eq!(states.len(), resolved.scheme.0.len(), "{sampler}");
        for (i, seed) in [3, 8].into_iter().enumerate() {
            let mut draw = |k: usize, draw: usize| stream::normal(seed, k as u64 + 1, draw as u64).next().unwrap();
            let alone = carry_out(&resolved.scheme, start[i], &score, &mut draw);
            for (state, alone) in states.iter().zip(alone) {
                let state = state.double_value(&[i as i64, 0, 0, 0]);
                // Noise of tensors is rounded to f32 where it is drawn; a dozen steps carry it along.
                assert!((state - alone).abs() < 1e-4 * (1.0 + alone.abs()), "{sampler}: {state} and {alone}");
            }
        }
    }
}

/// The exact variance of a scheme, in rows of the same plan, is the walk's.
#[test]
fn rows_that_are_capped_stay_rows_and_others_refuse() {
    for sampler in SAMPLERS {
        let plan = plan(sampler);
        let free = plan.resolve((0.01, 10.0), f64::INFINITY).unwrap();
        match (free.walk, plan.resolve((0.01, 10.0), 0.01)) {
            (Some(walk), Ok(capped)) => {
                assert_eq!(capped.walk, Some(walk.capped(0.01)), "{sampler}");
            }
            (None, Err(e)) => assert!(e.to_string().starts_with("the sampler must be one with rows"), "{e}"),
            (walk, capped) => panic!("{sampler}: {} rows, {capped:?}", walk.map_or(0, |walk| walk.0.len())),
        }
    }
}

/// Given y = x + η e, images N(m, v) are N(m′, v′) with 1/v′ = 1/v + 1/η²: any sampler that is led by E[X | x, y] goes where it
/// goes for images of that law.
#[test]
fn every_sampler_draws_from_a_posterior_as_from_a_prior() {
    let gaussian = |mean: f64, variance: f64| {
        let mean = Tensor::full([1, 1, 2], mean, F64);
        Gaussian::new(&mean, &(Tensor::eye(2, F64) * variance)).unwrap()
    };
    let (m, v, y, eta): (f64, f64, f64, f64) = (0.3, 0.4, -0.8, 0.5);
    let prior = gaussian(m, v);
    let posterior = 1.0 / (1.0 / v + 1.0 / (eta * eta));
    let exact = gaussian(posterior * (m / v + y / (eta * eta)), posterior);
    let measurement = Tensor::full([1, 1, 1, 2], y, F64);
    let likelihood = GaussianLikelihood::new(Identity {}, measurement, eta, [1, 1, 2]).unwrap();
    let conditional = MomentMatching { prior: &prior, likelihood: likelihood.linear("mmps").unwrap(), iterations: 1 };
    let adaptive = r#"{"kind": "rk45"}"#;
    for sampler in SAMPLERS.into_iter().chain([CORRECTED, adaptive]) {
        let resolved = plan(sampler).resolve((0.01, 10.0), f64::INFINITY).unwrap();
        let run = |of: &dyn Denoiser| {
            let noise = Seeded(vec![1, 2]);
            let x = noise.like(&Tensor::zeros([2, 1, 1, 2], F64), 0, 0) * 10.0;
            sample(&resolved.scheme, x, &of, &noise).last().unwrap()
        };
        let gap = (run(&conditional) - run(&exact)).abs().max().double_value(&[]);
        assert!(gap < 1e-9, "{sampler}: {gap:e}");
    }
}

/// Nothing is coupled: an image alone is the image in a batch.
#[test]
fn every_sampler_takes_each_image_for_itself() {
    let images = mixture();
    for sampler in SAMPLERS.into_iter().chain([CORRECTED]) {
        let resolved = plan(sampler).resolve((0.01, 10.0), f64::INFINITY).unwrap();
        let run = |seeds: Vec<u64>| {
            let noise = Seeded(seeds.clone());
            let x = noise.like(&Tensor::zeros([seeds.len() as i64, 1, 1, 1], F64), 0, 0) * 10.0;
            sample(&resolved.scheme, x, &images, &noise).last().unwrap()
        };
        let (batch, alone) = (run(vec![5, 6, 7]), run(vec![6]));
        let (batch, alone) = (batch.double_value(&[1, 0, 0, 0]), alone.double_value(&[0, 0, 0, 0]));
        // The matrix product inside the mixture rounds by the shape of the batch.
        assert!((batch - alone).abs() < 1e-11 * (1.0 + alone.abs()), "{sampler}: {batch} and {alone}");
    }
}
