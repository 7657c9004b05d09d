//! Group normalisation, sums after a convolution, and noise, by kernels of our own on NVIDIA GPUs.
//!
//! `device.cu` holds them. A [`CudaModule`] is that file compiled for one GPU, by the compiler that comes with libtorch's CUDA half,
//! when the GPU is first used; it must then give what libtorch and the host give, or is not used again in this process
//! ([`status`] gives the reason). They serve f32 and bf16 where no gradient is recorded, on libtorch's stream and in its memory, so
//! that a CUDA graph may hold them; first use cannot be inside of one. After [`set_exact`](super::set_exact) they rest.
//!
//! [`Launch`] is all that is asked of a device, and tests have another one: the CPU.

#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
};

use tch::{Device, Kind, Tensor, no_grad};

use super::{
    EXACT,
    driver::{self, CudaModule},
    held, rows, sizes,
};
use crate::numbers::stream;

/// Source of the kernels.
pub const SOURCE: &str = include_str!("device.cu");

/// Names of the kernels.
pub const KERNELS: [&str; 16] = [
    "sums_bf16",
    "sums_bf16_by_8",
    "sums_f32",
    "sums_f32_by_4",
    "fold_bf16",
    "fold_f32",
    "apply_bf16",
    "apply_bf16_by_8",
    "apply_f32",
    "apply_f32_by_4",
    "add_bf16",
    "add_bf16_by_8",
    "add_f32",
    "add_f32_by_4",
    "normal_f32",
    "normal_f64",
];

/// Threads of a block, as in `device.cu`.
const THREADS: u32 = 256;
/// Threads of a block that has little to do, as in `device.cu`.
const FEW: u32 = 32;
/// Most channels for which `device.cu` has room.
const CHANNELS: i64 = 2048;
/// Images of one launch, at most: what CUDA allows for the second dimension.
const IMAGES: i64 = 65_535;

/// A device that runs `device.cu`.
pub trait Launch: Send + Sync {
    /// Puts `kernel` on the device's stream: `grid` blocks, across and down, of so many threads. Of each argument the first bytes
    /// are read, as many as its type has.
    ///
    /// # Safety
    ///
    /// The arguments are those of the kernel, in number, order and type; what they point to is on the device, and as large as
    /// the grid and the arguments say.
    unsafe fn launch(&self, kernel: &str, grid: [u32; 2], threads: u32, arguments: &[u64]) -> Result<(), String>;
}

/// Group normalisation's parameters: two of `[channels]`, in so many groups.
#[derive(Clone, Copy, Debug)]
pub struct DeviceGroupNorm<'a> {
    /// Multiplies what is normalised.
    pub weight: &'a Tensor,
    /// Is added then.
    pub bias: &'a Tensor,
    /// Channels are normalised together in these.
    pub groups: i64,
    /// Is added to the variance.
    pub epsilon: f64,
}

/// Terms added to a convolution's products: y = factor · (y + bias + time_bias + residual).
#[derive(Clone, Copy, Debug)]
pub struct Sum<'a> {
    /// `[channels]`.
    pub bias: Option<&'a Tensor>,
    /// `[batch, channels]`.
    pub time_bias: Option<&'a Tensor>,
    /// A tensor of y's shape that is added.
    pub residual: Option<&'a Tensor>,
    /// Multiplies everything.
    pub factor: f64,
}

impl DeviceGroupNorm<'_> {
    /// x, normalised; where `modulation` is given, `[batch, 2 · channels]`, times 1 + its first half, plus its second; then its SiLU,
    /// if asked for. None where libtorch has to do it.
    pub fn apply(&self, x: &Tensor, modulation: Option<&Tensor>, silu: bool) -> Option<Tensor> {
        let parameters: Vec<&Tensor> = [self.weight, self.bias].into_iter().chain(modulation).collect();
        let kernels = take(x, &parameters)?;
        settled(x.device(), self.by(&*kernels, x, modulation, silu))
    }

    /// Normalises by these kernels: x of f32 or bf16, `[batch, channels, height, width]` with at most 2048 channels.
    ///
    /// # Panics
    ///
    /// If a tensor has not the shape that it needs.
    pub fn by(
        &self,
        kernels: &dyn Launch,
        x: &Tensor,
        modulation: Option<&Tensor>,
        silu: bool,
    ) -> Result<Tensor, String> {
        let x = rows(x);
        let [images, height, width, channels] = sizes(&x);
        let (pixels, groups) = (height * width, self.groups);
        assert!(groups > 0 && channels % groups == 0, "{channels} channels in {groups} groups");
        let given = |tensor: &Tensor, shape: &[i64]| held(&tensor.to_kind(x.kind()), shape);
        let (weight, bias) = (given(self.weight, &[channels]), given(self.bias, &[channels]));
        let modulation = modulation.map(|modulation| given(modulation, &[images, 2 * channels]));

        // A chunk depends on its image alone, and so does the order in which numbers are added.
        let chunk = over((pixels * channels / 64).clamp(1 << 14, 1 << 16), channels);
        let chunks = over(pixels, chunk);
        let partial = Tensor::empty([images, groups, chunks, 2], (Kind::Double, x.device()));
        let folded = Tensor::empty([images, channels, 2], (Kind::Float, x.device()));
        let y = x.empty_like();
        let (kind, lane) = names(&x, &[&x, &y]);
        let grid = |across: i64| [across as u32, images as u32];
        let sums = [place(&x), place(&partial), pixels as u64, channels as u64, groups as u64, chunk as u64];
        let count = ((pixels * (channels / groups)) as f64).to_bits();
        let parameters = [place(&weight), place(&bias), modulation.as_ref().map_or(0, place)];
        let fold = [place(&partial), parameters[0], parameters[1], parameters[2], place(&folded)];
        let fold = [&fold[..], &[count, self.epsilon.to_bits(), channels as u64, chunks as u64]].concat();
        let tile = tile(&x);
        let apply =
            [place(&x), place(&folded), place(&y), pixels as u64, channels as u64, tile as u64, u64::from(silu)];
        // SAFETY: every tensor was made, or checked to be, contiguous in the shape that the numbers beside it give; the first two
        // kernels write all of `partial` and of `folded` before the next reads them, in the order of one stream.
        unsafe {
            kernels.launch(&format!("sums_{lane}"), grid(chunks), THREADS, &sums)?;
            kernels.launch(&format!("fold_{kind}"), grid(groups), FEW, &fold)?;
            kernels.launch(&format!("apply_{lane}"), grid(over(pixels, tile)), THREADS, &apply)?;
        }
        Ok(y.permute([0, 3, 1, 2]))
    }
}

impl Sum<'_> {
    /// The sum over the products of a convolution of x with `weight`, which are asked for then. None where libtorch has to do
    /// it, and where there is but a bias, which it adds as fast.
    pub fn over(&self, x: &Tensor, weight: &Tensor, products: impl FnOnce() -> Tensor) -> Option<Tensor> {
        if self.time_bias.is_none() && self.residual.is_none() && self.factor == 1.0 {
            return None;
        }
        let parameters: Vec<&Tensor> =
            [Some(weight), self.bias, self.time_bias, self.residual].into_iter().flatten().collect();
        let kernels = take(x, &parameters).filter(|_| weight.size()[0] <= CHANNELS)?;
        settled(x.device(), self.by(&*kernels, &products()))
    }

    /// Adds the terms to y, `[batch, channels, height, width]` of f32 or bf16, by these kernels; y is used up.
    ///
    /// # Panics
    ///
    /// If a tensor has not the shape that it needs.
    pub fn by(&self, kernels: &dyn Launch, y: &Tensor) -> Result<Tensor, String> {
        let y = rows(y);
        let [images, height, width, channels] = sizes(&y);
        let given = |tensor: &Tensor, shape: &[i64]| held(&tensor.to_kind(y.kind()), shape);
        let bias = self.bias.map(|bias| given(bias, &[channels]));
        let time_bias = self.time_bias.map(|time_bias| given(time_bias, &[images, channels]));
        let residual = self.residual.map(|residual| given(&rows(residual), &y.size()));
        let all: Vec<&Tensor> = [Some(&y), residual.as_ref()].into_iter().flatten().collect();
        let (_, lane) = names(&y, &all);
        let (pixels, tile) = (height * width, tile(&y));
        let [bias, time_bias, residual] = [&bias, &time_bias, &residual].map(|part| part.as_ref().map_or(0, place));
        let factor = u64::from((self.factor as f32).to_bits());
        let arguments = [place(&y), bias, time_bias, residual, factor, pixels as u64, channels as u64, tile as u64];
        let grid = [over(pixels, tile) as u32, images as u32];
        // SAFETY: as for `Norm::by`; y is read and written number by number.
        unsafe { kernels.launch(&format!("add_{lane}"), grid, THREADS, &arguments)? };
        Ok(y.permute([0, 3, 1, 2]))
    }
}

/// Draws on the device the noise of [`Seeded::like`](crate::scores::noise::Seeded), `[seeds, each]`, with the host's
/// bits. None where the host has to do it.
pub fn normal(seeds: &[u64], each: usize, place: [u64; 2], kind: Kind, device: Device) -> Option<Tensor> {
    let small = !seeds.is_empty() && seeds.len() <= IMAGES as usize && each > 0;
    let kernels = small.then(|| at(device))??;
    settled(device, normal_by(&*kernels, seeds, each, place, kind, device))
}

/// Draws the noise by these kernels: of f64 if `kind` is, else of f32. `place` is step and draw.
pub fn normal_by(
    kernels: &dyn Launch,
    seeds: &[u64],
    each: usize,
    [step, draw]: [u64; 2],
    kind: Kind,
    device: Device,
) -> Result<Tensor, String> {
    let (kind, name) = if kind == Kind::Double { (kind, "normal_f64") } else { (Kind::Float, "normal_f32") };
    let bits: Vec<i64> = seeds.iter().map(|seed| seed.cast_signed()).collect();
    let seeds = Tensor::from_slice(&bits).to_device(device);
    let values = Tensor::empty([bits.len() as i64, each as i64], (kind, device));
    let grid = [each.div_ceil(8 * THREADS as usize) as u32, bits.len() as u32];
    let arguments = [place(&seeds), step, draw, place(&values), each as u64];
    // SAFETY: the tensors were made for this, and the kernel writes no more than `each` numbers for each seed.
    unsafe { kernels.launch(name, grid, THREADS, &arguments)? };
    Ok(values)
}

/// Checks that the kernels on this device agree with libtorch in f64, and the noise with the host's bits. Also with
/// channels that do not fill a lane, and more than one chunk.
pub fn check(kernels: &dyn Launch, device: Device) -> Result<(), String> {
    no_grad(|| {
        for kind in [Kind::Float, Kind::BFloat16] {
            for (channels, groups) in [(40, 10), (42, 7)] {
                check_images(kernels, channels, groups, (kind, device))?;
            }
        }
        for kind in [Kind::Float, Kind::Double] {
            check_noise(kernels, kind, device)?;
        }
        Ok(())
    })
}

/// The half of the last digit that a kind has, and what sums of f32 lose, relative to the largest result.
fn allowed(kind: Kind) -> f64 {
    if kind == Kind::BFloat16 { 1.0 / 256.0 + 1e-5 } else { 1e-5 }
}

fn check_images(kernels: &dyn Launch, channels: i64, groups: i64, options: (Kind, Device)) -> Result<(), String> {
    let varied = |shape: &[i64], pace: f64| {
        let count = shape.iter().product::<i64>();
        ((Tensor::arange(count, (Kind::Double, options.1)) * pace).sin() + 0.5).reshape(shape).to_kind(options.0)
    };
    let image = |pace: f64| varied(&[2, 37, 23, channels], pace).permute([0, 3, 1, 2]);
    let (x, residual, time_bias) = (image(0.7), image(0.9), varied(&[2, 2 * channels], 1.1));
    let (weight, bias) = (varied(&[channels], 1.3), varied(&[channels], 1.7));
    let double = |tensor: &Tensor| tensor.to_kind(Kind::Double);
    let spread = |tensor: &Tensor| double(tensor).unsqueeze(-1).unsqueeze(-1);
    let compare = |what: &str, got: &Tensor, want: &Tensor| {
        let error = f64::try_from((double(got) - want).abs().max() / want.abs().max()).unwrap_or(f64::NAN);
        let close = error <= allowed(options.0);
        if close {
            Ok(())
        } else {
            Err(format!("its {what} of {channels} channels in {:?} is off by {error:e}", options.0))
        }
    };

    let normed = double(&x).group_norm(groups, Some(&double(&weight)), Some(&double(&bias)), 1e-5, true);
    let norm = DeviceGroupNorm { weight: &weight, bias: &bias, groups, epsilon: 1e-5 };
    compare("group normalisation", &norm.by(kernels, &x, None, false)?, &normed)?;
    let halves = spread(&time_bias).chunk(2, 1);
    let want = (normed * (&halves[0] + 1.0) + &halves[1]).silu();
    compare("modulated normalisation", &norm.by(kernels, &x, Some(&time_bias), true)?, &want)?;

    let time_bias = time_bias.narrow(1, 0, channels);
    let sum = Sum { bias: Some(&bias), time_bias: Some(&time_bias), residual: Some(&residual), factor: 0.7 };
    let want = (double(&x) + spread(&bias.unsqueeze(0)) + spread(&time_bias) + double(&residual)) * 0.7;
    compare("sum", &sum.by(kernels, &x.copy())?, &want)
}

fn check_noise(kernels: &dyn Launch, kind: Kind, device: Device) -> Result<(), String> {
    let (seeds, each, at) = ([0, 1, u64::MAX], 20_003, [7, u64::MAX - 1]);
    let drawn = normal_by(kernels, &seeds, each, at, kind, device)?.to_kind(Kind::Double).to_device(Device::Cpu);
    let drawn = Vec::<f64>::try_from(drawn.flatten(0, -1)).map_err(|e| e.to_string())?;
    let round = |n: f64| if kind == Kind::Double { n } else { f64::from(n as f32) };
    let host = seeds.iter().flat_map(|&seed| stream::normal(seed, at[0], at[1]).take(each)).map(round);
    let off = drawn.iter().zip(host).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
    if off == 0 { Ok(()) } else { Err(format!("{off} of {} numbers of its noise differ from the host's", drawn.len())) }
}

type Found = Result<Arc<dyn Launch>, String>;

/// The kernels by the number of the GPU; the CPU's, for tests, by none.
static FOUND: Mutex<BTreeMap<Option<usize>, Found>> = Mutex::new(BTreeMap::new());

fn found() -> MutexGuard<'static, BTreeMap<Option<usize>, Found>> {
    FOUND.lock().unwrap_or_else(PoisonError::into_inner)
}

fn number(device: Device) -> Option<usize> {
    if let Device::Cuda(number) = device { Some(number) } else { None }
}

/// Has layers on this device compute by these from now on. For tests: GPUs are seen to when they are first used.
pub fn adopt(device: Device, kernels: Arc<dyn Launch>) {
    found().insert(number(device), Ok(kernels));
}

/// The kernels for tensors on this device.
fn at(device: Device) -> Option<Arc<dyn Launch>> {
    if EXACT.load(Ordering::Relaxed) {
        return None;
    }
    let mut found = found();
    if let Some(known) = found.get(&number(device)) {
        return known.as_ref().ok().cloned();
    }
    let number = number(device)?;
    // A graph cannot hold what follows. Whoever captures one has run what it captures before.
    if driver::is_capturing(number) == Ok(true) {
        return None;
    }
    let checked =
        CudaModule::load(number).and_then(|module| check(&module, device).map(|()| Arc::new(module) as Arc<_>));
    found.entry(Some(number)).or_insert(checked).as_ref().ok().cloned()
}

/// Whether the kernels serve on this device, compiled and checked, or else the reason against it.
pub fn status(device: Device) -> Result<(), String> {
    if EXACT.load(Ordering::Relaxed) {
        return Err("they are turned off".to_owned());
    }
    drop(at(device));
    match found().get(&number(device)) {
        Some(known) => known.as_ref().map(|_| ()).map_err(Clone::clone),
        None if device.is_cuda() => Err("they are not compiled within a CUDA graph".to_owned()),
        None => Err("they are for NVIDIA GPUs".to_owned()),
    }
}

/// The result; the first failure is the last: libtorch serves from then on.
fn settled(device: Device, result: Result<Tensor, String>) -> Option<Tensor> {
    result.map_err(|why| found().insert(number(device), Err(why))).ok()
}

/// The kernels that take these: images of f32 or bf16 with no gradient to record.
fn take(x: &Tensor, parameters: &[&Tensor]) -> Option<Arc<dyn Launch>> {
    let free = |t: &Tensor| t.device() == x.device() && !t.requires_grad();
    let size = x.size();
    let fits = x.dim() == 4 && (1..=IMAGES).contains(&size[0]) && size[1] <= CHANNELS && x.numel() > 0;
    let known = matches!(x.kind(), Kind::Float | Kind::BFloat16);
    (fits && known && free(x) && parameters.iter().all(|t| free(t))).then(|| at(x.device()))?
}

/// Suffix of the kernels for this kind, and of those for a lane of it: 16 bytes where channels fill them and where all
/// tensors lie on such bounds.
fn names(x: &Tensor, all: &[&Tensor]) -> (&'static str, &'static str) {
    let (kind, wide, many) = if x.kind() == Kind::BFloat16 { ("bf16", "bf16_by_8", 8) } else { ("f32", "f32_by_4", 4) };
    let fills = sizes(x)[3] % many == 0 && all.iter().all(|tensor| place(tensor).is_multiple_of(16));
    (kind, if fills { wide } else { kind })
}

/// Pixels that a block goes over, number by number: enough blocks for a whole GPU first, then work enough for each.
fn tile(x: &Tensor) -> i64 {
    over((x.numel() as i64 / 1024).clamp(1 << 11, 1 << 14), sizes(x)[3])
}

fn over(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}

fn place(tensor: &Tensor) -> u64 {
    tensor.data_ptr() as u64
}
