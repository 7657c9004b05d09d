//! EDM's own example, step by step [Karras et al. 2022, Algorithm 2 and `example.py`]:
//!
//! ```sh
//! cargo run --release --example edm_cifar10 [edm-cifar10-32x32-uncond-vp.pkl]
//! ```
//!
//! Without a file it runs on the network that ships.

use std::{env, path::Path};

use tch::{Kind, Tensor};
use tweedie::{
    Model, Session,
    numbers::{
        schedule::{Karras, Schedule},
        solvers::Heun,
    },
    report::sheet::write_grid,
    run::sample::Sampling,
    scores::{
        denoiser::Denoiser,
        noise::{Noise, Seeded},
    },
};

const STEPS: usize = 18;

fn main() -> Result<(), tweedie::Error> {
    let name = env::args().nth(1).unwrap_or_else(|| "fashion-mnist".to_owned());
    let model = Model::open(&name)?;
    let (net, device) = (&model.denoiser, Session::from_model(&model).device);

    // Time steps: σ from 80 to 0.002 in equal steps of σ^(1/7), then 0.
    let schedule = Karras { rho: 7.0, max: Some(80.0), min: Some(0.002) };
    let sigmas = schedule.sigmas(STEPS, model.range())?;

    // Pick latents.
    let [channels, height, width] = model.card.image;
    let noise = Seeded((0..4).collect());
    let latents = noise.like(&Tensor::zeros([4, channels, height, width], (Kind::Float, device)), 0, 0);

    // Main sampling loop.
    let mut x = latents * net.precondition.start(sigmas.max());
    for (now, next) in sigmas.pairs() {
        // Euler step.
        let slope = (&x - tch::no_grad(|| net.denoise(&x, now))) / now;
        let euler = &x + &slope * (next - now);
        // Second-order correction.
        x = if next == 0.0 {
            euler
        } else {
            let there = (&euler - tch::no_grad(|| net.denoise(&euler, next))) / next;
            x + (slope + there) * (0.5 * (next - now))
        };
    }
    write_grid(Path::new("out/examples/edm.png"), &x)?;

    // The same in one line.
    let drawn = Sampling::new(&model).sampler(Heun::default()).schedule(schedule).steps(STEPS).seeds(0..4).run(&())?;
    let apart = f64::try_from((x.to_device(tch::Device::Cpu) - drawn.images).abs().max())?;
    println!("the loop and the library differ by at most {apart:.1e}; out/examples/edm.png");
    // f32, 35 evaluations.
    if apart < 1e-3 { Ok(()) } else { Err(tweedie::Error::request("the loop and the library differ")) }
}
