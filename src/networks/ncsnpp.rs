//! NCSN++ and DDPM++ [Score SDE, Appendix H], also called SongUNet [EDM, Table 7].

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    Network,
    layers::{Attention, Conv, FourierFeatures, Fusion, GroupNorm, Linear, Rescale, Sinusoidal, channels_last, linear},
    weights::{Path, Weights},
};
use crate::Error;

/// Most groups of a normalisation; none has fewer than 4 channels.
const GROUPS: i64 = 32;
/// Taps of the filter that precedes halving and follows doubling, in one direction [StyleGAN2].
const FIR: [f32; 4] = [1.0, 3.0, 3.0, 1.0];

/// The hyper-parameters of an [`Ncsnpp`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NcsnppConfig {
    /// Channels of the images.
    pub in_channels: i64,
    /// Width of the first convolution, and a quarter of the embedding's.
    pub model_channels: i64,
    /// Width of each level; each but the last halves the image.
    pub block_out_channels: Vec<i64>,
    /// Residual blocks in each level on the way down; one more on the way up.
    pub num_res_blocks: usize,
    /// The levels (0 is the finest) that attend: after each block on the way down, once on the way up.
    #[serde(default)]
    pub attention_levels: Vec<usize>,
    /// Width of a head; one head everywhere if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attention_head_dim: Option<i64>,
    /// Levels that attend are normalised as diffusers does it: attention in 32 groups, and what a block on the way up is
    /// given in as many as its own channels and a quarter of those that skip, 32 at most.
    #[serde(default)]
    pub diffusers_groups: bool,
    /// Embedding of σ.
    pub embedding: Embedding,
    /// Features of the embedding, before its layers.
    pub embedding_features: i64,
    /// Input of each level from the image itself.
    #[serde(default)]
    pub progressive_input: ProgressiveInput,
    /// Output of each level to the answer.
    #[serde(default)]
    pub progressive: Progressive,
    /// Images are halved and doubled with the filter [1, 3, 3, 1]; else by means and repetition.
    pub fir: bool,
    /// Whether sums of two branches are divided by √2.
    #[serde(default = "super::yes")]
    pub skip_rescale: bool,
    /// Number of classes with which the network was trained.
    #[serde(default)]
    pub num_classes: Option<i64>,
    /// The number that stood for no class in training; that after the last class is none of them at all.
    #[serde(default)]
    pub null_class: Option<i64>,
}

/// Embedding of the label.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Embedding {
    /// Sines and cosines of its product with random frequencies, which the file holds.
    Fourier,
    /// Sines and cosines at frequencies from 1 to 1/10000.
    Positional,
}

/// Input of each level on the way down from the image itself.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProgressiveInput {
    /// Nothing.
    #[default]
    None,
    /// The halved image through a 1×1 convolution.
    InputSkip,
    /// The input of the level above, through a convolution that halves.
    Residual,
}

/// Source of the answer.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Progressive {
    /// The last level.
    #[default]
    None,
    /// All levels on the way up, doubled and added.
    OutputSkip,
}

impl NcsnppConfig {
    /// ε of every normalisation.
    pub const NORM_EPS: f64 = 1e-6;

    fn check(&self) -> Result<(), Error> {
        let wrong = |want, value: String| Err(Error::parameter("network", want, value));
        let widths = &self.block_out_channels;
        if widths.is_empty() || self.in_channels < 1 || self.num_res_blocks < 1 {
            return wrong("a U-Net with channels, levels and blocks", super::shown(self));
        }
        if widths.iter().chain([&self.model_channels]).any(|width| *width < 4) {
            return wrong("of widths of 4 or more", format!("{widths:?}"));
        }
        if self.embedding_features < 4 || self.embedding_features % 2 != 0 {
            return wrong("of an even number of features of time, 4 or more", self.embedding_features.to_string());
        }
        if self.attention_levels.iter().any(|level| *level >= widths.len()) {
            return wrong("free of attention on levels that it lacks", super::shown(&self.attention_levels));
        }
        let attend = || self.attention_levels.iter().copied().chain([widths.len() - 1]).map(|level| widths[level]);
        if self.attention_head_dim.is_some_and(|width| width < 1 || attend().any(|channels| channels % width != 0)) {
            let value = format!("{} of {widths:?}", super::shown(&self.attention_head_dim));
            return wrong("with heads that divide the widths that attend (set attention_head_dim)", value);
        }
        if self.diffusers_groups && self.attention_levels.iter().any(|level| widths[*level] % GROUPS != 0) {
            return wrong("of multiples of 32 channels where it attends", format!("{widths:?}"));
        }
        super::check_null(self.null_class, self.num_classes)
    }

    /// Factor of sums of two branches.
    fn scale(&self) -> f64 {
        if self.skip_rescale { 0.5f64.sqrt() } else { 1.0 }
    }
}

fn norm(path: &Path, channels: i64) -> GroupNorm {
    GroupNorm::new(path, GROUPS.min(channels / 4), channels, NcsnppConfig::NORM_EPS)
}

/// Halves and doubles images.
#[derive(Debug)]
struct Resample {
    /// `[1, 1, 4, 4]`, of sum 1; none for means and repetition.
    taps: Option<Tensor>,
}

impl Resample {
    fn new(config: &NcsnppConfig, path: &Path) -> Self {
        let taps = config.fir.then(|| {
            let row = Tensor::from_slice(&FIR) / 8.0;
            row.outer(&row).view([1, 1, 4, 4]).to_device(path.device())
        });
        Self { taps }
    }

    /// Every other pixel of the filtered image, whose edges are padded with so many zeros.
    fn halve_filtered(taps: &Tensor, x: &Tensor, padding: i64) -> Tensor {
        let again = taps.shallow_clone();
        linear(x, |x| filtered(taps, x, padding), move |gradient| spread(&again, gradient, padding))
    }

    fn apply(&self, x: &Tensor, resize: Rescale) -> Tensor {
        match (&self.taps, resize) {
            (Some(taps), Rescale::Halve) => Self::halve_filtered(taps, x, 1),
            (Some(taps), Rescale::Double) => {
                let (taps, again) = (taps * 4.0, taps * 4.0);
                linear(x, |x| spread(&taps, x, 1), move |gradient| filtered(&again, gradient, 1))
            }
            _ => resize.apply(x),
        }
    }
}

/// Every other pixel of each channel, filtered.
fn filtered(taps: &Tensor, x: &Tensor, padding: i64) -> Tensor {
    let channels = x.size()[1];
    let taps = taps.to_kind(x.kind()).expand([channels, 1, 4, 4], false);
    x.conv2d(&taps, None::<Tensor>, [2, 2], [padding; 2], [1, 1], channels)
}

/// The adjoint of `filtered`, for images of an even number of pixels in each direction.
fn spread(taps: &Tensor, x: &Tensor, padding: i64) -> Tensor {
    let channels = x.size()[1];
    let taps = taps.to_kind(x.kind()).expand([channels, 1, 4, 4], false);
    x.conv_transpose2d(&taps, None::<Tensor>, [2, 2], [padding; 2], [0, 0], channels, [1, 1])
}

/// The residual block of BigGAN.
#[derive(Debug)]
struct ResBlock {
    norm1: GroupNorm,
    conv1: Conv,
    time: Linear,
    norm2: GroupNorm,
    conv2: Conv,
    shortcut: Option<Conv>,
    resize: Rescale,
    scale: f64,
}

impl ResBlock {
    fn new(path: &Path, config: &NcsnppConfig, inputs: i64, outputs: i64, resize: Rescale) -> Self {
        let shortcut = inputs != outputs || resize != Rescale::Keep;
        Self {
            norm1: norm(&(path / "norm1"), inputs),
            conv1: Conv::new(&(path / "conv1"), inputs, outputs, 3),
            time: Linear::new(&(path / "time"), 4 * config.model_channels, outputs),
            norm2: norm(&(path / "norm2"), outputs),
            conv2: Conv::zero(&(path / "conv2"), outputs, outputs, 3),
            shortcut: shortcut.then(|| Conv::new(&(path / "shortcut"), inputs, outputs, 1)),
            resize,
            scale: config.scale(),
        }
    }

    /// `embedding` has passed its SiLU already, once for all blocks.
    fn forward(&self, x: &Tensor, embedding: &Tensor, resample: &Resample) -> Tensor {
        let (time, norm1, norm2) = (self.time.forward(embedding), Some(&self.norm1), Some(&self.norm2));
        let h = if self.resize == Rescale::Keep {
            self.conv1.within(x, &Fusion { norm: norm1, time_bias: Some(&time), ..Fusion::default() })
        } else {
            let h = resample.apply(&self.norm1.silu(x, None), self.resize);
            self.conv1.within(&h, &Fusion { time_bias: Some(&time), ..Fusion::default() })
        };
        let x = resample.apply(x, self.resize);
        let short = self.shortcut.as_ref().map_or_else(|| x.shallow_clone(), |shortcut| shortcut.forward(&x));
        let (residual, factor) = (Some(&short), self.scale);
        self.conv2.within(&h, &Fusion { norm: norm2, residual, factor, ..Fusion::default() })
    }
}

fn attention(path: &Path, config: &NcsnppConfig, channels: i64) -> Attention {
    let linear = |name| Linear::new(&(path / name), channels, channels);
    let heads = config.attention_head_dim.map_or(1, |width| channels / width);
    Attention::new(norm(&(path / "norm"), channels), ["query", "key", "value", "out"].map(linear), heads)
}

/// The attention of a level.
fn level_attention(path: &Path, config: &NcsnppConfig, channels: i64) -> Attention {
    let attention = attention(path, config, channels);
    if config.diffusers_groups { attention.in_groups(GROUPS) } else { attention }
}

/// One level on the way down.
#[derive(Debug)]
struct Down {
    blocks: Vec<(ResBlock, Option<Attention>)>,
    halve: Option<ResBlock>,
    /// Convolution of the image, or of the input of the level above.
    image: Option<Conv>,
}

/// One level on the way up.
#[derive(Debug)]
struct Up {
    blocks: Vec<ResBlock>,
    attention: Option<Attention>,
    /// This level's part of the answer.
    answer: Option<(GroupNorm, Conv)>,
    double: Option<ResBlock>,
}

/// −n or −ε or EDM's target, from a noisy image and what the embedding is made of.
#[derive(Debug)]
pub struct Ncsnpp {
    config: NcsnppConfig,
    kind: Kind,
    embedding: TimeFeatures,
    /// Layer from `[batch, classes]`.
    classes: Option<Linear>,
    embed: [Linear; 2],
    resample: Resample,
    conv_in: Conv,
    down: Vec<Down>,
    middle: (ResBlock, Attention, ResBlock),
    up: Vec<Up>,
}

#[derive(Debug)]
enum TimeFeatures {
    Fourier(FourierFeatures),
    Positional(Sinusoidal),
}

impl Ncsnpp {
    /// Takes every parameter from `weights`.
    pub fn new(config: &NcsnppConfig, weights: &Weights) -> Result<Self, Error> {
        config.check()?;
        let root = &weights.root();
        let (first, features) = (config.model_channels, config.embedding_features);
        let deepest = config.block_out_channels[config.block_out_channels.len() - 1];
        let embedding = match config.embedding {
            Embedding::Fourier => TimeFeatures::Fourier(FourierFeatures::new(&(root / "embedding"), features)),
            Embedding::Positional => TimeFeatures::Positional(Sinusoidal::new(features, root.device())),
        };
        let classes = config.num_classes.map(|count| Linear::new(&(root / "embedding" / "classes"), count, features));
        let embed = [
            Linear::new(&(root / "embedding" / "linear1"), features, 4 * first),
            Linear::new(&(root / "embedding" / "linear2"), 4 * first, 4 * first),
        ];
        let conv_in = Conv::new(&(root / "conv_in"), config.in_channels, first, 3);
        let mut skips = vec![first];
        let down = (0..config.block_out_channels.len()).map(|level| Self::down(root, config, level, &mut skips));
        let down = down.collect();
        let middle = &(root / "middle");
        let middle = (
            ResBlock::new(&(middle / "block1"), config, deepest, deepest, Rescale::Keep),
            attention(&(middle / "attention"), config, deepest),
            ResBlock::new(&(middle / "block2"), config, deepest, deepest, Rescale::Keep),
        );
        let up = (0..config.block_out_channels.len()).rev().map(|level| Self::up(root, config, level, &mut skips));
        let up = up.collect();
        let (kind, resample) = (root.kind(), Resample::new(config, root));
        Ok(Self { config: config.clone(), kind, embedding, classes, embed, resample, conv_in, down, middle, up })
    }

    /// `skips` holds the widths of the states that wait for their way up.
    fn down(root: &Path, config: &NcsnppConfig, level: usize, skips: &mut Vec<i64>) -> Down {
        let path = root / "down" / level;
        let width = config.block_out_channels[level];
        let attends = config.attention_levels.contains(&level);
        let above = skips[skips.len() - 1];
        let blocks = (0..config.num_res_blocks)
            .map(|i| {
                let inputs = skips[skips.len() - 1];
                skips.push(width);
                (
                    ResBlock::new(&(&path / "blocks" / i), config, inputs, width, Rescale::Keep),
                    attends.then(|| level_attention(&(&path / "attentions" / i), config, width)),
                )
            })
            .collect();
        let last = level + 1 == config.block_out_channels.len();
        let halve = (!last).then(|| {
            skips.push(width);
            ResBlock::new(&(&path / "halve"), config, width, width, Rescale::Halve)
        });
        let place = &path / "image";
        let image = match config.progressive_input {
            _ if last => None,
            ProgressiveInput::None => None,
            ProgressiveInput::InputSkip => Some(Conv::new(&place, config.in_channels, width, 1)),
            ProgressiveInput::Residual => {
                let inputs = if level == 0 { config.in_channels } else { above };
                // The filter and the stride come together.
                let conv = Conv::new(&place, inputs, width, 3);
                Some(if config.fir { conv.strided(1, 2) } else { conv.strided(2, 0) })
            }
        };
        Down { blocks, halve, image }
    }

    fn up(root: &Path, config: &NcsnppConfig, level: usize, skips: &mut Vec<i64>) -> Up {
        let widths = &config.block_out_channels;
        let path = root / "up" / level;
        let width = widths[level];
        let below = widths[(level + 1).min(widths.len() - 1)];
        let attends = config.attention_levels.contains(&level);
        let blocks = (0..=config.num_res_blocks)
            .map(|i| {
                let (skip, own) = (skips.pop().unwrap_or(width), if i == 0 { below } else { width });
                let block = ResBlock::new(&(&path / "blocks" / i), config, own + skip, width, Rescale::Keep);
                if attends && config.diffusers_groups {
                    return ResBlock { norm1: block.norm1.in_groups(GROUPS.min(own + skip / 4)), ..block };
                }
                block
            })
            .collect();
        let answers = level == 0 || config.progressive == Progressive::OutputSkip;
        Up {
            blocks,
            attention: attends.then(|| level_attention(&(&path / "attention"), config, width)),
            answer: answers.then(|| {
                let answer_norm = norm(&(&path / "answer_norm"), width);
                (answer_norm, Conv::zero(&(&path / "answer"), width, config.in_channels, 3))
            }),
            double: (level > 0).then(|| ResBlock::new(&(&path / "double"), config, width, width, Rescale::Double)),
        }
    }

    fn embedding(&self, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        let features = match &self.embedding {
            TimeFeatures::Fourier(fourier) => fourier.forward(label),
            TimeFeatures::Positional(sinusoidal) => sinusoidal.forward(label),
        };
        let mut features = features.to_kind(self.kind);
        if let (Some(layer), Some(count), Some(class)) = (&self.classes, self.config.num_classes, class) {
            // One of them, scaled to unit variance; the number after the last is zeros, as in EDM.
            let one_hot = class.one_hot(count + 1).narrow(1, 0, count).to_kind(self.kind) * (count as f64).sqrt();
            features += layer.forward(&one_hot);
        }
        let [first, second] = &self.embed;
        second.forward(&first.forward(&features).silu()).silu()
    }

    /// The next lower level's share of the image, added to what the level hands down.
    fn with_image(&self, level: &Down, h: Tensor, image: &mut Tensor) -> Tensor {
        let Some(conv) = &level.image else { return h };
        if self.config.progressive_input == ProgressiveInput::InputSkip {
            *image = self.resample.apply(image, Rescale::Halve);
            return h + conv.forward(image);
        }
        // FIR and stride after the convolution, or a convolution of stride 2 that pads below and to the right.
        let halved = match &self.resample.taps {
            Some(taps) => Resample::halve_filtered(taps, &conv.forward(image), 0),
            None => conv.forward(&image.constant_pad_nd([0, 1, 0, 1])),
        };
        *image = (halved + h) * self.config.scale();
        image.shallow_clone()
    }
}

impl Ncsnpp {
    /// The coarsest features, and those on the way to them.
    fn way_down(&self, x: &Tensor, embedding: &Tensor) -> (Tensor, Vec<Tensor>) {
        let mut image = channels_last(&x.to_kind(self.kind));
        let mut h = self.conv_in.forward(&image);
        let mut skips = vec![h.shallow_clone()];
        for level in &self.down {
            for (block, attention) in &level.blocks {
                h = block.forward(&h, embedding, &self.resample);
                if let Some(attention) = attention {
                    h = attention.forward(&h) * self.config.scale();
                }
                skips.push(h.shallow_clone());
            }
            if let Some(halve) = &level.halve {
                h = self.with_image(level, halve.forward(&h, embedding, &self.resample), &mut image);
                skips.push(h.shallow_clone());
            }
        }
        (h, skips)
    }
}

impl Network for Ncsnpp {
    fn forward(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        let embedding = self.embedding(label, class);
        let scale = self.config.scale();
        let (mut h, mut skips) = self.way_down(x, &embedding);
        let (first, attention, second) = &self.middle;
        h = attention.forward(&first.forward(&h, &embedding, &self.resample)) * scale;
        h = second.forward(&h, &embedding, &self.resample);
        let mut answer: Option<Tensor> = None;
        for level in &self.up {
            for block in &level.blocks {
                let skip = skips.pop().unwrap_or_else(|| h.zeros_like());
                let joined = Tensor::cat(&[h, skip], 1);
                h = block.forward(&joined, &embedding, &self.resample);
            }
            if let Some(attention) = &level.attention {
                h = attention.forward(&h) * scale;
            }
            if let Some((norm, conv)) = &level.answer {
                let part = conv.within(&h, &Fusion { norm: Some(norm), ..Fusion::default() });
                answer = Some(match answer {
                    Some(below) => self.resample.apply(&below, Rescale::Double) + part,
                    None => part,
                });
            }
            if let Some(double) = &level.double {
                h = double.forward(&h, &embedding, &self.resample);
            }
        }
        answer.unwrap_or(h).to_kind(x.kind()).contiguous()
    }

    fn check(&self, shape: [i64; 3]) -> Result<(), Error> {
        super::multiples(shape, self.config.in_channels, 1 << (self.config.block_out_channels.len() - 1))
    }

    fn classes(&self) -> Option<i64> {
        self.config.num_classes
    }

    fn null_class(&self) -> Option<i64> {
        self.config.null_class
    }
}
