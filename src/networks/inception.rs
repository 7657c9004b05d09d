//! The Inception of FID: the network of 2015-12-05 that TensorFlow published, by the names that pytorch-fid gives it.

use tch::Tensor;

use super::{
    folded::Folded,
    layers::channels_last,
    weights::{Init, Path, Weights},
};

/// Height and width that it was trained with.
pub const SIDE: i64 = 299;
/// Channels of `mixed_6/conv` that count for sFID, as ADM's evaluator has it.
const SPATIAL: i64 = 7;

/// A convolution, its normalisation and max(0, ·); branches and the stem are made of it.
#[derive(Debug)]
struct Unit(Folded);

impl Unit {
    /// A convolution of `taps` rows and columns, without padding.
    fn new(path: &Path, inputs: i64, outputs: i64, taps: [i64; 2], stride: i64) -> Self {
        let shape = [outputs, inputs, taps[0], taps[1]];
        Self(Folded::new(&(path / "conv"), &(path / "bn"), shape, 1).strided(stride))
    }

    /// Padded to keep the image's size.
    fn same(path: &Path, inputs: i64, outputs: i64, taps: [i64; 2]) -> Self {
        Self(Self::new(path, inputs, outputs, taps, 1).0.padded())
    }

    fn forward(&self, x: &Tensor) -> Tensor {
        self.0.forward(x).relu_()
    }
}

/// Pooling of a branch before it convolves.
#[derive(Clone, Copy, Debug)]
enum Pooling {
    Nothing,
    /// The mean of 3×3 pixels, of those of them that are within the image.
    Mean,
    /// Maximum of 3×3 pixels: the last block has it, which other Inceptions have not.
    Max,
    /// The maximum of 3×3, at every second pixel.
    Halve,
}

impl Pooling {
    fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Nothing => x.shallow_clone(),
            Self::Mean => x.avg_pool2d([3, 3], [1, 1], [1, 1], false, false, None::<i64>),
            Self::Max => x.max_pool2d([3, 3], [1, 1], [1, 1], [1, 1], false),
            Self::Halve => x.max_pool2d([3, 3], [2, 2], [0, 0], [1, 1], false),
        }
    }
}

/// A pool, units one after another, and perhaps a fork: two units on the same input.
#[derive(Debug)]
struct Branch {
    pool: Pooling,
    chain: Vec<Unit>,
    fork: Vec<Unit>,
}

impl Branch {
    fn forward(&self, x: &Tensor) -> Tensor {
        let x = self.chain.iter().fold(self.pool.apply(x), |x, unit| unit.forward(&x));
        match &self.fork[..] {
            [] => x,
            fork => Tensor::cat(&fork.iter().map(|unit| unit.forward(&x)).collect::<Vec<_>>(), 1),
        }
    }
}

/// A unit of a branch: its name, its outputs and its taps.
type Row<'a> = (&'a str, i64, [i64; 2]);

/// Branches beside each other; their channels follow one another.
#[derive(Debug)]
struct Branches(Vec<Branch>);

impl Branches {
    fn forward(&self, x: &Tensor) -> Tensor {
        Tensor::cat(&self.0.iter().map(|branch| branch.forward(x)).collect::<Vec<_>>(), 1)
    }
}

/// Makes the branches of a block.
struct Builder<'a> {
    path: Path<'a>,
    inputs: i64,
}

impl Builder<'_> {
    fn chain(&self, rows: &[Row]) -> (Vec<Unit>, i64) {
        let mut inputs = self.inputs;
        let mut unit = |&(name, outputs, taps): &Row| {
            let unit = Unit::same(&(&self.path / name), inputs, outputs, taps);
            inputs = outputs;
            unit
        };
        (rows.iter().map(&mut unit).collect(), inputs)
    }

    fn branch(&self, pool: Pooling, rows: &[Row]) -> Branch {
        Branch { pool, chain: self.chain(rows).0, fork: Vec::new() }
    }

    /// The last unit moves by two pixels at a time, without padding.
    fn halving(&self, rows: &[Row], (name, outputs, taps): Row) -> Branch {
        let (mut chain, inputs) = self.chain(rows);
        chain.push(Unit::new(&(&self.path / name), inputs, outputs, taps, 2));
        Branch { pool: Pooling::Nothing, chain, fork: Vec::new() }
    }

    fn forking(&self, rows: &[Row], fork: [Row; 2]) -> Branch {
        let (chain, inputs) = self.chain(rows);
        let fork = fork.map(|(name, outputs, taps)| Unit::same(&(&self.path / name), inputs, outputs, taps));
        Branch { pool: Pooling::Nothing, chain, fork: fork.into() }
    }

    /// The maximum alone.
    fn halve() -> Branch {
        Branch { pool: Pooling::Halve, chain: Vec::new(), fork: Vec::new() }
    }

    /// 35×35 pixels.
    fn a(&self, pooled: i64) -> Branches {
        Branches(vec![
            self.branch(Pooling::Nothing, &[("branch1x1", 64, [1, 1])]),
            self.branch(Pooling::Nothing, &[("branch5x5_1", 48, [1, 1]), ("branch5x5_2", 64, [5, 5])]),
            self.branch(
                Pooling::Nothing,
                &[("branch3x3dbl_1", 64, [1, 1]), ("branch3x3dbl_2", 96, [3, 3]), ("branch3x3dbl_3", 96, [3, 3])],
            ),
            self.branch(Pooling::Mean, &[("branch_pool", pooled, [1, 1])]),
        ])
    }

    /// The block that reduces to 17×17 pixels.
    fn b(&self) -> Branches {
        Branches(vec![
            self.halving(&[], ("branch3x3", 384, [3, 3])),
            self.halving(
                &[("branch3x3dbl_1", 64, [1, 1]), ("branch3x3dbl_2", 96, [3, 3])],
                ("branch3x3dbl_3", 96, [3, 3]),
            ),
            Self::halve(),
        ])
    }

    /// 17×17 pixels.
    fn c(&self, width: i64) -> Branches {
        Branches(vec![
            self.branch(Pooling::Nothing, &[("branch1x1", 192, [1, 1])]),
            self.branch(
                Pooling::Nothing,
                &[("branch7x7_1", width, [1, 1]), ("branch7x7_2", width, [1, 7]), ("branch7x7_3", 192, [7, 1])],
            ),
            self.branch(
                Pooling::Nothing,
                &[
                    ("branch7x7dbl_1", width, [1, 1]),
                    ("branch7x7dbl_2", width, [7, 1]),
                    ("branch7x7dbl_3", width, [1, 7]),
                    ("branch7x7dbl_4", width, [7, 1]),
                    ("branch7x7dbl_5", 192, [1, 7]),
                ],
            ),
            self.branch(Pooling::Mean, &[("branch_pool", 192, [1, 1])]),
        ])
    }

    /// The block that reduces to 8×8 pixels.
    fn d(&self) -> Branches {
        Branches(vec![
            self.halving(&[("branch3x3_1", 192, [1, 1])], ("branch3x3_2", 320, [3, 3])),
            self.halving(
                &[("branch7x7x3_1", 192, [1, 1]), ("branch7x7x3_2", 192, [1, 7]), ("branch7x7x3_3", 192, [7, 1])],
                ("branch7x7x3_4", 192, [3, 3]),
            ),
            Self::halve(),
        ])
    }

    /// 8×8 pixels.
    fn e(&self, pool: Pooling) -> Branches {
        Branches(vec![
            self.branch(Pooling::Nothing, &[("branch1x1", 320, [1, 1])]),
            self.forking(
                &[("branch3x3_1", 384, [1, 1])],
                [("branch3x3_2a", 384, [1, 3]), ("branch3x3_2b", 384, [3, 1])],
            ),
            self.forking(
                &[("branch3x3dbl_1", 448, [1, 1]), ("branch3x3dbl_2", 384, [3, 3])],
                [("branch3x3dbl_3a", 384, [1, 3]), ("branch3x3dbl_3b", 384, [3, 1])],
            ),
            self.branch(pool, &[("branch_pool", 192, [1, 1])]),
        ])
    }
}

/// 94 convolutions and a linear layer of 1008 classes [Szegedy et al. 2016], in the form that FID is computed with.
#[derive(Debug)]
pub struct Inception {
    stem: [Vec<Unit>; 2],
    blocks: Vec<Branches>,
    spatial: Unit,
    weight: Tensor,
    bias: Tensor,
}

/// Activations of a batch of images.
#[derive(Debug)]
pub struct Activations {
    /// Means over pixels of 64, 192, 768 and 2048 channels, `[batch, channels]`: after the two first maxima, before the
    /// auxiliary classifier, and at the end.
    pub means: [Tensor; 4],
    /// `[batch, 2023]`: 17×17 pixels of the first 7 channels of `mixed_6/conv`, channels side by side.
    pub spatial: Tensor,
}

impl Activations {
    /// The 2048 of FID.
    pub fn features(&self) -> &Tensor {
        &self.means[3]
    }
}

/// Places among the blocks: after the first, 768 channels are averaged; the first unit of the second is `mixed_6/conv`.
const BEFORE_AUXILIARY: usize = 7;
const MIXED_6: usize = 6;

impl Inception {
    /// Takes every parameter from `weights`.
    pub fn new(weights: &Weights) -> Self {
        let root = &weights.root();
        let unit = |name, inputs, outputs, side, stride| Unit::new(&(root / name), inputs, outputs, [side; 2], stride);
        let first = vec![
            unit("Conv2d_1a_3x3", 3, 32, 3, 2),
            unit("Conv2d_2a_3x3", 32, 32, 3, 1),
            Unit::same(&(root / "Conv2d_2b_3x3"), 32, 64, [3, 3]),
        ];
        let second = vec![unit("Conv2d_3b_1x1", 64, 80, 1, 1), unit("Conv2d_4a_3x3", 80, 192, 3, 1)];
        let (fc, blocks) = (root / "fc", blocks(root));
        Self {
            stem: [first, second],
            spatial: Unit(blocks[MIXED_6].0[0].chain[0].0.first(SPATIAL)),
            blocks,
            weight: fc.tensor("weight", &[1008, 2048], Init::FanIn(2048)),
            bias: fc.tensor("bias", &[1008], Init::Constant(0.0)),
        }
    }

    /// Activations of images `[batch, 3, 299, 299]`, in −1 … 1 by one of the
    /// [`Resize`](crate::evaluation::features::Resize)s.
    pub fn forward(&self, x: &Tensor) -> Activations {
        let mut x = channels_last(x);
        let mut means = Vec::with_capacity(4);
        for units in &self.stem {
            x = Pooling::Halve.apply(&units.iter().fold(x, |x, unit| unit.forward(&x)));
            means.push(mean(&x));
        }
        let mut spatial = None;
        for (place, block) in self.blocks.iter().enumerate() {
            if place == MIXED_6 {
                spatial = Some(self.spatial.forward(&x).permute([0, 2, 3, 1]).flatten(1, -1));
            }
            x = block.forward(&x);
            if place == BEFORE_AUXILIARY || place + 1 == self.blocks.len() {
                means.push(mean(&x));
            }
        }
        let spatial = spatial.unwrap_or_else(|| Tensor::zeros([0], (x.kind(), x.device())));
        let mut means = means.into_iter();
        Activations { means: std::array::from_fn(|_| means.next().unwrap_or_default()), spatial }
    }

    /// W f, `[batch, 1008]`: the Inception Score is computed without b, as TensorFlow's graph had it.
    pub fn logits_without_bias(&self, features: &Tensor) -> Tensor {
        features.linear(&self.weight, None::<&Tensor>)
    }

    /// W f + b, `[batch, 1008]`.
    pub fn logits(&self, features: &Tensor) -> Tensor {
        features.linear(&self.weight, Some(&self.bias))
    }
}

fn blocks(root: &Path) -> Vec<Branches> {
    let at = |name: &str, inputs| Builder { path: root / name, inputs };
    vec![
        at("Mixed_5b", 192).a(32),
        at("Mixed_5c", 256).a(64),
        at("Mixed_5d", 288).a(64),
        at("Mixed_6a", 288).b(),
        at("Mixed_6b", 768).c(128),
        at("Mixed_6c", 768).c(160),
        at("Mixed_6d", 768).c(160),
        at("Mixed_6e", 768).c(192),
        at("Mixed_7a", 768).d(),
        at("Mixed_7b", 1280).e(Pooling::Mean),
        at("Mixed_7c", 2048).e(Pooling::Max),
    ]
}

/// Mean over pixels.
fn mean(x: &Tensor) -> Tensor {
    x.mean_dim([2i64, 3].as_slice(), false, None)
}
