//! A network, a sampler and an operator of one's own, written outside the crate:
//! `cargo run --release --example own_network`.

use tch::{Device, Kind, Tensor};
use tweedie::{
    Error, Model,
    inverse::operators::LinearOperator,
    networks::FnNetwork,
    numbers::{
        precondition::{AnyPrecondition, Plain, Quantity},
        samplers::Sampler,
        sigma::Sigmas,
        walk::{Step, Walk},
    },
    run::sample::Sampling,
};

/// The variance of the images, whose pixels are independent and N(0, V).
const V: f64 = 0.25;

/// x ← x + τ s(x, σ) + √(2τT) n with τ = σ² − σ′² and half of DDPM's temperature.
struct Lukewarm;

impl Sampler for Lukewarm {
    fn walk(&self, sigmas: &Sigmas) -> Result<Walk, Error> {
        let step = |(sigma, next): (f64, f64)| Step {
            sigma,
            tau: sigma * sigma - next * next,
            temperature: if next > 0.0 { 0.5 * (next / sigma).powi(2) } else { 0.0 },
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
    // The network is told σ and gives the denoised image: V x/(V + σ²), the mean of the images behind x.
    let network = FnNetwork(|x: &Tensor, sigma: &Tensor| x * (V / (sigma.square() + V)).view([-1, 1, 1, 1]));
    let precondition = AnyPrecondition::Plain(Plain { predicts: Quantity::Denoised, range: [0.002, 80.0] });
    let model = Model::own("independent pixels", [1, 16, 16], precondition, network, Vec::new())?;

    // Any sampler of the library, and one of one's own.
    let images = model.sample(0..64)?;
    println!("DDIM: the pixels' variance is {:.3}, {V} in truth", images.var(true).double_value(&[]));
    let lukewarm = Sampling::new(&model).solver(&Lukewarm).steps(200).seeds(0..64).run(&())?;
    println!("one's own sampler: {:.3}", lukewarm.images.var(true).double_value(&[]));

    // The adjoint is the true one: ⟨A x, y⟩ = ⟨x, Aᵀ y⟩.
    let (x, y) = (
        Tensor::randn([1, 1, 16, 16], (Kind::Double, Device::Cpu)),
        Tensor::randn([1, 1, 16, 8], (Kind::Double, Device::Cpu)),
    );
    let [left, right] = [(Pairs.apply(&x) * &y).sum(Kind::Double), (&x * Pairs.adjoint(&y)).sum(Kind::Double)];
    println!("⟨A x, y⟩ − ⟨x, Aᵀ y⟩ = {:.1e}", (left - right).double_value(&[]));
    Ok(())
}
