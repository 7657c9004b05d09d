//! Convolution, group normalisation and attention of f32 images on the CPU, where libtorch's own leave something to gain.
//!
//! `kernels.cpp` holds them; here is when they are used, and how. They serve f32 on CPUs with AVX-512, or AVX2 and FMA, where
//! no gradient of parameters is recorded; everywhere else, and after [`set_exact`], layers compute by libtorch alone. Of networks
//! measured, images at the end of a walk differ by at most 4e-6 of their largest value (`experiments/speed.md`). The environment
//! variable `TWEEDIE_KERNELS` allows one instruction set alone (avx512, avx2), or none. Images lie channels-last. GPUs have
//! theirs in [`device`].

#![allow(unsafe_code)]

pub mod device;
pub mod driver;

use std::{
    collections::BTreeMap,
    ffi::{c_int, c_long},
    fmt,
    ptr::null,
    sync::{
        Arc, Mutex, OnceLock, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::MmapMut;
use tch::{Device, Kind, Tensor};

use crate::backend::memory;

/// Cost of reading a weight, in multiplications by it: large networks do not stay in any cache from one evaluation to
/// the next. From 6 to 30, ddpm-cifar10 takes the same time at batch 1 and 4; fewer bytes are read with more. On the
/// way back weights are packed a second time, and those of small maps are most of a network's: there they count for
/// their memory as well.
const READ: [i64; 2] = [16, 96];

static EXACT: AtomicBool = AtomicBool::new(false);

/// Sets whether layers leave everything to libtorch from now on, in all threads.
pub fn set_exact(exact: bool) {
    EXACT.store(exact, Ordering::Relaxed);
}

/// The instruction set for which kernels are at hand on this CPU: `avx512` or `avx2`.
pub fn instructions() -> Option<&'static str> {
    kernels().map(|(name, _)| *name)
}

/// Algorithm of a convolution.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
#[repr(i32)]
pub enum ConvMethod {
    /// One for each tap, channel and output.
    Direct = 1,
    /// F(2×2, 3×3) [Lavin & Gray 2016]: 16 for every 4 outputs in place of 36.
    Winograd2 = 2,
    /// F(4×4, 3×3): 36 for every 16 in place of 144; rounding grows about tenfold.
    Winograd4 = 4,
}

impl ConvMethod {
    /// The cheapest for a convolution of `shape`, `[batch, channels, height, width]`: each of its matrices of weights is read
    /// once and multiplied by one row for each tile of outputs.
    pub fn cheapest(taps: ConvGeometry, direction: Direction, shape: &[i64]) -> Self {
        if taps != ConvGeometry::default() {
            return Self::Direct;
        }
        let tiles = |side: i64| shape[0] * ((shape[2] + side - 1) / side) * ((shape[3] + side - 1) / side);
        let cost = |(matrices, side, _): &(i64, i64, Self)| matrices * (tiles(*side) + READ[direction as usize]);
        let all = [(36, 4, Self::Winograd4), (16, 2, Self::Winograd2), (9, 1, Self::Direct)];
        all.into_iter().min_by_key(cost).map_or(Self::Direct, |(_, _, method)| method)
    }
}

/// Taps of a convolution: `size`×`size`. By default, 3×3 around each pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ConvGeometry {
    /// Taps in one direction.
    pub size: i64,
    /// Pixels from one output to the next.
    pub stride: i64,
    /// Zeros around the image.
    pub padding: i64,
    /// Pixels from one tap to the next.
    pub dilation: i64,
}

impl Default for ConvGeometry {
    fn default() -> Self {
        Self { size: 3, stride: 1, padding: 1, dilation: 1 }
    }
}

impl ConvGeometry {
    /// Each pixel alone.
    pub const SINGLE: Self = Self { size: 1, stride: 1, padding: 0, dilation: 1 };

    /// The outputs along a side.
    fn along(self, side: i64) -> i64 {
        (side + 2 * self.padding - self.dilation * (self.size - 1) - 1) / self.stride + 1
    }

    /// Those that, with W flipped and transposed, turn the gradient of the outputs into that of the inputs: where there is no
    /// stride, and no more padding than taps reach.
    pub fn adjoint(self) -> Option<Self> {
        let padding = self.dilation * (self.size - 1) - self.padding;
        (self.stride == 1 && padding >= 0).then_some(Self { padding, ..self })
    }
}

/// Direction of a convolution.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// Inputs to outputs.
    Forward,
    /// Gradient of the outputs to that of the inputs.
    Backward,
}

/// Layers fused with a convolution: y = factor · (W ∗ a(x) + bias + time_bias + residual).
#[derive(Clone, Copy, Debug)]
pub struct ConvFusion<'a> {
    /// a(x) = SiLU(scale x + shift), each `[batch, inputs]`; else x.
    pub normalised: Option<[&'a Tensor; 2]>,
    /// `[outputs]`.
    pub bias: Option<&'a Tensor>,
    /// `[batch, outputs]`.
    pub time_bias: Option<&'a Tensor>,
    /// A tensor of y's shape that is added.
    pub residual: Option<&'a Tensor>,
    /// Multiplies everything.
    pub factor: f64,
}

/// Nothing.
impl Default for ConvFusion<'_> {
    fn default() -> Self {
        Self { normalised: None, bias: None, time_bias: None, residual: None, factor: 1.0 }
    }
}

/// The weights of a convolution as its kernel reads them.
pub struct Packed {
    /// Changes with the weights themselves.
    version: i64,
    direction: Direction,
    method: ConvMethod,
    inputs: i64,
    outputs: i64,
    taps: ConvGeometry,
    floats: Floats,
}

/// Numbers in pages of 2 MiB where the system has them: an evaluation reads all weights once, and small pages would cost a
/// look-up for every 4 KiB.
struct Floats {
    map: MmapMut,
    /// Offset of the first number, in bytes.
    start: usize,
}

const PAGE: usize = 2 << 20;

impl Floats {
    /// Allocates `count` numbers, all 0.
    fn new(count: usize) -> Self {
        let bytes = (4 * count).max(64);
        // Whole large pages lie at multiples of their size. What is never touched takes no memory.
        let room = if bytes >= PAGE { PAGE } else { 0 };
        let map =
            MmapMut::map_anon(bytes + room).unwrap_or_else(|e| panic!("not enough memory for {count} weights: {e}"));
        let start = (map.as_ptr() as usize).wrapping_neg() % room.max(1);
        #[cfg(target_os = "linux")]
        if room > 0 {
            // A system without large pages says so; small ones do then.
            let _ = map.advise_range(Advice::HugePage, start, bytes - bytes % PAGE);
        }
        Self { map, start }
    }

    fn as_ptr(&self) -> *const f32 {
        // SAFETY: `start` lies within the map.
        unsafe { self.map.as_ptr().add(self.start) }.cast()
    }

    fn as_mut_ptr(&mut self) -> *mut f32 {
        // SAFETY: as above.
        unsafe { self.map.as_mut_ptr().add(self.start) }.cast()
    }
}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed")
            .field("direction", &self.direction)
            .field("method", &self.method)
            .field("bytes", &self.floats.map.len())
            .finish_non_exhaustive()
    }
}

/// Packed weights that are in use, by the place of the originals, which replicas of a network share.
static SHARED: Mutex<BTreeMap<(usize, Direction, ConvMethod), Weak<Packed>>> = Mutex::new(BTreeMap::new());

impl Packed {
    /// Packs a weight `[outputs, inputs, size, size]`, or of fewer dimensions where there is a single tap: for a
    /// convolution of these taps or, the other way, for its adjoint.
    ///
    /// # Panics
    ///
    /// If the adjoint of strides, or of more padding than taps reach, is asked for.
    pub fn new(weight: &Tensor, taps: ConvGeometry, direction: Direction, method: ConvMethod) -> Self {
        let whole = weight.view([weight.size()[0], weight.size()[1], taps.size, taps.size]);
        let (taps, source) = match direction {
            Direction::Forward => (taps, whole.contiguous()),
            Direction::Backward => {
                let Some(taps) = taps.adjoint() else { panic!("{taps:?} have no adjoint of this kind") };
                (taps, whole.detach().flip([2, 3]).transpose(0, 1).contiguous())
            }
        };
        let shape = source.size();
        let mut packed = Self {
            version: version(weight),
            direction,
            method,
            inputs: shape[1],
            outputs: shape[0],
            taps,
            floats: Floats::new(0),
        };
        let job = packed.job([1, 1, 1]);
        if let Some((_, kernels)) = kernels() {
            // SAFETY: `job` outlives the call, which reads its sizes alone.
            let floats = unsafe { (kernels.packed)(method as c_int, &raw const job) };
            packed.floats = Floats::new(floats as usize);
            // SAFETY: `source` holds outputs · inputs · size² floats, and `floats` as many as were asked for, all of which are set.
            unsafe {
                (kernels.pack)(method as c_int, &raw const job, floats_of(&source), packed.floats.as_mut_ptr());
            };
            leave(weight);
        }
        packed
    }

    /// The packed weight, computed once for all that use it.
    pub fn shared(weight: &Tensor, taps: ConvGeometry, direction: Direction, method: ConvMethod) -> Arc<Self> {
        let mut all = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        let place = (weight.data_ptr() as usize, direction, method);
        let found = all.get(&place).and_then(Weak::upgrade);
        if let Some(packed) = found.filter(|packed| packed.is_of(weight, direction, method)) {
            return packed;
        }
        all.retain(|_, packed| packed.strong_count() > 0);
        let packed = Arc::new(Self::new(weight, taps, direction, method));
        all.insert(place, Arc::downgrade(&packed));
        packed
    }

    /// Whether these are the weights as they are now, for this method.
    pub fn is_of(&self, weight: &Tensor, direction: Direction, method: ConvMethod) -> bool {
        self.is_for(direction, method) && self.version == version(weight)
    }

    /// Whether they are packed for this method.
    pub fn is_for(&self, direction: Direction, method: ConvMethod) -> bool {
        (self.direction, self.method) == (direction, method)
    }

    fn job(&self, [images, height, width]: [i64; 3]) -> ConvolutionJob {
        let ConvGeometry { size, stride, padding, dilation } = self.taps;
        let out = [height, width].map(|side| self.taps.along(side));
        ConvolutionJob {
            x: null(),
            weights: self.floats.as_ptr(),
            bias: null(),
            scale: null(),
            shift: null(),
            time_bias: null(),
            residual: null(),
            y: std::ptr::null_mut(),
            factor: 1.0,
            activate: 1,
            threads: tch::get_num_threads(),
            images,
            height,
            width,
            inputs: self.inputs,
            outputs: self.outputs,
            out_height: out[0],
            out_width: out[1],
            size,
            stride,
            padding,
            dilation,
        }
    }

    /// `[batch, inputs, height, width]` to `[batch, outputs, …]`.
    ///
    /// # Panics
    ///
    /// If a tensor has not the shape that it needs, or is not of f32 on the CPU.
    pub fn convolve(&self, x: &Tensor, fusion: &ConvFusion) -> Tensor {
        let x = rows(x);
        let [images, height, width, inputs] = sizes(&x);
        assert_eq!(inputs, self.inputs, "channels of the image");
        let mut job = self.job([images, height, width]);
        let y = Tensor::empty([images, job.out_height, job.out_width, self.outputs], (Kind::Float, Device::Cpu));
        let normalised = fusion.normalised.map(|both| both.map(|part| held(part, &[images, inputs])));
        let bias = fusion.bias.map(|bias| held(bias, &[self.outputs]));
        let time_bias = fusion.time_bias.map(|time_bias| held(time_bias, &[images, self.outputs]));
        let residual = fusion.residual.map(|residual| held(&rows(residual), &y.size()));
        let place = |tensor: &Option<Tensor>| tensor.as_ref().map_or(null(), floats_of);
        job.x = floats_of(&x);
        job.y = floats_of(&y).cast_mut();
        (job.bias, job.time_bias, job.residual) = (place(&bias), place(&time_bias), place(&residual));
        if let Some([scale, shift]) = &normalised {
            (job.scale, job.shift) = (floats_of(scale), floats_of(shift));
        }
        job.factor = fusion.factor as f32;
        if let Some((_, kernels)) = kernels().filter(|_| y.numel() > 0) {
            // SAFETY: every tensor was checked to be contiguous f32 on the CPU in the shape that the sizes in `job` give,
            // all of them live until the end of this function, and `y` is nobody else's.
            unsafe { (kernels.convolve)(self.method as c_int, &raw const job) };
        }
        y.permute([0, 3, 1, 2])
    }
}

/// Group normalisation of `[batch, channels, height, width]` and SiLU, of which what follows are the numbers.
#[derive(Clone, Copy, Debug)]
pub struct HostGroupNorm<'a> {
    /// `[channels]`.
    pub weight: &'a Tensor,
    /// `[channels]`.
    pub bias: &'a Tensor,
    /// `[batch, 2 · channels]`: makes the normalised image (1 + t₁)(weight x̂ + bias) + t₂ by its halves t₁ and t₂.
    pub modulation: Option<&'a Tensor>,
    /// Groups of channels.
    pub groups: i64,
    /// Added to variances.
    pub epsilon: f64,
    /// Whether SiLU follows.
    pub silu: bool,
}

/// A normalisation of certain images: scale x + shift, each `[batch, channels]`.
#[derive(Debug)]
pub struct GroupMoments {
    scale: Tensor,
    shift: Tensor,
    /// Mean of each group, `[batch, groups]`.
    mean: Tensor,
    /// 1/√(variance + ε) of each group.
    rate: Tensor,
}

impl GroupMoments {
    /// The scale and the shift.
    pub fn affine(&self) -> [&Tensor; 2] {
        [&self.scale, &self.shift]
    }
}

impl HostGroupNorm<'_> {
    /// Moments of `x`.
    ///
    /// # Panics
    ///
    /// If a tensor has not the shape that it needs, or is not of f32 on the CPU.
    pub fn moments(&self, x: &Tensor) -> GroupMoments {
        let x = rows(x);
        let [images, _, _, channels] = sizes(&x);
        assert!(self.groups > 0 && channels % self.groups == 0, "{channels} channels in {} groups", self.groups);
        let empty = |count| Tensor::empty([images, count], (Kind::Float, Device::Cpu));
        let [scale, shift] = [0, 1].map(|_| empty(channels));
        let [mean, rate] = [0, 1].map(|_| empty(self.groups));
        let moments = GroupMoments { scale, shift, mean, rate };
        self.with(&x, &moments, |kernels, job| {
            // SAFETY: as in `Packed::convolve`; the moments are contiguous as they were made, and nobody else's.
            unsafe { (kernels.moments)(job) };
        });
        moments
    }

    /// The normalised image, or its SiLU.
    ///
    /// # Panics
    ///
    /// If [`moments`](Self::moments) would panic.
    pub fn apply(&self, x: &Tensor, moments: &GroupMoments) -> Tensor {
        let x = rows(x);
        let y = x.empty_like();
        self.with(&x, moments, |kernels, job| {
            // SAFETY: as in `Packed::convolve`; the moments are only read.
            unsafe { (kernels.apply)(job, c_int::from(self.silu), floats_of(&y).cast_mut()) };
        });
        y.permute([0, 3, 1, 2])
    }

    /// The gradient of x from that of [`apply`](Self::apply), which is overwritten if it may be; and that of `modulation`, if there
    /// is one.
    ///
    /// # Panics
    ///
    /// If [`moments`](Self::moments) would panic.
    pub fn slopes(
        &self,
        x: &Tensor,
        moments: &GroupMoments,
        gradient: &Tensor,
        overwrite: bool,
    ) -> (Tensor, Option<Tensor>) {
        let (x, gradient) = (rows(x), rows(gradient));
        assert_eq!(x.size(), gradient.size(), "shape of a gradient");
        let slopes = if overwrite { gradient.shallow_clone() } else { x.empty_like() };
        let modulation = self.modulation.map(|modulation| Tensor::empty(modulation.size(), (Kind::Float, Device::Cpu)));
        self.with(&x, moments, |kernels, job| {
            let modulation = modulation.as_ref().map_or(null(), floats_of).cast_mut();
            let (from, to) = (floats_of(&gradient), floats_of(&slopes).cast_mut());
            // SAFETY: as in `Packed::convolve`; the moments are only read.
            unsafe { (kernels.slopes)(job, c_int::from(self.silu), from, to, modulation) };
        });
        (slopes.permute([0, 3, 1, 2]), modulation)
    }

    /// Hands the numbers over, for `x` as [`rows`].
    fn with(&self, x: &Tensor, moments: &GroupMoments, run: impl Fn(&Kernels, *const NormalisationJob)) {
        let [images, height, width, channels] = sizes(x);
        let (weight, bias) = (held(self.weight, &[channels]), held(self.bias, &[channels]));
        let modulation = self.modulation.map(|modulation| held(modulation, &[images, 2 * channels]));
        let place = |tensor: &Tensor, count| {
            assert_eq!(tensor.size(), [images, count], "shape of moments");
            floats_of(tensor).cast_mut()
        };
        let job = NormalisationJob {
            x: floats_of(x),
            weight: floats_of(&weight),
            bias: floats_of(&bias),
            modulation: modulation.as_ref().map_or(null(), floats_of),
            scale: place(&moments.scale, channels),
            shift: place(&moments.shift, channels),
            mean: place(&moments.mean, self.groups),
            rate: place(&moments.rate, self.groups),
            epsilon: self.epsilon,
            threads: tch::get_num_threads(),
            images,
            pixels: height * width,
            channels,
            groups: self.groups,
        };
        if let Some((_, kernels)) = kernels().filter(|_| x.numel() > 0) {
            run(kernels, &raw const job);
        }
    }
}

/// softmax(Q Kᵀ / √width) V of each head: all three `[batch, pixels, heads, width]`, to `[batch, pixels, heads · width]`.
///
/// # Panics
///
/// If a tensor has not the shape that it needs, or is not of f32 on the CPU.
pub fn attend(query: &Tensor, key: &Tensor, value: &Tensor) -> Tensor {
    // The numbers of a head side by side, whatever is between one head and the next.
    let [query, key, value] =
        [query, key, value].map(|x| if x.stride()[3] == 1 { x.shallow_clone() } else { x.contiguous() });
    let ([images, queries, heads, width], keys) = (sizes(&query), key.size()[1]);
    for other in [&key, &value] {
        assert_eq!(other.size(), [images, keys, heads, width], "shape of keys and values");
    }
    let y = Tensor::empty([images, queries, heads * width], (Kind::Float, Device::Cpu));
    let steps = |x: &Tensor| {
        let stride = x.stride();
        [stride[0], stride[1], stride[2]]
    };
    let job = AttentionJob {
        query: floats_of(&query),
        key: floats_of(&key),
        value: floats_of(&value),
        y: floats_of(&y).cast_mut(),
        scale: (width as f64).sqrt().recip(),
        threads: tch::get_num_threads(),
        images,
        heads,
        queries,
        keys,
        width,
        query_steps: steps(&query),
        key_steps: steps(&key),
        value_steps: steps(&value),
    };
    if let Some((_, kernels)) = kernels().filter(|_| y.numel() > 0 && keys > 0) {
        // SAFETY: all are f32 on the CPU, of the shapes and steps in `job`, and live until the end of this function;
        // `y` is contiguous as it was made, and nobody else's.
        unsafe { (kernels.attend)(&raw const job) };
    }
    y
}

/// Whether the kernels take these: images, and what else is computed, in f32 on the CPU, and parameters of which no gradient
/// is recorded.
pub fn take(x: &Tensor, computed: &[&Tensor], parameters: &[&Tensor]) -> bool {
    let plain = |t: &Tensor| t.kind() == Kind::Float && t.device() == Device::Cpu;
    x.dim() == 4
        && plain(x)
        && computed.iter().all(|t| plain(t))
        && parameters.iter().all(|t| plain(t) && !t.requires_grad())
        && !EXACT.load(Ordering::Relaxed)
        && kernels().is_some()
}

/// Leaves the pages of a weight that is not read again soon, if a mapped file can give them again: a network is then not held
/// twice.
fn leave(weight: &Tensor) {
    let start = weight.data_ptr() as usize;
    let bytes = start..start + weight.numel() * weight.kind().elt_size_in_bytes();
    if version(weight) == 0 && weight.is_contiguous() {
        // SAFETY: this weight was never changed in place, nor was any tensor that shares its numbers: they share the count.
        unsafe { memory::leave(bytes) };
    }
}

/// Number of changes of a tensor in place.
fn version(tensor: &Tensor) -> i64 {
    tensor.internal_version()
}

/// `[batch, height, width, channels]`, so in memory.
fn rows(x: &Tensor) -> Tensor {
    x.permute([0, 2, 3, 1]).contiguous()
}

fn sizes(x: &Tensor) -> [i64; 4] {
    let size = x.size();
    [size[0], size[1], size[2], size[3]]
}

/// The tensor as a kernel reads it, if it has this shape.
fn held(tensor: &Tensor, shape: &[i64]) -> Tensor {
    assert_eq!(tensor.size(), shape, "shape of a kernel's tensor");
    tensor.contiguous()
}

fn floats_of(tensor: &Tensor) -> *const f32 {
    assert_eq!((tensor.kind(), tensor.device()), (Kind::Float, Device::Cpu), "kernels are for f32 on the CPU");
    tensor.data_ptr().cast_const().cast()
}

/// Layout as in `kernels.cpp`.
#[repr(C)]
struct ConvolutionJob {
    x: *const f32,
    weights: *const f32,
    bias: *const f32,
    scale: *const f32,
    shift: *const f32,
    time_bias: *const f32,
    residual: *const f32,
    y: *mut f32,
    factor: f32,
    activate: c_int,
    threads: c_int,
    images: c_long,
    height: c_long,
    width: c_long,
    inputs: c_long,
    outputs: c_long,
    out_height: c_long,
    out_width: c_long,
    size: c_long,
    stride: c_long,
    padding: c_long,
    dilation: c_long,
}

/// Layout as in `kernels.cpp`.
#[repr(C)]
struct NormalisationJob {
    x: *const f32,
    weight: *const f32,
    bias: *const f32,
    modulation: *const f32,
    scale: *mut f32,
    shift: *mut f32,
    mean: *mut f32,
    rate: *mut f32,
    epsilon: f64,
    threads: c_int,
    images: c_long,
    pixels: c_long,
    channels: c_long,
    groups: c_long,
}

/// Layout as in `kernels.cpp`.
#[repr(C)]
struct AttentionJob {
    query: *const f32,
    key: *const f32,
    value: *const f32,
    y: *mut f32,
    scale: f64,
    threads: c_int,
    images: c_long,
    heads: c_long,
    queries: c_long,
    keys: c_long,
    width: c_long,
    query_steps: [c_long; 3],
    key_steps: [c_long; 3],
    value_steps: [c_long; 3],
}

/// Layout as in `kernels.cpp`.
#[repr(C)]
struct Kernels {
    convolve: unsafe extern "C" fn(c_int, *const ConvolutionJob),
    pack: unsafe extern "C" fn(c_int, *const ConvolutionJob, *const f32, *mut f32),
    packed: unsafe extern "C" fn(c_int, *const ConvolutionJob) -> c_long,
    moments: unsafe extern "C" fn(*const NormalisationJob),
    apply: unsafe extern "C" fn(*const NormalisationJob, c_int, *mut f32),
    slopes: unsafe extern "C" fn(*const NormalisationJob, c_int, *const f32, *mut f32, *mut f32),
    attend: unsafe extern "C" fn(*const AttentionJob),
}

/// Those for this CPU, if there are any.
fn kernels() -> Option<&'static (&'static str, &'static Kernels)> {
    static FOUND: OnceLock<Option<(&'static str, &'static Kernels)>> = OnceLock::new();
    FOUND.get_or_init(find).as_ref()
}

#[cfg(kernels)]
fn find() -> Option<(&'static str, &'static Kernels)> {
    unsafe extern "C" {
        static tweedie_avx512: Kernels;
        static tweedie_avx2: Kernels;
    }
    let has_avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    let has_avx512 = is_x86_feature_detected!("avx512f")
        && is_x86_feature_detected!("avx512bw")
        && is_x86_feature_detected!("avx512dq")
        && is_x86_feature_detected!("avx512vl");
    // The variable is for tests, and for whoever doubts a result.
    let asked = std::env::var("TWEEDIE_KERNELS");
    let allowed = |name| asked.as_deref().map_or(true, |asked| asked == name);
    // SAFETY: tables of functions that nothing ever writes.
    unsafe {
        match () {
            () if has_avx512 && has_avx2 && allowed("avx512") => Some(("avx512", &tweedie_avx512)),
            () if has_avx2 && allowed("avx2") => Some(("avx2", &tweedie_avx2)),
            () => None,
        }
    }
}

#[cfg(not(kernels))]
fn find() -> Option<(&'static str, &'static Kernels)> {
    None
}
