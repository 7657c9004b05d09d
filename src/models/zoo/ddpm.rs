//! DDPM in the layout of pesser/pytorch_diffusion and ermongroup/ddim: `temb.dense`, `down.i.block.j`, `up.i.attn.j`.
//!
//! It is the U-Net of [`crate::networks::UNet`] under other names; its attention has 1×1 convolutions where that has
//! linear layers, and its way up counts levels from the finest.

use std::collections::BTreeSet;

use super::{Change, Contents, Names, Recognised, Shapes, card};
use crate::networks::{AnyNetwork, UNetConfig};

/// Groups of every normalisation: a constant of both programs.
const GROUPS: i64 = 32;
/// The side of the feature maps that attend, in all three published configurations.
const ATTENDS_AT: i64 = 16;

/// A state dict that begins with `temb.dense` and has levels of blocks.
pub fn recognise(file: &Contents) -> Option<Result<Recognised, String>> {
    let shapes = file.shapes();
    let is_ours = shapes.contains_key("temb.dense.0.weight") && shapes.contains_key("down.0.block.0.conv1.weight");
    is_ours.then(|| read(file.name(), shapes))
}

fn read(name: &str, shapes: &Shapes) -> Result<Recognised, String> {
    let config = config(shapes).ok_or("is of the DDPM family, but its levels have gaps")?;
    let level = *config.attention_levels.first().ok_or("attends nowhere, so that the size of its images is unknown")?;
    let side = ATTENDS_AT << level;
    let levels = config.block_out_channels.len();
    let renamed = |theirs: &String| {
        let ours = rename(theirs, levels)?;
        let shape = &shapes[theirs];
        // The 1×1 convolutions of attention are linear layers here.
        let linear = ours.contains("attentions") && shape.len() == 4;
        let change = if linear { Change::Shape(shape[..2].to_vec()) } else { Change::Keep };
        Some((theirs.clone(), vec![(ours, change)]))
    };
    let names: Names = shapes.keys().filter_map(renamed).collect();
    let reference = "DDPM (Ho et al. 2020) in the layout of pesser/pytorch_diffusion and ermongroup/ddim";
    let image = [config.in_channels, side, side];
    let card = card(name, format!("DDPM, {side}×{side}"), reference, image, AnyNetwork::Unet(config));
    let assumed = format!(
        "images of {side}×{side} in −1 … 1, because attention lies at level {level} and the published networks attend \
         at {ATTENDS_AT}×{ATTENDS_AT}; ε at 1000 times of the linear-β chain; {GROUPS} groups"
    );
    Ok(Recognised { card, assumed, names })
}

fn config(shapes: &Shapes) -> Option<UNetConfig> {
    let numbers = |prefix: &str| -> BTreeSet<usize> {
        let number = |name: &String| name.strip_prefix(prefix)?.split('.').next()?.parse().ok();
        shapes.keys().filter_map(number).collect()
    };
    let levels = numbers("down.").len();
    let width = |level: usize| shapes.get(&format!("down.{level}.block.0.conv1.weight"))?.first().copied();
    let attends = |level: &usize| shapes.contains_key(&format!("down.{level}.attn.0.q.weight"));
    Some(UNetConfig {
        in_channels: *shapes.get("conv_in.weight")?.get(1)?,
        block_out_channels: (0..levels).map(width).collect::<Option<_>>()?,
        layers_per_block: numbers("down.0.block.").len(),
        attention_levels: (0..levels).filter(attends).collect(),
        norm_num_groups: GROUPS,
        ..UNetConfig::default()
    })
}

/// The name that diffusers' U-Net has for the same tensor.
fn rename(theirs: &str, levels: usize) -> Option<String> {
    let (place, rest) = theirs.split_once('.')?;
    Some(match (place, rest.split_once('.')) {
        ("temb", _) => {
            let (layer, kind) = rest.strip_prefix("dense.")?.split_once('.')?;
            let number = layer.parse::<usize>().ok()? + 1;
            format!("time_embedding.linear_{number}.{kind}")
        }
        ("conv_in" | "conv_out", _) => theirs.to_owned(),
        ("norm_out", _) => format!("conv_norm_out.{rest}"),
        ("down", Some((level, rest))) => format!("down_blocks.{level}.{}", within(rest)?),
        // Here the way up counts from the coarsest level.
        ("up", Some((level, rest))) => {
            let level = levels.checked_sub(level.parse::<usize>().ok()? + 1)?;
            format!("up_blocks.{level}.{}", within(rest)?)
        }
        ("mid", Some((part, rest))) => {
            let (kind, number) = part.split_once('_')?;
            let number = number.parse::<usize>().ok()?.checked_sub(1)?;
            format!("mid_block.{}", within(&format!("{kind}.{number}.{rest}"))?)
        }
        _ => return None,
    })
}

/// A name within a level: `block.0.nin_shortcut.weight`, `attn.0.q.weight`, `downsample.conv.weight`.
fn within(name: &str) -> Option<String> {
    if let Some(rest) = name.strip_prefix("downsample.") {
        return Some(format!("downsamplers.0.{rest}"));
    }
    if let Some(rest) = name.strip_prefix("upsample.") {
        return Some(format!("upsamplers.0.{rest}"));
    }
    let mut parts = name.splitn(4, '.');
    let (kind, number, layer, rest) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let (kind, layer) = match (kind, layer) {
        ("block", "temb_proj") => ("resnets", "time_emb_proj"),
        ("block", "nin_shortcut") => ("resnets", "conv_shortcut"),
        ("block", layer) => ("resnets", layer),
        ("attn", "norm") => ("attentions", "group_norm"),
        ("attn", "q") => ("attentions", "to_q"),
        ("attn", "k") => ("attentions", "to_k"),
        ("attn", "v") => ("attentions", "to_v"),
        ("attn", "proj_out") => ("attentions", "to_out.0"),
        _ => return None,
    };
    Some(format!("{kind}.{number}.{layer}.{rest}"))
}
