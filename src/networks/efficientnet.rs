//! EfficientNet-Lite0, trained on ImageNet [Tan & Le 2019], by the names that efficientnet-lite-pytorch gives it.

use tch::{Kind, Tensor};

use super::{
    folded::Folded,
    layers::{Linear, channels_last},
    weights::{Path, Weights},
};

/// Height and width that it was trained with.
pub const SIDE: i64 = 224;

/// Number of features.
pub const FEATURES: i64 = 1280;

/// Taps, stride, expansion, channels in, channels out and repetitions of each stage.
const STAGES: [[i64; 6]; 7] = [
    [3, 1, 1, 32, 16, 1],
    [3, 2, 6, 16, 24, 2],
    [5, 2, 6, 24, 40, 2],
    [3, 2, 6, 40, 80, 3],
    [5, 1, 6, 80, 112, 3],
    [5, 2, 6, 112, 192, 4],
    [3, 1, 6, 192, 320, 1],
];

/// A convolution with TensorFlow's padding: at a stride, more of it comes after the image than before.
#[derive(Debug)]
struct Same {
    convolution: Folded,
    taps: i64,
    stride: i64,
}

impl Same {
    fn forward(&self, x: &Tensor) -> Tensor {
        let padding = |side: i64| {
            let out = (side + self.stride - 1) / self.stride;
            let all = ((out - 1) * self.stride + self.taps - side).max(0);
            [all / 2, all - all / 2]
        };
        let size = x.size();
        let ([top, bottom], [left, right]) = (padding(size[2]), padding(size[3]));
        self.convolution.forward(&channels_last(&x.constant_pad_nd([left, right, top, bottom])))
    }
}

/// Wider, over pixels channel by channel, and narrower again; the input is added where shapes allow it.
#[derive(Debug)]
struct Bottleneck {
    expand: Option<Folded>,
    depthwise: Same,
    project: Folded,
    skip: bool,
}

impl Bottleneck {
    fn new(path: &Path, [taps, stride, expansion, inputs, outputs]: [i64; 5]) -> Self {
        let wide = inputs * expansion;
        let folded = |conv: &str, norm: &str, shape, groups| Folded::new(&(path / conv), &(path / norm), shape, groups);
        let expand = (expansion > 1).then(|| folded("_expand_conv", "_bn0", [wide, inputs, 1, 1], 1));
        let depthwise = folded("_depthwise_conv", "_bn1", [wide, 1, taps, taps], wide).strided(stride);
        Self {
            expand,
            depthwise: Same { convolution: depthwise, taps, stride },
            project: folded("_project_conv", "_bn2", [outputs, wide, 1, 1], 1),
            skip: stride == 1 && inputs == outputs,
        }
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        let wide = self.expand.as_ref().map_or_else(|| x.shallow_clone(), |expand| expand.forward(x).relu6());
        let narrow = self.project.forward(&self.depthwise.forward(&wide).relu6());
        if self.skip { narrow + x } else { narrow }
    }
}

/// 16 bottlenecks between two convolutions, and a linear layer of ImageNet's 1000 classes.
#[derive(Debug)]
pub struct EfficientNet {
    stem: Same,
    blocks: Vec<Bottleneck>,
    head: Folded,
    classes: Linear,
}

impl EfficientNet {
    /// Takes every parameter from `weights`.
    pub fn new(weights: &Weights) -> Self {
        let root = &weights.root();
        let stem = Folded::new(&(root / "_conv_stem"), &(root / "_bn0"), [32, 3, 3, 3], 1).strided(2);
        let mut blocks = Vec::new();
        for [taps, stride, expansion, inputs, outputs, count] in STAGES {
            for k in 0..count {
                let (stride, inputs) = if k == 0 { (stride, inputs) } else { (1, outputs) };
                let path = root / "_blocks" / blocks.len();
                blocks.push(Bottleneck::new(&path, [taps, stride, expansion, inputs, outputs]));
            }
        }
        Self {
            stem: Same { convolution: stem, taps: 3, stride: 2 },
            blocks,
            head: Folded::new(&(root / "_conv_head"), &(root / "_bn1"), [FEATURES, 320, 1, 1], 1),
            classes: Linear::new(&(root / "_fc"), FEATURES, 1000),
        }
    }

    /// 1280 features, `[batch, 1280]`, of pixels 0 … 255, `[batch, 3, 224, 224]`.
    pub fn features(&self, pixels: &Tensor) -> Tensor {
        let x = self.stem.forward(&((pixels - 127.0) / 128.0)).relu6();
        let x = self.blocks.iter().fold(x, |x, block| block.forward(&x));
        self.head.forward(&x).relu6().mean_dim([2i64, 3].as_slice(), false, None::<Kind>)
    }

    /// Logits, `[batch, 1000]`, from features.
    pub fn logits(&self, features: &Tensor) -> Tensor {
        self.classes.forward(features)
    }
}
