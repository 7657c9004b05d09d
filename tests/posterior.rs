//! The conditional walk against the Gaussian posteriors that are known in closed form.

use std::array::from_fn;

use tch::{Device, Kind, Tensor};
use tweedie::{
    inverse::{
        likelihood::{AnnealedPosterior, GaussianLikelihood, Likelihood, Posterior, StepLimit},
        moment_matching::MomentMatching,
        operators::{AnyTask, LinearOperator, Operator},
    },
    numbers::{
        samplers::{Consistent, Ramp, Sampler, Simplified, VeAncestral},
        schedule::{Geometric, Schedule},
        walk::{self, PixelMoments, Step, Walk},
    },
    scores::{
        denoiser::{Denoiser, Score},
        noise::{Noise, Seeded},
        sample::sample,
    },
};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Images of one channel and 4 × 4 pixels: every matrix is at most 16 × 16.
const SHAPE: [i64; 3] = [1, 4, 4];
const N: i64 = 16;

/// Rounding of some hundred steps on numbers of order 1.
const ROUNDING: f64 = 1e-10;

fn normal(size: &[i64], seed: i64) -> Tensor {
    tch::manual_seed(seed);
    Tensor::randn(size, F64)
}

fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}

fn largest(difference: &Tensor) -> f64 {
    number(&difference.abs().max())
}

fn eye() -> Tensor {
    Tensor::eye(N, F64)
}

/// X ~ N(m, C), with D(x, σ) = m + C (C + σ² I)⁻¹ (x − m).
struct Prior {
    /// `[n]`.
    mean: Tensor,
    /// `[n, n]`.
    covariance: Tensor,
}

impl Prior {
    /// A random mean and a random covariance of full rank, its eigenvalues between 0.1 and about 1.
    fn any() -> Self {
        let root = normal(&[N, N], 1) * 0.12;
        Self { mean: normal(&[N], 2), covariance: root.matmul(&root.tr()) + eye() * 0.1 }
    }

    /// (C + σ² I)⁻¹.
    fn precision(&self, sigma: f64) -> Tensor {
        (&self.covariance + eye() * (sigma * sigma)).inverse()
    }
}

impl Denoiser for Prior {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        x + self.residual(x, sigma)
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        let centred = x.flatten(1, -1) - &self.mean;
        (centred.matmul(&self.precision(sigma)) * (-sigma * sigma)).view_as(x)
    }
}

/// Any matrix, `[measurements, pixels]`.
#[derive(Debug)]
struct Dense(Tensor);

impl LinearOperator for Dense {
    fn apply(&self, x: &Tensor) -> Tensor {
        x.flatten(1, -1).matmul(&self.0.tr())
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        y.matmul(&self.0).view([-1, SHAPE[0], SHAPE[1], SHAPE[2]])
    }

    fn norm_squared(&self) -> f64 {
        number(&self.0.tr().matmul(&self.0).linalg_eigvalsh("L").max())
    }
}

/// A random matrix of norm 1 with 10 rows: 6 directions are not seen at all.
fn dense() -> Box<dyn LinearOperator> {
    let matrix = normal(&[10, N], 3);
    let norm = Dense(matrix.shallow_clone()).norm_squared().sqrt();
    Box::new(Dense(matrix / norm))
}

fn task(json: &str) -> Box<dyn LinearOperator> {
    let task: AnyTask = serde_json::from_str(json).unwrap();
    match task.get().operator(SHAPE, 7, Device::Cpu, Kind::Double).unwrap() {
        Operator::Linear(linear) => linear,
        Operator::Nonlinear(other) => panic!("{other:?} is not linear"),
    }
}

/// A, column by column, `[measurements, pixels]`.
fn matrix(operator: &dyn LinearOperator) -> Tensor {
    operator.apply(&eye().view([N, SHAPE[0], SHAPE[1], SHAPE[2]])).flatten(1, -1).tr()
}

/// y = A x + η e for an image x of the prior.
fn measure(operator: &dyn LinearOperator, prior: &Prior, eta: f64) -> Tensor {
    let root = prior.covariance.linalg_cholesky(false);
    let x = &prior.mean + root.mv(&normal(&[N], 4));
    let clean = operator.apply(&x.view([1, SHAPE[0], SHAPE[1], SHAPE[2]]));
    &clean + normal(&clean.size(), 5) * eta
}

/// A mean, `[n]`, and a covariance, `[n, n]`.
struct State {
    mean: Tensor,
    covariance: Tensor,
}

/// The inverse problem in matrices: y = A x + e.
struct Problem<'a> {
    prior: &'a Prior,
    /// A, `[measurements, pixels]`.
    matrix: Tensor,
    /// y, `[measurements]`.
    measurement: Tensor,
    eta: f64,
}

impl Problem<'_> {
    /// AᵀA / η².
    fn gram(&self) -> Tensor {
        self.matrix.tr().matmul(&self.matrix) / (self.eta * self.eta)
    }

    /// Aᵀ y / η².
    fn pull(&self) -> Tensor {
        self.matrix.tr().mv(&self.measurement) / (self.eta * self.eta)
    }

    /// Bayes' rule: V = (C⁻¹ + AᵀA/η²)⁻¹ and V (C⁻¹ m + Aᵀ y/η²).
    fn posterior(&self) -> State {
        let precision = self.prior.covariance.inverse();
        let covariance = (&precision + self.gram()).inverse();
        State { mean: covariance.mv(&(precision.mv(&self.prior.mean) + self.pull())), covariance }
    }

    /// The exact mean and covariance after a walk from N(0, I): it is affine in x.
    ///
    /// B = I − τ (P + AᵀA/η²), M ← B M + τ (P m + Aᵀ y/η²), V ← B V Bᵀ + 2 τ T I, with P = (C + σ² I)⁻¹. All of it is
    /// turned into the eigenbasis of C, where P is diagonal, and back at the end.
    fn after(&self, walk: &Walk) -> State {
        self.after_with(walk, |_| 1.0)
    }

    /// The same with the likelihood's score times `trust` of σ.
    fn after_with(&self, walk: &Walk, trust: impl Fn(f64) -> f64) -> State {
        let (variances, basis) = self.prior.covariance.linalg_eigh("L");
        let variances = array(&variances);
        let gram = Vec::<Vec<f64>>::try_from(basis.tr().matmul(&self.gram()).matmul(&basis)).unwrap();
        let (centre, pull) = (array(&basis.tr().mv(&self.prior.mean)), array(&basis.tr().mv(&self.pull())));
        let (mut mean, mut covariance): (Array, Square) = ([0.0; DIM], unit());
        for Step { sigma, tau, temperature } in &walk.0 {
            let precision = variances.map(|variance| tau / (variance + sigma * sigma));
            let data = tau * trust(*sigma);
            let shrink = from_fn(|i| {
                from_fn(|j| if i == j { 1.0 - precision[i] - data * gram[i][i] } else { -data * gram[i][j] })
            });
            let moved = times(&shrink, &from_fn(|i| [mean[i]]));
            mean = from_fn(|i| moved[i][0] + precision[i] * centre[i] + data * pull[i]);
            // B is symmetric.
            covariance = times(&times(&shrink, &covariance), &shrink);
            (0..DIM).for_each(|i| covariance[i][i] += 2.0 * tau * temperature);
        }
        let covariance = Tensor::from_slice(covariance.as_flattened()).view([N, N]);
        State { mean: basis.mv(&Tensor::from_slice(&mean)), covariance: basis.matmul(&covariance).matmul(&basis.tr()) }
    }
}

const DIM: usize = N as usize;
type Array = [f64; DIM];
type Square = [Array; DIM];

fn array(tensor: &Tensor) -> Array {
    Vec::<f64>::try_from(tensor).unwrap().try_into().unwrap()
}

fn unit() -> Square {
    from_fn(|i| from_fn(|j| f64::from(u8::from(i == j))))
}

/// The product of a square matrix and another.
fn times<const K: usize>(left: &Square, right: &[[f64; K]; DIM]) -> [[f64; K]; DIM] {
    let mut product = [[0.0; K]; DIM];
    for (row, sum) in left.iter().zip(&mut product) {
        for (factor, line) in row.iter().zip(right) {
            sum.iter_mut().zip(line).for_each(|(sum, value)| *sum += factor * value);
        }
    }
    product
}

fn problem<'a>(prior: &'a Prior, operator: &dyn LinearOperator, measurement: &Tensor, eta: f64) -> Problem<'a> {
    Problem { prior, matrix: matrix(operator), measurement: measurement.flatten(0, -1), eta }
}

/// The walk of section 8's convergence table: T = 1, σ from 50 to 1e-3, τ = min(c σ², limit).
fn annealed(levels: usize, c: f64, limit: f64) -> Walk {
    let schedule = Geometric { max: Some(50.0), min: Some(1e-3) };
    let sigmas = schedule.sigmas(levels, (1e-3, 50.0)).unwrap();
    Simplified { c, t0: 1.0, ramp: Ramp::Constant }.walk(&sigmas).unwrap().capped(limit)
}

/// An orthogonal matrix.
fn rotation(seed: i64) -> Tensor {
    let square = normal(&[N, N], seed);
    (&square + square.tr()).linalg_eigh("L").1
}

/// V_K / V_post for v = 0.25, η = 0.2 in directions seen with h = 1, ¼ and 0 [Random Walks].
///
/// Here A = U diag(h) Wᵀ is dense, so that it is the matrices that are tested.
#[test]
fn the_convergence_table_of_the_notes_is_reproduced_by_a_dense_operator() {
    const TABLE: [(usize, f64, [f64; 3]); 3] = [
        (1000, 0.2, [1.0065, 1.0336, 1.0627]),
        (4000, 0.1, [1.0019, 1.0154, 1.0292]),
        (16000, 0.05, [1.0006, 1.0073, 1.0141]),
    ];
    let (left, right) = (rotation(20), rotation(21));
    let gains = Tensor::cat(&[Tensor::ones([5], F64), Tensor::ones([5], F64) * 0.25, Tensor::zeros([6], F64)], 0);
    let operator = Dense((left * gains).matmul(&right.tr()));
    let prior = Prior { mean: normal(&[N], 22), covariance: eye() * 0.25 };
    let y = measure(&operator, &prior, 0.2);
    let problem = problem(&prior, &operator, &y, 0.2);
    let posterior = right.tr().matmul(&problem.posterior().covariance).matmul(&right);
    for (levels, c, expected) in TABLE {
        let walk = annealed(levels, c, 0.2 * 0.2 / operator.norm_squared());
        let walked = right.tr().matmul(&problem.after(&walk).covariance).matmul(&right);
        for (direction, expected) in [(0, expected[0]), (7, expected[1]), (12, expected[2])] {
            let at = [direction, direction];
            let ratio = walked.double_value(&at) / posterior.double_value(&at);
            // The table has four decimals.
            assert!((ratio - expected).abs() < 6e-5, "K = {levels}, direction {direction}: {ratio} for {expected}");
        }
    }
}

/// How far a walk ends from the posterior: the mean in posterior standard deviations, the covariance relatively.
fn errors(problem: &Problem, walked: &State) -> [f64; 2] {
    let exact = problem.posterior();
    let offset = &walked.mean - &exact.mean;
    let mean = number(&offset.dot(&exact.covariance.inverse().mv(&offset))).sqrt();
    let covariance = number(&((&walked.covariance - &exact.covariance).norm() / exact.covariance.norm()));
    [mean, covariance]
}

#[test]
fn mean_and_covariance_converge_to_the_posterior_and_the_error_halves_with_c() {
    let prior = Prior::any();
    for operator in [dense(), task(r#"{"kind": "super-resolution", "factor": 2}"#)] {
        let y = measure(&*operator, &prior, 0.2);
        let problem = problem(&prior, &*operator, &y, 0.2);
        let likelihood = GaussianLikelihood::new(operator, y, 0.2, SHAPE).unwrap();
        let limit = likelihood.step_limit();
        let walks = [(1000, 0.2), (4000, 0.1), (16000, 0.05), (64000, 0.025)];
        let errors = walks.map(|(levels, c)| errors(&problem, &problem.after(&annealed(levels, c, limit))));
        println!("{likelihood:?}: errors of mean and covariance {errors:?}");
        for of in 0..2 {
            let ratios: Vec<f64> = errors.windows(2).map(|pair| pair[1][of] / pair[0][of]).collect();
            // First order in c: the ratios tend to one half, and what is left of the next order halves as well.
            for (ratio, tolerance) in ratios.iter().zip([0.1, 0.05, 0.025]) {
                assert!((ratio - 0.5).abs() < tolerance, "{ratios:?}");
            }
            assert!(errors[3][of] < 0.03, "{errors:?}");
        }
    }
}

/// `restore`'s own method: levels that fall from 2, τ = c σ² without a cap, the likelihood softened to the noise of the level.
#[test]
fn the_annealed_walk_converges_to_the_posterior_without_short_steps() {
    let prior = Prior::any();
    for operator in [dense(), task(r#"{"kind": "inpaint-random", "hidden": 0.75}"#)] {
        let y = measure(&*operator, &prior, 0.1);
        let problem = problem(&prior, &*operator, &y, 0.1);
        let limit = 0.1 * 0.1 / operator.norm_squared();
        let after = |levels, min| {
            let sigmas = Geometric { max: Some(2.0), min: Some(min) }.sigmas(levels, (0.0, 0.0)).unwrap();
            let walk = Consistent { c: 0.9, v: 0.05 }.walk(&sigmas).unwrap();
            errors(&problem, &problem.after_with(&walk, |sigma| (limit / (sigma * sigma)).min(1.0)))
        };
        let errors = [(100, 0.06), (400, 0.03), (1600, 0.015), (6400, 0.0075)].map(|(levels, min)| after(levels, min));
        println!("errors of mean and covariance {errors:?}");
        for of in 0..2 {
            assert!(errors.windows(2).all(|pair| pair[1][of] < 0.7 * pair[0][of]), "{errors:?}");
        }
        assert!(errors[0][0] < 1.0 && errors[3][0] < 0.05 && errors[3][1] < 0.05, "{errors:?}");
    }
}

/// Aᵀ(y − A x)/max(η², σ²‖A‖²) beside the prior's score, and the exact posterior's score below σ = η/‖A‖.
#[test]
fn the_annealed_likelihood_is_as_broad_as_the_noise_of_the_level() {
    let (prior, eta) = (Prior::any(), 0.2);
    let operator = Dense(eye() * 3.0);
    let y = measure(&operator, &prior, eta);
    let (x, _) = particles(2);
    let pull = operator.adjoint(&(&y - operator.apply(&x)));
    let likelihood = GaussianLikelihood::new(operator, y, eta, SHAPE).unwrap();
    let annealed = AnnealedPosterior { prior: &prior, likelihood: &likelihood };
    let exact = Posterior { prior: &prior, likelihood: &likelihood };
    for sigma in [5.0, 0.3, eta / 3.0, 0.01] {
        let variance = (eta * eta).max(9.0 * sigma * sigma);
        let expected = prior.score(&x, sigma) + &pull / variance;
        let rounding = ROUNDING / (sigma * sigma).min(1.0);
        assert!(largest(&(annealed.score(&x, sigma) - expected)) < rounding, "σ = {sigma}");
        let same = largest(&(annealed.score(&x, sigma) - exact.score(&x, sigma))) < rounding;
        assert_eq!(same, sigma <= eta / 3.0, "σ = {sigma}");
    }
    assert_eq!(annealed.step_limit(), f64::INFINITY, "τ = c σ² needs no cap");
}

/// A Gaussian prior's D(x, σ | y) in closed form: x is one more measurement of X, with noise σ.
fn informed(problem: &Problem, x: &Tensor, sigma: f64) -> Tensor {
    let precision = problem.prior.covariance.inverse();
    let covariance = (&precision + problem.gram() + eye() / (sigma * sigma)).inverse();
    let known = precision.mv(&problem.prior.mean) + problem.pull();
    ((x.flatten(1, -1) / (sigma * sigma) + known).matmul(&covariance)).view_as(x)
}

/// E[X | x, y] is exact where images are Gaussian, once the solver has as many steps as the measurement has values.
#[test]
fn matched_moments_are_the_exact_conditional_mean_of_gaussian_images() {
    let (prior, eta) = (Prior::any(), 0.2);
    for operator in [dense(), task(r#"{"kind": "super-resolution", "factor": 2}"#)] {
        let y = measure(&*operator, &prior, eta);
        let problem = problem(&prior, &*operator, &y, eta);
        let likelihood = GaussianLikelihood::new(operator, y, eta, SHAPE).unwrap();
        let (x, _) = particles(3);
        for sigma in [0.05, 0.4, 3.0] {
            let error = |iterations| {
                let denoiser =
                    MomentMatching { prior: &prior, likelihood: likelihood.linear("mmps").unwrap(), iterations };
                largest(&(denoiser.denoise(&x, sigma) - informed(&problem, &x, sigma)))
            };
            let errors = [1, 4, 10].map(error);
            assert!(errors[1] < errors[0] && errors[2] < 1e-8, "σ = {sigma}: {errors:?}");
        }
    }
}

/// The mean and covariance of an ancestral walk with that denoiser, followed exactly since all is affine: the mean is the
/// posterior's at any number of levels, and the covariance's error halves with their distance.
#[test]
fn a_walk_with_matched_moments_converges_to_the_posterior() {
    let (prior, eta) = (Prior::any(), 0.1);
    let operator = task(r#"{"kind": "inpaint-random", "hidden": 0.75}"#);
    let y = measure(&*operator, &prior, eta);
    let problem = problem(&prior, &*operator, &y, eta);
    let likelihood = GaussianLikelihood::new(operator, y, eta, SHAPE).unwrap();
    let denoiser = MomentMatching { prior: &prior, likelihood: likelihood.linear("mmps").unwrap(), iterations: 8 };
    let images = |x: &Tensor| x.view([-1, SHAPE[0], SHAPE[1], SHAPE[2]]);
    let after = |levels| {
        let sigmas = Geometric { max: Some(50.0), min: Some(1e-3) }.sigmas(levels, (0.0, 0.0)).unwrap();
        let (mut mean, mut covariance) = (Tensor::zeros([N], F64), eye() * 2500.0);
        for step in &VeAncestral::default().walk(&sigmas).unwrap().0 {
            let &Step { sigma, tau, .. } = step;
            let score = |x: &Tensor| denoiser.score(&images(x), sigma).flatten(1, -1);
            let offset = score(&Tensor::zeros([1, N], F64));
            let shrink = eye() + (score(&eye()) - &offset) * tau;
            mean = shrink.tr().mv(&mean) + offset.squeeze() * tau;
            covariance = shrink.tr().matmul(&covariance).matmul(&shrink) + eye() * step.noise().powi(2);
        }
        errors(&problem, &State { mean, covariance })
    };
    let errors = [50, 100, 200, 400].map(after);
    // What the start leaves: its mean is 0 where that of x at σ = 50 is the images'.
    assert!(errors.iter().all(|[mean, _]| *mean < 1e-3), "{errors:?}");
    let ratios: Vec<f64> = errors.windows(2).map(|pair| pair[1][1] / pair[0][1]).collect();
    assert!(ratios.iter().all(|ratio| (ratio - 0.5).abs() < 0.05) && errors[3][1] < 0.03, "{errors:?}");
}

/// Four standard errors of N samples: √(Vᵢᵢ/N) for means, √((Vᵢᵢ Vⱼⱼ + Vᵢⱼ²)/N) for covariances.
fn assert_within_bands(samples: &Tensor, expected: &State, what: &str) {
    let count = samples.size()[0] as f64;
    let variance = expected.covariance.diagonal(0, 0, 1);
    let mean = samples.mean_dim([0i64].as_slice(), false, None);
    let sigmas = (&mean - &expected.mean) / (&variance / count).sqrt();
    assert!(largest(&sigmas) < 4.0, "{what}: a mean is off by {} standard errors", largest(&sigmas));
    let centred = samples - &mean;
    let covariance = centred.tr().matmul(&centred) / (count - 1.0);
    let band = (variance.unsqueeze(1) * variance.unsqueeze(0) + expected.covariance.square()) / count;
    let sigmas = (covariance - &expected.covariance) / band.sqrt();
    assert!(largest(&sigmas) < 4.0, "{what}: a covariance is off by {} standard errors", largest(&sigmas));
}

/// A short walk, far from converged, with a temperature that changes.
fn short(limit: f64) -> Walk {
    let sigmas = Geometric { max: Some(5.0), min: Some(0.05) }.sigmas(60, (0.0, 0.0)).unwrap();
    Simplified { c: 0.3, t0: 0.4, ramp: Ramp::Linear }.walk(&sigmas).unwrap().capped(limit)
}

fn particles(count: u64) -> (Tensor, Seeded) {
    let noise = Seeded((0..count).collect());
    let like = Tensor::zeros([count as i64, SHAPE[0], SHAPE[1], SHAPE[2]], F64);
    (noise.like(&like, 0, 0), noise)
}

#[test]
fn particles_have_the_mean_and_covariance_of_the_recursion() {
    // On tensors this small the threads of libtorch only wait for one another, and busily.
    tch::set_num_threads(1);
    let prior = Prior::any();
    let operators = [
        ("dense", dense()),
        ("identity", task(r#"{"kind": "identity"}"#)),
        ("inpainting", task(r#"{"kind": "inpaint-random", "hidden": 0.5}"#)),
        ("motion blur", task(r#"{"kind": "deblur-motion", "size": 5}"#)),
        ("super-resolution", task(r#"{"kind": "super-resolution", "factor": 2}"#)),
    ];
    for (name, operator) in operators {
        let y = measure(&*operator, &prior, 0.3);
        let problem = problem(&prior, &*operator, &y, 0.3);
        let likelihood = GaussianLikelihood::new(operator, y, 0.3, SHAPE).unwrap();
        let posterior = Posterior { prior: &prior, likelihood: &likelihood };
        let walk = short(posterior.step_limit());
        let (x, noise) = particles(3000);
        let samples = sample(&walk, x, &posterior, &noise).last().unwrap();
        assert_within_bands(&samples.flatten(1, -1), &problem.after(&walk), name);
    }
}

/// Independent pixels: those that are seen and those that are hidden each follow the scalar recursion.
#[test]
fn inpainting_of_independent_pixels_is_the_recursion_of_one_pixel() {
    let prior = Prior { mean: Tensor::full([N], 0.3, F64), covariance: eye() * 0.25 };
    let operator = task(r#"{"kind": "inpaint-random", "hidden": 0.5}"#);
    let seen = operator.apply(&Tensor::ones([1, 1, 4, 4], F64));
    let y = &seen * 0.8;
    let walk = short(0.2 * 0.2);
    let state = problem(&prior, &*operator, &y, 0.2).after(&walk);
    for pixel in 0..N {
        let gain = seen.flatten(0, -1).double_value(&[pixel]);
        let of = walk::GaussianPixel { mean: 0.3, variance: 0.25, gain, measurement: 0.8 * gain, eta: 0.2 };
        let start = PixelMoments { mean: 0.0, variance: 1.0 };
        let expected = walk.moments(&of, start).last().unwrap();
        assert!((state.mean.double_value(&[pixel]) - expected.mean).abs() < ROUNDING);
        assert!((state.covariance.double_value(&[pixel, pixel]) - expected.variance).abs() < ROUNDING);
    }
}

#[test]
fn a_measurement_that_says_nothing_leaves_the_unconditional_walk() {
    let prior = Prior::any();
    let (x, noise) = particles(4);
    let walk = short(f64::INFINITY);
    let free = sample(&walk, x.shallow_clone(), &prior, &noise).last().unwrap();
    let y = Tensor::ones([1, N], F64);
    let blind = GaussianLikelihood::new(Dense(Tensor::zeros([N, N], F64)), y.shallow_clone(), 0.1, SHAPE);
    let noisy = GaussianLikelihood::new(Dense(eye()), y, 1e9, SHAPE);
    for likelihood in [blind.unwrap(), noisy.unwrap()] {
        let posterior = Posterior { prior: &prior, likelihood: &likelihood };
        assert_eq!(walk.clone().capped(posterior.step_limit()), walk, "nothing caps the steps");
        let conditional = sample(&walk, x.shallow_clone(), &posterior, &noise).last().unwrap();
        assert!(largest(&(&free - conditional)) < ROUNDING, "{posterior:?}");
    }
}

/// The released code: x ← x + τ s(x) + √(2τT) n − (τ/η²) g with g = Aᵀ(A x − y) at the old x [Random Walks].
#[test]
fn the_likelihood_acts_at_the_state_before_the_step() {
    let (prior, operator, eta) = (Prior::any(), dense(), 0.3);
    let y = measure(&*operator, &prior, eta);
    let pull = |x: &Tensor| operator.adjoint(&(&y - operator.apply(x))) / (eta * eta);
    let (old, noise) = particles(3);
    let step = Step { sigma: 0.7, tau: 0.05, temperature: 0.6 };
    let fresh = noise.like(&old, 1, 0) * (2.0 * step.tau * step.temperature).sqrt();
    let moved = &old + prior.score(&old, step.sigma) * step.tau + fresh;
    let (jacobi, seidel) = (&moved + pull(&old) * step.tau, &moved + pull(&moved) * step.tau);
    let likelihood = GaussianLikelihood::new(dense(), y.shallow_clone(), eta, SHAPE).unwrap();
    let posterior = Posterior { prior: &prior, likelihood: &likelihood };
    let walk = Walk(vec![step]);
    let ours = sample(&walk, old.shallow_clone(), &posterior, &noise).last().unwrap();
    assert!(largest(&(&ours - jacobi)) < 1e-13);
    assert!(largest(&(&ours - seidel)) > 1e-3, "the other order would be seen");
}

#[test]
fn the_score_is_the_gradient_of_the_log_likelihood() {
    for operator in [dense(), task(r#"{"kind": "deblur-gaussian", "std": 1.0}"#)] {
        let x = normal(&[2, 1, 4, 4], 8).set_requires_grad(true);
        let y = normal(&operator.apply(&x).size(), 9);
        let log = (&y - operator.apply(&x)).square().sum(Kind::Double) / (-2.0 * 0.3 * 0.3);
        let gradient = &Tensor::run_backward(&[log], &[&x], false, false)[0];
        // One measurement for each image of the batch.
        let likelihood = GaussianLikelihood::new(operator, y, 0.3, SHAPE).unwrap();
        assert!(largest(&(gradient - likelihood.score(&x.detach()))) < ROUNDING);
    }
}

#[test]
fn one_measurement_serves_the_whole_batch() {
    let y = normal(&[1, 10], 10);
    let (x, _) = particles(3);
    let one = GaussianLikelihood::new(dense(), y.shallow_clone(), 0.3, SHAPE).unwrap();
    let each = GaussianLikelihood::new(dense(), y.repeat([3, 1].as_slice()), 0.3, SHAPE).unwrap();
    assert!(one.score(&x).equal(&each.score(&x)));
}

#[test]
fn the_step_limit_counts_the_norm_unless_the_papers_is_asked_for() {
    let likelihood = |limit| {
        let task: AnyTask = serde_json::from_str(r#"{"kind": "super-resolution"}"#).unwrap();
        let operator = task.get().operator([3, 16, 16], 0, Device::Cpu, Kind::Double).unwrap();
        let y = Tensor::zeros([1, 3, 4, 4], F64);
        GaussianLikelihood::new(operator, y, 0.2, [3, 16, 16]).unwrap().with_limit(limit).step_limit()
    };
    // ‖A‖² = 1/16 for bicubic super-resolution by 4, so the paper's cap is 16 times too careful.
    assert!((likelihood(StepLimit::Norm) - 16.0 * 0.04).abs() < 1e-12);
    assert!((likelihood(StepLimit::Paper) - 0.04).abs() < 1e-15);
    assert_eq!(StepLimit::default(), StepLimit::Norm);
    assert_eq!(serde_json::from_str::<StepLimit>(r#""paper""#).unwrap(), StepLimit::Paper);
}

/// A score that cannot take long steps.
struct Careful;

impl Score for Careful {
    fn score(&self, x: &Tensor, _: f64) -> Tensor {
        x.zeros_like()
    }

    fn step_limit(&self) -> f64 {
        0.01
    }
}

#[test]
fn a_posterior_is_as_careful_as_its_more_careful_part() {
    let likelihood = |eta| GaussianLikelihood::new(dense(), Tensor::zeros([1, 10], F64), eta, SHAPE).unwrap();
    let limit = |prior: &dyn Score, eta| Posterior { prior, likelihood: &likelihood(eta) }.step_limit();
    assert!((limit(&Careful, 1.0) - 0.01).abs() < 1e-15);
    assert!((limit(&Careful, 0.05) - 0.0025).abs() < 1e-12);
    assert!((limit(&Prior::any(), 1.0) - 1.0).abs() < 1e-12, "a denoiser has no limit");
}

/// With ‖A‖² = 9 a step of η² multiplies the error by 1 − 9: the paper's limit is for ‖A‖ ≤ 1.
#[test]
fn steps_limited_by_the_norm_converge_where_the_papers_overshoot() {
    let prior = Prior::any();
    let after = |limit| {
        let operator = Dense(eye() * 3.0);
        let y = measure(&operator, &prior, 0.2);
        let likelihood = GaussianLikelihood::new(operator, y, 0.2, SHAPE).unwrap().with_limit(limit);
        let posterior = Posterior { prior: &prior, likelihood: &likelihood };
        let (x, noise) = particles(1);
        largest(&sample(&short(posterior.step_limit()), x, &posterior, &noise).last().unwrap())
    };
    assert!(after(StepLimit::Norm) < 10.0);
    assert!(after(StepLimit::Paper) > 1e6);
}

#[test]
fn measurements_that_make_no_sense_are_refused_in_one_sentence() {
    let operator = || task(r#"{"kind": "super-resolution", "factor": 2}"#);
    let refusal = |y: Tensor, eta| GaussianLikelihood::new(operator(), y, eta, SHAPE).unwrap_err().to_string();
    let y = || Tensor::zeros([1, 1, 2, 2], F64);
    for (value, name) in [(f64::NAN, "NaN"), (f64::INFINITY, "inf"), (0.0, "0"), (-0.1, "-0.1")] {
        let expected = format!("the noise level η of the measurement must be positive, but is {name}");
        assert_eq!(refusal(y(), value), expected);
    }
    for value in [f64::NAN, f64::NEG_INFINITY] {
        let lost = y();
        let _ = lost.narrow(3, 0, 1).fill_(value);
        let expected = "the measurement must be finite, but is NaN or infinite in 2 of its 4 values";
        assert_eq!(refusal(lost, 0.1), expected);
    }
    for size in [&[1, 1, 4, 4][..], &[1, 2, 2, 2], &[1, 2, 2], &[2, 2], &[0, 1, 2, 2]] {
        let expected =
            format!("the measurement has shape {size:?}, but [1, 1, 2, 2], or as many of them as images, is wanted");
        assert_eq!(refusal(Tensor::zeros(size, F64), 0.1), expected);
    }
}
