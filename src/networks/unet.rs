//! The U-Net of DDPM [DDPM, Appendix B], in the layout and with the names of diffusers' `UNet2DModel`.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    Network,
    layers::{Attention, Conv, Fusion, GroupNorm, Linear, Sinusoidal, TimeEmbedding, channels_last, doubled},
    weights::{Path, Weights},
};
use crate::Error;

/// The hyper-parameters of a [`UNet`]; the field names are diffusers'.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of the images: 1 or 3 as a rule.
    pub in_channels: i64,
    /// Twice as many where the file predicts a variance as well, which is not used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub out_channels: Option<i64>,
    /// Width of each level; each but the last halves the image.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks in each level on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// The levels (0 is the finest) whose blocks are followed by self-attention.
    #[serde(default)]
    pub attention_levels: Vec<usize>,
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
            norm_num_groups: 32,
            norm_eps: Self::NORM_EPS,
            attends_once_up: false,
            middle_attention: true,
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

impl UNetConfig {
    /// ε of DDPM's own normalisations.
    pub const NORM_EPS: f64 = 1e-6;

    /// Checks the conditions on which the layers rely.
    pub fn check(&self) -> Result<(), Error> {
        let wrong = |want, value: String| Err(Error::parameter("network", want, value));
        let widths = &self.block_out_channels;
        if widths.is_empty() || self.in_channels < 1 || self.layers_per_block < 1 {
            return wrong("a U-Net with channels, levels and layers", format!("{self:?}"));
        }
        if self.norm_num_groups < 1 || widths.iter().any(|width| *width < 2 || width % self.norm_num_groups != 0) {
            return wrong("of widths that norm_num_groups divides", format!("{widths:?}"));
        }
        if widths[0] < 4 || widths[0] % 2 != 0 {
            return wrong("of an even first width of 4 or more", widths[0].to_string());
        }
        if self.attention_levels.iter().any(|level| *level >= widths.len()) {
            return wrong("free of attention on levels that it lacks", format!("{:?}", self.attention_levels));
        }
        let middle = self.middle_attention.then_some(widths.len() - 1);
        let mut attend = self.attention_levels.iter().copied().chain(middle).map(|level| widths[level]);
        if self.attention_head_dim.is_some_and(|width| width < 1 || attend.any(|channels| channels % width != 0)) {
            let value = format!("{:?} of {widths:?}", self.attention_head_dim);
            return wrong("with heads that divide the widths that attend (set attention_head_dim)", value);
        }
        if !(0..=1).contains(&self.downsample_padding) {
            return wrong("with a downsample_padding of 0 or 1", self.downsample_padding.to_string());
        }
        if self.freq_shift >= widths[0] / 2 {
            return wrong("with a freq_shift below half its first width", self.freq_shift.to_string());
        }
        if self.out_channels.is_some_and(|out| out != self.in_channels && out != 2 * self.in_channels) {
            return wrong("with as many or twice as many channels out as in", format!("{:?}", self.out_channels));
        }
        super::check_null(self.null_class, self.num_class_embeds)
    }

    fn norm(&self, path: &Path, channels: i64) -> GroupNorm {
        GroupNorm::new(path, self.norm_num_groups, channels, self.norm_eps)
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
}

impl ResBlock {
    fn new(path: &Path, config: &UNetConfig, inputs: i64, outputs: i64) -> Self {
        let embedding = 4 * config.block_out_channels[0];
        Self {
            norm1: config.norm(&(path / "norm1"), inputs),
            conv1: Conv::new(&(path / "conv1"), inputs, outputs, 3),
            time: Linear::new(&(path / "time_emb_proj"), embedding, outputs),
            norm2: config.norm(&(path / "norm2"), outputs),
            conv2: Conv::zero(&(path / "conv2"), outputs, outputs, 3),
            shortcut: (inputs != outputs).then(|| Conv::new(&(path / "conv_shortcut"), inputs, outputs, 1)),
        }
    }

    /// `embedding` has passed its SiLU already, once for all blocks.
    fn forward(&self, x: &Tensor, embedding: &Tensor) -> Tensor {
        let (time, norm1, norm2) = (self.time.forward(embedding), Some(&self.norm1), Some(&self.norm2));
        let h = self.conv1.within(x, &Fusion { norm: norm1, time_bias: Some(&time), ..Fusion::default() });
        let short = self.shortcut.as_ref().map(|shortcut| shortcut.forward(x));
        let residual = Some(short.as_ref().unwrap_or(x));
        self.conv2.within(&h, &Fusion { norm: norm2, residual, ..Fusion::default() })
    }
}

fn attention(path: &Path, config: &UNetConfig, channels: i64) -> Attention {
    let norm = config.norm(&(path / "group_norm"), channels);
    let linear = |name| Linear::new(&(path / name), channels, channels);
    let heads = config.attention_head_dim.map_or(1, |width| channels / width);
    Attention::new(norm, ["to_q", "to_k", "to_v", "to_out.0"].map(linear), heads)
}

/// One level, on the way down or up.
#[derive(Debug)]
struct Level {
    blocks: Vec<(ResBlock, Option<Attention>)>,
    resample: Option<Conv>,
}

/// ε or v or x₀, from a noisy image and a time in 0 … 999, which need not be whole.
#[derive(Debug)]
pub struct UNet {
    config: UNetConfig,
    kind: Kind,
    time: TimeEmbedding,
    conv_in: Conv,
    down: Vec<Level>,
    middle: (ResBlock, Option<Attention>, ResBlock),
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
        let (first, deepest) = (widths[0], widths[widths.len() - 1]);
        let layers = ["linear_1", "linear_2"].map(|name| root / "time_embedding" / name);
        let sinusoidal = Sinusoidal::shifted(first, config.freq_shift, config.flip_sin_to_cos, root.device());
        let classes = (root / "class_embedding", config.num_class_embeds);
        let time = TimeEmbedding::new(layers, sinusoidal, first, classes);
        let conv_in = Conv::new(&(root / "conv_in"), config.in_channels, first, 3);
        let mut skips = vec![first];
        let down = (0..widths.len()).map(|level| Self::down(root, config, level, &mut skips)).collect();
        let middle = &(root / "mid_block");
        let middle = (
            ResBlock::new(&(middle / "resnets" / 0), config, deepest, deepest),
            config.middle_attention.then(|| attention(&(middle / "attentions" / 0), config, deepest)),
            ResBlock::new(&(middle / "resnets" / 1), config, deepest, deepest),
        );
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
            Conv::new(&(&path / "downsamplers.0.conv"), width, width, 3).strided(2, config.downsample_padding)
        });
        Level { blocks, resample }
    }

    fn up(root: &Path, config: &UNetConfig, level: usize, skips: &mut Vec<i64>) -> Level {
        let widths = &config.block_out_channels;
        let path = root / "up_blocks" / (widths.len() - 1 - level);
        let width = widths[level];
        let below = widths[(level + 1).min(widths.len() - 1)];
        let attends = config.attention_levels.contains(&level);
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
        let resample = (level > 0).then(|| Conv::new(&(&path / "upsamplers.0.conv"), width, width, 3));
        Level { blocks, resample }
    }
}

impl UNet {
    /// The coarsest features, and those on the way to them.
    fn way_down(&self, x: &Tensor, embedding: &Tensor) -> (Tensor, Vec<Tensor>) {
        let mut h = self.conv_in.forward(&channels_last(&x.to_kind(self.kind)));
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
                h = match self.config.downsample_padding {
                    0 => halve.forward(&h.constant_pad_nd([0, 1, 0, 1])),
                    _ => halve.forward(&h),
                };
                skips.push(h.shallow_clone());
            }
        }
        (h, skips)
    }
}

impl Network for UNet {
    fn forward(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        let embedding = self.time.forward(label, class);
        let (mut h, mut skips) = self.way_down(x, &embedding);
        let (first, attention, second) = &self.middle;
        h = first.forward(&h, &embedding);
        if let Some(attention) = attention {
            h = attention.forward(&h);
        }
        h = second.forward(&h, &embedding);
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
                h = double.forward(&doubled(&h));
            }
        }
        let out = self.conv_out.within(&h, &Fusion { norm: Some(&self.norm_out), ..Fusion::default() });
        out.narrow(1, 0, self.config.in_channels).to_kind(x.kind()).contiguous()
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
}
