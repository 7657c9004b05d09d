//! The RefineNets of NCSN and NCSNv2 [Song & Ermon 2019, Appendix A; 2020, Appendix B], with the names of their files.

use serde::{Deserialize, Serialize};
use tch::{Kind, Tensor};

use super::{
    Network,
    layers::{Conv, channels_last, halved},
    weights::{Init, Path, Weights},
};
use crate::Error;

const EPSILON: f64 = 1e-5;
/// Side of the pooling in a chain of pools.
const POOL: i64 = 5;

/// The hyper-parameters of a [`RefineNet`].
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RefineNetConfig {
    /// Channels of the images.
    pub in_channels: i64,
    /// Stages on the way down, finest first.
    pub stages: Vec<RefineStage>,
    /// The number of noise levels on whose index every normalisation is conditioned (NCSN); left out, none is (NCSNv2).
    #[serde(default)]
    pub num_levels: Option<i64>,
}

/// Two residual blocks on the way down, and what refines their result on the way up.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RefineStage {
    /// Number of the blocks in the file: `res31` is 31.
    pub name: u32,
    /// The number of the refinement.
    pub refine: u32,
    /// Width of the blocks.
    pub width: i64,
    /// Width of the refinement.
    pub refine_width: i64,
    /// Whether the first block halves the image.
    pub halves: bool,
    /// Distance between the taps of its convolutions.
    pub dilation: i64,
}

impl RefineNetConfig {
    fn check(&self) -> Result<(), Error> {
        let fits = |stage: &RefineStage| stage.width > 1 && stage.refine_width > 1 && stage.dilation > 0;
        if self.stages.is_empty() || !self.stages.iter().all(fits) || self.in_channels < 1 {
            let want = "of stages with widths of 2 or more and dilations of 1 or more";
            return Err(Error::parameter("network", want, super::shown(self)));
        }
        Ok(())
    }
}

/// InstanceNorm++: normalised pixels of each channel, plus α times its mean, normalised over the channels.
#[derive(Debug)]
enum InstanceNormPlus {
    /// γ, α, β.
    Fixed([Tensor; 3]),
    /// `[levels, 3 · channels]`: γ, α, β for each.
    Conditional(Tensor),
}

impl InstanceNormPlus {
    fn new(path: &Path, config: &RefineNetConfig, channels: i64) -> Self {
        if let Some(levels) = config.num_levels {
            return Self::Conditional((path / "embed").tensor("weight", &[levels, 3 * channels], Init::Constant(1.0)));
        }
        let parts = [("gamma", 1.0), ("alpha", 1.0), ("beta", 0.0)];
        Self::Fixed(parts.map(|(name, value)| path.tensor(name, &[channels], Init::Constant(value))))
    }

    fn forward(&self, x: &Tensor, level: &Tensor) -> Tensor {
        let spread = |t: &Tensor| t.to_kind(x.kind()).unsqueeze(-1).unsqueeze(-1);
        let [gamma, alpha, beta] = match self {
            Self::Fixed(parts) => parts.each_ref().map(|part| spread(&part.unsqueeze(0))),
            Self::Conditional(table) => {
                let parts = table.index_select(0, level).chunk(3, 1);
                [0, 1, 2].map(|i| spread(&parts[i]))
            }
        };
        let means = x.mean_dim([2i64, 3].as_slice(), false, None);
        let (mean, variance) =
            (means.mean_dim([1i64].as_slice(), true, None), means.var_dim([1i64].as_slice(), true, true));
        let means = (means - mean) / (variance + EPSILON).sqrt();
        let none = None::<&Tensor>;
        let h = x.instance_norm(none, none, none, none, true, 0.0, EPSILON, false);
        gamma * (h + spread(&means) * alpha) + beta
    }
}

/// A 3×3 convolution without bias.
fn bare(path: &Path, inputs: i64, outputs: i64) -> Conv {
    Conv::unbiased(path, inputs, outputs, 3)
}

#[derive(Debug)]
struct ResBlock {
    norm1: InstanceNormPlus,
    conv1: Conv,
    norm2: InstanceNormPlus,
    conv2: Conv,
    shortcut: Option<Conv>,
    halves: bool,
}

impl ResBlock {
    /// The first of a stage changes the width, and halves the image or widens what its taps see.
    fn new(path: &Path, config: &RefineNetConfig, inputs: i64, stage: &RefineStage, first: bool, finest: bool) -> Self {
        let changes = first && !finest;
        let halves = changes && stage.halves;
        let inner = if changes { inputs } else { stage.width };
        let dilated = |conv: Conv| conv.dilated(stage.dilation);
        let within = |name: &str| if halves { path / name / "conv" } else { path / name };
        Self {
            norm1: InstanceNormPlus::new(&(path / "normalize1"), config, inputs),
            conv1: dilated(Conv::new(&(path / "conv1"), inputs, inner, 3)),
            norm2: InstanceNormPlus::new(&(path / "normalize2"), config, inner),
            conv2: dilated(Conv::new(&within("conv2"), inner, stage.width, 3)),
            shortcut: changes.then(|| {
                let shortcut = within("shortcut");
                if halves {
                    Conv::new(&shortcut, inputs, stage.width, 1)
                } else {
                    dilated(Conv::new(&shortcut, inputs, stage.width, 3))
                }
            }),
            halves,
        }
    }

    fn forward(&self, x: &Tensor, level: &Tensor) -> Tensor {
        let h = self.conv1.forward(&self.norm1.forward(x, level).elu());
        let h = self.conv2.forward(&self.norm2.forward(&h, level).elu());
        let shortcut = self.shortcut.as_ref().map_or_else(|| x.shallow_clone(), |conv| conv.forward(x));
        if self.halves { halved(&shortcut) + halved(&h) } else { shortcut + h }
    }
}

/// A convolution after its normalisation, which NCSNv2 does without.
type NormedConv = (Option<InstanceNormPlus>, Conv);

fn normed(norm: Option<&InstanceNormPlus>, x: &Tensor, level: &Tensor) -> Tensor {
    norm.map_or_else(|| x.shallow_clone(), |norm| norm.forward(x, level))
}

/// Residual convolution units: two convolutions each, activated before.
#[derive(Debug)]
struct Units(Vec<[NormedConv; 2]>);

impl Units {
    fn new(path: &Path, config: &RefineNetConfig, count: usize, channels: i64) -> Self {
        let step = |unit: usize, step: usize| {
            let name = format!("{unit}_{step}");
            let norm =
                config.num_levels.map(|_| InstanceNormPlus::new(&(path / format!("{name}_norm")), config, channels));
            (norm, bare(&(path / format!("{name}_conv")), channels, channels))
        };
        Self((1..=count).map(|unit| [step(unit, 1), step(unit, 2)]).collect())
    }

    fn forward(&self, x: &Tensor, level: &Tensor) -> Tensor {
        let step = |x: Tensor, (norm, conv): &NormedConv| conv.forward(&normed(norm.as_ref(), &x, level).elu());
        self.0.iter().fold(x.shallow_clone(), |x, unit| unit.iter().fold(x.shallow_clone(), step) + x)
    }
}

#[derive(Debug)]
struct Refine {
    adapt: Vec<Units>,
    /// Brings its inputs together; none where there is one.
    fuse: Vec<NormedConv>,
    pools: Vec<NormedConv>,
    output: Units,
    /// Pools are maxima in NCSNv2, means in NCSN.
    maxima: bool,
}

impl Refine {
    fn new(path: &Path, config: &RefineNetConfig, inputs: &[i64], outputs: i64, last: bool) -> Self {
        let conditional = config.num_levels.is_some();
        let norm = |path: Path, channels| conditional.then(|| InstanceNormPlus::new(&path, config, channels));
        let adapt = |(i, width): (usize, &i64)| Units::new(&(path / "adapt_convs" / i), config, 2, *width);
        let (msf, crp) = (path / "msf", path / "crp");
        let fuse = |(i, width): (usize, &i64)| {
            (norm(&msf / "norms" / i, *width), Conv::new(&(&msf / "convs" / i), *width, outputs, 3))
        };
        let pool = |i: usize| (norm(&crp / "norms" / i, outputs), bare(&(&crp / "convs" / i), outputs, outputs));
        Self {
            adapt: inputs.iter().enumerate().map(adapt).collect(),
            fuse: inputs.iter().enumerate().filter(|_| inputs.len() > 1).map(fuse).collect(),
            pools: (0..2).map(pool).collect(),
            output: Units::new(&(path / "output_convs"), config, if last { 3 } else { 1 }, outputs),
            maxima: !conditional,
        }
    }

    fn forward(&self, inputs: &[&Tensor], level: &Tensor) -> Tensor {
        let mut adapted = self.adapt.iter().zip(inputs).map(|(units, x)| units.forward(x, level));
        let size = &inputs[0].size()[2..];
        let fused = self.fuse.iter().map(|(norm, conv)| {
            let x = adapted.next().unwrap_or_else(|| inputs[0].zeros_like());
            conv.forward(&normed(norm.as_ref(), &x, level)).upsample_bilinear2d(size, true, None, None)
        });
        let h = fused.reduce(|a, b| a + b);
        let h = h.unwrap_or_else(|| adapted.next().unwrap_or_else(|| inputs[0].shallow_clone()));
        let mut sum = h.elu();
        let mut path = sum.shallow_clone();
        for (norm, conv) in &self.pools {
            let h = normed(norm.as_ref(), &path, level);
            let (side, stride, padding) = ([POOL; 2], [1, 1], [POOL / 2; 2]);
            path = conv.forward(&if self.maxima {
                h.max_pool2d(side, stride, padding, [1, 1], false)
            } else {
                h.avg_pool2d(side, stride, padding, false, true, None::<i64>)
            });
            sum = &path + sum;
        }
        self.output.forward(&sum, level)
    }
}

/// The score (NCSN), or −n (NCSNv2), from a noisy image and the number of its noise level.
#[derive(Debug)]
pub struct RefineNet {
    config: RefineNetConfig,
    kind: Kind,
    conv_in: Conv,
    down: Vec<[ResBlock; 2]>,
    /// Coarsest first.
    up: Vec<Refine>,
    norm_out: InstanceNormPlus,
    conv_out: Conv,
}

impl RefineNet {
    /// Takes every parameter from `weights`.
    pub fn new(config: &RefineNetConfig, weights: &Weights) -> Result<Self, Error> {
        config.check()?;
        let root = &weights.root();
        let first = config.stages[0].width;
        let mut inputs = first;
        let mut down = Vec::new();
        for (i, stage) in config.stages.iter().enumerate() {
            let path = root / format!("res{}", stage.name);
            down.push([
                ResBlock::new(&(&path / 0), config, inputs, stage, true, i == 0),
                ResBlock::new(&(&path / 1), config, stage.width, stage, false, i == 0),
            ]);
            inputs = stage.width;
        }
        let mut below = None;
        let up = config.stages.iter().enumerate().rev().map(|(i, stage)| {
            let inputs: Vec<i64> = [stage.width].into_iter().chain(below).collect();
            below = Some(stage.refine_width);
            Refine::new(&(root / format!("refine{}", stage.refine)), config, &inputs, stage.refine_width, i == 0)
        });
        let up = up.collect();
        let last = config.stages[0].refine_width;
        Ok(Self {
            config: config.clone(),
            kind: root.kind(),
            conv_in: Conv::new(&(root / "begin_conv"), config.in_channels, first, 3),
            down,
            up,
            norm_out: InstanceNormPlus::new(&(root / "normalizer"), config, last),
            conv_out: Conv::new(&(root / "end_conv"), last, config.in_channels, 3),
        })
    }
}

impl Network for RefineNet {
    fn forward(&self, x: &Tensor, label: &Tensor, _class: Option<&Tensor>) -> Tensor {
        let level = label.round().to_kind(Kind::Int64);
        let mut h = self.conv_in.forward(&channels_last(&x.to_kind(self.kind)));
        let mut layers = Vec::with_capacity(self.down.len());
        for blocks in &self.down {
            h = blocks.iter().fold(h, |h, block| block.forward(&h, &level));
            layers.push(h.shallow_clone());
        }
        let mut refined: Option<Tensor> = None;
        for (refine, layer) in self.up.iter().zip(layers.iter().rev()) {
            let inputs: Vec<&Tensor> = [layer].into_iter().chain(&refined).collect();
            refined = Some(refine.forward(&inputs, &level));
        }
        let h = self.norm_out.forward(&refined.unwrap_or(h), &level).elu();
        self.conv_out.forward(&h).to_kind(x.kind()).contiguous()
    }

    fn check(&self, shape: [i64; 3]) -> Result<(), Error> {
        let halvings = self.config.stages.iter().filter(|stage| stage.halves).count();
        super::multiples(shape, self.config.in_channels, 1 << halvings)
    }
}
