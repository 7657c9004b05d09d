//! The U-Net of DDPM [DDPM, Appendix B], in the layout and with the names of diffusers' `UNet2DModel`.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    Network,
    layers::{Attention, Conv, GroupNorm, Linear, Sinusoidal, channels_last, doubled},
    weights::{Path, Weights},
};
use crate::Error;

const EPSILON: f64 = 1e-6;

/// The hyper-parameters of a [`UNet`]; the field names are diffusers'.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct UNetConfig {
    /// Channels of the images: 1 or 3 as a rule.
    pub in_channels: i64,
    /// Width of each level; each but the last halves the image.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks in each level on the way down; one more on the way up.
    pub layers_per_block: usize,
    /// The levels (0 is the finest) whose blocks are followed by self-attention.
    #[serde(default)]
    pub attention_levels: Vec<usize>,
    /// Groups of every normalisation.
    pub norm_num_groups: i64,
    /// On the way up, attention follows the last block of a level alone, and not each.
    #[serde(default)]
    pub attends_once_up: bool,
}

impl UNetConfig {
    /// What the layers take for granted.
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
        Ok(())
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
        let (groups, embedding) = (config.norm_num_groups, 4 * config.block_out_channels[0]);
        Self {
            norm1: GroupNorm::new(&(path / "norm1"), groups, inputs, EPSILON),
            conv1: Conv::new(&(path / "conv1"), inputs, outputs, 3),
            time: Linear::new(&(path / "time_emb_proj"), embedding, outputs),
            norm2: GroupNorm::new(&(path / "norm2"), groups, outputs, EPSILON),
            conv2: Conv::zero(&(path / "conv2"), outputs, outputs, 3),
            shortcut: (inputs != outputs).then(|| Conv::new(&(path / "conv_shortcut"), inputs, outputs, 1)),
        }
    }

    /// `embedding` has passed its SiLU already, once for all blocks.
    fn forward(&self, x: &Tensor, embedding: &Tensor) -> Tensor {
        let time = self.time.forward(embedding).unsqueeze(-1).unsqueeze(-1);
        let h = self.conv1.forward(&self.norm1.forward(x).silu()) + time;
        let h = self.conv2.forward(&self.norm2.forward(&h).silu());
        match &self.shortcut {
            Some(shortcut) => shortcut.forward(x) + h,
            None => x + h,
        }
    }
}

fn attention(path: &Path, config: &UNetConfig, channels: i64) -> Attention {
    let norm = GroupNorm::new(&(path / "group_norm"), config.norm_num_groups, channels, EPSILON);
    let linear = |name| Linear::new(&(path / name), channels, channels);
    Attention::new(norm, ["to_q", "to_k", "to_v", "to_out.0"].map(linear), 1)
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
    sinusoidal: Sinusoidal,
    embed: [Linear; 2],
    conv_in: Conv,
    down: Vec<Level>,
    middle: (ResBlock, Attention, ResBlock),
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
        let embed = [
            Linear::new(&(root / "time_embedding" / "linear_1"), first, 4 * first),
            Linear::new(&(root / "time_embedding" / "linear_2"), 4 * first, 4 * first),
        ];
        let conv_in = Conv::new(&(root / "conv_in"), config.in_channels, first, 3);
        let mut skips = vec![first];
        let down = (0..widths.len()).map(|level| Self::down(root, config, level, &mut skips)).collect();
        let middle = &(root / "mid_block");
        let middle = (
            ResBlock::new(&(middle / "resnets" / 0), config, deepest, deepest),
            attention(&(middle / "attentions" / 0), config, deepest),
            ResBlock::new(&(middle / "resnets" / 1), config, deepest, deepest),
        );
        let up = (0..widths.len()).rev().map(|level| Self::up(root, config, level, &mut skips)).collect();
        Ok(Self {
            config: config.clone(),
            kind: root.kind(),
            sinusoidal: Sinusoidal::new(first, root.device()),
            embed,
            conv_in,
            down,
            middle,
            up,
            norm_out: GroupNorm::new(&(root / "conv_norm_out"), config.norm_num_groups, first, EPSILON),
            conv_out: Conv::zero(&(root / "conv_out"), first, config.in_channels, 3),
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
            Conv::new(&(&path / "downsamplers.0.conv"), width, width, 3).strided(2, 0)
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

impl Network for UNet {
    fn forward(&self, x: &Tensor, label: &Tensor, _class: Option<&Tensor>) -> Tensor {
        let [first, second] = &self.embed;
        let embedding =
            second.forward(&first.forward(&self.sinusoidal.forward(label).to_kind(self.kind)).silu()).silu();
        let mut h = self.conv_in.forward(&channels_last(&x.to_kind(self.kind)));
        let mut skips = vec![h.shallow_clone()];
        for level in &self.down {
            for (block, attention) in &level.blocks {
                h = block.forward(&h, &embedding);
                if let Some(attention) = attention {
                    h = attention.forward(&h);
                }
                skips.push(h.shallow_clone());
            }
            if let Some(halve) = &level.resample {
                h = halve.forward(&h.constant_pad_nd([0, 1, 0, 1]));
                skips.push(h.shallow_clone());
            }
        }
        h = self.middle.0.forward(&h, &embedding);
        h = self.middle.2.forward(&self.middle.1.forward(&h), &embedding);
        for level in &self.up {
            for (block, attention) in &level.blocks {
                let skip = skips.pop().unwrap_or_else(|| h.zeros_like());
                h = block.forward(&Tensor::cat(&[h, skip], 1), &embedding);
                if let Some(attention) = attention {
                    h = attention.forward(&h);
                }
            }
            if let Some(double) = &level.resample {
                h = double.forward(&doubled(&h));
            }
        }
        self.conv_out.forward(&self.norm_out.forward(&h).silu()).to_kind(x.kind()).contiguous()
    }

    fn check(&self, shape: [i64; 3]) -> Result<(), Error> {
        super::multiples(shape, self.config.in_channels, self.config.stride())
    }
}
