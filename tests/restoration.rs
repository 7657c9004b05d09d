//! Methods that restore, against posteriors that are known in closed form, and against their own promises.

use std::cell::RefCell;

use tch::{Device, Kind, Tensor};
use tweedie::{
    Error,
    inverse::{
        likelihood::GaussianLikelihood,
        operators::{AnyTask, Operator},
        restoration::{self, AnyMethod, Effort, InverseProblem, Method},
    },
    networks::{AnyNetwork, FfdnetConfig, FfdnetLayout, weights::Weights},
    numbers::{
        plan::{Plan, ResolvedPlan},
        precondition::AnyPrecondition,
    },
    scores::{
        analytic::Gaussian,
        denoiser::{Denoiser, Pretrained},
        noise::{Noise, Seeded},
        sample::FiniteGuard,
        tiled::Tiled,
    },
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
    tweedie::files::yaml::parse(text, std::path::Path::new("test")).unwrap()
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

fn resolved(method: &dyn Method, plan: Option<Plan>, likelihood: &GaussianLikelihood) -> ResolvedPlan {
    let plan = plan.or_else(|| method.plan()).unwrap_or_else(Plan::posterior);
    plan.resolve(RANGE, method.step_limit(likelihood)).unwrap()
}

/// Samples for `seeds`, from the images' mean with noise of the first level.
fn restore(
    method: &dyn Method,
    prior: &dyn Denoiser,
    likelihood: &GaussianLikelihood,
    resolved: &ResolvedPlan,
    seeds: Vec<u64>,
) -> Result<Tensor, Error> {
    let noise = Seeded(seeds);
    let like = Tensor::zeros([noise.0.len() as i64, SHAPE[0], SHAPE[1], SHAPE[2]], F64);
    let x = noise.like(&like, 0, 0) * resolved.sigmas.max() + 0.2;
    restoration::restore(method, &InverseProblem { prior, likelihood, plan: resolved, noise: &noise }, x, &mut |_| {
        Ok(())
    })
}

#[test]
fn every_method_of_the_list_is_tested() {
    let names: std::collections::BTreeSet<&str> =
        METHODS.iter().map(|text| text[7..].split(['}', ',']).next().unwrap()).collect();
    let all = "annealed, daps, ddnm, ddrm, diffpir, dpir, dps, mcg, mmps, pigdm, pnp-admm, projection, red-diff, repaint, smc, split-gibbs, walk";
    assert_eq!(names.into_iter().collect::<Vec<_>>().join(", "), all);
}

#[test]
fn every_method_treats_each_image_of_a_batch_alone() {
    let operator = || task("{kind: inpaint-random, hidden: 0.5}");
    let y =
        Tensor::cat(&[measure(&operator(), 0.2), measure(&operator(), 0.2) * -1.0, measure(&operator(), 0.2) * 0.5], 0);
    let prior = prior();
    for text in METHODS {
        let chosen = method(text);
        let of = |y: Tensor, seeds: Vec<u64>| {
            let likelihood = GaussianLikelihood::new(operator(), y, 0.2, SHAPE).unwrap();
            let resolved = resolved(
                chosen.get(),
                Some(Plan { steps: 12, ..chosen.get().plan().unwrap_or_else(Plan::posterior) }),
                &likelihood,
            );
            restore(chosen.get(), &prior, &likelihood, &resolved, seeds).unwrap()
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
        let resolved = resolved(chosen.get(), Some(plan), &likelihood);
        let counting = Counting(&prior, RefCell::default());
        let watched = FiniteGuard::new(&counting);
        let _ = restore(chosen.get(), &watched, &likelihood, &resolved, vec![1]).unwrap();
        let Effort { evaluations, gradients } = chosen.get().effort(&resolved);
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
    let resolved = resolved(chosen.get(), plan, &likelihood);
    let samples = restore(chosen.get(), &prior(), &likelihood, &resolved, (0..count).collect()).unwrap().flatten(1, -1);
    let variances = spread.diagonal(0, 0, 1);
    let ours = samples.mean_dim([0i64].as_slice(), false, None);
    let off = ((&ours - mean) / variances.sqrt()).square().mean(Kind::Double).sqrt();
    let squares = (&samples - ours).square().mean_dim([0i64].as_slice(), false, None);
    (number(&off), number(&(squares / variances).mean(Kind::Double)))
}

const INPAINT: fn() -> Operator = || task("{kind: inpaint-random, hidden: 0.5}");
const BLUR: fn() -> Operator = || task("{kind: deblur-gaussian, std: 1, size: 3, boundary: circular}");

/// Samples for each figure below; a mean of so many is off by 1/√400 = 0.05 deviations of its own accord.
const SAMPLES: u64 = 400;

fn plan(text: &str) -> Plan {
    yaml(text)
}

#[test]
fn methods_that_are_exact_in_the_limit_come_near_the_posterior() {
    tch::set_num_threads(1);
    let fine = "{schedule: {kind: geometric, max: 10, min: 0.02}, steps: 150, sampler: {kind: ve-ancestral}}";
    let falling = "{schedule: {kind: geometric, max: 2, min: 0.05}, steps: 40, sampler: {kind: ve-ancestral}}";
    let cases = [("{kind: mmps, iterations: 12}", fine), ("{kind: split-gibbs, steps: 40}", falling)];
    for (text, steps) in cases {
        for (name, operator) in [("inpainting", INPAINT), ("blur", BLUR)] {
            let (off, ratio) = bias(text, Some(plan(steps)), operator, 0.2, SAMPLES);
            println!("{text} {name}: mean off by {off:.3}, variance {ratio:.3}");
            // Finite steps and the sampling error together.
            assert!(off < 0.12 && (ratio - 1.0).abs() < 0.12, "{text}, {name}: mean off by {off}, variance {ratio}");
        }
    }
}

/// A Gaussian blur with reflected borders shows its finest detail 10⁻⁴ as strongly as its mean, and its noise hides that.
#[test]
fn no_method_blows_up_the_noise_of_what_a_blur_hardly_shows() {
    let (prior, eta) = (prior(), 0.1);
    for boundary in ["reflect", "circular"] {
        let blur = task(&format!("{{kind: deblur-gaussian, size: 5, std: 1.5, boundary: {boundary}}}"));
        let y = measure(&blur, eta);
        let mean = posterior(&blur, &y, eta).0.view([1, 1, 6, 6]);
        let likelihood = GaussianLikelihood::new(blur, y, eta, SHAPE).unwrap();
        for text in METHODS {
            let method = method(text);
            let plan = Plan { steps: 40, ..method.get().plan().unwrap_or_else(Plan::posterior) };
            let resolved = resolved(method.get(), Some(plan), &likelihood);
            let x = restore(method.get(), &prior, &likelihood, &resolved, (0..8).collect()).unwrap();
            let error = number(&(x - &mean).square().mean(Kind::Double)).sqrt();
            println!("{boundary} {text}: {error:.3}");
            // The prior's own deviation is 0.5, the posterior's 0.3; noise that is blown up by 1/s would be 10 and more.
            assert!(error < 0.6, "{boundary}, {text}: {error}");
        }
    }
}

/// What Score SDE prints for measurements without noise: all that is seen is put in place.
#[test]
fn projections_are_the_published_ones_where_there_is_no_noise() {
    let eta = 1e-7;
    for text in ["{kind: inpaint-random, hidden: 0.5}", "{kind: super-resolution, factor: 2, kernel: mean}"] {
        let y = measure(&task(text), eta);
        let likelihood = GaussianLikelihood::new(task(text), y.copy(), eta, SHAPE).unwrap();
        for way in ["{kind: projection}", "{kind: mcg}", "{kind: repaint, jump: 2, repeats: 3}"] {
            let method = method(way);
            let plan = Plan { steps: 10, ..method.get().plan().unwrap() };
            let resolved = resolved(method.get(), Some(plan), &likelihood);
            let x = restore(method.get(), &prior(), &likelihood, &resolved, vec![1, 2]).unwrap();
            let misfit = largest(&(task(text).apply(&x) - &y));
            // The weight of x is (η/σ)², at most 10⁻¹⁰ at the last level.
            assert!(misfit < 1e-6, "{text}, {way}: {misfit}");
        }
    }
}

/// Particles that are too few for what a measurement tells are biased; with more of them that vanishes.
#[test]
fn particles_are_exact_when_there_are_many() {
    tch::set_num_threads(1);
    let steps = "{schedule: {kind: geometric, max: 10, min: 0.05}, steps: 60, sampler: {kind: ve-ancestral}}";
    for (name, operator) in [("inpainting", INPAINT), ("blur", BLUR)] {
        let of = |particles: usize| {
            bias(&format!("{{kind: smc, particles: {particles}}}"), Some(plan(steps)), operator, 0.5, SAMPLES)
        };
        let figures = [1, 4, 16, 64].map(of);
        let [(alone, _), .., (many, ratio)] = figures;
        println!("{name}: {figures:?}");
        assert!(many < 0.12 && (ratio - 1.0).abs() < 0.12 && many < alone, "{name}: {figures:?}");
    }
}

#[test]
fn the_known_biases_are_as_large_as_they_are() {
    tch::set_num_threads(1);
    let cases = [
        // Independent pixels are not what these images have: the mean is off where pixels are hidden.
        (
            "{kind: pigdm}",
            "{schedule: {kind: karras, max: 80}, steps: 50, sampler: {kind: ddim, eta: 1}}",
            0.12..0.26,
            0.8..1.0,
        ),
        // ζ, not η, decides how far samples spread.
        ("{kind: dps}", "{schedule: {kind: linear-beta}, steps: 200, sampler: {kind: ddpm}}", 0.1..0.6, 0.2..0.9),
        ("{kind: ddrm}", "{schedule: {kind: karras, max: 80}, steps: 20, sampler: {kind: ddim}}", 0.1..0.3, 0.4..0.6),
        (
            "{kind: dpir}",
            "{schedule: {kind: geometric, max: 0.4, min: 0.05}, steps: 24, sampler: {kind: ddim}}",
            0.1..0.3,
            0.0..0.01,
        ),
    ];
    for (text, steps, means, variances) in cases {
        let (off, ratio) = bias(text, Some(plan(steps)), INPAINT, 0.2, SAMPLES);
        println!("{text}: mean off by {off:.3}, variance {ratio:.3}");
        assert!(means.contains(&off) && variances.contains(&ratio), "{text}: mean off by {off}, variance {ratio}");
    }
}

/// Independent pixels: where A is a mask, r² I with the right v is the covariance, and guidance by it is exact.
#[test]
fn pseudo_inverse_guidance_is_exact_for_independent_pixels() {
    let (operator, v, sigma) = (INPAINT(), 0.25, 0.7);
    let prior = Gaussian::new(&Tensor::zeros(SHAPE, F64), &(Tensor::eye(N, F64) * v)).unwrap();
    let likelihood = GaussianLikelihood::new(operator, Tensor::ones([1, 1, 6, 6], F64), 0.2, SHAPE).unwrap();
    let of = likelihood.linear("pigdm").unwrap();
    let x = Seeded(vec![3]).like(&Tensor::zeros([1, 1, 6, 6], F64), 0, 0);
    let guided = restoration::PseudoInverseGuided { prior: &prior, likelihood: of, variance: v }.denoise(&x, sigma);
    // Precisions 1/v, 1/σ² and, where a pixel is seen, 1/η² add up.
    let seen = of.operator.apply(&Tensor::ones([1, 1, 6, 6], F64));
    let precision = &seen / 0.04 + (1.0 / v + 1.0 / (sigma * sigma));
    let expected = (&x / (sigma * sigma) + &seen / 0.04) / precision;
    assert!(largest(&(guided - expected)) < 1e-12);
}

/// DPS as its Algorithm 1 is written, in the frame z = √ᾱ x of the chain, with the gradient in closed form.
#[test]
fn dps_is_the_published_algorithm() {
    let (operator, prior) = (INPAINT(), prior());
    // What hidden pixels hold is noise alone, and nothing of the algorithm's.
    let y = operator.apply(&measure(&operator, 0.2));
    let likelihood = GaussianLikelihood::new(INPAINT(), y.shallow_clone(), 0.2, SHAPE).unwrap();
    let chosen = method("{kind: dps, scale: 0.4}");
    let resolved = resolved(
        chosen.get(),
        Some(plan("{schedule: {kind: linear-beta}, steps: 20, sampler: {kind: ddpm}}")),
        &likelihood,
    );
    let sigmas: Vec<f64> = resolved.sigmas.iter().collect();
    let noise = Seeded(vec![9]);
    let x = noise.like(&Tensor::zeros([1, 1, 6, 6], F64), 0, 0) * sigmas[0];
    let posed = InverseProblem { prior: &prior, likelihood: &likelihood, plan: &resolved, noise: &noise };
    let ours = restoration::restore(chosen.get(), &posed, x.shallow_clone(), &mut |_| Ok(())).unwrap();
    let bar = |sigma: f64| 1.0 / (1.0 + sigma * sigma);
    let mut z = x * bar(sigmas[0]).sqrt();
    for (k, &sigma) in sigmas.iter().enumerate() {
        let (now, then) = (bar(sigma), sigmas.get(k + 1).map_or(1.0, |&next| bar(next)));
        let alpha = now / then;
        let jacobian = covariance().matmul(&(covariance() + Tensor::eye(N, F64) * (sigma * sigma)).inverse());
        let clean = prior.denoise(&(&z / now.sqrt()), sigma);
        let misfit = &y - operator.apply(&clean);
        // ∇_z ‖y − A D(z/√ᾱ)‖ = −Jᵀ Aᵀ(y − A D)/(√ᾱ ‖y − A D‖).
        let pulled = operator.linear().unwrap().adjoint(&misfit).flatten(1, -1).matmul(&jacobian).view([1, 1, 6, 6]);
        let gradient = pulled / (misfit.norm() * -now.sqrt());
        let variance = (1.0 - then) / (1.0 - now) * (1.0 - alpha);
        let mean =
            &clean * (then.sqrt() * (1.0 - alpha) / (1.0 - now)) + &z * (alpha.sqrt() * (1.0 - then) / (1.0 - now));
        z = mean + noise.like(&z, k as u64 + 1, 0) * variance.sqrt() - gradient * 0.4;
    }
    assert!(largest(&(ours - z)) < 1e-9);
}

/// A denoiser that looks at single pixels knows no tiles.
#[test]
fn tiles_leave_no_seam() {
    let pixel = Gaussian::new(&Tensor::full([1, 4, 4], 0.1, F64), &(Tensor::eye(16, F64) * 0.3)).unwrap();
    let tiled = Tiled::new(&pixel, [4, 4]);
    for size in [[4, 4], [5, 9], [11, 4], [16, 13]] {
        let x = Seeded(vec![1, 2]).like(&Tensor::zeros([2, 1, size[0], size[1]], F64), 0, 0);
        let expected = (&x * 0.3 + 0.1 * 0.49) / (0.3 + 0.49);
        assert!(largest(&(tiled.denoise(&x, 0.7) - expected)) < 1e-6, "{size:?}");
    }
}

/// FFDNet with random weights, of few channels.
fn convolutions(layers: usize) -> Pretrained {
    let weights = Weights::fresh(1, Device::Cpu, Kind::Float);
    let config = FfdnetConfig { in_channels: 1, width: 8, layers, layout: FfdnetLayout::Kair };
    let network = AnyNetwork::Ffdnet(config).build(&weights).unwrap();
    let precondition: AnyPrecondition = yaml("{kind: plain, predicts: denoised, range: [0.01, 0.6]}");
    Pretrained { network, precondition: precondition.build().unwrap() }
}

/// Sums of convolutions in f32 are added up in another order in tiles.
const ORDER: f64 = 5e-6;

/// A pixel of the answer sees 2 pixels more of the image on every side with each layer, 8 after four. Tiles of 96 have borders
/// of 9 pixels that do not count; those of 80 and 64 pixels such of 7 and 6, which is too little.
#[test]
fn tiles_of_a_convolutional_network_give_what_it_gives_for_the_whole_image() {
    let network = convolutions(4);
    for size in [[96, 96], [96, 98], [250, 170], [332, 200]] {
        let x = Seeded(vec![1, 2]).like(&Tensor::zeros([2, 1, size[0], size[1]], (Kind::Float, Device::Cpu)), 0, 0);
        let error = |tile: [i64; 2]| {
            let (whole, tiles) =
                tch::no_grad(|| (network.denoise(&x, 0.3), Tiled::new(&network, tile).denoise(&x, 0.3)));
            largest(&(&whole - tiles)) / largest(&whole)
        };
        let (enough, wide, little) = (error([96, 96]), error([96, 80]), error([64, 64]));
        println!("{size:?}: {enough:.1e}; by tiles with too little overlap {wide:.1e}, {little:.1e}");
        assert!(enough < ORDER, "{size:?}: {enough:e}");
        assert!(
            little > 100.0 * ORDER,
            "{size:?}: a border that counts shows, or this test proves nothing: {little:e}"
        );
    }
}

/// Gradients see the same image.
#[test]
fn the_gradient_through_tiles_is_that_of_the_whole_image() {
    let network = convolutions(4);
    let x = Seeded(vec![3]).like(&Tensor::zeros([1, 1, 250, 170], (Kind::Float, Device::Cpu)), 0, 0);
    let gradient = |denoiser: &dyn Denoiser| {
        let leaf = x.detach().set_requires_grad(true);
        let loss = denoiser.denoise(&leaf, 0.3).square().sum(Kind::Float);
        Tensor::run_backward(&[loss], &[&leaf], false, false).remove(0)
    };
    let (whole, tiles) = (gradient(&network), gradient(&Tiled::new(&network, [96, 96])));
    assert!(largest(&(&whole - tiles)) < ORDER * largest(&whole));
}
