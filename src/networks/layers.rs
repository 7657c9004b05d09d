//! The layers of which score networks are made.
//!
//! Images are `[batch, channels, height, width]`, channels-last in memory. A layer computes in the kind of its input: where
//! parameters are f32 and images bf16, as in training, it rounds its parameters on the way. f32 on the CPU goes to the
//! [`kernels`] where they can take it, and on GPUs normalisations and sums to [`device`]. On the CPU, gradients of images go back
//! through kernels too: a convolution keeps none of what it was given, and one with a normalisation its input alone.

use std::{
    cell::{Cell, RefCell},
    f64::consts::TAU,
    sync::Arc,
};

use tch::{Device, Kind, Tensor};

use super::weights::{FREQUENCIES, Init, Path};
use crate::backend::{
    autograd::{self, Saved},
    kernels::{self, ConvGeometry, ConvMethod, Direction, GroupMoments, Packed, device},
};

thread_local! {
    static FLOPS: Cell<f64> = const { Cell::new(0.0) };
}

/// Floating-point operations that layers of this thread were asked for so far, a product and its sum being two:
/// convolutions, linear layers and attention, counted as if none were saved.
pub fn flops() -> f64 {
    FLOPS.get()
}

/// Counts so many for work that was not done layer by layer.
pub(super) fn add_flops(flops: f64) {
    FLOPS.set(FLOPS.get() + flops);
}

/// Counts `outputs` sums of `products` products each.
fn count(outputs: usize, products: i64) {
    add_flops(2.0 * outputs as f64 * products as f64);
}

/// The tensor with its channels side by side in memory, as convolutions like it.
pub fn channels_last(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous().permute([0, 3, 1, 2])
}

/// Layers fused with a convolution: y = factor · (W ∗ a(x) + b + time_bias + residual).
#[derive(Clone, Copy, Debug)]
pub struct Fusion<'a> {
    /// a(x) = SiLU of x, normalised by this; x itself if left out.
    pub norm: Option<&'a GroupNorm>,
    /// `[batch, 2 · inputs]`: after it is normalised, x is scaled by 1 + the first half and shifted by the second.
    pub modulation: Option<&'a Tensor>,
    /// `[batch, outputs]`.
    pub time_bias: Option<&'a Tensor>,
    /// `[batch, outputs, …]`.
    pub residual: Option<&'a Tensor>,
    /// Multiplies the whole.
    pub factor: f64,
}

/// Nothing.
impl Default for Fusion<'_> {
    fn default() -> Self {
        Self { norm: None, modulation: None, time_bias: None, residual: None, factor: 1.0 }
    }
}

/// y = W ∗ x + b.
#[derive(Debug)]
pub struct Conv {
    weight: Tensor,
    bias: Option<Tensor>,
    taps: ConvGeometry,
    /// The weight as kernels read it, for each method that a batch has asked for.
    packed: RefCell<Vec<Arc<Packed>>>,
}

impl Conv {
    /// `size`×`size` taps from `inputs` to `outputs` channels, at stride 1 and padded to keep the image's size.
    pub fn new(path: &Path, inputs: i64, outputs: i64, size: i64) -> Self {
        let init = Init::FanIn(inputs * size * size);
        Self::with_shape(path, &[outputs, inputs, size, size], init, Some(init))
    }

    /// Creates a convolution that begins as the zero map.
    pub fn zero(path: &Path, inputs: i64, outputs: i64, size: i64) -> Self {
        let init = Init::Constant(0.0);
        Self::with_shape(path, &[outputs, inputs, size, size], init, Some(init))
    }

    /// Creates a convolution without b.
    pub fn unbiased(path: &Path, inputs: i64, outputs: i64, size: i64) -> Self {
        Self::with_shape(path, &[outputs, inputs, size, size], Init::FanIn(inputs * size * size), None)
    }

    /// Creates a convolution with a weight of this shape, and one tap until others are set.
    fn with_shape(path: &Path, shape: &[i64], weight: Init, bias: Option<Init>) -> Self {
        let size = shape.get(3).copied().unwrap_or(1);
        Self {
            weight: path.tensor("weight", shape, weight),
            bias: bias.map(|init| path.tensor("bias", &shape[..1], init)),
            taps: ConvGeometry { size, stride: 1, padding: size / 2, dilation: 1 },
            packed: RefCell::default(),
        }
    }

    /// Sets stride and padding.
    #[must_use]
    pub fn strided(self, stride: i64, padding: i64) -> Self {
        Self { taps: ConvGeometry { stride, padding, ..self.taps }, ..self }
    }

    /// Sets the distance between taps, and a padding that keeps the image's size.
    #[must_use]
    pub fn dilated(self, dilation: i64) -> Self {
        Self { taps: ConvGeometry { padding: dilation * self.taps.padding, dilation, ..self.taps }, ..self }
    }

    /// `[batch, inputs, …]` to `[batch, outputs, …]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        self.within(x, &Fusion::default())
    }

    /// The convolution with the layers fused with it.
    pub fn within(&self, x: &Tensor, fusion: &Fusion) -> Tensor {
        let y = if self.is_fast(x, fusion) { self.by_kernels(x, fusion) } else { self.by_libtorch(x, fusion) };
        count(y.numel(), self.weight.size()[1..].iter().product());
        y
    }

    fn is_fast(&self, x: &Tensor, fusion: &Fusion) -> bool {
        let computed: Vec<&Tensor> =
            [fusion.modulation, fusion.time_bias, fusion.residual].into_iter().flatten().collect();
        let norm = fusion.norm.map_or([None; 2], |norm| [Some(&norm.weight), Some(&norm.bias)]);
        let own = [Some(&self.weight), self.bias.as_ref()];
        let parameters: Vec<&Tensor> = own.into_iter().chain(norm).flatten().collect();
        kernels::take(x, &computed, &parameters)
    }

    fn by_kernels(&self, x: &Tensor, fusion: &Fusion) -> Tensor {
        let norm = fusion.norm.map(|norm| norm.kernel(fusion.modulation, true));
        let (y, moments) = tch::no_grad(|| {
            let moments = norm.map(|norm| norm.moments(x));
            let method = ConvMethod::cheapest(self.taps, Direction::Forward, &x.size());
            let mut job = kernels::ConvFusion {
                normalised: moments.as_ref().map(GroupMoments::affine),
                bias: self.bias.as_ref(),
                time_bias: fusion.time_bias,
                residual: fusion.residual,
                factor: fusion.factor,
            };
            // Directly, each pixel is read once for every tap, and would be normalised as often.
            let entered = norm.zip(moments.as_ref()).filter(|_| method == ConvMethod::Direct);
            let entered = entered.map(|(norm, moments)| norm.apply(x, moments));
            if entered.is_some() {
                job.normalised = None;
            }
            (self.packed(Direction::Forward, method).convolve(entered.as_ref().unwrap_or(x), &job), moments)
        });
        self.recorded(x, fusion, y, moments)
    }

    /// y with its way back to x and to what is around it.
    fn recorded(&self, x: &Tensor, fusion: &Fusion, y: Tensor, moments: Option<GroupMoments>) -> Tensor {
        let given = [Some(x), fusion.modulation, fusion.time_bias, fusion.residual];
        let inputs: Vec<&Tensor> = given.into_iter().flatten().collect();
        if !autograd::recording(&inputs) {
            return y;
        }
        let present = given.map(|input| input.is_some());
        let wanted = given.map(|input| input.is_some_and(Tensor::requires_grad));
        let factor = fusion.factor;
        let adjoint = (wanted[0] || wanted[1]).then(|| self.adjoint(x, &y));
        let norm = fusion.norm.zip(moments).map(|(norm, moments)| norm.saved(x, fusion.modulation, true, moments));
        autograd::record(&inputs, y, move |gradient| {
            let scaled = |gradient: Tensor| if factor == 1.0 { gradient } else { gradient * factor };
            let time_bias = wanted[2].then(|| scaled(gradient.sum_dim_intlist([2i64, 3].as_slice(), false, None)));
            let entered = adjoint.as_ref().map(|adjoint| adjoint.apply(&gradient, factor)).transpose()?;
            let residual = wanted[3].then(|| scaled(gradient));
            let (x, modulation) = match (entered, &norm) {
                (Some(entered), Some(norm)) => {
                    norm.slopes(&entered, true).map(|(x, modulation)| (Some(x), modulation))?
                }
                (entered, _) => (entered, None),
            };
            let gradients = [x.filter(|_| wanted[0]), modulation.filter(|_| wanted[1]), time_bias, residual];
            Ok(present
                .into_iter()
                .zip(gradients)
                .filter_map(|(present, gradient)| present.then_some(gradient))
                .collect())
        })
    }

    fn packed(&self, direction: Direction, method: ConvMethod) -> Arc<Packed> {
        let mut all = self.packed.borrow_mut();
        if let Some(packed) = all.iter().find(|packed| packed.is_of(&self.weight, direction, method)) {
            return packed.clone();
        }
        let packed = Packed::shared(&self.weight, self.taps, direction, method);
        all.retain(|old| !old.is_for(direction, method));
        all.push(packed.clone());
        packed
    }

    /// The way back from y to what entered the convolution, x or its normalised values.
    fn adjoint(&self, x: &Tensor, y: &Tensor) -> Adjoint {
        if let Some(taps) = self.taps.adjoint() {
            let method = ConvMethod::cheapest(taps, Direction::Backward, &y.size());
            return Adjoint::Kernel(self.packed(Direction::Backward, method));
        }
        Adjoint::Libtorch { weight: Saved::new(&self.weight), taps: self.taps, shape: x.size() }
    }

    fn by_libtorch(&self, x: &Tensor, fusion: &Fusion) -> Tensor {
        if let Some(y) = self.product(x, fusion) {
            return y;
        }
        let activated = fusion.norm.map(|norm| norm.silu(x, fusion.modulation));
        let x = activated.as_ref().unwrap_or(x);
        let ConvGeometry { stride, padding, dilation, .. } = self.taps;
        let bias = self.bias.as_ref().map(|bias| bias.to_kind(x.kind()));
        let weight = self.weight.to_kind(x.kind());
        let conv = |bias: Option<&Tensor>| x.conv2d(&weight, bias, [stride; 2], [padding; 2], [dilation; 2], 1);
        let Fusion { time_bias, residual, factor, .. } = *fusion;
        let sum = device::Sum { bias: bias.as_ref(), time_bias, residual, factor };
        if let Some(y) = sum.over(x, &weight, || conv(None)) {
            return y;
        }
        let mut y = conv(bias.as_ref());
        if let Some(time_bias) = fusion.time_bias {
            y += time_bias.unsqueeze(-1).unsqueeze(-1);
        }
        if let Some(residual) = fusion.residual {
            y = residual + y;
        }
        if fusion.factor == 1.0 { y } else { y * fusion.factor }
    }

    /// W ∗ x + b of single taps on a GPU: one product of matrices, to which cuBLAS adds b itself.
    fn product(&self, x: &Tensor, fusion: &Fusion) -> Option<Tensor> {
        let Fusion { norm: None, time_bias: None, residual: None, factor: 1.0, .. } = fusion else { return None };
        (self.taps == ConvGeometry::SINGLE && x.device().is_cuda()).then(|| {
            let (weight, bias) = (self.weight.to_kind(x.kind()), self.bias.as_ref().map(|bias| bias.to_kind(x.kind())));
            image_of(&pixels(x).linear(&weight.flatten(1, -1), bias), x)
        })
    }
}

/// The adjoint of a convolution.
#[derive(Debug)]
enum Adjoint {
    Kernel(Arc<Packed>),
    Libtorch { weight: Saved, taps: ConvGeometry, shape: Vec<i64> },
}

impl Adjoint {
    /// factor · Wᵀ of a gradient of the outputs.
    fn apply(&self, gradient: &Tensor, factor: f64) -> Result<Tensor, String> {
        match self {
            Self::Kernel(packed) => {
                let fusion = kernels::ConvFusion { factor, ..Default::default() };
                Ok(packed.convolve(gradient, &fusion))
            }
            Self::Libtorch { weight, taps, shape } => {
                let (ConvGeometry { size, stride, padding, dilation }, out) = (*taps, gradient.size());
                // Strides leave out the last rows or columns where they do not reach them.
                let left =
                    [2, 3].map(|side| shape[side] - (out[side] - 1) * stride - dilation * (size - 1) - 1 + 2 * padding);
                let (stride, padding, dilation) = ([stride; 2], [padding; 2], [dilation; 2]);
                let weight = weight.get()?;
                let y = gradient.conv_transpose2d(weight, None::<Tensor>, stride, padding, left, 1, dilation);
                Ok(if factor == 1.0 { y } else { y * factor })
            }
        }
    }
}

/// y = W x + b over the last dimension: a convolution of one tap.
#[derive(Debug)]
pub struct Linear(Conv);

impl Linear {
    /// Creates a layer from `inputs` to `outputs` features.
    pub fn new(path: &Path, inputs: i64, outputs: i64) -> Self {
        Self::drawn(path, &[outputs, inputs])
    }

    /// Creates a layer stored as a convolution over a row, `[outputs, inputs, 1]`.
    pub fn convolution(path: &Path, inputs: i64, outputs: i64) -> Self {
        Self::drawn(path, &[outputs, inputs, 1])
    }

    fn drawn(path: &Path, shape: &[i64]) -> Self {
        let init = Init::FanIn(shape[1]);
        Self(Conv::with_shape(path, shape, init, Some(init)))
    }

    /// `[…, inputs]` to `[…, outputs]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        if let Some(y) = self.by_kernels(x) {
            return y;
        }
        let Conv { weight, bias, .. } = &self.0;
        let bias = bias.as_ref().map(|bias| bias.to_kind(x.kind()));
        let y = x.linear(&weight.flatten(1, -1).to_kind(x.kind()), bias);
        count(y.numel(), weight.size()[1]);
        y
    }

    /// All rows as the pixels of one image.
    fn by_kernels(&self, x: &Tensor) -> Option<Tensor> {
        if x.device() != Device::Cpu {
            return None;
        }
        let shape = self.0.weight.size();
        let (image, fusion) = (x.reshape([1, -1, 1, shape[1]]).permute([0, 3, 1, 2]), Fusion::default());
        self.0.is_fast(&image, &fusion).then(|| {
            let y = self.0.within(&image, &fusion).permute([0, 2, 3, 1]);
            y.view([&x.size()[..x.dim() - 1], &shape[..1]].concat().as_slice())
        })
    }
}

/// Group normalisation [Wu & He 2018], with a scale and a shift for each channel.
#[derive(Debug)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: i64,
    epsilon: f64,
}

impl GroupNorm {
    /// `channels` in `groups` groups.
    pub fn new(path: &Path, groups: i64, channels: i64, epsilon: f64) -> Self {
        Self {
            weight: path.tensor("weight", &[channels], Init::Constant(1.0)),
            bias: path.tensor("bias", &[channels], Init::Constant(0.0)),
            groups,
            epsilon,
        }
    }

    /// Sets the number of groups.
    #[must_use]
    pub fn in_groups(self, groups: i64) -> Self {
        Self { groups, ..self }
    }

    /// `[batch, channels, …]` to the same.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        if self.is_fast(x, None) {
            return self.by_kernels(x, None, false);
        }
        if let Some(y) = self.on_device().apply(x, None, false) {
            return y;
        }
        let (weight, bias) = (self.weight.to_kind(x.kind()), self.bias.to_kind(x.kind()));
        x.group_norm(self.groups, Some(&weight), Some(&bias), self.epsilon, true)
    }

    /// SiLU of the same; where `modulation` is given, `[batch, 2 · channels]`, scaled and shifted by it before.
    pub fn silu(&self, x: &Tensor, modulation: Option<&Tensor>) -> Tensor {
        if self.is_fast(x, modulation) {
            return self.by_kernels(x, modulation, true);
        }
        if let Some(y) = self.on_device().apply(x, modulation, true) {
            return y;
        }
        self.modulated(x, modulation).silu()
    }

    /// The same without the SiLU, layer by layer.
    pub fn modulated(&self, x: &Tensor, modulation: Option<&Tensor>) -> Tensor {
        let y = self.forward(x);
        let Some(modulation) = modulation else { return y };
        let parts = modulation.unsqueeze(-1).unsqueeze(-1).chunk(2, 1);
        y * (&parts[0] + 1.0) + &parts[1]
    }

    fn on_device(&self) -> device::DeviceGroupNorm<'_> {
        device::DeviceGroupNorm { weight: &self.weight, bias: &self.bias, groups: self.groups, epsilon: self.epsilon }
    }

    fn is_fast(&self, x: &Tensor, modulation: Option<&Tensor>) -> bool {
        let computed: Vec<&Tensor> = modulation.into_iter().collect();
        kernels::take(x, &computed, &[&self.weight, &self.bias])
    }

    fn by_kernels(&self, x: &Tensor, modulation: Option<&Tensor>, silu: bool) -> Tensor {
        let norm = self.kernel(modulation, silu);
        let (y, moments) = tch::no_grad(|| {
            let moments = norm.moments(x);
            (norm.apply(x, &moments), moments)
        });
        let inputs: Vec<&Tensor> = [x].into_iter().chain(modulation).collect();
        if !autograd::recording(&inputs) {
            return y;
        }
        let saved = self.saved(x, modulation, silu, moments);
        autograd::record(&inputs, y, move |gradient| {
            let (x, modulation) = saved.slopes(&gradient, false)?;
            Ok([Some(Some(x)), modulation.map(Some)].into_iter().flatten().collect())
        })
    }

    fn kernel<'a>(&'a self, modulation: Option<&'a Tensor>, silu: bool) -> kernels::HostGroupNorm<'a> {
        let Self { weight, bias, groups, epsilon } = self;
        kernels::HostGroupNorm { weight, bias, modulation, groups: *groups, epsilon: *epsilon, silu }
    }

    fn saved(&self, x: &Tensor, modulation: Option<&Tensor>, silu: bool, moments: GroupMoments) -> Normed {
        let parameters = [&self.weight, &self.bias].map(Saved::new);
        let (x, modulation) = (Saved::new(x), modulation.map(Saved::new));
        Normed { x, parameters, modulation, groups: self.groups, epsilon: self.epsilon, silu, moments }
    }
}

/// Saved tensors for the gradient of a normalisation.
#[derive(Debug)]
struct Normed {
    x: Saved,
    parameters: [Saved; 2],
    modulation: Option<Saved>,
    groups: i64,
    epsilon: f64,
    silu: bool,
    moments: GroupMoments,
}

impl Normed {
    /// The gradients of x and of the modulation from that of what became of x, which may be overwritten or not.
    fn slopes(&self, gradient: &Tensor, overwrite: bool) -> Result<(Tensor, Option<Tensor>), String> {
        let [weight, bias] = &self.parameters;
        let modulation = self.modulation.as_ref().map(Saved::get).transpose()?;
        let (weight, bias, groups, epsilon, silu) = (weight.get()?, bias.get()?, self.groups, self.epsilon, self.silu);
        let norm = kernels::HostGroupNorm { weight, bias, modulation, groups, epsilon, silu };
        Ok(norm.slopes(self.x.get()?, &self.moments, gradient, overwrite))
    }
}

/// Batch normalisation in use [Ioffe & Szegedy 2015]: by the mean and the variance of each channel that the file holds.
#[derive(Debug)]
pub struct BatchNorm {
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
}

impl BatchNorm {
    /// Creates the layer for `channels`, with the names that PyTorch gives its tensors.
    pub fn new(path: &Path, channels: i64) -> Self {
        let tensor = |name, value| path.tensor(name, &[channels], Init::Constant(value));
        Self {
            weight: tensor("weight", 1.0),
            bias: tensor("bias", 0.0),
            mean: tensor("running_mean", 0.0),
            variance: tensor("running_var", 1.0),
        }
    }

    /// `[batch, channels, …]` to the same: weight (x − mean)/√(variance + 10⁻⁵) + bias.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let [weight, bias, mean, variance] =
            [&self.weight, &self.bias, &self.mean, &self.variance].map(|tensor| Some(tensor.to_kind(x.kind())));
        x.batch_norm(weight, bias, mean, variance, false, 0.0, 1e-5, true)
    }
}

/// softmax(Q Kᵀ / √width) V of each head: all three `[batch, pixels, heads, width]`, to `[batch, pixels, heads · width]`. Where
/// gradients are recorded, libtorch computes it, which has a way back that keeps no scores.
pub fn attend(query: &Tensor, key: &Tensor, value: &Tensor) -> Tensor {
    let given = [query, key, value];
    if kernels::take(query, &given, &[]) && !autograd::recording(&given) {
        let mixed = kernels::attend(query, key, value);
        count(mixed.numel(), 2 * key.size()[1]);
        return mixed;
    }
    let [query, key, value] = given.map(|x| x.transpose(1, 2));
    let mixed = Tensor::scaled_dot_product_attention(&query, &key, &value, None::<&Tensor>, 0.0, false, None, false);
    count(mixed.numel(), 2 * key.size()[2]);
    mixed.transpose(1, 2).flatten(2, 3)
}

/// `[batch, channels, height, width]` to `[batch, pixels, channels]`.
pub fn pixels(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).flatten(1, 2)
}

/// `[batch, pixels, channels]` to the shape of `image`, `[batch, channels, height, width]`.
pub fn image_of(pixels: &Tensor, image: &Tensor) -> Tensor {
    pixels.unflatten(1, &image.size()[2..]).permute([0, 3, 1, 2])
}

/// Self-attention over all pixels.
#[derive(Debug)]
pub struct Attention {
    norm: Option<GroupNorm>,
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    heads: i64,
}

impl Attention {
    /// The layers of queries, keys, values and of what comes out, each from all channels to as many.
    pub fn new(norm: impl Into<Option<GroupNorm>>, [query, key, value, out]: [Linear; 4], heads: i64) -> Self {
        Self { norm: norm.into(), query, key, value, out, heads }
    }

    /// Sets the number of groups of its normalisation.
    #[must_use]
    pub fn in_groups(self, groups: i64) -> Self {
        Self { norm: self.norm.map(|norm| norm.in_groups(groups)), ..self }
    }

    /// x + out(softmax(Q Kᵀ / √width) V), of normalised pixels.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let normed = pixels(&self.norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward(x)));
        let heads = |layer: &Linear| layer.forward(&normed).unflatten(2, [self.heads, -1]);
        let mixed = attend(&heads(&self.query), &heads(&self.key), &heads(&self.value));
        x + image_of(&self.out.forward(&mixed), x)
    }
}

/// Sines and cosines of a time, at `features / 2` frequencies that fall from 1 towards 1/10000.
#[derive(Debug)]
pub struct Sinusoidal {
    frequencies: Tensor,
    cosines_first: bool,
}

impl Sinusoidal {
    /// Frequencies exp(−ln 10⁴ · i / (n − 1)), i = 0, …, n − 1, with n = `features` / 2; sines come first [DDPM, Appendix B].
    pub fn new(features: i64, device: Device) -> Self {
        Self::shifted(features, 1, false, device)
    }

    /// Frequencies exp(−ln 10⁴ · i / n); cosines come first [Dhariwal & Nichol 2021, §3].
    pub fn adm(features: i64, device: Device) -> Self {
        Self::shifted(features, 0, true, device)
    }

    /// Frequencies exp(−ln 10⁴ · i / (n − `shift`)).
    pub fn shifted(features: i64, shift: i64, cosines_first: bool, device: Device) -> Self {
        let count = features / 2;
        let exponents = Tensor::arange(count, (Kind::Float, device)) / (count - shift) as f64;
        Self { frequencies: (exponents * -(10_000f64.ln())).exp(), cosines_first }
    }

    /// A time for each image, `[batch]`, to `[batch, features]`: all of the one, then all of the other.
    pub fn forward(&self, time: &Tensor) -> Tensor {
        let angles = time.unsqueeze(1) * self.frequencies.unsqueeze(0);
        let (sines, cosines) = (angles.sin(), angles.cos());
        Tensor::cat(&if self.cosines_first { [cosines, sines] } else { [sines, cosines] }, 1)
    }
}

/// Numbers by which a network sees a time.
#[derive(Debug)]
pub enum TimeInput {
    /// Sines and cosines.
    Sinusoidal(Sinusoidal),
    /// A vector for each whole time, `[times, features]`; the nearest is taken.
    Learned(Tensor),
}

impl TimeInput {
    /// Vectors for the times 0 … `count` − 1.
    pub fn learned(path: &Path, count: i64, features: i64) -> Self {
        Self::Learned(path.tensor("weight", &[count, features], Init::FanIn(1)))
    }

    /// A time for each image, `[batch]`, to `[batch, features]`.
    fn forward(&self, time: &Tensor) -> Tensor {
        match self {
            Self::Sinusoidal(sinusoidal) => sinusoidal.forward(time),
            Self::Learned(vectors) => {
                let last = (vectors.size()[0] - 1) as f64;
                vectors.index_select(0, &time.round().clamp(0.0, last).to_kind(Kind::Int64))
            }
        }
    }
}

impl From<Sinusoidal> for TimeInput {
    fn from(sinusoidal: Sinusoidal) -> Self {
        Self::Sinusoidal(sinusoidal)
    }
}

/// Time and class as one vector for all blocks: SiLU of two layers over the sines and cosines, and of the class's row.
#[derive(Debug)]
pub struct TimeEmbedding {
    kind: Kind,
    input: TimeInput,
    layers: [Linear; 2],
    /// `[classes, width]`.
    classes: Option<Tensor>,
}

impl TimeEmbedding {
    /// Creates an embedding from `features` sines and cosines to `width` numbers, by the layers at these paths; the classes'
    /// rows are at `classes`.
    pub fn new(
        layers: [Path; 2],
        input: impl Into<TimeInput>,
        [features, width]: [i64; 2],
        (classes, count): (Path, Option<i64>),
    ) -> Self {
        let [first, second] = &layers;
        let layers = [Linear::new(first, features, width), Linear::new(second, width, width)];
        let rows = |count| classes.tensor("weight", &[count, width], Init::FanIn(1));
        Self { kind: first.kind(), input: input.into(), layers, classes: count.map(rows) }
    }

    /// The embedding, `[batch, width]`, for `label` and `class`, `[batch]`.
    pub fn forward(&self, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        self.raw(label, class).silu()
    }

    /// The embedding before its last SiLU.
    pub fn raw(&self, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        let [first, second] = &self.layers;
        let time = self.input.forward(label).to_kind(self.kind);
        let mut embedding = second.forward(&first.forward(&time).silu());
        if let (Some(classes), Some(class)) = (&self.classes, class) {
            embedding += class_rows(classes, class);
        }
        embedding
    }
}

/// Sines and cosines of a label's product with random frequencies [Score SDE, Appendix C; Tancik et al. 2020].
#[derive(Debug)]
pub struct FourierFeatures {
    frequencies: Tensor,
}

impl FourierFeatures {
    /// `features / 2` frequencies, which are the file's.
    pub fn new(path: &Path, features: i64) -> Self {
        Self { frequencies: path.tensor(FREQUENCIES, &[features / 2], Init::FanIn(1)) }
    }

    /// A label for each image, `[batch]`, to `[batch, features]`: sin 2πwx of all, then cos 2πwx.
    pub fn forward(&self, label: &Tensor) -> Tensor {
        let angles = (label.unsqueeze(1) * self.frequencies.unsqueeze(0)) * TAU;
        Tensor::cat(&[angles.sin(), angles.cos()], 1)
    }
}

/// Change of an image's size by a residual block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rescale {
    /// Nothing.
    Keep,
    /// Two pixels become one, in both directions.
    Halve,
    /// One pixel becomes two.
    Double,
}

impl Rescale {
    /// Halves by means of 2×2 pixels, doubles by repetition.
    pub fn apply(self, x: &Tensor) -> Tensor {
        match self {
            Self::Keep => x.shallow_clone(),
            Self::Halve => halved(x),
            Self::Double => doubled(x),
        }
    }
}

/// The mean of each 2×2 pixels, of an even number in each direction.
pub fn halved(x: &Tensor) -> Tensor {
    linear(x, |x| x.avg_pool2d([2, 2], [2, 2], [0, 0], false, true, None::<i64>), |gradient| doubled(gradient) / 4.0)
}

/// A linear map of images and its adjoint: of some that libtorch has, it would keep the image for nothing.
pub fn linear(
    x: &Tensor,
    map: impl Fn(&Tensor) -> Tensor,
    adjoint: impl Fn(&Tensor) -> Tensor + Send + 'static,
) -> Tensor {
    if !kernels::take(x, &[], &[]) {
        return map(x);
    }
    autograd::record(&[x], tch::no_grad(|| map(x)), move |gradient| Ok(vec![Some(adjoint(&gradient))]))
}

/// The rows of a table `[classes, width]`; the number after the last is no class, whose row is zeros.
pub fn class_rows(table: &Tensor, class: &Tensor) -> Tensor {
    let count = table.size()[0];
    let known = class.lt(count).to_kind(table.kind()).unsqueeze(1);
    table.index_select(0, &class.clamp_max(count - 1)) * known
}

/// Each pixel repeated twice in both directions.
pub fn doubled(x: &Tensor) -> Tensor {
    let size = x.size();
    x.upsample_nearest2d([2 * size[2], 2 * size[3]], None, None)
}
