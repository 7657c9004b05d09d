//! DPS, DiffPIR and DDRM, state by state, against what deepinv's own code made of the same denoiser, start and noise.
//!
//! `tests/parity/restorations.py` wrote the file. Where deepinv's formula is another, the test states by how much exactly,
//! and asserts that there is no other difference.

use serde::Deserialize;
use tch::{Device, Kind, Tensor};
use tweedie::{
    inverse::{
        likelihood::GaussianLikelihood,
        operators::{Blur, Boundary, Inpaint, LinearOperator, Operator, Svd},
        restoration::{self, Ddrm, Diffpir, Dps, InverseProblem, Method},
    },
    numbers::{plan::ResolvedPlan, scheme::Scheme, sigma::Sigmas},
    scores::{
        analytic::Mixture,
        noise::{Noise, Seeded},
    },
};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const SHAPE: [i64; 3] = [1, 5, 6];

/// Of the largest pixel of a state: thirteen digits are written, and both sides compute in f64.
const SAME: f64 = 1e-10;
/// Another formula is farther away than this.
const APART: f64 = 1e-3;

#[derive(Deserialize)]
struct ExpectedLevels {
    eta: f64,
    seeds: Vec<u64>,
    mixture: Weights,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Weights {
    weights: Vec<f64>,
    variances: Vec<f64>,
}

/// What the peer was given, and what it made of it.
#[derive(Deserialize)]
struct Case {
    method: String,
    operator: String,
    /// The mask, or the kernel.
    table: Vec<Vec<f64>>,
    weight: Option<f64>,
    lambda: Option<f64>,
    zeta: Option<f64>,
    fresh: Option<f64>,
    trust: Option<f64>,
    levels: Vec<f64>,
    y: Vec<f64>,
    /// At every level, and after the last.
    states: Vec<Vec<f64>>,
}

/// The program's noise as Python has it, rounded to f32, then times a factor; steps are counted from `first` on.
struct Rounded {
    seeds: Vec<u64>,
    first: u64,
    factor: f64,
}

impl Noise for Rounded {
    fn like(&self, x: &Tensor, step: u64, draw: u64) -> Tensor {
        rounded(&self.seeds, x, self.first + step, draw) * self.factor
    }
}

fn rounded(seeds: &[u64], like: &Tensor, step: u64, draw: u64) -> Tensor {
    Seeded(seeds.to_vec()).like(like, step, draw).to_kind(Kind::Float).to_kind(Kind::Double)
}

fn images(values: &[f64]) -> Tensor {
    Tensor::from_slice(values).view([-1, SHAPE[0], SHAPE[1], SHAPE[2]])
}

/// The largest difference, in units of the largest pixel of `theirs`.
fn apart(ours: &Tensor, theirs: &Tensor) -> f64 {
    f64::try_from((ours - theirs).abs().max() / theirs.abs().max()).unwrap()
}

impl ExpectedLevels {
    fn read() -> Self {
        serde_json::from_str(include_str!("golden/restorations.json")).unwrap()
    }

    /// The cases of a method; there are `count`.
    fn of(&self, method: &str, count: usize) -> Vec<&Case> {
        let cases: Vec<&Case> = self.cases.iter().filter(|case| case.method == method).collect();
        assert_eq!(cases.len(), count);
        cases
    }

    fn prior(&self) -> Mixture {
        let means = rounded(&[1, 2, 3], &Tensor::zeros([3, SHAPE[0], SHAPE[1], SHAPE[2]], F64), 0, 0) * 0.25;
        let of = |values: &[f64]| Tensor::from_slice(values);
        Mixture::new(&of(&self.mixture.weights), &means, &of(&self.mixture.variances)).unwrap()
    }

    /// Our states at `levels`, from `x` on, with the noise of step `first` and of those after it, times `factor`.
    fn walk(
        &self,
        method: &dyn Method,
        problem: (Operator, &Case),
        levels: &[f64],
        x: &Tensor,
        noise: (u64, f64),
    ) -> Vec<Tensor> {
        let (operator, case) = problem;
        let likelihood = GaussianLikelihood::new(operator, images(&case.y), self.eta, SHAPE).unwrap();
        let sigmas = Sigmas::new(levels.to_vec()).unwrap();
        let resolved = ResolvedPlan { sigmas, walk: None, scheme: Scheme(Vec::new()) };
        let noise = Rounded { seeds: self.seeds.clone(), first: noise.0, factor: noise.1 };
        let posed = InverseProblem { prior: &self.prior(), likelihood: &likelihood, plan: &resolved, noise: &noise };
        let mut states = Vec::new();
        let mut seen = |state: &mut Tensor| {
            states.push(state.copy());
            Ok(())
        };
        let _ = restoration::restore(method, &posed, x.copy(), &mut seen).unwrap();
        states
    }
}

impl Case {
    fn table(&self) -> Tensor {
        Tensor::from_slice2(&self.table)
    }

    fn blur(&self) -> Blur {
        Blur::new(&self.table(), SHAPE, Boundary::Circular, Device::Cpu, Kind::Double).unwrap()
    }

    fn operator(&self) -> Operator {
        if self.operator == "inpaint" { Inpaint::new(&self.table(), SHAPE).unwrap().into() } else { self.blur().into() }
    }

    fn states(&self) -> Vec<Tensor> {
        self.states.iter().map(|state| images(state)).collect()
    }

    /// The largest difference after any step that the peer made, too.
    fn error(&self, ours: &[Tensor]) -> f64 {
        assert!(self.states.len() - 1 <= ours.len());
        let theirs = self.states();
        ours.iter().zip(&theirs[1..]).map(|(ours, theirs)| apart(ours, theirs)).fold(0.0, f64::max)
    }
}

/// deepinv adds −w ∇‖y − A D‖ to the score, so that its step against the gradient is as long as that along the score:
///
/// ```text
/// x′ ← ancestral(x, D) − ½ w (σ² − σ′²) ∇ₓ ‖y − A D(x, σ)‖
/// ```
///
/// (½ for pixels of 0 … 1, in which it measures the misfit), where the paper and we have ζ √((1 + σ²)(1 + σ′²)): its w is
/// a ζ of ½ w (σ² − σ′²)/√((1 + σ²)(1 + σ′²)) that changes from step to step, about ½ w β. It clips D to −1 … 1 of pixels
/// that lie in 0 … 1, which is −3 … 1 of ours; here nothing is clipped.
#[test]
fn dps_comes_by_the_states_of_deepinv_with_the_scale_of_its_steps() {
    let golden = ExpectedLevels::read();
    for case in golden.of("dps", 2) {
        let mut x = case.states().remove(0);
        let (mut ours, mut scales) = (Vec::new(), Vec::new());
        for (k, &sigma) in case.levels.iter().enumerate() {
            let next = case.levels.get(k + 1).copied();
            let then = next.unwrap_or(0.0).powi(2);
            let square = sigma * sigma;
            let scale = case.weight.unwrap() / 2.0 * (square - then) / ((1.0 + square) * (1.0 + then)).sqrt();
            let levels: Vec<f64> = [sigma].into_iter().chain(next).collect();
            let method = Dps { scale, clip: false };
            x = golden.walk(&method, (case.operator(), case), &levels, &x, (k as u64, 1.0)).remove(0);
            ours.push(x.copy());
            scales.push(scale);
        }
        let constant = Dps { scale: scales[0], clip: false };
        let other = golden.walk(&constant, (case.operator(), case), &case.levels, &case.states()[0], (0, 1.0));
        let (error, far) = (case.error(&ours), case.error(&other));
        println!("dps, {}: {error:.1e}; with one scale for all steps {far:.1e}; scales {scales:.3?}", case.operator);
        assert_eq!(ours.len() + 1, case.states.len());
        assert!(error < SAME && far > APART, "{}: {error:e}, {far:e}", case.operator);
    }
}

/// deepinv's λ is twice ours: its weight is 2 λ η²/σ² with η for pixels of 0 … 1 and σ for those of −1 … 1, so ½ λ η²/σ²
/// with both for the same pixels, where the paper's Algorithm 1 has λ η²/σ².
///
/// What it returns is the last level's state, noise and all, scaled by √ᾱ: D of it is computed and not used. Our last step
/// goes on to x̂, and has no state of deepinv beside it.
#[test]
fn diffpir_comes_by_the_states_of_deepinv_with_half_its_lambda() {
    let golden = ExpectedLevels::read();
    for case in golden.of("diffpir", 2) {
        let walk = |lambda: f64| {
            let method = Diffpir { lambda, zeta: case.zeta.unwrap() };
            golden.walk(&method, (case.operator(), case), &case.levels, &case.states()[0], (0, 1.0))
        };
        let lambda = case.lambda.unwrap();
        let (error, far) = (case.error(&walk(lambda / 2.0)), case.error(&walk(lambda)));
        println!("diffpir, {}: {error:.1e}; with its own λ {far:.1e}", case.operator);
        assert_eq!(case.states.len(), case.levels.len());
        assert!(error < SAME && far > APART, "{}: {error:e}, {far:e}", case.operator);
    }
}

/// deepinv divides all that it draws by √2. That is right for the real and imaginary parts of a blur's coordinates, and it
/// halves the variance of the noise where coordinates are real, as in inpainting.
#[test]
fn ddrm_comes_by_the_states_of_deepinv_with_half_the_variance_in_inpainting() {
    let golden = ExpectedLevels::read();
    for case in golden.of("ddrm", 3).into_iter().filter(|case| case.operator != "wide-blur") {
        let method = Ddrm { fresh: case.fresh.unwrap(), trust: case.trust.unwrap() };
        let walk =
            |factor: f64| golden.walk(&method, (case.operator(), case), &case.levels, &case.states()[0], (0, factor));
        let factors = if case.operator == "inpaint" { [0.5_f64.sqrt(), 1.0] } else { [1.0, 0.5_f64.sqrt()] };
        let [error, far] = factors.map(|factor| case.error(&walk(factor)));
        println!("ddrm, {}: {error:.1e}; with the other variance {far:.1e}", case.operator);
        assert!(error < SAME && far > APART, "{}: {error:e}, {far:e}", case.operator);
    }
}

/// A blur of which singular vectors with s ≤ η are not told.
#[derive(Debug)]
struct Cut(Blur, f64);

impl LinearOperator for Cut {
    fn apply(&self, x: &Tensor) -> Tensor {
        self.0.apply(x)
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        self.0.adjoint(y)
    }

    fn norm_squared(&self) -> f64 {
        self.0.norm_squared()
    }

    fn svd(&self) -> Option<&dyn Svd> {
        Some(self)
    }
}

impl Svd for Cut {
    fn coordinates(&self, x: &Tensor) -> Tensor {
        self.0.coordinates(x)
    }

    fn image(&self, coordinates: &Tensor) -> Tensor {
        self.0.image(coordinates)
    }

    fn measured(&self, y: &Tensor) -> Tensor {
        self.0.measured(y)
    }

    fn singular(&self, kind: Kind) -> Tensor {
        let s = self.0.singular(kind);
        s.where_scalarother(&s.gt(self.1), 0.0)
    }
}

/// Where s ≤ η, deepinv takes nothing from the measurement; the paper and we weigh it, whatever s > 0 is.
#[test]
fn ddrm_comes_by_the_states_of_deepinv_if_it_looks_at_no_singular_value_below_eta() {
    let golden = ExpectedLevels::read();
    let case = golden.of("ddrm", 3).into_iter().find(|case| case.operator == "wide-blur").unwrap();
    let method = Ddrm { fresh: case.fresh.unwrap(), trust: case.trust.unwrap() };
    let walk = |operator: Operator| golden.walk(&method, (operator, case), &case.levels, &case.states()[0], (0, 1.0));
    let (error, far) = (case.error(&walk(Cut(case.blur(), golden.eta).into())), case.error(&walk(case.operator())));
    println!("ddrm, wide blur: {error:.1e}; with every singular value {far:.1e}");
    assert!(error < SAME && far > APART, "{error:e}, {far:e}");
}
