//! FFDNet as KAIR (`model.0`, `model.2`, …) and IPOL (`intermediate_dncnn.itermediate_dncnn.0`, …) publish it.
//!
//! No diffusion model, but a denoiser with a map of σ, which is all that Tweedie's formula asks for. It knows noise up to σ = 75 of
//! 255 only: enough to restore with, too little to begin at pure noise.

use super::{Change, Contents, Names, Recognised, Shapes, card};
use crate::{
    networks::{AnyNetwork, FfdnetConfig, FfdnetLayout},
    numbers::{
        plan::{AnySampler, Plan},
        precondition::{AnyPrecondition, Plain, Quantity},
        samplers::{Ddim, VeAncestral},
        schedule::{AnySchedule, Geometric},
    },
};

/// One of the 255 steps between black and white, in the data units −1 … 1.
const STEP: f64 = 2.0 / 255.0;
/// The levels of training are 0 to 75 steps; below one step there is nothing to be gained.
const RANGE: [f64; 2] = [STEP, 75.0 * STEP];
/// The network sees any size; a card has to name one.
const SIDE: i64 = 256;

/// A state dict of plain convolutions that begins with 4 C channels and a map of σ, and ends with 4 C channels.
pub fn recognise(file: &Contents) -> Option<Result<Recognised, String>> {
    let shapes = file.shapes();
    let config = [FfdnetLayout::Kair, FfdnetLayout::Ipol].into_iter().find_map(|layout| config(shapes, layout))?;
    Some(Ok(read(file.name(), shapes, config)))
}

fn read(name: &str, shapes: &Shapes, config: FfdnetConfig) -> Recognised {
    let (publisher, predicts) = match config.layout {
        FfdnetLayout::Kair => ("KAIR", Quantity::Denoised),
        FfdnetLayout::Ipol => ("IPOL", Quantity::Noise),
    };
    let image = [config.in_channels, SIDE, SIDE];
    let reference = "FFDNet (Zhang, Zuo & Zhang 2018)";
    let network = AnyNetwork::Ffdnet(config);
    let about = format!("FFDNet in the form of {publisher}, {} channels", image[0]);
    let mut card = card(name, about, reference, image, network);
    card.pixels = [0.0, 1.0];
    card.precondition = AnyPrecondition::Plain(Plain { predicts, range: RANGE });
    let schedule = AnySchedule::Geometric(Geometric::default());
    card.sample = Plan { schedule: schedule.clone(), steps: 25, sampler: AnySampler::Ddim(Ddim { eta: 0.0 }) };
    card.restore = Plan { schedule, steps: 25, sampler: AnySampler::VeAncestral(VeAncestral::default()) };
    let assumed = format!(
        "σ up to 75/255 for pixels of 0 … 1; images of any size, in tiles of {SIDE}×{SIDE} where \
         they are larger"
    );
    let uses = |name: &String| {
        // A count of batches, for training.
        let unused = name.ends_with("num_batches_tracked");
        (name.clone(), if unused { Vec::new() } else { vec![(name.clone(), Change::Keep)] })
    };
    let names: Names = shapes.keys().map(uses).collect();
    Recognised { card, assumed, names }
}

fn config(shapes: &Shapes, layout: FfdnetLayout) -> Option<FfdnetConfig> {
    let shape = |i: usize| match shapes.get(&format!("{}.weight", layout.convolution(i)))?.as_slice() {
        &[outputs, inputs, 3, 3] => Some([outputs, inputs]),
        _ => None,
    };
    let layers = (0..shapes.len()).take_while(|&i| shape(i).is_some()).count();
    let [width, inputs] = shape(0)?;
    let [outputs, _] = shape(layers.checked_sub(1)?)?;
    let channels = outputs / 4;
    let maps = if layout == FfdnetLayout::Kair { 1 } else { channels };
    let is_ours = layers > 1 && outputs % 4 == 0 && inputs == outputs + maps;
    is_ours.then_some(FfdnetConfig { in_channels: channels, width, layers, layout })
}
