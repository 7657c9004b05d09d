//! ADM: the U-Net of guided-diffusion and improved-diffusion [Dhariwal & Nichol 2021, §3], with the names of its files.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    Network,
    layers::{
        Conv, Fusion, GroupNorm, Linear, Rescale, Sinusoidal, TimeEmbedding, attend, channels_last, doubled, image_of,
        pixels,
    },
    weights::{Path, Weights},
};
use crate::Error;

const GROUPS: i64 = 32;
const EPSILON: f64 = 1e-5;

/// The hyper-parameters of an [`Adm`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "the original program's own choices")]
pub struct AdmConfig {
    /// Channels of the images: 3 as a rule.
    pub in_channels: i64,
    /// Channels of the answer; twice `in_channels` where the file predicts a variance as well.
    pub out_channels: i64,
    /// Width of the embedding of time, before its layers.
    pub model_channels: i64,
    /// Width of each level; each but the last halves the image.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks in each level on the way down; one more on the way up.
    pub num_res_blocks: usize,
    /// The levels (0 is the finest) whose blocks are followed by self-attention.
    pub attention_levels: Vec<usize>,
    /// The middle attends between its two blocks.
    #[serde(default = "super::yes")]
    pub middle_attention: bool,
    /// Division of attention into heads.
    pub heads: Heads,
    /// Queries of all heads first, then all keys and values; else each head has its three side by side.
    #[serde(default)]
    pub use_new_attention_order: bool,
    /// Time scales and shifts the second normalisation; else it is added before it.
    pub use_scale_shift_norm: bool,
    /// Residual blocks halve and double the image themselves; else convolutions do.
    pub resblock_updown: bool,
    /// Number of classes with which the network was trained.
    #[serde(default)]
    pub num_classes: Option<i64>,
    /// The number that stood for no class in training; that after the last class is none of them at all.
    #[serde(default)]
    pub null_class: Option<i64>,
    /// Normalisations have 32 groups, or fewer where these would have fewer channels than this.
    #[serde(default = "super::one")]
    pub min_channels_per_group: i64,
    /// The network sees squares of so many pixels a side as the channels of one: half as many rows and columns at 2.
    #[serde(default = "super::one", skip_serializing_if = "super::is_one")]
    pub patch: i64,
}

/// Number of attention's heads.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Heads {
    /// One number of heads everywhere.
    Count(i64),
    /// Heads of this width, as many as the channels hold.
    Width(i64),
}

impl Heads {
    fn count(self, channels: i64) -> i64 {
        match self {
            Self::Count(count) => count,
            Self::Width(width) => channels / width,
        }
    }

    fn fits(self, channels: i64) -> bool {
        let (Self::Count(number) | Self::Width(number)) = self;
        number > 0 && channels % number == 0
    }
}

impl AdmConfig {
    fn check(&self) -> Result<(), Error> {
        let wrong = |want, value: String| Err(Error::parameter("network", want, value));
        let widths = &self.block_out_channels;
        if widths.is_empty() || self.in_channels < 1 || self.num_res_blocks < 1 || self.model_channels < 2 {
            return wrong("a U-Net with channels, levels and blocks", super::shown(self));
        }
        if self.patch < 1 {
            return wrong("with a patch of at least 1 pixel", self.patch.to_string());
        }
        if self.min_channels_per_group < 1 || widths.iter().any(|width| *width < 1 || width % self.groups(*width) != 0)
        {
            return wrong("of widths that its groups divide", format!("{widths:?}"));
        }
        if self.out_channels != self.in_channels && self.out_channels != 2 * self.in_channels {
            return wrong("with as many or twice as many channels out as in", self.out_channels.to_string());
        }
        let attends = |level: &usize| widths.get(*level).is_some_and(|width| self.heads.fits(*width));
        if !self.attention_levels.iter().all(attends)
            || (self.middle_attention && !self.heads.fits(widths[widths.len() - 1]))
        {
            return wrong(
                "with heads that divide the widths that attend (set heads, as in heads={width: 16})",
                format!("{} of {widths:?}", super::shown(&self.heads)),
            );
        }
        super::check_null(self.null_class, self.num_classes)
    }

    fn groups(&self, channels: i64) -> i64 {
        GROUPS.min(channels / self.min_channels_per_group).max(1)
    }

    fn norm(&self, path: &Path, channels: i64) -> GroupNorm {
        GroupNorm::new(path, self.groups(channels), channels, EPSILON)
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
    resize: Rescale,
    scale_shift: bool,
}

impl ResBlock {
    fn new(path: &Path, config: &AdmConfig, inputs: i64, outputs: i64, resize: Rescale) -> Self {
        let scale_shift = config.use_scale_shift_norm;
        let width = if scale_shift { 2 * outputs } else { outputs };
        Self {
            norm1: config.norm(&(path / "in_layers.0"), inputs),
            conv1: Conv::new(&(path / "in_layers.2"), inputs, outputs, 3),
            time: Linear::new(&(path / "emb_layers.1"), 4 * config.model_channels, width),
            norm2: config.norm(&(path / "out_layers.0"), outputs),
            conv2: Conv::zero(&(path / "out_layers.3"), outputs, outputs, 3),
            shortcut: (inputs != outputs).then(|| Conv::new(&(path / "skip_connection"), inputs, outputs, 1)),
            resize,
            scale_shift,
        }
    }

    /// `embedding` has passed its SiLU already, once for all blocks.
    fn forward(&self, x: &Tensor, embedding: &Tensor) -> Tensor {
        let time = self.time.forward(embedding);
        let (before, after) = if self.scale_shift { (Some(&time), None) } else { (None, Some(&time)) };
        let h = match self.resize {
            Rescale::Keep => {
                self.conv1.within(x, &Fusion { norm: Some(&self.norm1), time_bias: after, ..Fusion::default() })
            }
            resize => {
                let h = resize.apply(&self.norm1.silu(x, None));
                self.conv1.within(&h, &Fusion { time_bias: after, ..Fusion::default() })
            }
        };
        let x = self.resize.apply(x);
        let short = self.shortcut.as_ref().map_or_else(|| x.shallow_clone(), |shortcut| shortcut.forward(&x));
        let norm = Some(&self.norm2);
        self.conv2.within(&h, &Fusion { norm, modulation: before, residual: Some(&short), ..Fusion::default() })
    }
}

#[derive(Debug)]
struct QkvAttention {
    norm: GroupNorm,
    /// A 1×1 convolution over the row of pixels, `[3 · channels, channels, 1]` in the file.
    qkv: Linear,
    out: Linear,
    heads: i64,
    new_order: bool,
}

impl QkvAttention {
    fn new(path: &Path, config: &AdmConfig, channels: i64) -> Self {
        Self {
            norm: config.norm(&(path / "norm"), channels),
            qkv: Linear::convolution(&(path / "qkv"), channels, 3 * channels),
            out: Linear::convolution(&(path / "proj_out"), channels, channels),
            heads: config.heads.count(channels),
            new_order: config.use_new_attention_order,
        }
    }

    /// softmax(Q Kᵀ / √width) V of each head, added to `x`.
    fn forward(&self, x: &Tensor) -> Tensor {
        let qkv = self.qkv.forward(&pixels(&self.norm.forward(x)));
        // q, k and v become [batch, pixels, heads, width] each.
        let [q, k, v] = if self.new_order {
            [0, 1, 2].map(|i| qkv.unflatten(2, [3, self.heads, -1]).select(2, i))
        } else {
            [0, 1, 2].map(|i| qkv.unflatten(2, [self.heads, 3, -1]).select(3, i))
        };
        x + image_of(&self.out.forward(&attend(&q, &k, &v)), x)
    }
}

/// One entry of `input_blocks`, `middle_block` or `output_blocks`.
#[derive(Debug)]
enum Part {
    Res(Box<ResBlock>),
    QkvAttention(QkvAttention),
    Halve(Conv),
    Double(Conv),
}

impl Part {
    fn res(path: &Path, config: &AdmConfig, inputs: i64, outputs: i64, resize: Rescale) -> Self {
        Self::Res(Box::new(ResBlock::new(path, config, inputs, outputs, resize)))
    }

    fn forward(&self, x: &Tensor, embedding: &Tensor) -> Tensor {
        match self {
            Self::Res(block) => block.forward(x, embedding),
            Self::QkvAttention(attention) => attention.forward(x),
            Self::Halve(conv) => conv.forward(x),
            Self::Double(conv) => conv.forward(&doubled(x)),
        }
    }
}

/// ε, from a noisy image and a time in 0 … 999, which need not be whole.
#[derive(Debug)]
pub struct Adm {
    config: AdmConfig,
    kind: Kind,
    time: TimeEmbedding,
    conv_in: Conv,
    down: Vec<Vec<Part>>,
    middle: Vec<Part>,
    up: Vec<Vec<Part>>,
    norm_out: GroupNorm,
    conv_out: Conv,
}

impl Adm {
    /// Takes every parameter from `weights`.
    pub fn new(config: &AdmConfig, weights: &Weights) -> Result<Self, Error> {
        config.check()?;
        let root = &weights.root();
        let (width, widths) = (config.model_channels, &config.block_out_channels);
        let (first, deepest) = (widths[0], widths[widths.len() - 1]);
        let layers = ["time_embed.0", "time_embed.2"].map(|name| root / name);
        let classes = (root / "label_emb", config.num_classes);
        let time = TimeEmbedding::new(layers, Sinusoidal::adm(width, root.device()), [width, 4 * width], classes);
        let conv_in = Conv::new(&(root / "input_blocks.0.0"), config.in_channels * config.patch.pow(2), first, 3);
        let mut skips = vec![first];
        let down = Self::down(&(root / "input_blocks"), config, &mut skips);
        let path = root / "middle_block";
        let mut middle = vec![Part::res(&(&path / 0), config, deepest, deepest, Rescale::Keep)];
        if config.middle_attention {
            middle.push(Part::QkvAttention(QkvAttention::new(&(&path / 1), config, deepest)));
        }
        middle.push(Part::res(&(&path / middle.len()), config, deepest, deepest, Rescale::Keep));
        let up = Self::up(&(root / "output_blocks"), config, &mut skips);
        Ok(Self {
            config: config.clone(),
            kind: root.kind(),
            time,
            conv_in,
            down,
            middle,
            up,
            norm_out: config.norm(&(root / "out.0"), first),
            conv_out: Conv::zero(&(root / "out.2"), first, config.out_channels * config.patch.pow(2), 3),
        })
    }

    /// `skips` holds the widths of the states that wait for their way up; block 0 is the first convolution.
    fn down(root: &Path, config: &AdmConfig, skips: &mut Vec<i64>) -> Vec<Vec<Part>> {
        let mut blocks = Vec::new();
        for (level, &width) in config.block_out_channels.iter().enumerate() {
            for _ in 0..config.num_res_blocks {
                let path = root / (blocks.len() + 1);
                let inputs = skips[skips.len() - 1];
                let mut parts = vec![Part::res(&(&path / 0), config, inputs, width, Rescale::Keep)];
                if config.attention_levels.contains(&level) {
                    parts.push(Part::QkvAttention(QkvAttention::new(&(&path / 1), config, width)));
                }
                blocks.push(parts);
                skips.push(width);
            }
            if level + 1 < config.block_out_channels.len() {
                let path = root / (blocks.len() + 1) / 0;
                blocks.push(vec![if config.resblock_updown {
                    Part::res(&path, config, width, width, Rescale::Halve)
                } else {
                    Part::Halve(Conv::new(&(path / "op"), width, width, 3).strided(2, 1))
                }]);
                skips.push(width);
            }
        }
        blocks
    }

    fn up(root: &Path, config: &AdmConfig, skips: &mut Vec<i64>) -> Vec<Vec<Part>> {
        let widths = &config.block_out_channels;
        let (mut blocks, mut inputs) = (Vec::new(), widths[widths.len() - 1]);
        for (level, &width) in widths.iter().enumerate().rev() {
            for i in 0..=config.num_res_blocks {
                let path = root / blocks.len();
                let skip = skips.pop().unwrap_or(width);
                let mut parts = vec![Part::res(&(&path / 0), config, inputs + skip, width, Rescale::Keep)];
                if config.attention_levels.contains(&level) {
                    parts.push(Part::QkvAttention(QkvAttention::new(&(&path / 1), config, width)));
                }
                if level > 0 && i == config.num_res_blocks {
                    let path = &path / parts.len();
                    parts.push(if config.resblock_updown {
                        Part::res(&path, config, width, width, Rescale::Double)
                    } else {
                        Part::Double(Conv::new(&(path / "conv"), width, width, 3))
                    });
                }
                blocks.push(parts);
                inputs = width;
            }
        }
        blocks
    }
}

impl Network for Adm {
    fn forward(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        let embedding = self.time.forward(label, class);
        let through = |h: Tensor, parts: &[Part]| parts.iter().fold(h, |h, part| part.forward(&h, &embedding));
        let mut inside = x.to_kind(self.kind);
        if self.config.patch > 1 {
            inside = inside.pixel_unshuffle(self.config.patch);
        }
        let mut h = self.conv_in.forward(&channels_last(&inside));
        let mut skips = vec![h.shallow_clone()];
        for block in &self.down {
            h = through(h, block);
            skips.push(h.shallow_clone());
        }
        h = through(h, &self.middle);
        for block in &self.up {
            let skip = skips.pop().unwrap_or_else(|| h.zeros_like());
            let joined = Tensor::cat(&[h, skip], 1);
            h = through(joined, block);
        }
        let mut out = self.conv_out.within(&h, &Fusion { norm: Some(&self.norm_out), ..Fusion::default() });
        if self.config.patch > 1 {
            out = out.pixel_shuffle(self.config.patch);
        }
        out.to_kind(x.kind()).contiguous()
    }

    fn check(&self, shape: [i64; 3]) -> Result<(), Error> {
        let stride = self.config.patch << (self.config.block_out_channels.len() - 1);
        super::multiples(shape, self.config.in_channels, stride)
    }

    fn classes(&self) -> Option<i64> {
        self.config.num_classes
    }

    fn null_class(&self) -> Option<i64> {
        self.config.null_class
    }

    fn spreads(&self) -> bool {
        self.config.out_channels == 2 * self.config.in_channels
    }
}
