//! The U-Net of DDPM [DDPM, Appendix B], in the layout and with the names of diffusers' `UNet2DModel`.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    Network,
    layers::{
        Attention, Conv, Fusion, GroupNorm, Linear, Rescale, Sinusoidal, TimeEmbedding, TimeInput, channels_last,
        doubled,
    },
    weights::{Path, Weights},
};
use crate::Error;

/// The hyper-parameters of a [`UNet`]; the field names are diffusers'.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of diffusers' configuration")]
pub struct UNetConfig {
    /// Channels of the images: 1 or 3 as a rule.
    pub in_channels: i64,
    /// Twice as many where the file predicts a variance as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_channels: Option<i64>,
    /// Width of each level; each but the last halves the image.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks in each level on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// The levels (0 is the finest) whose blocks are followed by self-attention.
    #[serde(default)]
    pub attention_levels: Vec<usize>,
    /// The levels whose blocks attend on the way up, if others than on the way down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_levels_up: Option<Vec<usize>>,
    /// Groups of every normalisation.
    pub norm_num_groups: i64,
    /// ε of every normalisation.
    #[serde(default = "norm_eps")]
    pub norm_eps: f64,
    /// Whether attention on the way up follows the last block of a level alone.
    #[serde(default)]
    pub attends_once_up: bool,
    /// The middle attends between its two blocks.
    #[serde(default = "super::yes")]
    pub middle_attention: bool,
    /// The middle's attention normalises its pixels first.
    #[serde(default = "super::yes", skip_serializing_if = "super::is_one")]
    pub middle_attention_norm: bool,
    /// Groups of that normalisation, if others than everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attn_norm_num_groups: Option<i64>,
    /// There are blocks between the ways down and up.
    #[serde(default = "super::yes", skip_serializing_if = "super::is_one")]
    pub middle: bool,
    /// Sums of the middle's branches are divided by this.
    #[serde(default = "super::one", skip_serializing_if = "super::is_one")]
    pub mid_block_scale_factor: f64,
    /// The time scales and shifts what the second normalisation gives, in place of being added before it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub scale_shift: bool,
    /// The levels whose images are halved by a residual block, in place of a convolution.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resnet_down_levels: Vec<usize>,
    /// The levels whose images are doubled by a residual block.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resnet_up_levels: Vec<usize>,
    /// Activation of the residual blocks.
    #[serde(default, skip_serializing_if = "Activation::is_silu")]
    pub act_fn: Activation,
    /// Number of whole times, each with a vector of its own in place of sines and cosines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learned_times: Option<i64>,
    /// Width of the embedding of time; four times the first width if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_embedding_dim: Option<i64>,
    /// The network takes pixels of 0 … 1 and brings them to −1 … 1 itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub center_input_sample: bool,
    /// Width of a head; one head everywhere if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_head_dim: Option<i64>,
    /// Whether cosines come before sines in the embedding of time.
    #[serde(default)]
    pub flip_sin_to_cos: bool,
    /// The embedding's frequencies fall to 1/10000 after n − this many steps, n of either kind.
    #[serde(default = "freq_shift")]
    pub freq_shift: i64,
    /// Zeros around an image that is halved; 0 stands for one row and column at its end.
    #[serde(default)]
    pub downsample_padding: i64,
    /// Number of classes with which the network was trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_class_embeds: Option<i64>,
    /// The number that stood for no class in training; that after the last class is none of them at all.
    #[serde(default)]
    pub null_class: Option<i64>,
}

/// DDPM's network for CIFAR-10.
impl Default for UNetConfig {
    fn default() -> Self {
        Self {
            in_channels: 3,
            out_channels: None,
            block_out_channels: vec![128, 256, 256, 256],
            layers_per_block: 2,
            attention_levels: vec![1],
            attention_levels_up: None,
            norm_num_groups: 32,
            norm_eps: Self::NORM_EPS,
            attends_once_up: false,
            middle_attention: true,
            middle_attention_norm: true,
            attn_norm_num_groups: None,
            middle: true,
            mid_block_scale_factor: 1.0,
            scale_shift: false,
            resnet_down_levels: Vec::new(),
            resnet_up_levels: Vec::new(),
            act_fn: Activation::Silu,
            learned_times: None,
            time_embedding_dim: None,
            center_input_sample: false,
            attention_head_dim: None,
            flip_sin_to_cos: false,
            freq_shift: freq_shift(),
            downsample_padding: 0,
            num_class_embeds: None,
            null_class: None,
        }
    }
}

fn norm_eps() -> f64 {
    UNetConfig::NORM_EPS
}

fn freq_shift() -> i64 {
    1
}

/// Activation of residual blocks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Activation {
    /// x/(1 + e⁻ˣ), also called swish.
    #[default]
    Silu,
    /// x tanh(ln(1 + eˣ)).
    Mish,
    /// x Φ(x).
    Gelu,
    /// max(0, x).
    Relu,
}

impl Activation {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
    fn is_silu(&self) -> bool {
        *self == Self::Silu
    }

    fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Silu => x.silu(),
            Self::Mish => x.mish(),
            Self::Gelu => x.gelu("none"),
            Self::Relu => x.relu(),
        }
    }
}

impl UNetConfig {
    /// ε of DDPM's own normalisations.
    pub const NORM_EPS: f64 = 1e-6;

    /// Checks the conditions on which the layers rely.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |want, value: String| Err(Error::parameter("network", want, value));
        let widths = &self.block_out_channels;
        if widths.is_empty() || self.in_channels < 1 || self.layers_per_block < 1 {
            return wrong("a U-Net with channels, levels and layers", super::shown(self));
        }
        if self.norm_num_groups < 1 || widths.iter().any(|width| *width < 2 || width % self.norm_num_groups != 0) {
            return wrong("of widths that norm_num_groups divides", format!("{widths:?}"));
        }
        if widths[0] < 4 || widths[0] % 2 != 0 {
            return wrong("of an even first width of 4 or more", widths[0].to_string());
        }
        let levels = [&self.attention_levels, self.levels_up(), &self.resnet_down_levels, &self.resnet_up_levels];
        if let Some(level) = levels.into_iter().flatten().find(|level| **level >= widths.len()) {
            return wrong("free of attention and blocks on levels that it lacks", level.to_string());
        }
        if !(self.mid_block_scale_factor > 0.0 && self.mid_block_scale_factor.is_finite()) {
            return wrong("with a positive mid_block_scale_factor", self.mid_block_scale_factor.to_string());
        }
        if self.attn_norm_num_groups.is_some_and(|groups| groups < 1 || widths[widths.len() - 1] % groups != 0) {
            return wrong(
                "with an attn_norm_num_groups that divides its last width",
                super::shown(&self.attn_norm_num_groups),
            );
        }
        self.check_heads()?;
        if !(0..=1).contains(&self.downsample_padding) {
            return wrong("with a downsample_padding of 0 or 1", self.downsample_padding.to_string());
        }
        if self.freq_shift >= widths[0] / 2 {
            return wrong("with a freq_shift below half its first width", self.freq_shift.to_string());
        }
        if self.out_channels.is_some_and(|out| out != 1 && out != self.in_channels && out != 2 * self.in_channels) {
            return wrong("with one channel out, or as many or twice as many as in", super::shown(&self.out_channels));
        }
        super::check_null(self.null_class, self.num_class_embeds)
    }

    fn check_heads(&self) -> Result<(), Error> {
        let widths = &self.block_out_channels;
        let middle = (self.middle && self.middle_attention).then_some(widths.len() - 1);
        let attend = self.attention_levels.iter().chain(self.levels_up()).copied();
        let mut attend = attend.chain(middle).map(|level| widths[level]);
        if self.attention_head_dim.is_some_and(|width| width < 1 || attend.any(|channels| channels < width)) {
            let value = format!("{} of {widths:?}", super::shown(&self.attention_head_dim));
            return Err(Error::parameter(
                "network",
                "with heads no wider than the levels that attend (set attention_head_dim)",
                value,
            ));
        }
        Ok(())
    }

    fn norm(&self, path: &Path, channels: i64) -> GroupNorm {
        GroupNorm::new(path, self.norm_num_groups, channels, self.norm_eps)
    }

    fn levels_up(&self) -> &Vec<usize> {
        self.attention_levels_up.as_ref().unwrap_or(&self.attention_levels)
    }

    /// Width of the embedding of time.
    fn embedding(&self) -> i64 {
        self.time_embedding_dim.unwrap_or(4 * self.block_out_channels[0])
    }

    /// Height and width must be multiples of this.
    pub fn stride(&self) -> i64 {
        1 << (self.block_out_channels.len() - 1)
    }
}

#[derive(Debug)]
struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Conv>,
    scale_shift: bool,
    activation: Activation,
    resize: Rescale,
    /// Divides the sum of the two branches.
    divisor: f64,
}

impl ResBlock {
    fn new(path: &Path, config: &UNetConfig, inputs: i64, outputs: i64) -> Self {
        let width = if config.scale_shift { 2 * outputs } else { outputs };
        Self {
            norm1: config.norm(&(path / "norm1"), inputs),
            conv1: Conv::new(&(path / "conv1"), inputs, outputs, 3),
            time: Linear::new(&(path / "time_emb_proj"), config.embedding(), width),
            norm2: config.norm(&(path / "norm2"), outputs),
            conv2: Conv::zero(&(path / "conv2"), outputs, outputs, 3),
            shortcut: (inputs != outputs).then(|| Conv::new(&(path / "conv_shortcut"), inputs, outputs, 1)),
            scale_shift: config.scale_shift,
            activation: config.act_fn,
            resize: Rescale::Keep,
            divisor: 1.0,
        }
    }

    /// A block that halves or doubles the image as well.
    fn resizing(path: &Path, config: &UNetConfig, width: i64, resize: Rescale) -> Self {
        Self { resize, ..Self::new(path, config, width, width) }
    }

    /// A block of the middle.
    fn middle(path: &Path, config: &UNetConfig, width: i64) -> Self {
        Self { divisor: config.mid_block_scale_factor, ..Self::new(path, config, width, width) }
    }

    /// `embedding` has passed its activation already, once for all blocks.
    fn forward(&self, x: &Tensor, embedding: &Tensor) -> Tensor {
        let time = self.time.forward(embedding);
        let (modulation, time_bias) = if self.scale_shift { (Some(&time), None) } else { (None, Some(&time)) };
        let h = match (self.resize, self.activation) {
            (Rescale::Keep, Activation::Silu) => {
                self.conv1.within(x, &Fusion { norm: Some(&self.norm1), time_bias, ..Fusion::default() })
            }
            (resize, activation) => {
                let h = resize.apply(&activation.apply(&self.norm1.forward(x)));
                self.conv1.within(&h, &Fusion { time_bias, ..Fusion::default() })
            }
        };
        let x = self.resize.apply(x);
        let short = self.shortcut.as_ref().map(|shortcut| shortcut.forward(&x));
        let (residual, factor) = (Some(short.as_ref().unwrap_or(&x)), 1.0 / self.divisor);
        if self.activation == Activation::Silu {
            let norm = Some(&self.norm2);
            return self.conv2.within(&h, &Fusion { norm, modulation, residual, factor, ..Fusion::default() });
        }
        let normed = self.norm2.modulated(&h, modulation);
        self.conv2.within(&self.activation.apply(&normed), &Fusion { residual, factor, ..Fusion::default() })
    }
}

fn attention(path: &Path, config: &UNetConfig, channels: i64) -> Attention {
    let norm = config.norm(&(path / "group_norm"), channels);
    attention_after(Some(norm), path, config, channels)
}

fn attention_after(norm: Option<GroupNorm>, path: &Path, config: &UNetConfig, channels: i64) -> Attention {
    // Heads of a width that does not divide the channels hold fewer numbers than these.
    let heads = config.attention_head_dim.map_or(1, |width| channels / width);
    let inner = config.attention_head_dim.map_or(channels, |width| heads * width);
    let into = |name| Linear::new(&(path / name), channels, inner);
    let [query, key, value] = ["to_q", "to_k", "to_v"].map(into);
    Attention::new(norm, [query, key, value, Linear::new(&(path / "to_out.0"), inner, channels)], heads)
}

/// The blocks between the ways down and up.
#[derive(Debug)]
struct Middle {
    first: ResBlock,
    attention: Option<Attention>,
    second: ResBlock,
    divisor: f64,
}

impl Middle {
    fn new(path: &Path, config: &UNetConfig) -> Self {
        let width = config.block_out_channels[config.block_out_channels.len() - 1];
        let place = path / "attentions" / 0;
        let attention = || {
            let groups = config.attn_norm_num_groups.unwrap_or(config.norm_num_groups);
            let norm = || GroupNorm::new(&(&place / "group_norm"), groups, width, config.norm_eps);
            attention_after(config.middle_attention_norm.then(norm), &place, config, width)
        };
        Self {
            first: ResBlock::middle(&(path / "resnets" / 0), config, width),
            attention: config.middle_attention.then(attention),
            second: ResBlock::middle(&(path / "resnets" / 1), config, width),
            divisor: config.mid_block_scale_factor,
        }
    }

    fn forward(&self, x: &Tensor, embedding: &Tensor) -> Tensor {
        let mut h = self.first.forward(x, embedding);
        if let Some(attention) = &self.attention {
            h = attention.forward(&h);
            if self.divisor != 1.0 {
                h /= self.divisor;
            }
        }
        self.second.forward(&h, embedding)
    }
}

/// Layer that halves or doubles the image between two levels.
#[derive(Debug)]
enum Between {
    Convolution(Conv),
    Block(Box<ResBlock>),
}

/// One level, on the way down or up.
#[derive(Debug)]
struct Level {
    blocks: Vec<(ResBlock, Option<Attention>)>,
    resample: Option<Between>,
}

/// ε or v or x₀, from a noisy image and a time in 0 … 999, which need not be whole.
#[derive(Debug)]
pub struct UNet {
    config: UNetConfig,
    kind: Kind,
    time: TimeEmbedding,
    conv_in: Conv,
    down: Vec<Level>,
    middle: Option<Middle>,
    up: Vec<Level>,
    norm_out: GroupNorm,
    conv_out: Conv,
}

impl UNet {
    /// Takes every parameter from `weights`.
    pub fn new(config: &UNetConfig, weights: &Weights) -> Result<Self, Error> {
        config.check()?;
        let root = &weights.root();
        let widths = &config.block_out_channels;
        let first = widths[0];
        let layers = ["linear_1", "linear_2"].map(|name| root / "time_embedding" / name);
        let sinusoidal = Sinusoidal::shifted(first, config.freq_shift, config.flip_sin_to_cos, root.device());
        let classes = (root / "class_embedding", config.num_class_embeds);
        let time = match config.learned_times {
            Some(count) => TimeInput::learned(&(root / "time_proj"), count, first),
            None => sinusoidal.into(),
        };
        let time = TimeEmbedding::new(layers, time, [first, config.embedding()], classes);
        let conv_in = Conv::new(&(root / "conv_in"), config.in_channels, first, 3);
        let mut skips = vec![first];
        let down = (0..widths.len()).map(|level| Self::down(root, config, level, &mut skips)).collect();
        let middle = config.middle.then(|| Middle::new(&(root / "mid_block"), config));
        let up = (0..widths.len()).rev().map(|level| Self::up(root, config, level, &mut skips)).collect();
        Ok(Self {
            config: config.clone(),
            kind: root.kind(),
            time,
            conv_in,
            down,
            middle,
            up,
            norm_out: config.norm(&(root / "conv_norm_out"), first),
            conv_out: Conv::zero(&(root / "conv_out"), first, config.out_channels.unwrap_or(config.in_channels), 3),
        })
    }

    /// `skips` holds the widths of the states that wait for their way up.
    fn down(root: &Path, config: &UNetConfig, level: usize, skips: &mut Vec<i64>) -> Level {
        let path = root / "down_blocks" / level;
        let width = config.block_out_channels[level];
        let attends = config.attention_levels.contains(&level);
        let blocks = (0..config.layers_per_block)
            .map(|i| {
                let inputs = skips[skips.len() - 1];
                skips.push(width);
                (
                    ResBlock::new(&(&path / "resnets" / i), config, inputs, width),
                    attends.then(|| attention(&(&path / "attentions" / i), config, width)),
                )
            })
            .collect();
        let last = level + 1 == config.block_out_channels.len();
        let resample = (!last).then(|| {
            skips.push(width);
            if config.resnet_down_levels.contains(&level) {
                let block = ResBlock::resizing(&(&path / "downsamplers.0"), config, width, Rescale::Halve);
                return Between::Block(Box::new(block));
            }
            let halve = Conv::new(&(&path / "downsamplers.0.conv"), width, width, 3);
            Between::Convolution(halve.strided(2, config.downsample_padding))
        });
        Level { blocks, resample }
    }

    fn up(root: &Path, config: &UNetConfig, level: usize, skips: &mut Vec<i64>) -> Level {
        let widths = &config.block_out_channels;
        let path = root / "up_blocks" / (widths.len() - 1 - level);
        let width = widths[level];
        let below = widths[(level + 1).min(widths.len() - 1)];
        let attends = config.levels_up().contains(&level);
        let blocks = (0..=config.layers_per_block)
            .map(|i| {
                let skip = skips.pop().unwrap_or(width);
                let inputs = skip + if i == 0 { below } else { width };
                let attends = attends && (i == config.layers_per_block || !config.attends_once_up);
                (
                    ResBlock::new(&(&path / "resnets" / i), config, inputs, width),
                    attends.then(|| attention(&(&path / "attentions" / i), config, width)),
                )
            })
            .collect();
        let resample = (level > 0).then(|| {
            if config.resnet_up_levels.contains(&level) {
                let block = ResBlock::resizing(&(&path / "upsamplers.0"), config, width, Rescale::Double);
                return Between::Block(Box::new(block));
            }
            Between::Convolution(Conv::new(&(&path / "upsamplers.0.conv"), width, width, 3))
        });
        Level { blocks, resample }
    }
}

impl UNet {
    /// The coarsest features, and those on the way to them.
    fn way_down(&self, x: &Tensor, embedding: &Tensor) -> (Tensor, Vec<Tensor>) {
        let x = x.to_kind(self.kind);
        let x = if self.config.center_input_sample { x * 2.0 - 1.0 } else { x };
        let mut h = self.conv_in.forward(&channels_last(&x));
        let mut skips = vec![h.shallow_clone()];
        for level in &self.down {
            for (block, attention) in &level.blocks {
                h = block.forward(&h, embedding);
                if let Some(attention) = attention {
                    h = attention.forward(&h);
                }
                skips.push(h.shallow_clone());
            }
            if let Some(halve) = &level.resample {
                h = match (halve, self.config.downsample_padding) {
                    (Between::Block(block), _) => block.forward(&h, embedding),
                    (Between::Convolution(halve), 0) => halve.forward(&h.constant_pad_nd([0, 1, 0, 1])),
                    (Between::Convolution(halve), _) => halve.forward(&h),
                };
                skips.push(h.shallow_clone());
            }
        }
        (h, skips)
    }
}

impl Network for UNet {
    fn forward(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        let embedding = match self.config.act_fn {
            Activation::Silu => self.time.forward(label, class),
            activation => activation.apply(&self.time.raw(label, class)),
        };
        let (mut h, mut skips) = self.way_down(x, &embedding);
        if let Some(middle) = &self.middle {
            h = middle.forward(&h, &embedding);
        }
        for level in &self.up {
            for (block, attention) in &level.blocks {
                let skip = skips.pop().unwrap_or_else(|| h.zeros_like());
                let joined = Tensor::cat(&[h, skip], 1);
                h = block.forward(&joined, &embedding);
                if let Some(attention) = attention {
                    h = attention.forward(&h);
                }
            }
            if let Some(double) = &level.resample {
                h = match double {
                    Between::Block(block) => block.forward(&h, &embedding),
                    Between::Convolution(double) => double.forward(&doubled(&h)),
                };
            }
        }
        let out = self.conv_out.within(&h, &Fusion { norm: Some(&self.norm_out), ..Fusion::default() });
        // One channel serves all of the image's, as where diffusers' schedulers add the two.
        let out = if out.size()[1] == 1 { out.expand_as(x) } else { out };
        out.to_kind(x.kind()).contiguous()
    }

    fn check(&self, shape: [i64; 3]) -> Result<(), Error> {
        super::multiples(shape, self.config.in_channels, self.config.stride())
    }

    fn classes(&self) -> Option<i64> {
        self.config.num_class_embeds
    }

    fn null_class(&self) -> Option<i64> {
        self.config.null_class
    }

    fn spreads(&self) -> bool {
        self.config.out_channels.is_some_and(|out| out == 2 * self.config.in_channels)
    }
}
