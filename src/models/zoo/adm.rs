//! ADM as guided-diffusion and improved-diffusion publish it: `time_embed`, `input_blocks.i.j`, `output_blocks.i.j`.
//!
//! The names are our network's own. What shapes cannot tell is the number of heads, their order and the chain; the
//! published files that differ from the rest are known by their widths.

use super::{Change, Contents, Recognised, Shapes, card};
use crate::{
    networks::{AdmConfig, AnyNetwork, Heads},
    numbers::{
        precondition::{DdpmConfig, Labels, Prediction},
        schedule::{AnyChain, Cosine, LinearBeta},
    },
};

/// Width of a head, in all published files but one.
const HEAD: i64 = 64;
/// Side of the images of a network that attends nowhere.
const SIDE: i64 = 64;

/// A state dict with `time_embed` and numbered blocks.
pub fn recognise(file: &Contents) -> Option<Result<Recognised, String>> {
    let shapes = file.shapes();
    let is_ours = shapes.contains_key("time_embed.0.weight") && shapes.contains_key("input_blocks.0.0.weight");
    is_ours.then(|| read(file.name(), shapes))
}

fn read(name: &str, shapes: &Shapes) -> Result<Recognised, String> {
    let mut config = config(shapes).ok_or("is of the ADM family, but its blocks have gaps")?;
    if config.in_channels == 6 && [3, 6].contains(&config.out_channels) {
        return Err(
            "is an upsampler of guided- or improved-diffusion, which sees a small image beside the noisy one: only \
                    networks of the noisy image alone are opened"
                .to_owned(),
        );
    }
    let (side, why) = side(&config);
    let Chain { beta, label_times, about } = chain(&mut config);
    let assumed = format!(
        "images of {side}×{side} in −1 … 1, because {why}; ε at {about}; heads: {}, {}",
        match config.heads {
            Heads::Count(count) => format!("{count} everywhere"),
            Heads::Width(width) => format!("{width} channels wide"),
        },
        if config.use_new_attention_order { "new order" } else { "legacy order" },
    );
    let image = [config.in_channels, side, side];
    let reference = if config.resblock_updown {
        "ADM (Dhariwal & Nichol 2021) in the layout of guided-diffusion"
    } else {
        "Nichol & Dhariwal 2021 in the layout of improved-diffusion"
    };
    let mut card = card(name, format!("ADM, {side}×{side}"), reference, image, AnyNetwork::Adm(config));
    card.precondition =
        DdpmConfig { beta, prediction: Prediction::Epsilon, label_times, labels: Labels::default() }.into();
    let names = shapes.keys().map(|name| (name.clone(), vec![(name.clone(), Change::Keep)])).collect();
    Ok(Recognised { card, assumed, names })
}

/// The side of the images, and why.
fn side(config: &AdmConfig) -> (i64, String) {
    let Some(&first) = config.attention_levels.first() else {
        return (SIDE, "it attends nowhere (--set image_size=N says otherwise)".to_owned());
    };
    // Published networks attend at 32, 16 and 8 pixels, at 16 and 8, or at 16 alone.
    let at = if config.attention_levels.len() > 2 { 32 } else { 16 };
    let why = format!("attention begins at level {first} and the published networks attend first at {at}×{at}");
    (at << first.min(16), why)
}

/// The chain of a published network.
struct Chain {
    beta: AnyChain,
    label_times: Option<f64>,
    about: &'static str,
}

impl Chain {
    fn linear() -> Self {
        Self {
            beta: AnyChain::LinearBeta(LinearBeta::default()),
            label_times: None,
            about: "1000 times of the linear-β chain",
        }
    }

    fn cosine() -> Self {
        Self { beta: AnyChain::Cosine(Cosine::default()), label_times: None, about: "1000 times of the cosine chain" }
    }

    /// That of improved-diffusion's networks for CIFAR-10 and ImageNet: 4000 times with the labels of 1000.
    fn long_cosine() -> Self {
        Self {
            beta: AnyChain::Cosine(Cosine { times: 4000, ..Cosine::default() }),
            label_times: Some(1000.0),
            about: "4000 times of the cosine chain, label t/4",
        }
    }
}

/// The chain with which the network was published; its heads and their order as well, where these differ from the rest.
fn chain(config: &mut AdmConfig) -> Chain {
    // improved-diffusion halves by convolutions; attention at one level alone is that of its LSUN networks.
    if !config.resblock_updown {
        let is_lsun = config.attention_levels.len() == 1;
        config.heads = Heads::Count(if is_lsun { 1 } else { 4 });
        return if is_lsun { Chain::linear() } else { Chain::long_cosine() };
    }
    match (config.block_out_channels.as_slice(), config.num_classes.is_some()) {
        ([192, 384, 576, 768], true) => {
            config.use_new_attention_order = true;
            Chain::cosine()
        }
        ([256, 256, 512, 768, 1024], true) => {
            config.heads = Heads::Count(4);
            Chain::linear()
        }
        _ => Chain::linear(),
    }
}

fn config(shapes: &Shapes) -> Option<AdmConfig> {
    let has = |name: String| shapes.contains_key(&name);
    let count = (0..shapes.len()).take_while(|i| has(format!("output_blocks.{i}.0.in_layers.2.weight"))).count();
    // A level ends with the block that doubles: by a second residual block, or a convolution.
    let doubles = |i: &usize| {
        (1..3).any(|j| {
            has(format!("output_blocks.{i}.{j}.in_layers.2.weight"))
                || has(format!("output_blocks.{i}.{j}.conv.weight"))
        })
    };
    let per_level = (0..count).find(doubles)? + 1;
    let levels = count / per_level;
    let block = |level: usize| 1 + level * per_level;
    let width =
        |level: usize| shapes.get(&format!("input_blocks.{}.0.in_layers.2.weight", block(level)))?.first().copied();
    let widths: Vec<i64> = (0..levels).map(width).collect::<Option<_>>()?;
    let width = *shapes.get("input_blocks.1.0.emb_layers.1.weight")?.first()?;
    Some(AdmConfig {
        in_channels: *shapes.get("input_blocks.0.0.weight")?.get(1)?,
        out_channels: *shapes.get("out.2.weight")?.first()?,
        model_channels: *shapes.get("time_embed.0.weight")?.get(1)?,
        num_res_blocks: per_level - 1,
        attention_levels: (0..levels)
            .filter(|&level| has(format!("input_blocks.{}.1.qkv.weight", block(level))))
            .collect(),
        middle_attention: has("middle_block.1.qkv.weight".to_owned()),
        heads: Heads::Width(HEAD),
        use_new_attention_order: false,
        use_scale_shift_norm: width == 2 * widths[0],
        resblock_updown: !has(format!("input_blocks.{per_level}.0.op.weight")),
        num_classes: shapes.get("label_emb.weight").and_then(|shape| shape.first().copied()),
        null_class: None,
        min_channels_per_group: 1,
        patch: 1,
        block_out_channels: widths,
    })
}
