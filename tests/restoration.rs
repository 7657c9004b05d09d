//! Methods that restore, against posteriors that are known in closed form, and against their own promises.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};
use tweedie::{
    Error,
    denoiser::Denoiser,
    exact::Gaussian,
    follow::Watched,
    likelihood::GaussianLikelihood,
    noise::{Noise, Seeded},
    operators::{AnyTask, LinearOperator, Operator},
    plan::{Course, Plan},
    restoration::{self, AnyMethod, Effort, Method, Posed},
    tiled::Tiled,
};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Small images: every matrix is at most 36 × 36.
const SHAPE: [i64; 3] = [1, 6, 6];
const N: i64 = 36;

/// The range of the exact denoisers.
const RANGE: (f64, f64) = (0.002, 80.0);

const METHODS: &[&str] = &[
    "{kind: annealed}",
    "{kind: daps}",
    "{kind: daps, langevin_steps: 0}",
    "{kind: ddnm}",
    "{kind: ddrm}",
    "{kind: diffpir}",
    "{kind: dpir}",
    "{kind: dps}",
    "{kind: mcg}",
    "{kind: mmps}",
    "{kind: pigdm}",
    "{kind: pnp-admm}",
    "{kind: projection}",
    "{kind: red-diff}",
    "{kind: repaint, jump: 2, repeats: 3}",
    "{kind: smc, particles: 4}",
    "{kind: split-gibbs}",
    "{kind: walk}",
];

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    tweedie::yaml::parse(text, std::path::Path::new("test")).unwrap()
}

fn method(text: &str) -> AnyMethod {
    yaml(text)
}

fn task(text: &str) -> Operator {
    yaml::<AnyTask>(text).get().operator(SHAPE, 3, Device::Cpu, Kind::Double).unwrap()
}

fn number(tensor: &Tensor) -> f64 {
    f64::try_from(tensor).unwrap()
}

fn largest(difference: &Tensor) -> f64 {
    number(&difference.abs().max())
}

/// Images whose pixels know of one another: covariance 0.25 exp(−distance/2), mean 0.2.
fn covariance() -> Tensor {
    let at = Tensor::arange(N, F64);
    let (row, column) = ((&at / 6.0).floor(), at.remainder(6.0));
    let apart = |of: &Tensor| (of.unsqueeze(1) - of.unsqueeze(0)).square();
    ((apart(&row) + apart(&column)).sqrt() / -2.0).exp() * 0.25
}

fn prior() -> Gaussian {
    Gaussian::new(&Tensor::full(SHAPE, 0.2, F64), &covariance()).unwrap()
}

/// A, `[measurements, pixels]`.
fn matrix(operator: &Operator) -> Tensor {
    operator.apply(&Tensor::eye(N, F64).view([N, 1, 6, 6])).flatten(1, -1).tr()
}

/// E[X | y] and Cov[X | y], `[n]` and `[n, n]`.
fn posterior(operator: &Operator, y: &Tensor, eta: f64) -> (Tensor, Tensor) {
    let (a, c) = (matrix(operator), covariance());
    let precision = c.inverse() + a.tr().matmul(&a) / (eta * eta);
    let spread = precision.inverse();
    let mean = Tensor::full([N], 0.2, F64);
    let pull = a.tr().matmul(&(y.flatten(0, -1) - a.matmul(&mean))) / (eta * eta);
    (mean + spread.matmul(&pull), spread)
}

/// A measurement of an image of the prior.
fn measure(operator: &Operator, eta: f64) -> Tensor {
    let root = Tensor::linalg_cholesky(&covariance(), false);
    let noise = Seeded(vec![1 << 40]);
    let like = Tensor::zeros([1, N], F64);
    let image = root.matmul(&noise.like(&like, 0, 0).view([N, 1])).view([1, 1, 6, 6]) + 0.2;
    let clean = operator.apply(&image);
    &clean + noise.like(&clean, 0, 1) * eta
}

fn course(method: &dyn Method, plan: Option<Plan>, likelihood: &GaussianLikelihood) -> Course {
    let plan = plan.or_else(|| method.plan()).unwrap_or_else(Plan::posterior);
    plan.course(RANGE, method.step_limit(likelihood)).unwrap()
}

/// Samples for `seeds`, from the images' mean with noise of the first level.
fn restore(
    method: &dyn Method,
    prior: &dyn Denoiser,
    likelihood: &GaussianLikelihood,
    course: &Course,
    seeds: Vec<u64>,
) -> Result<Tensor, Error> {
    let noise = Seeded(seeds);
    let like = Tensor::zeros([noise.0.len() as i64, SHAPE[0], SHAPE[1], SHAPE[2]], F64);
    let x = noise.like(&like, 0, 0) * course.sigmas.max() + 0.2;
    restoration::restore(method, &Posed { prior, likelihood, course, noise: &noise }, x, &mut |_| Ok(()))
}

#[test]
fn every_method_of_the_list_is_tested() {
    let names: std::collections::BTreeSet<&str> = METHODS.iter().map(|text| text[7..].split(['}', ',']).next().unwrap()).collect();
    let all = "annealed, daps, ddnm, ddrm, diffpir, dpir, dps, mcg, mmps, pigdm, pnp-admm, projection, red-diff, repaint, smc, split-gibbs, walk";
    assert_eq!(names.into_iter().collect::<Vec<_>>().join(", "), all);
}

#[test]
fn every_method_treats_each_image_of_a_batch_alone() {
    let operator = || task("{kind: inpaint-random, hidden: 0.5}");
    let y = Tensor::cat(&[measure(&operator(), 0.2), measure(&operator(), 0.2) * -1.0, measure(&operator(), 0.2) * 0.5], 0);
    let prior = prior();
    for text in METHODS {
        let chosen = method(text);
        let of = |y: Tensor, seeds: Vec<u64>| {
            let likelihood = GaussianLikelihood::new(operator(), y, 0.2, SHAPE).unwrap();
            let course = course(chosen.get(), Some(Plan { steps: 12, ..chosen.get().plan().unwrap_or_else(Plan::posterior) }), &likelihood);
            restore(chosen.get(), &prior, &likelihood, &course, seeds).unwrap()
        };
        let (together, alone) = (of(y.shallow_clone(), vec![4, 5, 6]), of(y.narrow(0, 1, 1), vec![5]));
        let gap = largest(&(together.narrow(0, 1, 1) - alone));
        // Sums over a batch are added up in another order.
        assert!(gap < 1e-9, "{text}: {gap:e}");
    }
}

/// Counts products with the Jacobian: each backward pass through the answer.
struct Counting<'a>(&'a Gaussian, RefCell<usize>);

impl Denoiser for Counting<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        if x.requires_grad() {
            *self.1.borrow_mut() += 1;
        }
        self.0.denoise(x, sigma)
    }
}

#[test]
fn every_method_costs_what_it_states() {
    let operator = task("{kind: inpaint-random, hidden: 0.5}");
    let y = measure(&operator, 0.2);
    let likelihood = GaussianLikelihood::new(operator, y, 0.2, SHAPE).unwrap();
    let prior = prior();
    for text in METHODS {
        let chosen = method(text);
        let plan = Plan { steps: 7, ..chosen.get().plan().unwrap_or_else(Plan::posterior) };
        let course = course(chosen.get(), Some(plan), &likelihood);
        let counting = Counting(&prior, RefCell::default());
        let watched = Watched::new(&counting);
        restore(chosen.get(), &watched, &likelihood, &course, vec![1]).unwrap();
        let Effort { evaluations, gradients } = chosen.get().effort(&course);
        // Particles are evaluated together.
        let together = if text.contains("smc") { 4 } else { 1 };
        assert_eq!(watched.evaluations() * together, evaluations, "{text}");
        assert_eq!(*counting.1.borrow() > 0, gradients > 0, "{text}: gradients are taken only where they are stated");
    }
}

/// How far the samples' mean is from the posterior's, in posterior deviations (root mean square), and the ratio of their
/// variance to the posterior's, over the pixels.
fn bias(text: &str, plan: Option<Plan>, operator: fn() -> Operator, eta: f64, count: u64) -> (f64, f64) {
    let chosen = method(text);
    let y = measure(&operator(), eta);
    let (mean, spread) = posterior(&operator(), &y, eta);
    let likelihood = GaussianLikelihood::new(operator(), y, eta, SHAPE).unwrap();
    let course = course(chosen.get(), plan, &likelihood);
    let samples = restore(chosen.get(), &prior(), &likelihood, &course, (0..count).collect()).unwrap().flatten(1, -1);
    let variances = spread.diagonal(0, 0, 1);
    let ours = samples.mean_dim([0i64].as_slice(), false, None);
    let off = ((&ours - mean) / variances.sqrt()).square().mean(Kind::Double).sqrt();
    let squares = (&samples - ours).square().mean_dim([0i64].as_slice(), false, None);
    (number(&off), number(&(squares / variances).mean(Kind::Double)))
}

#[test]
fn look() {
    tch::set_num_threads(2);
    for text in METHODS {
        for (name, operator) in [("inpaint", (|| task("{kind: inpaint-random, hidden: 0.5}")) as fn() -> Operator), ("blur", || task("{kind: deblur-gaussian, std: 1, size: 3, boundary: circular}"))] {
            let start = std::time::Instant::now();
            let (off, ratio) = bias(text, None, operator, 0.2, 200);
            println!("{text} {name}: mean off by {off:.3}, variance {ratio:.3}, {:.1} s", start.elapsed().as_secs_f64());
        }
    }
}
