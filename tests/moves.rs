//! Moves whose length the state decides: Langevin steps of a given signal-to-noise ratio, and adaptive ones.

use tch::{Device, Kind, Tensor};
use tweedie::{
    numbers::{
        plan::AnySampler,
        samplers::VeReverseDiffusion,
        schedule::{Karras, Schedule},
        scheme::{Adaptive, Norms, Scheme, Update},
        sigma::Sigmas,
        solvers::{Frame, PredictorCorrector, Rk45, RungeKutta, Solver, Unipc},
    },
    scores::{
        analytic::{Gaussian, Mixture},
        denoiser::Score,
        noise::{Noise, Seeded},
        sample::{FiniteGuard, sample},
    },
};

use crate::common::relative;

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Two components in four pixels.
fn mixture() -> Mixture {
    let means = Tensor::from_slice(&[-1.0, 0.5, 0.2, -0.3, 0.9, -0.8, 0.1, 0.6]).view([2, 1, 2, 2]);
    Mixture::new(&Tensor::from_slice(&[0.3, 0.7]), &means, &Tensor::from_slice(&[0.09, 0.04])).unwrap()
}

fn levels() -> Sigmas {
    Karras { rho: 7.0, max: Some(8.0), min: Some(0.05) }.sigmas(12, (0.0, 0.0)).unwrap()
}

fn start(noise: &Seeded, sigma: f64) -> Tensor {
    noise.like(&Tensor::zeros([noise.0.len() as i64, 1, 2, 2], F64), 0, 0) * sigma
}

fn largest(x: Tensor) -> f64 {
    f64::try_from(x.abs().max()).unwrap()
}

/// The published loops of predictor and corrector, z ← z + η s_z + √(2η) n with η = 2 a (r ‖n‖/‖s_z‖)², in the frame
/// z = x/√(1 + σ²) for VP.
#[test]
fn corrections_are_the_published_langevin_steps() {
    let (images, noise, sigmas) = (mixture(), Seeded(vec![4, 9, 2]), levels());
    for (frame, norms) in [(Frame::Ve, Norms::Image), (Frame::Vp, Norms::Image), (Frame::Vp, Norms::Batch)] {
        let method = PredictorCorrector { frame, norms, snr: 0.1, corrections: 2, ..PredictorCorrector::default() };
        let scheme = method.scheme(&sigmas).unwrap();
        let watched = FiniteGuard::new(&images);
        let ours: Vec<Tensor> = sample(&scheme, start(&noise, sigmas.max()), &watched, &noise).collect();
        assert_eq!((watched.evaluations(), scheme.evaluations(), ours.len()), (36, 36, 36));
        let (mut x, mut step) = (start(&noise, sigmas.max()), 0);
        for (sigma, next) in sigmas.pairs() {
            let of = |sigma: f64| if frame == Frame::Vp { (1.0 + sigma * sigma).sqrt().recip() } else { 1.0 };
            let alpha = of(sigma);
            for _ in 0..2 {
                let z = &x * alpha;
                let (score, n) = (images.score(&(&z / alpha), sigma) / alpha, noise.like(&x, step + 1, 0));
                let norm = |v: &Tensor| v.flatten(1, -1).norm_scalaropt_dim(2.0, [1i64].as_slice(), false);
                let (lengths, others) = match norms {
                    Norms::Image => (norm(&n), norm(&score)),
                    Norms::Batch => (norm(&n).mean(Kind::Double), norm(&score).mean(Kind::Double)),
                };
                let size = ((lengths / others) * 0.1).square() * (2.0 * (alpha / of(next)).powi(2));
                let size = size.reshape([-1, 1, 1, 1]);
                x = (z + &size * score + (size * 2.0).sqrt() * n) / alpha;
                // f64, and a chain of a few dozen operations.
                assert!(largest(&ours[step as usize] - &x) < 1e-12, "{frame:?} {norms:?} step {step}");
                step += 1;
            }
            let drift = (sigma * sigma - next * next) * images.score(&x, sigma);
            x += drift + (sigma * sigma - next * next).sqrt() * noise.like(&x, step + 1, 0) * f64::from(next > 0.0);
            assert!(largest(&ours[step as usize] - &x) < 1e-12, "{frame:?} {norms:?} predictor {step}");
            step += 1;
        }
    }
}

/// In many dimensions lengths are what is expected of them, and the exact variances hold.
#[test]
fn corrections_keep_the_variance_that_the_numbers_say() {
    let variance = 0.25;
    let pixels = 64;
    let shape = [1, 8, 8];
    let images = Gaussian::new(&Tensor::zeros(shape, F64), &(Tensor::eye(pixels, F64) * variance)).unwrap();
    let sigmas = levels();
    let scheme = PredictorCorrector { corrections: 3, ..PredictorCorrector::default() }.scheme(&sigmas).unwrap();
    let noise = Seeded((0..256).collect());
    let x = noise.like(&Tensor::zeros([256, 1, 8, 8], F64), 0, 0) * sigmas.max();
    let exact = scheme.variances(variance, sigmas.max().powi(2));
    for (state, exact) in sample(&scheme, x, &images, &noise).zip(exact) {
        let measured = f64::try_from(state.square().mean(Kind::Double)).unwrap();
        // 16,384 normal numbers tell a variance to 1.1 % (one standard deviation); 64 dimensions instead of infinitely many
        // change a step by 2/64 at most.
        assert!(relative(measured, exact) < 0.05, "{measured} and {exact}");
    }
}

/// The flow of a Gaussian is x ↦ m + (x − m) √((v + σ′²)/(v + σ²)); the error follows the tolerance.
#[test]
fn adaptive_steps_keep_their_tolerance() {
    let variance = 0.04;
    let images = Gaussian::new(&Tensor::full([1, 2, 2], 0.3, F64), &(Tensor::eye(4, F64) * variance)).unwrap();
    let (from, to) = (80.0, 0.01);
    let noise = Seeded(vec![11]);
    let mut spent = Vec::new();
    for tolerance in [1e-3, 1e-5, 1e-7] {
        let adaptive = Adaptive { from, to, absolute: tolerance, relative: tolerance };
        let watched = FiniteGuard::new(&images);
        let x = start(&noise, from);
        let end = sample(Scheme(vec![Update::Adaptive(adaptive)]), x.shallow_clone(), &watched, &noise).last().unwrap();
        let shrunk = ((variance + to * to) / (variance + from * from)).sqrt();
        let error = largest(end - ((x - 0.3) * shrunk + 0.3));
        // Each of a dozen steps may err by the tolerance of |x| < 1, and the flow shrinks what went before.
        assert!(error < 5.0 * tolerance, "{tolerance}: {error}");
        spent.push(watched.evaluations());
    }
    assert!(spent[0] < spent[1] && spent[1] < spent[2] && spent[2] < 300, "{spent:?}");
}

/// Levels on the way are landed on, and the numbers agree with many steps of fixed length.
#[test]
fn adaptive_steps_land_on_every_level() {
    let (images, noise, sigmas) = (mixture(), Seeded(vec![3]), levels());
    let scheme = Rk45 { absolute: 1e-8, relative: 1e-8 }.scheme(&sigmas).unwrap();
    let ours: Vec<Tensor> = sample(&scheme, start(&noise, sigmas.max()), &images, &noise).collect();
    let mut x = start(&noise, sigmas.max());
    for (k, (sigma, next)) in sigmas.pairs().enumerate().take(11) {
        let fine = Karras { rho: 7.0, max: Some(sigma), min: Some(next) }.sigmas(200, (0.0, 0.0)).unwrap();
        let mut steps = RungeKutta::default().scheme(&fine).unwrap();
        steps.0.pop();
        x = sample(steps, x, &images, &noise).last().unwrap();
        assert!(largest(&ours[k] - &x) < 1e-6, "level {next}");
    }
    // The numbers take the flow as solved.
    let end = scheme.variances(0.25, 0.25 + sigmas.max().powi(2));
    assert!(relative(end[10], 0.25 + sigmas.min().powi(2)) < 1e-12);
}

#[test]
fn what_no_corrector_can_serve_is_refused() {
    let predictor = Box::new(AnySampler::Unipc(Unipc::default()));
    let refused = PredictorCorrector { predictor, ..PredictorCorrector::default() }.scheme(&levels()).unwrap_err();
    assert_eq!(refused.to_string(), "predictor must be a sampler of one step a level, but is another");
    let predictor = Box::new(AnySampler::VeReverseDiffusion(VeReverseDiffusion::default()));
    let refused = PredictorCorrector { predictor, snr: 0.0, ..PredictorCorrector::default() }.scheme(&levels());
    assert_eq!(refused.unwrap_err().to_string(), "snr must be finite and positive, but is 0");
    let refused = Rk45 { absolute: 0.0, relative: 1e-3 }.scheme(&levels()).unwrap_err();
    assert_eq!(refused.to_string(), "absolute must be finite and positive, but is 0");
}
