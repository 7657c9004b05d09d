//! New images of a pretrained network: `cargo run --release --example sample [MODEL]`.

use std::{env, path::Path};

use tweedie::{Model, numbers::samplers::Ddim, report::sheet::write_grid, run::sample::Sampling};

fn main() -> Result<(), tweedie::Error> {
    // A shipped card's name, a checkpoint as its authors published it, or a folder of diffusers.
    let name = env::args().nth(1).unwrap_or_else(|| "fashion-mnist".to_owned());
    let model = Model::open(&name)?;

    // The model's own plan: each seed is one image.
    let images = model.sample(0..9)?;
    write_grid(Path::new("out/examples/sample.png"), &images)?;

    // Any sampler, any number of levels.
    let drawn = Sampling::new(&model).sampler(Ddim { eta: 1.0 }).steps(20).seeds(0..9).run(&())?;
    write_grid(Path::new("out/examples/sample-ddim.png"), &drawn.images)?;
    println!("{} evaluations an image, pictures in out/examples", drawn.cost.evaluations);
    Ok(())
}
