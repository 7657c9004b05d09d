//! Folders of diffusers: `config.json`, `diffusion_pytorch_model.*` and `scheduler_config.json`, or `unet/` and
//! `scheduler/`; or the file of weights alone.
//!
//! Two architectures go by the name of `UNet2DModel`: DDPM's U-Net, whose names are our network's own, and NCSN++, with
//! blocks that skip. What the configurations say is honoured or refused, never passed over.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value as Json};

use super::{
    Change, Contents, Names, Recognised, Shapes, WeightsChoice, card,
    scheduler::{Config, Conventions, VE, conventions},
};
use crate::{
    Error,
    files::{self, json},
    networks::{Activation, AnyNetwork, Embedding, NcsnppConfig, Progressive, ProgressiveInput, UNetConfig},
    numbers::precondition::{AnyPrecondition, Ve},
};

/// The side of the feature maps that attend, in all published configurations.
const ATTENDS_AT: i64 = 16;
/// Groups of every normalisation, where no configuration says otherwise.
const GROUPS: i64 = 32;
const CONFIG: &str = "config.json";
const SCHEDULER: &str = "scheduler_config.json";
const WEIGHTS: &str = "diffusion_pytorch_model";
/// The weights in a checkpoint of accelerate, without a configuration beside them.
const ACCELERATE: &str = "model.safetensors";

/// A folder that holds a network.
#[derive(Debug)]
pub struct DiffusersFolder {
    network: PathBuf,
    config: Json,
    scheduler: Json,
    /// Whether the weights themselves lie beside the average that is read.
    other: bool,
}

impl DiffusersFolder {
    /// The folder at `path`, or the one in which the file at `path` lies beside its configuration: that of a network, of a
    /// pipeline, or a checkpoint of its training.
    pub fn around(path: &Path, weights: WeightsChoice) -> Result<Option<Self>, Error> {
        let network = if path.is_dir() {
            let folders = match weights {
                WeightsChoice::Ema => ["unet_ema", "unet"],
                WeightsChoice::Raw => ["unet", "unet_ema"],
            };
            let inner = folders.iter().map(|name| path.join(name)).find(|inner| inner.join(CONFIG).exists());
            inner.unwrap_or_else(|| path.to_owned())
        } else {
            match path.parent() {
                Some(parent) if is_of_diffusers(&parent.join(CONFIG)) => parent.to_owned(),
                _ => return Ok(None),
            }
        };
        let config = match network.join(CONFIG) {
            config if config.exists() => json(&config)?,
            _ if network.join(ACCELERATE).exists() => Json::Null,
            _ => {
                let cause = format!("is a folder without {CONFIG}: one that diffusers saved is wanted");
                return Err(Error::file(path, cause));
            }
        };
        // Training saves checkpoint-N/unet within the folder of the pipeline.
        let beside = ["", "../scheduler", "../../scheduler"].map(|folder| network.join(folder).join(SCHEDULER));
        let scheduler = beside.iter().find(|path| path.exists()).map_or(Ok(Json::Null), |path| json(path))?;
        let other =
            network.file_name().is_some_and(|name| name == "unet_ema") && path.join("unet").join(CONFIG).exists();
        Ok(Some(Self { network, config, scheduler, other }))
    }

    /// A sentence on the choice between two networks of the folder.
    pub fn note(&self) -> &'static str {
        if self.other { "the moving average of the weights, unet_ema (weights=raw reads unet)" } else { "" }
    }

    /// The entries of both configurations.
    pub fn config(self) -> Json {
        Json::Object(Map::from_iter([("network".to_owned(), self.config), ("scheduler".to_owned(), self.scheduler)]))
    }

    /// The file of weights, or the several that an index lists; `asked` if it is one of them.
    pub fn weights(&self, asked: &Path) -> Result<Vec<PathBuf>, Error> {
        if asked.is_file() {
            return Ok(vec![asked.to_owned()]);
        }
        for ending in ["safetensors", "bin"] {
            // Half precision is saved under names of its own.
            for variant in ["", ".fp16", ".bf16", ".fp32"] {
                let whole = self.network.join(format!("{WEIGHTS}{variant}.{ending}"));
                if whole.exists() {
                    return Ok(vec![whole]);
                }
                let index = match variant.strip_prefix('.') {
                    Some(variant) => format!("{WEIGHTS}.{ending}.index.{variant}.json"),
                    None => format!("{WEIGHTS}.{ending}.index.json"),
                };
                let index = self.network.join(index);
                if index.exists() {
                    return self.shards(&index);
                }
            }
        }
        let accelerate = self.network.join(ACCELERATE);
        if accelerate.exists() {
            return Ok(vec![accelerate]);
        }
        let cause = format!("holds neither {WEIGHTS}.safetensors nor {WEIGHTS}.bin, nor an index of several");
        Err(Error::file(&self.network, cause))
    }

    fn shards(&self, index: &Path) -> Result<Vec<PathBuf>, Error> {
        let held = json(index)?;
        let map = held["weight_map"].as_object();
        let map = map.ok_or_else(|| Error::file(index, "has no weight_map: fetch it again"))?;
        let mut files: Vec<&str> = map.values().filter_map(Json::as_str).collect();
        files.sort_unstable();
        files.dedup();
        let inside = |name: &str| Path::new(name).file_name().is_some_and(|file| file == name);
        if let Some(outside) = files.iter().find(|name| !inside(name)) {
            return Err(Error::file(index, format!("names {outside}, which is not a file of this folder")));
        }
        Ok(files.into_iter().map(|name| self.network.join(name)).collect())
    }
}

/// Whether a configuration is one that diffusers wrote.
fn is_of_diffusers(config: &Path) -> bool {
    config.exists() && json(config).is_ok_and(|config| config["_class_name"].is_string())
}

fn json(path: &Path) -> Result<Json, Error> {
    json::parse(&files::read_text(path)?).map_err(|cause| Error::file(path, cause))
}

/// A state dict with `time_embedding` and numbered blocks on the way down.
pub fn recognise(file: &Contents) -> Option<Result<Recognised, String>> {
    let shapes = file.shapes();
    let is_ours = shapes.contains_key("time_embedding.linear_1.weight")
        && shapes.contains_key("down_blocks.0.resnets.0.conv1.weight");
    is_ours.then(|| read(file))
}

fn read(file: &Contents) -> Result<Recognised, String> {
    let shapes = file.shapes();
    if shapes.keys().any(|name| name.contains(".transformer_blocks.")) {
        return Err("is a network conditioned on text: only UNet2DModel is opened".to_owned());
    }
    let config = Config::new(file.config()["network"].as_object(), CONFIG);
    let scheduler = Config::new(file.config()["scheduler"].as_object(), SCHEDULER);
    if let Some(class) = config.text("_class_name")?.filter(|class| *class != "UNet2DModel") {
        return Err(format!("is a {class}, but only UNet2DModel is opened"));
    }
    let levels = UNetShapes::new(shapes);
    let is_ncsnpp = shapes.contains_key("time_proj.weight") && config.text("time_embedding_type")? != Some("learned");
    for (key, values) in if is_ncsnpp { &FIXED[..] } else { &CHOICES[..] } {
        config.is_one_of(key, values)?;
    }
    if is_ncsnpp {
        read_ncsnpp(file, &config, &scheduler, &levels)
    } else {
        read_ddpm(file, &config, &scheduler, &levels)
    }
}

/// Settings of NCSN++: key of the configuration, and its allowed values; none means null.
const FIXED: [(&str, &[&str]); 8] = [
    ("act_fn", &["silu", "swish"]),
    ("downsample_type", &["conv"]),
    ("upsample_type", &["conv"]),
    ("mid_block_type", &["UNetMidBlock2D"]),
    ("resnet_time_scale_shift", &["default"]),
    ("class_embed_type", &[]),
    ("time_embedding_dim", &[]),
    ("attn_norm_num_groups", &[]),
];

/// Settings of DDPM's U-Net, likewise.
const CHOICES: [(&str, &[&str]); 6] = [
    ("act_fn", &["silu", "swish", "mish", "gelu", "relu"]),
    ("downsample_type", &["conv", "resnet"]),
    ("upsample_type", &["conv", "resnet"]),
    ("mid_block_type", &["UNetMidBlock2D"]),
    ("resnet_time_scale_shift", &["default", "scale_shift"]),
    ("class_embed_type", &[]),
];

/// Blocks of DDPM's U-Net.
const BLOCKS: [&str; 6] = [
    "DownBlock2D",
    "AttnDownBlock2D",
    "ResnetDownsampleBlock2D",
    "UpBlock2D",
    "AttnUpBlock2D",
    "ResnetUpsampleBlock2D",
];

/// Sizes of the network, read from names and shapes.
struct UNetShapes<'a> {
    shapes: &'a Shapes,
    widths: Vec<i64>,
    blocks: usize,
    attention: Vec<usize>,
    /// Levels that attend on the way up.
    attention_up: Vec<usize>,
}

impl<'a> UNetShapes<'a> {
    fn new(shapes: &'a Shapes) -> Self {
        let first = |name: String| shapes.get(&name)?.first().copied();
        let width = |level: usize| first(format!("down_blocks.{level}.resnets.0.conv1.weight"));
        let widths: Vec<i64> = (0..shapes.len()).map_while(width).collect();
        let block = |i: &usize| shapes.contains_key(&format!("down_blocks.0.resnets.{i}.conv1.weight"));
        let attends =
            |level: &usize| shapes.contains_key(&format!("down_blocks.{level}.attentions.0.group_norm.weight"));
        let attention = (0..widths.len()).filter(attends).collect();
        let last = widths.len().saturating_sub(1);
        let attends_up =
            |level: &usize| shapes.contains_key(&format!("up_blocks.{}.attentions.0.group_norm.weight", last - level));
        let attention_up = (0..widths.len()).filter(attends_up).collect();
        Self { shapes, blocks: (0..shapes.len()).take_while(block).count(), attention, attention_up, widths }
    }

    fn size(&self, name: &str, dimension: usize) -> Result<i64, String> {
        let size = self.shapes.get(name).and_then(|shape| shape.get(dimension).copied());
        size.ok_or_else(|| format!("is of the family of diffusers, but has no {name}"))
    }

    /// Rows of a tensor that may be absent.
    fn rows(&self, name: &str) -> Result<Option<i64>, String> {
        self.has(name).then(|| self.size(name, 0)).transpose()
    }

    fn has(&self, name: &str) -> bool {
        self.shapes.contains_key(name)
    }

    /// Levels of which the block between it and the next is a residual block: on the way down, or up.
    fn resnets(&self, name: impl Fn(usize) -> String) -> Vec<usize> {
        (0..self.widths.len()).filter(|level| self.has(&format!("{}.0.conv1.weight", name(*level)))).collect()
    }

    /// Height and width of the images, and how they were found.
    fn size_of_images(&self, config: &Config) -> Result<([i64; 2], String), String> {
        let sides = match config.get("sample_size") {
            Some(Json::Array(sides)) => match sides.iter().map(Json::as_i64).collect::<Option<Vec<i64>>>().as_deref() {
                Some(&[height, width]) => Some([height, width]),
                _ => return Err(config.wrong("sample_size", "a number, or height and width")),
            },
            _ => config.integer("sample_size")?.map(|side| [side; 2]),
        };
        if let Some([height, width]) = sides.filter(|sides| sides.iter().all(|side| *side > 0)) {
            return Ok(([height, width], format!("images of {height}×{width}")));
        }
        match self.attention.first() {
            Some(&level) => {
                let side = ATTENDS_AT << level.min(16);
                let why = format!(
                    "images of {side}×{side}, because attention lies at level {level} and the published networks attend at \
                     {ATTENDS_AT}×{ATTENDS_AT}"
                );
                Ok(([side; 2], why))
            }
            None => Ok(([32; 2], "images of 32×32, because it attends nowhere".to_owned())),
        }
    }

    /// The side of square images.
    fn side(&self, config: &Config) -> Result<(i64, String), String> {
        let ([height, width], why) = self.size_of_images(config)?;
        if height == width { Ok((height, why)) } else { Err(config.wrong("sample_size", "a number")) }
    }
}

/// Settings assumed because there are no configurations.
fn missing(config: &Config, scheduler: &Config, network: &str, noise: &str) -> String {
    let sentence = |config: &Config, text: &str| match config.known {
        None => format!("; {text}, because there is no {} beside it", config.file),
        Some(_) => String::new(),
    };
    sentence(config, network) + &sentence(scheduler, noise)
}

fn read_ddpm(file: &Contents, config: &Config, scheduler: &Config, levels: &UNetShapes) -> Result<Recognised, String> {
    config.is_one_of("time_embedding_type", &["positional", "learned"])?;
    for key in ["down_block_types", "up_block_types"] {
        let named = config.get(key).and_then(Json::as_array).into_iter().flatten();
        if let Some(other) = named.filter_map(Json::as_str).find(|name| !BLOCKS.contains(name)) {
            return Err(format!("{}: {key} has a {other}, which is not opened in this U-Net", config.file));
        }
    }
    let ([height, width], seen) = levels.size_of_images(config)?;
    let network = unet(config, levels)?;
    let reference = "DDPM (Ho et al. 2020) in the layout of diffusers' UNet2DModel";
    let image = [network.in_channels, height, width];
    let spreads = network.out_channels == Some(2 * network.in_channels);
    let about = format!("DDPM, {height}×{width}");
    let mut card = card(file.name(), about, reference, image, AnyNetwork::Unet(network));
    let Conventions { precondition, sample, clip, notes } = conventions(scheduler)?.for_network(spreads);
    (card.precondition, card.sample, card.clip) = (precondition, sample, clip);
    let network = format!("{GROUPS} groups, one head, sines before cosines, as in the networks of google/ddpm");
    let taken = missing(config, scheduler, &network, "ε at 1000 times of the linear-β chain");
    let assumed = [format!("{seen} in −1 … 1{taken}")].into_iter().chain(notes).collect::<Vec<_>>().join("; ");
    Ok(Recognised { card, assumed, names: unet_names(levels.shapes) })
}

/// The network of UNet2DModel.
fn unet(config: &Config, levels: &UNetShapes) -> Result<UNetConfig, String> {
    // The defaults are those of the published networks where there is no configuration, and UNet2DModel's where there is.
    let stated = config.known.is_some();
    let in_channels = levels.size("conv_in.weight", 1)?;
    let out_channels = levels.size("conv_out.weight", 0)?;
    let last = levels.widths.len() - 1;
    Ok(UNetConfig {
        in_channels,
        out_channels: (out_channels != in_channels).then_some(out_channels),
        block_out_channels: levels.widths.clone(),
        layers_per_block: levels.blocks,
        attention_levels: levels.attention.clone(),
        attention_levels_up: (levels.attention_up != levels.attention).then(|| levels.attention_up.clone()),
        norm_num_groups: config.integer("norm_num_groups")?.unwrap_or(GROUPS),
        norm_eps: config.number("norm_eps", if stated { 1e-5 } else { UNetConfig::NORM_EPS })?,
        attends_once_up: false,
        middle_attention: levels.shapes.keys().any(|name| name.starts_with("mid_block.attentions.0.")),
        // diffusers leaves the middle's normalisation out where the time scales and shifts, unless its groups are named.
        middle_attention_norm: levels.has("mid_block.attentions.0.group_norm.weight")
            || !levels.has("mid_block.attentions.0.to_q.weight"),
        attn_norm_num_groups: config.integer("attn_norm_num_groups")?,
        middle: levels.has("mid_block.resnets.0.conv1.weight"),
        mid_block_scale_factor: config.number("mid_block_scale_factor", 1.0)?,
        scale_shift: levels.rows("down_blocks.0.resnets.0.time_emb_proj.weight")? == Some(2 * levels.widths[0]),
        resnet_down_levels: levels.resnets(|level| format!("down_blocks.{level}.downsamplers")),
        resnet_up_levels: levels.resnets(|level| format!("up_blocks.{}.upsamplers", last - level)),
        act_fn: activation(config)?,
        learned_times: levels.rows("time_proj.weight")?,
        time_embedding_dim: Some(levels.size("time_embedding.linear_1.weight", 0)?)
            .filter(|dim| *dim != 4 * levels.widths[0]),
        center_input_sample: config.flag("center_input_sample", false)?,
        attention_head_dim: attention_head_dim(config)?,
        flip_sin_to_cos: config.flag("flip_sin_to_cos", stated)?,
        freq_shift: config.integer("freq_shift")?.unwrap_or(i64::from(!stated)),
        downsample_padding: config.integer("downsample_padding")?.unwrap_or(i64::from(stated)),
        num_class_embeds: levels.rows("class_embedding.weight")?,
        null_class: None,
    })
}

fn activation(config: &Config) -> Result<Activation, String> {
    Ok(match config.text("act_fn")?.unwrap_or("silu") {
        "mish" => Activation::Mish,
        "gelu" => Activation::Gelu,
        "relu" => Activation::Relu,
        _ => Activation::Silu,
    })
}

fn unet_names(shapes: &Shapes) -> Names {
    let named = |(name, shape): (&String, &Vec<i64>)| {
        // Attention had 1×1 convolutions once.
        let change = if shape.len() == 4 && name.contains(".attentions.") {
            Change::Shape(shape[..2].to_vec())
        } else {
            Change::Keep
        };
        (name.clone(), vec![(modern(name), change)])
    };
    shapes.iter().map(named).collect()
}

/// Width of a head; null means one head.
fn attention_head_dim(config: &Config) -> Result<Option<i64>, String> {
    match config.known {
        // Left out is not null: UNet2DModel's default is 8.
        Some(known) if !known.contains_key("attention_head_dim") => Ok(Some(8)),
        _ => config.integer("attention_head_dim"),
    }
}

/// A name of attention's layers as diffusers has called them since 0.13.
fn modern(name: &str) -> String {
    const OLD: [(&str, &str); 4] =
        [(".query.", ".to_q."), (".key.", ".to_k."), (".value.", ".to_v."), (".proj_attn.", ".to_out.0.")];
    OLD.iter().fold(name.to_owned(), |name, (old, new)| name.replace(old, new))
}

fn read_ncsnpp(
    file: &Contents,
    config: &Config,
    scheduler: &Config,
    levels: &UNetShapes,
) -> Result<Recognised, String> {
    scheduler.is_one_of("_class_name", &[VE])?;
    check_ncsnpp(config, levels)?;
    let (side, seen) = levels.side(config)?;
    let network = ncsnpp(config, levels)?;
    let last = levels.widths.len() - 1;
    let names = levels.shapes.keys().filter_map(|name| {
        let ours = ncsnpp_name(&modern(name), last)?;
        Some((name.clone(), vec![(ours, Change::Keep)]))
    });
    let names: Names = names.collect();
    let (min, usual) = (scheduler.number("sigma_min", 0.01)?, if side > 256 { 1348.0 } else { 348.0 });
    let max = scheduler.number("sigma_max", usual)?;
    let reference = "NCSN++ (Song et al. 2021) in the layout of diffusers' UNet2DModel";
    let image = [network.in_channels, side, side];
    let mut card = card(file.name(), format!("NCSN++, {side}×{side}"), reference, image, AnyNetwork::Ncsnpp(network));
    card.pixels = [0.0, 1.0];
    card.precondition = AnyPrecondition::Ve(Ve { range: [2.0 * min, 2.0 * max] });
    let taken = missing(config, scheduler, "one head", "the levels");
    let assumed = format!("{seen}; VE with σ from {min} to {max} for pixels of 0 … 1, label ln σ{taken}");
    Ok(Recognised { card, assumed, names })
}

/// Refuses a configuration of UNet2DModel that is not NCSN++.
fn check_ncsnpp(config: &Config, levels: &UNetShapes) -> Result<(), String> {
    config.is_one_of("time_embedding_type", &["fourier"])?;
    if !config.flag("center_input_sample", true)? {
        return Err(config.wrong("center_input_sample", "true"));
    }
    let half = std::f64::consts::SQRT_2;
    if (config.number("mid_block_scale_factor", half)? - half).abs() > 1e-6 {
        return Err(config.wrong("mid_block_scale_factor", "√2"));
    }
    if (config.number("norm_eps", NcsnppConfig::NORM_EPS)? - NcsnppConfig::NORM_EPS).abs() > 1e-9 {
        return Err(config.wrong("norm_eps", "1e-6"));
    }
    let (first, deepest) = (levels.widths[0], levels.widths[levels.widths.len() - 1]);
    match config.integer("norm_num_groups")? {
        Some(groups) if [first, deepest].iter().any(|width| groups != GROUPS.min(width / 4)) => {
            Err(config.wrong("norm_num_groups", "null"))
        }
        _ => Ok(()),
    }
}

/// The network of NCSN++.
fn ncsnpp(config: &Config, levels: &UNetShapes) -> Result<NcsnppConfig, String> {
    Ok(NcsnppConfig {
        in_channels: levels.size("conv_in.weight", 1)?,
        model_channels: levels.widths[0],
        block_out_channels: levels.widths.clone(),
        num_res_blocks: levels.blocks,
        attention_levels: levels.attention.clone(),
        attention_head_dim: attention_head_dim(config)?,
        diffusers_groups: true,
        embedding: Embedding::Fourier,
        embedding_features: 2 * levels.size("time_proj.weight", 0)?,
        progressive_input: ProgressiveInput::InputSkip,
        progressive: Progressive::OutputSkip,
        fir: true,
        skip_rescale: true,
        num_classes: None,
        null_class: None,
    })
}

/// Name of a tensor of NCSN++ in our network.
fn ncsnpp_name(name: &str, last: usize) -> Option<String> {
    let (place, rest) = name.split_once('.')?;
    Some(match place {
        "conv_in" => name.to_owned(),
        "time_proj" => "embedding.frequencies".to_owned(),
        "time_embedding" => format!("embedding.{}", rest.replace("linear_", "linear")),
        "conv_norm_out" => format!("up.0.answer_norm.{rest}"),
        "conv_out" => format!("up.0.answer.{rest}"),
        "mid_block" => {
            let (within, layer) = module(rest)?;
            let within = match within.as_str() {
                "blocks.0" => "block1",
                "blocks.1" => "block2",
                "attentions.0" => "attention",
                _ => return None,
            };
            format!("middle.{within}.{layer}")
        }
        "down_blocks" => {
            let (level, rest) = rest.split_once('.')?;
            let (within, layer) = module(rest)?;
            format!("down.{level}.{within}.{layer}")
        }
        "up_blocks" => {
            let (level, rest) = rest.split_once('.')?;
            let level = last.checked_sub(level.parse().ok()?)?;
            let (within, layer) = module(rest)?;
            let within = match within.as_str() {
                "attentions.0" => "attention",
                "image" => "answer",
                within => within,
            };
            format!("up.{level}.{within}.{layer}")
        }
        _ => return None,
    })
}

/// A module within a level, and a layer's tensor within that.
fn module(name: &str) -> Option<(String, String)> {
    let (kind, rest) = name.split_once('.')?;
    Some(match kind {
        "skip_conv" => ("image".to_owned(), rest.to_owned()),
        "skip_norm" => ("answer_norm".to_owned(), rest.to_owned()),
        "resnet_down" => ("halve".to_owned(), layer(rest)?),
        "resnet_up" => ("double".to_owned(), layer(rest)?),
        "resnets" | "attentions" => {
            let (number, rest) = rest.split_once('.')?;
            let kind = if kind == "resnets" { "blocks" } else { kind };
            (format!("{kind}.{number}"), layer(rest)?)
        }
        _ => return None,
    })
}

fn layer(name: &str) -> Option<String> {
    let (layer, kind) = name.rsplit_once('.')?;
    let ours = match layer {
        "norm1" | "conv1" | "norm2" | "conv2" => layer,
        "time_emb_proj" => "time",
        "conv_shortcut" => "shortcut",
        "group_norm" => "norm",
        "to_q" => "query",
        "to_k" => "key",
        "to_v" => "value",
        "to_out.0" => "out",
        _ => return None,
    };
    Some(format!("{ours}.{kind}"))
}
