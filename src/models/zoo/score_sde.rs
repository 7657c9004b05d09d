//! score_sde_pytorch: NCSN++, DDPM++ and DDPM as `all_modules.N`, numbered in the order in which they are called.

use super::{Change, Contents, Names, Recognised, card};
use crate::{
    networks::{AnyNetwork, Embedding, NcsnppConfig, Progressive, ProgressiveInput, UNetConfig},
    numbers::precondition::{AnyPrecondition, LevelsConfig, Ve, Vp},
};

/// The side of the feature maps that attend, in all published configurations.
const ATTENDS_AT: i64 = 16;
/// Groups of every normalisation of the DDPM architecture.
const GROUPS: i64 = 32;

/// A state dict of numbered modules.
pub fn recognise(file: &Contents) -> Option<Result<Recognised, String>> {
    let shapes = file.shapes();
    let is_ours = shapes.contains_key("all_modules.0.weight") || shapes.contains_key("all_modules.0.W");
    is_ours.then(|| read(file))
}

/// Kind of a numbered module, by which our network names it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum ModuleKind {
    Frequencies,
    /// A layer whose tensors are `weight` and `bias`.
    Plain,
    /// A convolution within a module of its own.
    Inner,
    Block,
    Attention,
}

/// The numbered modules, from one to the next.
struct Modules<'a> {
    file: &'a Contents,
    at: usize,
    found: Vec<(ModuleKind, String)>,
}

impl Modules<'_> {
    fn shape(&self, rest: &str) -> Option<&[i64]> {
        self.file.shapes().get(&format!("all_modules.{}.{rest}", self.at)).map(Vec::as_slice)
    }

    fn has(&self, rest: &str) -> bool {
        self.shape(rest).is_some()
    }

    /// Calls the next module by our name.
    fn take(&mut self, module: ModuleKind, ours: impl Into<String>) {
        self.found.push((module, ours.into()));
        self.at += 1;
    }

    fn is_block(&self) -> bool {
        self.has("Conv_1.weight")
    }

    /// Width of what the next block gives.
    fn width(&self) -> Option<i64> {
        self.shape("Conv_0.weight")?.first().copied()
    }

    /// The next block halves or doubles: its shortcut has a convolution that its widths do not ask for.
    fn resizes(&self) -> bool {
        let keeps = |shape: &[i64]| shape[0] == shape[1];
        self.is_block() && self.has("Conv_2.weight") && self.shape("Conv_0.weight").is_some_and(keeps)
    }

    /// Takes an attention if it comes next.
    fn attention(&mut self, ours: impl Into<String>) -> bool {
        let attends = self.has("NIN_3.W");
        if attends {
            self.take(ModuleKind::Attention, ours);
        }
        attends
    }

    fn inner(&self) -> bool {
        !self.is_block() && (self.has("Conv_0.weight") || self.has("Conv2d_0.weight"))
    }
}

fn read(file: &Contents) -> Result<Recognised, String> {
    let mut modules = Modules { file, at: 0, found: Vec::new() };
    let ddpm = file.shapes().keys().any(|name| {
        name.ends_with(".NIN_0.W") && {
            let block = name.trim_end_matches("NIN_0.W");
            file.shapes().contains_key(&format!("{block}Conv_1.weight"))
        }
    });
    let recognised = if ddpm { read_ddpm(&mut modules) } else { read_ncsnpp(&mut modules) };
    recognised.unwrap_or_else(|| {
        Err(format!("is of the score_sde family, but its module {} is not the expected one", modules.at))
    })
}

/// The names that the file's tensors have in our network.
fn names(modules: &Modules, layers: &Layers) -> Names {
    let mut names = Names::new();
    for name in modules.file.shapes().keys() {
        if name == "sigmas" {
            names.insert(name.clone(), Vec::new());
        }
        let parts = name.strip_prefix("all_modules.").and_then(|rest| rest.split_once('.'));
        let Some((number, rest)) = parts.and_then(|(number, rest)| Some((number.parse::<usize>().ok()?, rest))) else {
            continue;
        };
        let Some((module, ours)) = modules.found.get(number) else { continue };
        if let Some((rest, change)) = layer(layers, *module, rest) {
            names.insert(name.clone(), vec![(format!("{ours}.{rest}"), change)]);
        }
    }
    names
}

/// The side of the images, and how it was found.
fn side(attention_levels: &[usize]) -> (i64, String) {
    match attention_levels.first() {
        Some(&level) => {
            let side = ATTENDS_AT << level;
            let why = format!(
                "images of {side}×{side}, because attention lies at level {level} and the published networks attend at \
                 {ATTENDS_AT}×{ATTENDS_AT}"
            );
            (side, why)
        }
        None => (32, "images of 32×32, because it attends nowhere".to_owned()),
    }
}

/// The levels on the way down.
#[derive(Default)]
struct DownLevels {
    widths: Vec<i64>,
    attention_levels: Vec<usize>,
    num_res_blocks: usize,
    /// Input of the image to the levels, and whether it is halved by FIR.
    progressive_input: Option<(ProgressiveInput, bool)>,
}

/// NCSN++ and DDPM++.
fn read_ncsnpp(modules: &mut Modules) -> Option<Result<Recognised, String>> {
    let fourier = modules.has("W");
    let embedding_features = embedding(modules, fourier)?;
    let (in_channels, model_channels) = (*modules.shape("weight")?.get(1)?, *modules.shape("weight")?.first()?);
    modules.take(ModuleKind::Plain, "conv_in");
    let DownLevels { widths, attention_levels, num_res_blocks, progressive_input } = ncsnpp_down(modules)?;
    modules.take(ModuleKind::Block, "middle.block1");
    modules.take(ModuleKind::Attention, "middle.attention");
    modules.take(ModuleKind::Block, "middle.block2");
    let progressive = ncsnpp_up(modules, widths.len(), num_res_blocks);
    let (progressive_input, by_fir) = progressive_input.unwrap_or((ProgressiveInput::None, false));
    let config = NcsnppConfig {
        in_channels,
        model_channels,
        block_out_channels: widths,
        num_res_blocks,
        attention_levels,
        attention_head_dim: None,
        diffusers_groups: false,
        embedding: if fourier { Embedding::Fourier } else { Embedding::Positional },
        embedding_features,
        progressive_input,
        progressive,
        fir: fourier || by_fir,
        skip_rescale: true,
        num_classes: None,
        null_class: None,
    };
    Some(Ok(ncsnpp(modules, config)))
}

/// The embedding of σ: how many features it has.
fn embedding(modules: &mut Modules, fourier: bool) -> Option<i64> {
    let features = if fourier { 2 * *modules.shape("W")?.first()? } else { *modules.shape("weight")?.get(1)? };
    if fourier {
        modules.take(ModuleKind::Frequencies, "embedding");
    }
    modules.take(ModuleKind::Plain, "embedding.linear1");
    modules.take(ModuleKind::Plain, "embedding.linear2");
    Some(features)
}

fn ncsnpp_down(modules: &mut Modules) -> Option<DownLevels> {
    let mut down = DownLevels::default();
    for level in 0.. {
        down.widths.push(modules.width()?);
        let mut block = 0;
        while modules.is_block() && !modules.resizes() && (level == 0 || block < down.num_res_blocks) {
            modules.take(ModuleKind::Block, format!("down.{level}.blocks.{block}"));
            if modules.attention(format!("down.{level}.attentions.{block}")) && block == 0 {
                down.attention_levels.push(level);
            }
            block += 1;
        }
        if !modules.resizes() {
            // If there is a single level, the last two blocks were the middle's.
            return (level > 0).then_some(down);
        }
        down.num_res_blocks = block;
        modules.take(ModuleKind::Block, format!("down.{level}.halve"));
        if modules.inner() {
            let input = match modules.shape("Conv_0.weight") {
                Some([_, _, 1, 1]) => ProgressiveInput::InputSkip,
                _ => ProgressiveInput::Residual,
            };
            let fir = down.progressive_input.is_some_and(|(_, fir)| fir) || modules.has("Conv2d_0.weight");
            down.progressive_input = Some((input, fir));
            modules.take(ModuleKind::Inner, format!("down.{level}.image"));
        }
    }
    None
}

/// The levels on the way up, and how the image comes out of them.
fn ncsnpp_up(modules: &mut Modules, levels: usize, num_res_blocks: usize) -> Progressive {
    let mut progressive = Progressive::None;
    for level in (0..levels).rev() {
        for block in 0..=num_res_blocks {
            modules.take(ModuleKind::Block, format!("up.{level}.blocks.{block}"));
        }
        modules.attention(format!("up.{level}.attention"));
        if modules.has("weight") {
            if level > 0 {
                progressive = Progressive::OutputSkip;
            }
            modules.take(ModuleKind::Plain, format!("up.{level}.answer_norm"));
            modules.take(ModuleKind::Plain, format!("up.{level}.answer"));
        }
        if level > 0 {
            modules.take(ModuleKind::Block, format!("up.{level}.double"));
        }
    }
    progressive
}

/// The card and the names of NCSN++ or DDPM++.
fn ncsnpp(modules: &Modules, config: NcsnppConfig) -> Recognised {
    let (side, seen) = side(&config.attention_levels);
    let fourier = config.embedding == Embedding::Fourier;
    let (precondition, taken) = conventions(modules.file, fourier, config.progressive_input, side);
    let kind = if matches!(precondition, AnyPrecondition::Vp(_)) { "DDPM++" } else { "NCSN++" };
    let reference = "Song et al. 2021, in the layout of score_sde_pytorch";
    let image = [config.in_channels, side, side];
    let assumed = format!("{seen}; {taken}; {} resampling", if config.fir { "FIR" } else { "plain" });
    let about = format!("{kind}, {side}×{side}");
    let mut card = card(modules.file.name(), about, reference, image, AnyNetwork::Ncsnpp(config));
    if kind == "NCSN++" {
        card.pixels = [0.0, 1.0];
    }
    card.precondition = precondition;
    Recognised { card, assumed, names: names(modules, &NCSNPP) }
}

/// The embedding of σ, and the meaning of the network's output.
fn conventions(file: &Contents, fourier: bool, input: ProgressiveInput, side: i64) -> (AnyPrecondition, String) {
    // The buffer of levels is for pixels of 0 … 1.
    let levels = file.numbers("sigmas").filter(|levels| levels.len() > 1);
    let count = file.shapes().get("sigmas").and_then(|shape| shape.first()).map_or(1000, |count| *count as usize);
    let (max, from) = match &levels {
        Some(levels) => (levels.iter().copied().fold(0.0, f64::max), "in the file"),
        None if side <= 32 => (50.0, "by the size of the images"),
        None if side <= 256 => (348.0, "by the size of the images"),
        None => (1348.0, "by the size of the images"),
    };
    let min = levels.map_or(0.01, |levels| levels.into_iter().fold(f64::INFINITY, f64::min));
    let range = [2.0 * min, 2.0 * max];
    if fourier {
        let taken = format!("VE with σ from {min:.4} to {max:.2} for pixels of 0 … 1 ({from}), label ln σ");
        return (AnyPrecondition::Ve(Ve { range }), taken);
    }
    if input != ProgressiveInput::None {
        let taken = format!("VE with {count} levels from σ = {max:.2} to {min:.4} for pixels of 0 … 1 ({from})");
        return (AnyPrecondition::Levels(LevelsConfig { range, count, score: false }), taken);
    }
    let taken = "ε of the VP SDE with β from 0.1 to 20, label 999 t (precondition={kind: sub-vp} for sub-VP)";
    (AnyPrecondition::Vp(Vp { epsilon: 1e-3, ..Vp::default() }), taken.to_owned())
}

/// Names of the layers within a module in our networks.
type Layers = [(ModuleKind, &'static str, &'static str); 11];

const NCSNPP: Layers = [
    (ModuleKind::Block, "GroupNorm_0", "norm1"),
    (ModuleKind::Block, "GroupNorm_1", "norm2"),
    (ModuleKind::Block, "Conv_0", "conv1"),
    (ModuleKind::Block, "Conv_1", "conv2"),
    (ModuleKind::Block, "Conv_2", "shortcut"),
    (ModuleKind::Block, "Dense_0", "time"),
    (ModuleKind::Attention, "GroupNorm_0", "norm"),
    (ModuleKind::Attention, "NIN_0", "query"),
    (ModuleKind::Attention, "NIN_1", "key"),
    (ModuleKind::Attention, "NIN_2", "value"),
    (ModuleKind::Attention, "NIN_3", "out"),
];

const DDPM: Layers = [
    (ModuleKind::Block, "GroupNorm_0", "norm1"),
    (ModuleKind::Block, "GroupNorm_1", "norm2"),
    (ModuleKind::Block, "Conv_0", "conv1"),
    (ModuleKind::Block, "Conv_1", "conv2"),
    (ModuleKind::Block, "NIN_0", SHORTCUT),
    (ModuleKind::Block, "Dense_0", "time_emb_proj"),
    (ModuleKind::Attention, "GroupNorm_0", "group_norm"),
    (ModuleKind::Attention, "NIN_0", "to_q"),
    (ModuleKind::Attention, "NIN_1", "to_k"),
    (ModuleKind::Attention, "NIN_2", "to_v"),
    (ModuleKind::Attention, "NIN_3", "to_out.0"),
];

/// A NIN that is a 1×1 convolution of ours.
const SHORTCUT: &str = "conv_shortcut";

fn layer(layers: &Layers, module: ModuleKind, name: &str) -> Option<(String, Change)> {
    let (theirs, kind) = name.split_once('.').unwrap_or((name, ""));
    match (module, theirs) {
        (ModuleKind::Frequencies, "W") => return Some(("frequencies".to_owned(), Change::Keep)),
        (ModuleKind::Plain, _) => return Some((name.to_owned(), Change::Keep)),
        (ModuleKind::Inner, "Conv_0" | "Conv2d_0") => return Some((kind.to_owned(), Change::Keep)),
        _ => {}
    }
    let (.., ours) = layers.iter().find(|(within, known, _)| *within == module && *known == theirs)?;
    // A NIN has its weight the other way round.
    Some(match kind {
        "W" if *ours == SHORTCUT => (format!("{ours}.weight"), Change::Convolution),
        "W" => (format!("{ours}.weight"), Change::Transposed),
        "b" => (format!("{ours}.bias"), Change::Keep),
        kind => (format!("{ours}.{kind}"), Change::Keep),
    })
}

/// The DDPM architecture: the U-Net of [`crate::networks::UNet`] that attends once on each level's way up.
fn read_ddpm(modules: &mut Modules) -> Option<Result<Recognised, String>> {
    modules.take(ModuleKind::Plain, "time_embedding.linear_1");
    modules.take(ModuleKind::Plain, "time_embedding.linear_2");
    let in_channels = *modules.shape("weight")?.get(1)?;
    modules.take(ModuleKind::Plain, "conv_in");
    let DownLevels { widths, attention_levels, num_res_blocks, .. } = ddpm_down(modules)?;
    modules.take(ModuleKind::Block, "mid_block.resnets.0");
    modules.take(ModuleKind::Attention, "mid_block.attentions.0");
    modules.take(ModuleKind::Block, "mid_block.resnets.1");
    ddpm_up(modules, widths.len(), num_res_blocks);
    modules.take(ModuleKind::Plain, "conv_norm_out");
    modules.take(ModuleKind::Plain, "conv_out");
    let (side, seen) = side(&attention_levels);
    let config = UNetConfig {
        in_channels,
        block_out_channels: widths,
        layers_per_block: num_res_blocks,
        attention_levels,
        norm_num_groups: GROUPS,
        attends_once_up: true,
        ..UNetConfig::default()
    };
    let reference = "DDPM (Ho et al. 2020) in the layout of score_sde_pytorch";
    let image = [in_channels, side, side];
    let mut card =
        card(modules.file.name(), format!("DDPM, {side}×{side}"), reference, image, AnyNetwork::Unet(config));
    let (precondition, taken) = conventions(modules.file, false, ProgressiveInput::None, side);
    card.precondition = precondition;
    let assumed = format!("{seen}; {taken}; {GROUPS} groups");
    Some(Ok(Recognised { card, assumed, names: names(modules, &DDPM) }))
}

fn ddpm_down(modules: &mut Modules) -> Option<DownLevels> {
    let mut down = DownLevels::default();
    for level in 0.. {
        down.widths.push(modules.width()?);
        let mut block = 0;
        while modules.is_block() && (level == 0 || block < down.num_res_blocks) {
            modules.take(ModuleKind::Block, format!("down_blocks.{level}.resnets.{block}"));
            if modules.attention(format!("down_blocks.{level}.attentions.{block}")) && block == 0 {
                down.attention_levels.push(level);
            }
            block += 1;
        }
        if level == 0 {
            down.num_res_blocks = block;
        }
        if !modules.inner() {
            break;
        }
        modules.take(ModuleKind::Inner, format!("down_blocks.{level}.downsamplers.0.conv"));
    }
    Some(down)
}

fn ddpm_up(modules: &mut Modules, levels: usize, layers_per_block: usize) {
    for level in 0..levels {
        for block in 0..=layers_per_block {
            modules.take(ModuleKind::Block, format!("up_blocks.{level}.resnets.{block}"));
        }
        modules.attention(format!("up_blocks.{level}.attentions.{layers_per_block}"));
        if modules.inner() {
            modules.take(ModuleKind::Inner, format!("up_blocks.{level}.upsamplers.0.conv"));
        }
    }
}
