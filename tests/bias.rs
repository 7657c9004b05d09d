//! How far each method ends from the posterior of a Gaussian prior, which is known: `experiments/results/gaussian-bias.md`.

use tch::{Device, Kind, Tensor};
use tweedie::{
    Error,
    inverse::{
        likelihood::GaussianLikelihood,
        operators::{AnyTask, Operator},
        restoration::{self, AnyMethod, InverseProblem},
    },
    numbers::plan::Plan,
    scores::{
        analytic::Gaussian,
        noise::{Noise, Seeded},
    },
};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const SHAPE: [i64; 3] = [1, 8, 8];
const N: i64 = 64;
const ETA: f64 = 0.2;
const RANGE: (f64, f64) = (0.002, 80.0);
const LEVELS: [usize; 4] = [10, 30, 100, 300];

/// Samples of each posterior: a mean of so many is off by 1/√1000 = 0.032 deviations of its own accord, a variance by 0.6 %.
const SAMPLES: u64 = 1000;

const TASKS: [(&str, &str); 7] = [
    ("denoise", "{kind: identity}"),
    ("half hidden", "{kind: inpaint-random, hidden: 0.5}"),
    ("box hidden", "{kind: inpaint-box}"),
    ("blur", "{kind: deblur-gaussian, std: 1, size: 5}"),
    ("2 × 2 means", "{kind: super-resolution, factor: 2, kernel: mean}"),
    ("sensing", "{kind: compressed-sensing, kept: 0.25}"),
    ("tomography", "{kind: tomography, angles: 6}"),
];

/// What the table calls it, the method, and its levels with the sampler where it has none of its own.
const METHODS: [(&str, &str, &str); 20] = [
    ("MMPS, 3 iterations", "{kind: mmps, iterations: 3}", "{kind: geometric, max: 10, min: 0.02}"),
    ("MMPS, 12 iterations", "{kind: mmps, iterations: 12}", "{kind: geometric, max: 10, min: 0.02}"),
    ("split Gibbs, 20 steps", "{kind: split-gibbs, steps: 20}", "{kind: geometric, max: 2, min: 0.05}"),
    ("twisted SMC, 8 particles", "{kind: smc, particles: 8}", "{kind: geometric, max: 10, min: 0.05}"),
    ("walk, c = 0.2, T = 1", "{kind: walk}", "{kind: geometric, max: 2, min: 0.02}"),
    ("annealed likelihood", "{kind: annealed}", "{kind: geometric, max: 2, min: 0.02}"),
    ("ΠGDM", "{kind: pigdm}", "{kind: geometric, max: 10, min: 0.02}"),
    ("DPS, ζ = 0.3", "{kind: dps}", "{kind: geometric, max: 10, min: 0.02}"),
    ("DPS, ζ = 1", "{kind: dps, scale: 1.0}", "{kind: geometric, max: 10, min: 0.02}"),
    ("DAPS, exact draws", "{kind: daps, langevin_steps: 0}", "{kind: geometric, max: 10, min: 0.02}"),
    ("DAPS, 20 Langevin steps", "{kind: daps, langevin_steps: 20}", "{kind: geometric, max: 10, min: 0.02}"),
    ("DDRM", "{kind: ddrm}", "{kind: geometric, max: 10, min: 0.02}"),
    ("DDNM+", "{kind: ddnm}", "{kind: geometric, max: 10, min: 0.02}"),
    ("DiffPIR", "{kind: diffpir}", "{kind: geometric, max: 10, min: 0.02}"),
    ("RePaint, 10 times", "{kind: repaint}", "{kind: geometric, max: 10, min: 0.02}"),
    ("projection", "{kind: projection}", "{kind: geometric, max: 10, min: 0.02}"),
    ("MCG, ζ = 0.3", "{kind: mcg}", "{kind: geometric, max: 10, min: 0.02}"),
    ("RED-diff", "{kind: red-diff}", "{kind: geometric, max: 10, min: 0.02}"),
    ("PnP-ADMM", "{kind: pnp-admm}", "{kind: geometric, max: 0.4, min: 0.05}"),
    ("DPIR", "{kind: dpir}", "{kind: geometric, max: 0.4, min: 0.05}"),
];

fn yaml<T: serde::de::DeserializeOwned>(text: &str) -> T {
    tweedie::files::yaml::parse(text, std::path::Path::new("test")).unwrap()
}

fn task(text: &str) -> Operator {
    yaml::<AnyTask>(text).get().operator(SHAPE, 3, Device::Cpu, Kind::Double).unwrap()
}

/// Images whose pixels know of one another: mean 0.2, covariance 0.25 exp(−distance/2).
fn covariance() -> Tensor {
    let at = Tensor::arange(N, F64);
    let (row, column) = ((&at / 8.0).floor(), at.remainder(8.0));
    let apart = |of: &Tensor| (of.unsqueeze(1) - of.unsqueeze(0)).square();
    ((apart(&row) + apart(&column)).sqrt() / -2.0).exp() * 0.25
}

/// A measurement, and E[X | y] and the variances of X | y, `[64]`.
fn problem(operator: &Operator) -> (Tensor, Tensor, Tensor) {
    let (noise, c) = (Seeded(vec![1 << 40]), covariance());
    let root = Tensor::linalg_cholesky(&c, false);
    let draw = noise.like(&Tensor::zeros([1, N], F64), 0, 0).view([N, 1]);
    let clean = operator.apply(&(root.matmul(&draw).view([1, 1, 8, 8]) + 0.2));
    let y = &clean + noise.like(&clean, 0, 1) * ETA;
    let a = operator.apply(&Tensor::eye(N, F64).view([N, 1, 8, 8])).flatten(1, -1).tr();
    let spread = (c.inverse() + a.tr().matmul(&a) / (ETA * ETA)).inverse();
    let mean = Tensor::full([N], 0.2, F64);
    let pull = a.tr().matmul(&(y.flatten(0, -1) - a.matmul(&mean))) / (ETA * ETA);
    (y, mean + spread.matmul(&pull), spread.diagonal(0, 0, 1).copy())
}

fn plan(name: &str, schedule: &str, steps: usize) -> Plan {
    let sampler = match name {
        "walk" => "{kind: simplified, c: 0.2, t0: 1.0, ramp: constant}",
        "annealed" => "{kind: simplified, c: 0.3, t0: 1.0, ramp: constant}",
        _ => "{kind: ve-ancestral}",
    };
    yaml(&format!("{{schedule: {schedule}, steps: {steps}, sampler: {sampler}}}"))
}

/// The error of the samples' mean in posterior deviations, root mean square over the pixels, and the ratio of their variance to
/// the posterior's, on average over the pixels.
fn bias(text: &str, schedule: &str, steps: usize, operator: &str) -> Result<(f64, f64), Error> {
    let (y, mean, variances) = problem(&task(operator));
    let chosen: AnyMethod = yaml(text);
    let likelihood = GaussianLikelihood::new(task(operator), y, ETA, SHAPE)?;
    let name = text[7..].split(['}', ',']).next().unwrap_or_default();
    let resolved = plan(name, schedule, steps).resolve(RANGE, chosen.get().step_limit(&likelihood))?;
    let noise = Seeded((0..SAMPLES).collect());
    let x = noise.like(&Tensor::zeros([SAMPLES as i64, 1, 8, 8], F64), 0, 0) * resolved.sigmas.max() + 0.2;
    let prior = Gaussian::new(&Tensor::full(SHAPE, 0.2, F64), &covariance())?;
    let posed = InverseProblem { prior: &prior, likelihood: &likelihood, plan: &resolved, noise: &noise };
    let samples = restoration::restore(chosen.get(), &posed, x, &mut |_| Ok(()))?.flatten(1, -1);
    let ours = samples.mean_dim([0i64].as_slice(), false, None);
    let off = ((&ours - mean) / variances.sqrt()).square().mean(Kind::Double).sqrt();
    let spread = (&samples - ours).square().sum_dim_intlist([0i64].as_slice(), false, None) / (SAMPLES - 1) as f64;
    Ok((f64::try_from(off)?, f64::try_from((spread / variances).mean(Kind::Double))?))
}

fn row(name: &str, cells: &[String]) {
    println!("| {name} | {} |", cells.join(" | "));
}

fn head(names: &[String]) {
    row("", names);
    println!("{}|", "| --- ".repeat(names.len() + 1));
}

/// The rows to print: all, or those that BIAS names a part of.
fn chosen() -> impl Iterator<Item = (&'static str, &'static str, &'static str)> {
    let part = std::env::var("BIAS").unwrap_or_default();
    METHODS.into_iter().filter(move |(name, ..)| name.contains(&part))
}

/// Prints the tables of `experiments/results/gaussian-bias.md`.
#[test]
#[ignore = "takes minutes: the tables of experiments/results/gaussian-bias.md"]
fn the_bias_of_every_method_under_a_gaussian_prior() {
    let shown =
        |figure: &Option<(f64, f64)>| figure.map_or("–".to_owned(), |(off, ratio)| format!("{off:.2} / {ratio:.2}"));
    let names: Vec<String> = TASKS.iter().map(|(name, _)| (*name).to_owned()).collect();
    let mut means = Vec::new();
    println!("\nWith {} levels:\n", LEVELS[3]);
    head(&names);
    for (name, text, schedule) in chosen() {
        let at = |steps| TASKS.map(|(_, operator)| bias(text, schedule, steps, operator).ok());
        let figures = LEVELS.map(at);
        row(name, &figures[3].each_ref().map(shown));
        means.push((name, figures));
    }
    println!("\nOver all operators, by the number of levels:\n");
    head(&LEVELS.map(|levels| levels.to_string()));
    for (name, figures) in means {
        let over = |figures: [Option<(f64, f64)>; 7]| {
            let known: Vec<(f64, f64)> = figures.into_iter().flatten().collect();
            let mean = |of: &dyn Fn(&(f64, f64)) -> f64| known.iter().map(of).sum::<f64>() / known.len() as f64;
            format!("{:.2} / {:.2}", mean(&|(off, _)| off * off).sqrt(), mean(&|(_, ratio)| ratio.ln()).exp())
        };
        row(name, &figures.map(over));
    }
}
