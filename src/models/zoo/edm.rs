//! EDM's pickled networks: SongUNet (DDPM++ and NCSN++) and DhariwalUNet (ADM), in any of its four preconditionings.
//!
//! The pickle states the preconditioning and its constants; the architecture follows from tensor names and shapes.

use std::collections::BTreeSet;

use super::{Change, Contents, Names, Recognised, card};
use crate::{
    networks::{AdmConfig, AnyNetwork, Embedding, Heads, NcsnppConfig, Progressive, ProgressiveInput},
    numbers::precondition::{AnyPrecondition, Edm, IddpmConfig, Ve, Vp},
};

/// Width of a head of DhariwalUNet.
const HEAD: i64 = 64;

/// A pickled network with `model.map_layer0` and levels of blocks.
pub fn recognise(file: &Contents) -> Option<Result<Recognised, String>> {
    file.shapes().contains_key("model.map_layer0.weight").then(|| read(file))
}

fn read(file: &Contents) -> Result<Recognised, String> {
    let levels = EdmLevels::detect(file).ok_or("is of the EDM family, but its levels have gaps")?;
    let gap = "is of the EDM family, but its blocks have gaps";
    let song = levels.shape("dec", 0, "aux_conv.weight").is_some();
    let (network, architecture, names) = if song {
        let config = levels.song().ok_or(gap)?;
        if config.progressive_input == ProgressiveInput::Residual && !config.fir {
            return Err("halves a residual image by means, which no published network of EDM does".to_owned());
        }
        let kind = if config.embedding == Embedding::Fourier { "NCSN++" } else { "DDPM++" };
        (AnyNetwork::Ncsnpp(config), kind, levels.names(song_level, song_layer))
    } else {
        let config = levels.dhariwal().ok_or(gap)?;
        (AnyNetwork::Adm(config), "ADM", levels.dhariwal_names())
    };
    let side = levels.sides[0];
    let channels = levels.shape("enc", 0, "conv.weight").and_then(|shape| shape.get(1).copied()).ok_or(gap)?;
    let class = file.config()["class"].as_str().unwrap_or("EDMPrecond").to_owned();
    let reference = "Karras et al. 2022, as pickled by EDM";
    let about = format!("{architecture} with {class}, {side}×{side}");
    let mut card = card(file.name(), about, reference, [channels, side, side], network);
    card.precondition = precondition(file, &class)?;
    let mut assumed = "images in −1 … 1".to_owned();
    if file.config()["class"].is_null() {
        assumed += "; EDM's own preconditioning, because the file names none";
    }
    Ok(Recognised { card, assumed, names })
}

fn precondition(file: &Contents, class: &str) -> Result<AnyPrecondition, String> {
    let number = |name: &str, default: f64| file.config()[name].as_f64().filter(|x| x.is_finite()).unwrap_or(default);
    Ok(match class {
        "EDMPrecond" => {
            let usual = Edm::default();
            AnyPrecondition::Edm(Edm { sigma_data: number("sigma_data", usual.sigma_data), ..usual })
        }
        "VPPrecond" => {
            let Vp { beta_min, beta_d, epsilon, times } = Vp::default();
            AnyPrecondition::Vp(Vp {
                beta_min: number("beta_min", beta_min),
                beta_d: number("beta_d", beta_d),
                epsilon: number("epsilon_t", epsilon),
                times: number("M", times),
            })
        }
        "VEPrecond" => AnyPrecondition::Ve(Ve { range: [number("sigma_min", 0.02), number("sigma_max", 100.0)] }),
        "iDDPMPrecond" => {
            let IddpmConfig { c1, c2, times } = IddpmConfig::default();
            let times = number("M", times as f64) as usize;
            AnyPrecondition::Iddpm(IddpmConfig { c1: number("C_1", c1), c2: number("C_2", c2), times })
        }
        _ => return Err(format!("has the preconditioning {class}, which EDM does not")),
    })
}

/// The levels of a network, finest first, whose names begin with the size of their images.
struct EdmLevels<'a> {
    file: &'a Contents,
    sides: Vec<i64>,
}

impl<'a> EdmLevels<'a> {
    fn detect(file: &'a Contents) -> Option<Self> {
        let side = |name: &String| name.strip_prefix("model.enc.")?.split_once('x')?.0.parse::<i64>().ok();
        let sides: BTreeSet<i64> = file.shapes().keys().filter_map(side).collect();
        let sides: Vec<i64> = sides.into_iter().rev().collect();
        (sides.windows(2).all(|pair| pair[0] == 2 * pair[1]) && !sides.is_empty()).then_some(Self { file, sides })
    }

    fn shape(&self, half: &str, level: usize, rest: &str) -> Option<&[i64]> {
        let side = self.sides.get(level)?;
        self.file.shapes().get(&format!("model.{half}.{side}x{side}_{rest}")).map(Vec::as_slice)
    }

    fn weight(&self, name: &str, dimension: usize) -> Option<i64> {
        self.file.shapes().get(&format!("model.{name}.weight"))?.get(dimension).copied()
    }

    /// The null class, zeros in place of a class, if training used it: `label_dropout` is its share.
    fn null_class(&self) -> Option<i64> {
        let dropped = self.file.config()["label_dropout"].as_f64().is_some_and(|share| share > 0.0);
        self.weight("map_label", 1).filter(|_| dropped)
    }

    fn num_res_blocks(&self) -> usize {
        (0..self.file.shapes().len())
            .take_while(|i| self.shape("enc", 0, &format!("block{i}.conv0.weight")).is_some())
            .count()
    }

    fn widths(&self) -> Option<Vec<i64>> {
        let width = |level| self.shape("enc", level, "block0.conv0.weight")?.first().copied();
        (0..self.sides.len()).map(width).collect()
    }

    fn attention_levels(&self) -> Vec<usize> {
        (0..self.sides.len()).filter(|&level| self.shape("enc", level, "block0.qkv.weight").is_some()).collect()
    }

    fn song(&self) -> Option<NcsnppConfig> {
        let last = self.sides.len() - 1;
        Some(NcsnppConfig {
            in_channels: *self.shape("enc", 0, "conv.weight")?.get(1)?,
            model_channels: *self.shape("enc", 0, "conv.weight")?.first()?,
            block_out_channels: self.widths()?,
            num_res_blocks: self.num_res_blocks(),
            attention_levels: self.attention_levels(),
            attention_head_dim: None,
            diffusers_groups: false,
            embedding: if self.file.shapes().contains_key("model.map_noise.freqs") {
                Embedding::Fourier
            } else {
                Embedding::Positional
            },
            embedding_features: self.weight("map_layer0", 1)?,
            progressive_input: if self.shape("enc", last, "aux_residual.weight").is_some() {
                ProgressiveInput::Residual
            } else if self.shape("enc", last, "aux_skip.weight").is_some() {
                ProgressiveInput::InputSkip
            } else {
                ProgressiveInput::None
            },
            progressive: if last > 0 && self.shape("dec", last, "aux_conv.weight").is_some() {
                Progressive::OutputSkip
            } else {
                Progressive::None
            },
            fir: self.shape("enc", last, "down.conv0.resample_filter").is_some_and(|shape| shape[2] == 4),
            skip_rescale: true,
            num_classes: self.weight("map_label", 1),
            null_class: self.null_class(),
        })
    }

    fn dhariwal(&self) -> Option<AdmConfig> {
        let last = self.sides.len() - 1;
        Some(AdmConfig {
            in_channels: *self.shape("enc", 0, "conv.weight")?.get(1)?,
            out_channels: self.weight("out_conv", 0)?,
            model_channels: self.weight("map_layer0", 1)?,
            block_out_channels: self.widths()?,
            num_res_blocks: self.num_res_blocks(),
            attention_levels: self.attention_levels(),
            heads: Heads::Width(HEAD),
            middle_attention: self.shape("dec", last, "in0.qkv.weight").is_some(),
            use_new_attention_order: false,
            use_scale_shift_norm: true,
            resblock_updown: true,
            num_classes: self.weight("map_label", 1),
            null_class: self.null_class(),
            min_channels_per_group: 4,
            patch: 1,
        })
    }

    /// Half, level, block and layer of a name.
    fn place<'n>(&self, name: &'n str) -> Option<(&'n str, usize, &'n str, &'n str)> {
        let (half, rest) = name.strip_prefix("model.")?.split_once('.')?;
        let (size, rest) = rest.split_once('_')?;
        let side: i64 = size.split_once('x')?.0.parse().ok()?;
        let level = self.sides.iter().position(|known| *known == side)?;
        let (block, layer) = rest.split_once('.')?;
        Some((half, level, block, layer))
    }

    /// The names of a network whose levels are called by `level` and whose layers by `layer`.
    fn names(
        &self,
        level: impl Fn(&str, usize, &str) -> Option<(String, Option<String>)>,
        layer: impl Fn(&str) -> Option<Vec<(String, Change)>>,
    ) -> Names {
        let mut names = Names::new();
        for (name, shape) in self.file.shapes() {
            if unused(name) {
                names.insert(name.clone(), Vec::new());
            } else if let Some(ours) = song_top(name) {
                names.insert(name.clone(), vec![(ours.to_owned(), Change::Keep)]);
            } else if let Some((half, number, block, rest)) = self.place(name)
                && let Some((ours, attention)) = level(half, number, block)
            {
                let within = if is_attention(rest) { attention } else { Some(ours) };
                let (Some(within), Some(uses)) = (within, layer(rest)) else { continue };
                // 1×1 convolutions of attention are linear layers of ours.
                let flat = is_attention(rest) && shape.len() == 4 && uses.len() == 1;
                let uses = uses.into_iter().map(|(layer, change)| {
                    let change = if flat { Change::Shape(shape[..2].to_vec()) } else { change };
                    (format!("{within}.{layer}"), change)
                });
                names.insert(name.clone(), uses.collect());
            }
        }
        names
    }

    fn dhariwal_names(&self) -> Names {
        let (blocks, last) = (self.num_res_blocks(), self.sides.len() - 1);
        let mut names = Names::new();
        for (name, shape) in self.file.shapes() {
            if unused(name) {
                names.insert(name.clone(), Vec::new());
                continue;
            }
            if let Some((ours, change)) = dhariwal_top(name) {
                names.insert(name.clone(), vec![(ours, change)]);
                continue;
            }
            let Some((half, level, block, layer)) = self.place(name) else { continue };
            // Blocks of the way up count from the coarsest level, whose doubling is the end of its last block.
            let attends = |level: usize| self.shape("enc", level, "block0.qkv.weight").is_some();
            let number = block.strip_prefix("block").and_then(|number| number.parse::<usize>().ok());
            let place = match (half, block, number) {
                ("enc", _, Some(i)) => Some((format!("input_blocks.{}", 1 + level * (blocks + 1) + i), 0)),
                ("enc", "down", _) => Some((format!("input_blocks.{}", level * (blocks + 1)), 0)),
                ("dec", "in0", _) => Some(("middle_block".to_owned(), 0)),
                ("dec", "in1", _) => {
                    let attention = usize::from(self.shape("dec", last, "in0.qkv.weight").is_some());
                    Some(("middle_block".to_owned(), 1 + attention))
                }
                ("dec", _, Some(i)) => Some((format!("output_blocks.{}", (last - level) * (blocks + 1) + i), 0)),
                ("dec", "up", _) => {
                    let above = (last - level) * (blocks + 1) - 1;
                    Some((format!("output_blocks.{above}"), 1 + usize::from(attends(level + 1))))
                }
                _ => None,
            };
            let Some((within, part)) = place else { continue };
            let part = if is_attention(layer) { part + 1 } else { part };
            let Some((layer, kind)) = layer.split_once('.') else { continue };
            let Some((layer, change)) = dhariwal_layer(layer, shape) else { continue };
            names.insert(name.clone(), vec![(format!("{within}.{part}.{layer}.{kind}"), change)]);
        }
        names
    }
}

/// Tensors without a part in the answer: constants of the resampling, and the layer of augmentation labels, which are
/// for training.
fn unused(name: &str) -> bool {
    name == "u" || name.ends_with(".resample_filter") || name.starts_with("model.map_augment.")
}

/// Name of a layer within a block in ADM's network.
fn dhariwal_layer(layer: &str, shape: &[i64]) -> Option<(&'static str, Change)> {
    Some(match layer {
        "norm0" => ("in_layers.0", Change::Keep),
        "conv0" => ("in_layers.2", Change::Keep),
        "affine" => ("emb_layers.1", Change::Keep),
        "norm1" => ("out_layers.0", Change::Keep),
        "conv1" => ("out_layers.3", Change::Keep),
        "skip" => ("skip_connection", Change::Keep),
        "norm2" => ("norm", Change::Keep),
        "qkv" => ("qkv", Change::Heads(shape[0] / 3 / HEAD)),
        "proj" if shape.len() > 1 => ("proj_out", Change::Shape(vec![shape[0], shape[1], 1])),
        "proj" => ("proj_out", Change::Keep),
        _ => return None,
    })
}

fn is_attention(layer: &str) -> bool {
    ["norm2.", "qkv.", "proj."].iter().any(|name| layer.starts_with(name))
}

fn song_top(name: &str) -> Option<&'static str> {
    Some(match name.strip_prefix("model.")? {
        "map_noise.freqs" => "embedding.frequencies",
        "map_label.weight" => "embedding.classes.weight",
        "map_label.bias" => "embedding.classes.bias",
        "map_layer0.weight" => "embedding.linear1.weight",
        "map_layer0.bias" => "embedding.linear1.bias",
        "map_layer1.weight" => "embedding.linear2.weight",
        "map_layer1.bias" => "embedding.linear2.bias",
        _ => return None,
    })
}

fn dhariwal_top(name: &str) -> Option<(String, Change)> {
    let (layer, kind) = name.strip_prefix("model.")?.rsplit_once('.')?;
    let ours = match layer {
        "map_layer0" => "time_embed.0",
        "map_layer1" => "time_embed.2",
        // A layer without bias of a class's own vector is a table.
        "map_label" => return Some(("label_emb.weight".to_owned(), Change::Transposed)),
        "out_norm" => "out.0",
        "out_conv" => "out.2",
        _ if layer.starts_with("enc.") && layer.ends_with("_conv") => "input_blocks.0.0",
        _ => return None,
    };
    Some((format!("{ours}.{kind}"), Change::Keep))
}

/// Name of a block in our network, and of the attention within it.
fn song_level(half: &str, level: usize, block: &str) -> Option<(String, Option<String>)> {
    let number = block.strip_prefix("block").and_then(|number| number.parse::<usize>().ok());
    Some(match (half, block, number) {
        ("enc", "conv", _) => ("conv_in".to_owned(), None),
        ("enc", _, Some(i)) => (format!("down.{level}.blocks.{i}"), Some(format!("down.{level}.attentions.{i}"))),
        // The block that leads to a level belongs to the one above it.
        ("enc", "down", _) => (format!("down.{}.halve", level.checked_sub(1)?), None),
        ("enc", "aux_residual" | "aux_skip", _) => (format!("down.{}.image", level.checked_sub(1)?), None),
        ("dec", "in0", _) => ("middle.block1".to_owned(), Some("middle.attention".to_owned())),
        ("dec", "in1", _) => ("middle.block2".to_owned(), None),
        ("dec", _, Some(i)) => (format!("up.{level}.blocks.{i}"), Some(format!("up.{level}.attention"))),
        ("dec", "up", _) => (format!("up.{}.double", level + 1), None),
        ("dec", "aux_norm", _) => (format!("up.{level}.answer_norm"), None),
        ("dec", "aux_conv", _) => (format!("up.{level}.answer"), None),
        _ => return None,
    })
}

fn song_layer(layer: &str) -> Option<Vec<(String, Change)>> {
    let (name, kind) = layer.split_once('.').unwrap_or((layer, ""));
    let ours = match name {
        "weight" | "bias" => return Some(vec![(layer.to_owned(), Change::Keep)]),
        "norm0" => "norm1",
        "conv0" => "conv1",
        "affine" => "time",
        "norm1" => "norm2",
        "conv1" => "conv2",
        "skip" => "shortcut",
        "norm2" => "norm",
        "proj" => "out",
        // Each channel has its query, key and value side by side.
        "qkv" => {
            let rows = |(first, ours): (usize, &str)| {
                (format!("{ours}.{kind}"), Change::Rows { first: first as i64, step: 3 })
            };
            return Some(["query", "key", "value"].into_iter().enumerate().map(rows).collect());
        }
        _ => return None,
    };
    Some(vec![(format!("{ours}.{kind}"), Change::Keep)])
}
