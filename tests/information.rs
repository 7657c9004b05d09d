//! Likelihood and information of exact denoisers against their closed forms and golden values, and the command.

use std::{
    f64::consts::{LN_2, TAU},
    fs,
};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tweedie::{
    files::images,
    numbers::{
        quadrature::running,
        schedule::{Geometric, Karras, Schedule},
        sigma::Sigmas,
        stream,
    },
    scores::{
        analytic::{Gaussian, Mixture},
        denoiser::Denoiser,
        information::{Cells, Curve, Flow, Mean, Trace, prior, probes, square, squared_errors},
        noise::{Noise, Seeded},
    },
};

use crate::{cli::Place, common::relative};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Where the channel tells nothing: what is below it changes nothing in the tenth digit.
const WIDE: f64 = 1e5;

/// Of integrals with 129 levels in geometric progression: a fourteenth of ln σ apart, whose fourth power is 3e-5, times the
/// Gregory coefficient 19/720.
const LEVELS: usize = 129;
const INTEGRAL: f64 = 2e-6;

/// Noise that is given: row i is that of image i, at every level.
struct Given(Tensor);

impl Noise for Given {
    fn like(&self, x: &Tensor, _: u64, _: u64) -> Tensor {
        self.0.view_as(x).shallow_clone()
    }
}

/// A rule Σ wᵢ f(nᵢ) for E f(n), n ~ N(0, 1): the trapezium on −9 … 9, which for the smooth f here is exact to rounding.
fn normal() -> (Vec<f64>, Vec<f64>) {
    let at: Vec<f64> = (-36..=36).map(|i| f64::from(i) / 4.0).collect();
    let weights = at.iter().map(|n| (-n * n / 2.0).exp() / TAU.sqrt() / 4.0).collect();
    (at, weights)
}

/// 0.3 N(−2, 0.4²) + 0.7 N(1.5, 0.6²), the mixture of the golden tables.
fn mixture() -> Mixture {
    let images = Tensor::from_slice(&[-2.0, 1.5]).view([2, 1, 1, 1]);
    Mixture::new(&Tensor::from_slice(&[0.3, 0.7]), &images, &Tensor::from_slice(&[0.16, 0.36])).unwrap()
}

/// The curve of the mixture for images `x` with the weights `chances`, the expectation over noise by quadrature.
fn curve(x: &[f64], chances: &[f64], smallest: f64) -> Curve {
    let sigmas = Geometric { max: Some(WIDE), min: Some(smallest) }.sigmas(LEVELS, (0.0, 0.0)).unwrap();
    let (noise, weights) = normal();
    let pairs = |f: fn(f64, f64) -> f64| -> Tensor {
        let all: Vec<f64> = x.iter().flat_map(|x| noise.iter().map(move |n| f(*x, *n))).collect();
        Tensor::from_slice(&all).view([-1, 1, 1, 1])
    };
    let (images, noises) = (pairs(|x, _| x), Given(pairs(|_, n| n)));
    let errors = squared_errors(&mixture(), &images, &sigmas, &noises, 1);
    let errors = errors.view([x.len() as i64, noise.len() as i64, LEVELS as i64]);
    let mean = (errors * Tensor::from_slice(&weights).view([1, -1, 1])).sum_dim_intlist([1i64].as_slice(), false, None);
    // Images of unequal chance: one image whose error is their mean.
    let mean = Tensor::from_slice(chances).unsqueeze(0).matmul(&mean);
    let square = x.iter().zip(chances).map(|(x, chance)| chance * x * x).sum();
    Curve::new(sigmas, 1, WIDE, &[square], vec![Vec::try_from(mean.view([-1])).unwrap()])
}

/// x on a grid of 0.05 with the density of the mixture: the trapezium again.
fn everywhere() -> (Vec<f64>, Vec<f64>) {
    let normal = |x: f64, mean: f64, sd: f64| (-((x - mean) / sd).powi(2) / 2.0).exp() / (TAU.sqrt() * sd);
    let at: Vec<f64> = (-110..=150).map(|i| f64::from(i) / 20.0).collect();
    let density = |x: &f64| (0.3 * normal(*x, -2.0, 0.4) + 0.7 * normal(*x, 1.5, 0.6)) / 20.0;
    let chances = at.iter().map(density).collect();
    (at, chances)
}

#[test]
fn information_and_mmse_of_the_mixture_are_the_golden_ones() {
    let (x, chances) = everywhere();
    for (snr, information, mmse) in
        [(0.1, 0.1257274148, 2.2037335755), (1.0, 0.6045793336, 0.5324713548), (5.0, 1.0468992701, 0.1247510076)]
    {
        let curve = curve(&x, &chances, 1.0 / f64::sqrt(snr));
        let last = |means: Vec<Mean>| means.last().unwrap().value;
        assert!(relative(last(curve.information()), information) < INTEGRAL, "I({snr})");
        // All printed digits.
        assert!(relative(last(curve.mmse()), mmse) < 1e-9, "MMSE({snr})");
    }
}

/// d KL/dλ = ½ mmse(x, λ) at λ = 1.3: the golden values are of both sides, here of the right one and of a difference quotient.
#[test]
fn pointwise_information_of_the_mixture_grows_as_the_golden_values_say() {
    for (x, growth) in [(-2.0, 0.19181894), (0.0, 0.61559008), (1.7, 0.08936895)] {
        let at = |snr: f64| curve(&[x], &[1.0], snr.sqrt().recip());
        // Eight digits after the point are printed.
        assert!((at(1.3).mmse()[LEVELS - 1].value / 2.0 - growth).abs() < 1e-8, "{x}");
        let divergence = |snr: f64| at(snr).divergences()[0][LEVELS - 1];
        // A central difference of 0.02 errs by some 1e-4 of the slope, beside what two integrals do, 1e-6 of each over 0.02.
        let slope = (divergence(1.31) - divergence(1.29)) / 0.02;
        assert!((slope - growth).abs() < 2e-4, "{x}: {slope} for {growth}");
    }
}

const SURPRISES: [(f64, f64); 3] = [(-2.0, 1.20662054), (0.0, 3.88973333), (1.7, 0.82034341)];

/// σ₁ = 10⁻³: beyond it the closed form errs by about σ₁² times the curvature of ln p, 6.25 at most.
#[test]
fn the_density_of_the_mixture_follows_from_its_squared_errors() {
    for (x, expected) in SURPRISES {
        let found = curve(&[x], &[1.0], 1e-3).surprise()[0];
        assert!((found - expected).abs() < 1e-5, "{x}: {found} for {expected}");
    }
}

fn flow(denoiser: &dyn Denoiser, trace: Trace) -> Flow<'_> {
    Flow { denoiser, start: WIDE, trace }
}

/// The levels of a flow, whose density is that of x + σ_min n: 10⁻⁴ is below all that matters here.
fn way(steps: usize) -> Sigmas {
    Geometric { max: Some(WIDE), min: Some(1e-4) }.sigmas(steps, (0.0, 0.0)).unwrap()
}

#[test]
fn the_flow_finds_the_density_of_the_mixture_and_agrees_with_the_squared_errors() {
    let mixture = mixture();
    let points: Vec<f64> = SURPRISES.iter().map(|(x, _)| *x).collect();
    let x = Tensor::from_slice(&points).view([-1, 1, 1, 1]);
    let found = Vec::<f64>::try_from(flow(&mixture, Trace::Exact).log_density(&x, &way(400))).unwrap();
    for ((x, expected), found) in SURPRISES.into_iter().zip(found) {
        assert!((found + expected).abs() < 1e-5, "{x}: {found} for {expected}");
        assert!(relative(-found, curve(&[x], &[1.0], 1e-3).surprise()[0]) < 1e-4);
    }
}

/// Halving the step divides the error of the fourth-order method by 16; other schedules lead to the same density.
#[test]
fn the_flow_is_of_the_fourth_order_on_any_schedule() {
    let mixture = mixture();
    let x = Tensor::from_slice(&[1.7]).view([1, 1, 1, 1]);
    let flow = flow(&mixture, Trace::Exact);
    let surprise = |sigmas: &Sigmas| -flow.log_density(&x, sigmas).double_value(&[0]);
    let exact = surprise(&way(1601));
    let errors = [101, 201].map(|steps| (surprise(&way(steps)) - exact).abs());
    let order = (errors[0] / errors[1]).log2();
    assert!((order - 4.0).abs() < 0.4, "order {order}, errors {errors:?}");
    let karras = Karras { rho: 20.0, max: Some(WIDE), min: Some(1e-4) }.sigmas(400, (0.0, 0.0)).unwrap();
    assert!((surprise(&karras) - exact).abs() < 1e-5);
}

/// Five pixels whose variances span two decades, away from 0.
fn clothes() -> (Gaussian, Tensor) {
    tch::manual_seed(3);
    let root = Tensor::randn([5, 5], F64) * Tensor::from_slice(&[0.2, 0.5, 1.0, 0.7, 1.5]);
    let covariance = root.matmul(&root.tr()) + Tensor::eye(5, F64) * 0.01;
    let mean = Tensor::randn([1, 1, 5], F64);
    (Gaussian::new(&mean, &covariance).unwrap(), Tensor::randn([2, 1, 1, 5], F64))
}

/// d/2 ln 2π + ½ Σ [ln v + c²/v] in the eigenbasis.
fn closed_form(gaussian: &Gaussian, x: &Tensor) -> Vec<f64> {
    let (basis, variances) = gaussian.spectrum();
    let coordinates = (x - gaussian.mean()).flatten(1, -1).matmul(basis);
    let terms = coordinates.square() / variances + variances.log() + TAU.ln();
    Vec::try_from(terms.sum_dim_intlist([1i64].as_slice(), false, None) / 2.0).unwrap()
}

/// A Gaussian's D is linear, its squared error a quadratic in the noise, and the mean of a quadratic is that over the 2d
/// points ±√d eᵢ.
#[test]
fn both_estimates_find_the_density_of_a_gaussian() {
    let (gaussian, images) = clothes();
    let expected = closed_form(&gaussian, &images);
    let points = Tensor::cat(&[Tensor::eye(5, F64), -Tensor::eye(5, F64)], 0) * 5f64.sqrt();
    let sigmas = Geometric { max: Some(WIDE), min: Some(1e-4) }.sigmas(LEVELS, (0.0, 0.0)).unwrap();
    let along = Vec::<f64>::try_from(flow(&gaussian, Trace::Exact).log_density(&images, &way(400))).unwrap();
    for (i, expected) in expected.into_iter().enumerate() {
        let image = images.get(i as i64).unsqueeze(0);
        let copies = image.repeat([10, 1, 1, 1]);
        let errors = squared_errors(&gaussian, &copies, &sigmas, &Given(points.shallow_clone()), 1);
        let errors = Vec::try_from(errors.mean_dim([0i64].as_slice(), false, None)).unwrap();
        let curve = Curve::new(sigmas.clone(), 5, WIDE, &[square(&image).double_value(&[0])], vec![errors]);
        let found = curve.surprise()[0];
        // The smallest variance, 0.01, is 10⁶ times σ_min²; the rest is the integral's.
        assert!(relative(found, expected) < 1e-5, "{found} for {expected}");
        assert!(relative(-along[i], expected) < 1e-5, "{} for {expected}", along[i]);
        assert!(relative(-along[i], found) < 1e-4);
        let halved = curve.halved().unwrap();
        assert!((found - expected).abs() < halved.abs() + 1e-6, "{halved} is no less than the error");
    }
}

/// 4,000 probes of the same image: their mean lies within four of its own standard errors of the exact trace, and the
/// exact trace is no probe.
#[test]
fn probes_have_no_bias() {
    let (gaussian, images) = clothes();
    let image = images.get(0).unsqueeze(0);
    let sigmas = way(31);
    let exact = flow(&gaussian, Trace::Exact).log_density(&image, &sigmas).double_value(&[0]);
    let copies = image.repeat([4000, 1, 1, 1]);
    let trace = |count| probes(&copies, &Seeded((0..4000).collect()), count);
    let spread = |count| {
        let found = flow(&gaussian, trace(count)).log_density(&copies, &sigmas);
        Mean::from_values(&Vec::<f64>::try_from(found).unwrap())
    };
    let (one, three) = (spread(1), spread(3));
    assert!(one.error > 1e-3, "{one:?}");
    assert!((one.value - exact).abs() < 4.0 * one.error && (three.value - exact).abs() < 4.0 * three.error, "{one:?}");
    // Of three probes the spread is that of one over √3, known to one part in √(2·4000).
    assert!((one.error / three.error / 3f64.sqrt() - 1.0).abs() < 0.1);
}

/// With real noise the mean over images is within its own standard error of the closed form.
#[test]
fn seeded_noise_finds_the_information_within_its_standard_error() {
    let (gaussian, _) = clothes();
    let (basis, variances) = gaussian.spectrum();
    let seeds = Seeded((0..2000).collect());
    let standard = seeds.like(&Tensor::zeros([2000, 1, 1, 5], F64), 1 << 40, 0);
    let images =
        (standard.flatten(1, -1) * variances.sqrt()).matmul(&basis.tr()).view([2000, 1, 1, 5]) + gaussian.mean();
    let sigmas = Geometric { max: Some(1e3), min: Some(1e-3) }.sigmas(33, (0.0, 0.0)).unwrap();
    let errors = squared_errors(&gaussian, &images, &sigmas, &seeds, 1);
    let rows = |errors: &Tensor| -> Vec<Vec<f64>> { Vec::try_from(errors).unwrap() };
    let curve = Curve::new(sigmas.clone(), 5, 1e3, &Vec::<f64>::try_from(square(&images)).unwrap(), rows(&errors));
    let entropy = Vec::<f64>::try_from(variances.log() + TAU.ln() + 1.0).unwrap().iter().sum::<f64>() / 2.0;
    let found = Mean::from_values(&curve.surprise());
    // In each of 16 levels the squared error of five numbers spreads by √10, which with the weight ½ 0.86 makes 5.4 for an
    // image; the spread of −ln p itself, √(5/2), is small beside it.
    let spread = f64::hypot(5.4, 1.6) / 2000f64.sqrt();
    assert!((found.value - entropy).abs() < 4.0 * found.error, "{found:?} for {entropy}");
    assert!((found.error / spread - 1.0).abs() < 0.1, "{found:?}, but {spread} is expected");
    for (sigma, mmse) in sigmas.iter().zip(curve.mmse()) {
        let wiener = (variances / (variances / (sigma * sigma) + 1.0)).sum(Kind::Double);
        // One of 33 levels may lie further out.
        assert!((mmse.value - f64::try_from(wiener).unwrap()).abs() < 5.0 * mmse.error, "σ = {sigma}: {mmse:?}");
    }
    // In pieces: the same, whatever the images beside it.
    let pieces: Vec<Tensor> = [0..700u64, 700..2000]
        .map(|seeds| {
            let part = images.narrow(0, seeds.start as i64, (seeds.end - seeds.start) as i64);
            squared_errors(&gaussian, &part, &sigmas, &Seeded(seeds.collect()), 1)
        })
        .into();
    let difference = f64::try_from(((Tensor::cat(&pieces, 0) - &errors) / &errors).abs().max()).unwrap();
    assert!(difference < 1e-9, "{difference} is more than rounding");
}

/// Where no level below is asked for, the prior alone is left: with start = √(s² + σ²) it is the exact KL of x ~ N(0, s²).
#[test]
fn the_first_level_is_told_by_the_prior() {
    let (numbers, sigma, variance): (usize, f64, f64) = (3, 2.0, 0.7);
    let start = (variance + sigma * sigma).sqrt();
    // E‖x‖² = d s² makes the mean I(λ) = d/2 ln(1 + λ s²).
    let mean = prior(numbers as f64 * variance, numbers, sigma, start);
    assert!(relative(mean, 1.5 * (variance / (sigma * sigma)).ln_1p()) < 1e-12);
    assert!(relative(prior(0.4, numbers, 1e6, 1e6), 0.2e-12) < 1e-6, "without variance: ½ λ ‖x‖²");
}

#[test]
fn the_running_integral_is_exact_for_cubics_on_uneven_points() {
    let at = [-1.0, -0.4, 0.1, 1.3, 1.5, 4.0, 4.5];
    let cubic = |x: f64| 2.0 - x + 3.0 * x * x - 0.5 * x * x * x;
    let primitive = |x: f64| 2.0 * x - x * x / 2.0 + x.powi(3) - x.powi(4) / 8.0;
    let found = running(&at, &at.map(cubic));
    for (x, found) in at.into_iter().zip(found) {
        assert!((found - primitive(x) + primitive(-1.0)).abs() < 1e-12);
    }
    let line = running(&[0.0, 2.0], &[1.0, 3.0]);
    assert!(line[0] == 0.0 && (line[1] - 4.0).abs() < 1e-14);
}

#[test]
fn a_byte_is_uniform_in_its_cell() {
    let bytes = Tensor::from_slice(&[0u8, 255, 7, 100]).view([2, 1, 1, 2]);
    for (cells, lowest, highest) in [(Cells::default(), -1.0, 1.0), (Cells { per_unit: 256.0, lowest: 0.0 }, 0.0, 1.0)]
    {
        let x = cells.dequantise(&bytes, &[4, 9]);
        let back = ((&x - cells.lowest) * cells.per_unit).to_kind(Kind::Double);
        let u = &back - bytes.to_kind(Kind::Double);
        assert!(bool::try_from(u.ge(-1e-4).logical_and(&u.le(1.0 + 1e-4)).all()).unwrap());
        assert!(f64::try_from(x.min()).unwrap() >= lowest && f64::try_from(x.max()).unwrap() <= highest);
        assert_eq!(cells.dequantise(&bytes.narrow(0, 1, 1), &[9]), x.narrow(0, 1, 1), "a pure function of the seed");
    }
    // 256 equally likely bytes are 8 bits: a density of ½ on −1 … 1.
    assert!((Cells::default().bits(10.0 * LN_2, 10) - 8.0).abs() < 1e-12);
}

/// Eighty images of 8×8 random bytes. Nothing says them shorter than in 8 bits, and a network of random weights says them
/// much longer.
#[test]
fn the_command_measures_both_ways_and_writes_what_it_found() {
    let place = Place::new();
    let header = [0, 0, 8, 3, 0, 0, 0, 80, 0, 0, 0, 8, 0, 0, 0, 8];
    let bytes: Vec<u8> = stream::uniform(1, 0, 0).take(80 * 64).map(|u| (u * 255.0) as u8).collect();
    fs::write(place.path("images"), [&header[..], &bytes].concat()).unwrap();
    let data = "{kind: idx, images: images}";
    let run = |flags: &[&str]| {
        let always = ["information", "tiny.safetensors", "--data", data, "--levels", "9", "--json", "--out", "out"];
        let record = place.succeed(&[&always[..], flags].concat());
        serde_json::from_str::<Value>(&record).unwrap()
    };
    let both = run(&["--limit", "6", "--flow", "--steps", "6", "--batch", "4"]);
    let bits = &both["bits_per_dimension"];
    let value = |of: &Value| of["value"].as_f64().unwrap();
    assert!(value(&bits["i_mmse"]) > 8.0, "{bits}");
    let apart = value(&bits["flow"]) - value(&bits["i_mmse"]);
    assert!((apart - value(&bits["flow_minus_i_mmse"])).abs() < 1e-9, "{bits}");
    // Independent bytes of 256 equal cells: a Gaussian of their variance wastes ½ log₂(2πe/12) = 0.25 bits, and gains back
    // about 64/(2·80) · log₂ e = 0.58 by being fitted to 80 images.
    assert!((bits["gaussian"].as_f64().unwrap() - (8.25 - 0.58)).abs() < 0.3, "{bits}");
    assert_eq!(both["levels"].as_array().unwrap().len(), 9);
    assert_eq!(fs::read_to_string(place.path("out/information.csv")).unwrap().lines().count(), 10);
    assert_eq!(images::read(&place.path("out/information.png"), 3).unwrap().size(), [3, 480, 800]);
    let written: Value = serde_json::from_slice(&fs::read(place.path("out/information.json")).unwrap()).unwrap();
    assert!(written == both);
    // Other blocks, and no flow: the same curve up to the rounding of f32.
    let alone = run(&["--limit", "6", "--batch", "1"]);
    assert!(alone["bits_per_dimension"]["flow"].is_null());
    let curve = |record: &Value| -> Vec<f64> {
        record["levels"].as_array().unwrap().iter().map(|row| value(&row["mmse_per_dimension"])).collect()
    };
    for (a, b) in curve(&both).into_iter().zip(curve(&alone)) {
        assert!(relative(a, b) < 1e-4, "{a}, {b}");
    }
}

#[test]
fn the_command_refuses_what_makes_no_sense() {
    let place = Place::new();
    let complain = |data: &str, flags: &[&str]| {
        place.complaint(&[&["information", "tiny.safetensors", "--data", data][..], flags].concat())
    };
    let none = "{kind: idx, images: none}";
    assert_eq!(complain(none, &["--levels", "4"]), "--levels must be at least 5, but is 4");
    assert_eq!(complain(none, &["--draws", "0"]), "--draws must be at least 1, but is 0");
    assert_eq!(complain(none, &["--steps", "1"]), "--steps must be at least 2, but is 1");
    let one = complain(none, &["--limit", "1"]);
    assert!(one.starts_with("--limit must be at least 2, since the spread over images"), "{one}");
    assert!(complain(none, &[]).starts_with("none: cannot be read"));
    fs::create_dir(place.path("wide")).unwrap();
    place.image("wide/a.png", [1, 8, 9], 7);
    assert_eq!(complain("wide", &[]), "--data: images are [1, 8, 9], but tiny knows [1, 8, 8]");
    let classes = complain("wide", &["--class", "0"]);
    assert!(classes.ends_with("knows no classes"), "{classes}");
    assert!(!place.path("out").exists());
}
