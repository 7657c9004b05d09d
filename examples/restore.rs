//! A photograph of which three quarters of the pixels are hidden, restored by a network that never saw it:
//! `cargo run --release --example restore [IMAGE]`.

use std::{env, path::Path};

use tch::{Kind, Tensor};
use tweedie::{
    Model, Session,
    evaluation::metrics::psnr,
    files::images,
    inverse::{
        operators::{InpaintRandom, Task},
        restoration::Mmps,
    },
    report::sheet::write_grid,
    scores::noise::{Noise, Seeded},
};

/// η, for pixels 0 … 1.
const NOISE: f64 = 0.05;

fn main() -> Result<(), tweedie::Error> {
    let model = Model::open("fashion-mnist")?;
    let device = Session::from_model(&model).device;
    let [channels, ..] = model.card.image;

    // x, in data units −1 … 1.
    let path = env::args().nth(1).unwrap_or_else(|| "experiments/demo/dress.png".to_owned());
    let x = images::from_bytes(&images::read(Path::new(&path), channels)?).unsqueeze(0).to_device(device);

    // y = A x + n; η in data units is twice that of pixels 0 … 1.
    let operator = InpaintRandom { hidden: 0.75 }.operator(model.card.image, 0, device, Kind::Float)?;
    let y = operator.apply(&x);
    let y = &y + Seeded(vec![0]).like(&y, 0, 0) * (2.0 * NOISE);

    // Six samples of p(x | y), by matched moments [Rozet et al. 2024].
    let restored = model.restore(&y, operator, NOISE)?.method(Mmps::default()).samples(6).run(&())?;
    let image = &restored.images[0];

    let (x, y) = (x.to_device(tch::Device::Cpu), y.to_device(tch::Device::Cpu));
    let (sample, mean) = (image.samples.narrow(0, 0, 1), image.mean.unsqueeze(0));
    for (name, shown) in [("measurement", &y), ("sample", &sample), ("mean", &mean)] {
        println!("{name}: {:.2} dB", psnr(&images::to_unit(shown), &images::to_unit(&x))[0]);
    }
    println!("residual: {:.3}, 1 where the samples fit y as n lets them", image.residual);
    write_grid(Path::new("out/examples/restore.png"), &Tensor::cat(&[x, y, image.samples.shallow_clone(), mean], 0))
}
