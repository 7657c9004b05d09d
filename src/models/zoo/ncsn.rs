//! NCSN and NCSNv2 of ermongroup: `begin_conv`, `resN`, `refineN`, `end_conv`.

use super::{Change, Contents, Names, Recognised, Shapes, card};
use crate::{
    networks::{AnyNetwork, RefineNetConfig, RefineStage},
    numbers::precondition::{AnyPrecondition, LevelsConfig},
};

/// Published networks: number of levels, largest σ for pixels of 0 … 1, side of the images.
const PUBLISHED: [(usize, f64, i64); 6] =
    [(10, 1.0, 32), (232, 50.0, 32), (500, 90.0, 64), (788, 140.0, 64), (1086, 190.0, 128), (2311, 348.0, 256)];
const SMALLEST: f64 = 0.01;

/// A state dict with RefineNet's own names.
pub fn recognise(file: &Contents) -> Option<Result<Recognised, String>> {
    let shapes = file.shapes();
    let is_ours = shapes.contains_key("begin_conv.weight") && shapes.contains_key("refine1.crp.convs.0.weight");
    is_ours.then(|| read(file))
}

fn read(file: &Contents) -> Result<Recognised, String> {
    let shapes = file.shapes();
    let config = config(shapes).ok_or("is of the NCSN family, but its stages have gaps")?;
    let levels = file.numbers("sigmas").filter(|levels| levels.len() > 1);
    let held = shapes.get("sigmas").and_then(|shape| shape.first()).map(|count| *count as usize);
    let count = config.num_levels.map(|count| count as usize).or(held);
    let count = count.ok_or("holds neither its noise levels nor their number: no card can be made of it")?;
    let published = PUBLISHED.iter().find(|(known, ..)| *known == count);
    let (max, min, from) = match (&levels, published) {
        (Some(levels), _) => (levels[0], levels[levels.len() - 1], "in the file"),
        (None, Some((_, max, _))) => (*max, SMALLEST, "of the published network with as many"),
        (None, None) => (1.0, SMALLEST, "as nothing says otherwise"),
    };
    let side = published.map_or(32, |(.., side)| *side);
    let conditional = config.num_levels.is_some();
    let family = if conditional { "NCSN" } else { "NCSNv2" };
    let image = [config.in_channels, side, side];
    let reference = "Song & Ermon, in the layout of ermongroup/ncsn and ermongroup/ncsnv2";
    let network = AnyNetwork::RefineNet(config);
    let mut card = card(file.name(), format!("{family}, {side}×{side}"), reference, image, network);
    card.pixels = [0.0, 1.0];
    card.precondition =
        AnyPrecondition::Levels(LevelsConfig { range: [2.0 * min, 2.0 * max], count, score: conditional });
    let assumed = format!(
        "images of {side}×{side}; {count} levels from σ = {max:.2} to {min:.4} for pixels of 0 … 1 ({from}){}",
        if conditional { ", with the number of the level as its label" } else { "; its answer is divided by σ" }
    );
    let names = shapes.keys().map(|name| {
        let uses = if name == "sigmas" { Vec::new() } else { vec![(name.clone(), Change::Keep)] };
        (name.clone(), uses)
    });
    let names: Names = names.collect();
    Ok(Recognised { card, assumed, names })
}

fn config(shapes: &Shapes) -> Option<RefineNetConfig> {
    let first = |name: String| shapes.get(&name)?.first().copied();
    // Deepest has one more between its third and its fourth.
    let present = |name: &u32| shapes.contains_key(&format!("res{name}.0.conv1.weight"));
    let names: Vec<u32> = [1, 2, 3, 31, 4, 5].into_iter().filter(present).collect();
    let deepest = names.contains(&31);
    let regular = names.len() - usize::from(deepest);
    let mut dilation = 1;
    let stage = |&name: &u32| {
        let refine = if name == 31 { 31 } else { (regular as u32 + 1).checked_sub(name)? };
        let halves = shapes.contains_key(&format!("res{name}.0.conv2.conv.weight"));
        if name > 1 && !halves {
            dilation *= 2;
        }
        Some(RefineStage {
            name,
            refine,
            width: first(format!("res{name}.1.conv2.weight"))?,
            refine_width: first(format!("refine{refine}.crp.convs.0.weight"))?,
            halves,
            dilation,
        })
    };
    Some(RefineNetConfig {
        in_channels: *shapes.get("begin_conv.weight")?.get(1)?,
        stages: names.iter().map(stage).collect::<Option<_>>()?,
        num_levels: first("normalizer.embed.weight".to_owned()),
    })
}
