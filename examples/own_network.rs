//! A network, a sampler and an operator of one's own, written outside the crate:
//! `cargo run --release --example own_network`.

use tch::{Kind, Tensor};
use tweedie::{
    Error, Model,
    inverse::operators::LinearOperator,
    networks::FnNetwork,
    numbers::{
        precondition::{Plain, Quantity},
        samplers::Sampler,
        schedule::Geometric,
        sigma::Sigmas,
        solvers::Heun,
        walk::{Step, Walk},
    },
    run::sample::Sampling,
};

/// The variance of the images, whose pixels are independent and N(0, V).
const V: f64 = 0.25;

/// The exact reverse step of Gaussian images [Analytic-DPM, Bao et al. 2022]: τ = σ² − σ′², T = (V + σ′²)/(2(V + σ²)).
struct Exact;

impl Sampler for Exact {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let step = |(sigma, next): (f64, f64)| Step {
            sigma,
            tau: sigma * sigma - next * next,
            temperature: (V + next * next) / (2.0 * (V + sigma * sigma)),
        };
        Ok(Walk(sigmas.pairs().map(step).collect()))
    }
}

/// The mean of two neighbours in a row.
#[derive(Debug)]
struct Pairs;

impl LinearOperator for Pairs {
    fn apply(&self, x: &Tensor) -> Tensor {
        x.avg_pool2d([1, 2], [1, 2], [0, 0], false, true, None)
    }

    fn adjoint(&self, y: &Tensor) -> Tensor {
        y.repeat_interleave_self_int(2, 3, None) / 2.0
    }

    fn norm_squared(&self) -> f64 {
        0.5
    }
}

fn main() -> Result<(), Error> {
    // The network is given σ and returns the denoised image: V x/(V + σ²), the mean of the images behind x.
    let network = FnNetwork(|x: &Tensor, sigma: &Tensor| x * (V / (sigma.square() + V)).view([-1, 1, 1, 1]));
    let precondition = Plain { predicts: Quantity::Denoised, range: [0.002, 80.0] };
    let model = Model::own("independent pixels", [1, 16, 16], precondition, network, Vec::new())?;
    let variance = |images: &Tensor| images.var(true).double_value(&[]);

    // Any sampler of the library, and one of one's own.
    let heun = Sampling::new(&model).sampler(Heun::default()).steps(40).seeds(0..64).run(&())?;
    println!("Heun: variance {:.4}, {V:.4} in truth", variance(&heun.images));
    let exact = Sampling::new(&model).solver(&Exact).steps(5).seeds(0..64).run(&())?;
    println!("one's own sampler: variance {:.4}, {V:.4} in truth", variance(&exact.images));

    // y = A x + n with η = 0.1 in data units. A pair's mean has the variance V/2 before y is known, its difference
    // keeps its own; of independent Gaussians, E[mean | y] = y (V/2)/(V/2 + η²).
    let (x, eta) = (exact.images.narrow(0, 0, 1), 0.1);
    let y = Pairs.apply(&x);
    let y = &y + y.randn_like() * eta;
    let levels = Geometric { max: Some(10.0), min: Some(0.005) };
    let restored = model.restore(&y, Pairs, eta / 2.0)?.schedule(levels).steps(400).samples(64).run(&())?;
    let (images, shrink) = (&restored.images[0], V / 2.0 / (V / 2.0 + eta * eta));
    let means = Pairs.apply(&images.samples);
    let known = (&means - y * shrink).square().mean(Kind::Double).double_value(&[]);
    println!("one's own operator: E (A x − E[A x | y])² = {known:.5}, {:.5} in truth", shrink * eta * eta);
    let hidden = (&images.samples - Pairs.adjoint(&means) * 2.0).square().mean(Kind::Double).double_value(&[]);
    println!("what it hides: variance {hidden:.4}, {:.4} in truth", V / 2.0);
    Ok(())
}
