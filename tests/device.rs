//! The GPU's kernels on a device that every machine has: `device/emulation.cpp` runs them on the CPU, launched by the code that
//! launches them on a GPU. NVIDIA's compiler needs no GPU either, where it is installed.

#![allow(unsafe_code)]

use std::{
    env,
    f64::consts::{FRAC_PI_4, TAU},
    ffi::{CString, c_char, c_int},
    path::Path,
    process::Command,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use libloading::os::unix::Library;
use tch::{Device, Kind, Tensor, no_grad};
use tweedie::{
    backend::kernels::{
        self,
        device::{self, DeviceGroupNorm, KERNELS, Launch, Sum},
        driver,
    },
    networks::{
        layers::{Conv, Fusion, GroupNorm, channels_last},
        weights::Weights,
    },
    numbers::stream,
};

use crate::common::normals;

/// f32 sums of numbers of order 1, relative to the largest of the results.
const F32: f64 = 2e-6;
/// Half of bf16's last digit, which results are rounded to once.
const BF16: f64 = 1.0 / 256.0;

/// `device.cu` as the C++ compiler sees it.
struct Emulated {
    library: Library,
    /// One launch at a time.
    turn: Mutex<()>,
}

/// Compiled once for all tests, without contraction as on a GPU.
fn emulated() -> &'static Emulated {
    static COMPILED: OnceLock<Emulated> = OnceLock::new();
    COMPILED.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let library = folder.path().join("emulation.so");
        let mut compiler = Command::new(env::var_os("CXX").unwrap_or_else(|| "c++".into()));
        compiler.args([
            "-std=c++17",
            "-O2",
            "-ffp-contract=off",
            "-Wno-unknown-pragmas",
            "-shared",
            "-fPIC",
            "-pthread",
        ]);
        compiler.arg("-I").arg(root.join("src/backend/kernels")).arg(root.join("tests/device/emulation.cpp"));
        let output = compiler.arg("-o").arg(&library).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // SAFETY: it was compiled from our own source, and does nothing when it is opened.
        Emulated { library: unsafe { Library::new(library) }.unwrap(), turn: Mutex::new(()) }
    })
}

impl Launch for Emulated {
    unsafe fn launch(&self, kernel: &str, grid: [u32; 2], threads: u32, arguments: &[u64]) -> Result<(), String> {
        type Run = unsafe extern "C" fn(*const c_char, u32, u32, u32, *const *const u64) -> c_int;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let name = CString::new(kernel).unwrap();
        let addresses: Vec<*const u64> = arguments.iter().map(|argument| &raw const *argument).collect();
        // SAFETY: the prototype is that of `emulation.cpp`, and the arguments are right, as the caller says.
        let code = unsafe {
            let run = self.library.get::<Run>("launch").unwrap();
            run(name.as_ptr(), grid[0], grid[1], threads, addresses.as_ptr())
        };
        if code == 0 { Ok(()) } else { Err(format!("there is no kernel {kernel}")) }
    }
}

/// Those kernels, of which one does not do its work, or fails.
struct Faulty {
    kernel: &'static str,
    answer: Result<(), String>,
}

impl Launch for Faulty {
    unsafe fn launch(&self, kernel: &str, grid: [u32; 2], threads: u32, arguments: &[u64]) -> Result<(), String> {
        if kernel == self.kernel {
            return self.answer.clone();
        }
        // SAFETY: as the caller says.
        unsafe { emulated().launch(kernel, grid, threads, arguments) }
    }
}

fn random(shape: &[i64], seed: u64) -> Tensor {
    let values: Vec<f64> = stream::normal(seed, 0, 0).take(shape.iter().product::<i64>() as usize).collect();
    Tensor::from_slice(&values).reshape(shape)
}

/// max |a − b| / max |b|, of any kinds.
fn apart(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_kind(Kind::Double), b.to_kind(Kind::Double));
    f64::try_from((a - &b).abs().max()).unwrap() / f64::try_from(b.abs().max()).unwrap()
}

fn spread(x: &Tensor) -> Tensor {
    x.to_kind(Kind::Double).unsqueeze(-1).unsqueeze(-1)
}

/// Images in chunks and in one; channels that fill lanes or do not, that fill a block's threads or not, and more lanes than
/// threads; single pixels.
const SHAPES: [([i64; 4], i64); 9] = [
    ([1, 32, 1, 1], 8),
    ([3, 24, 5, 6], 8),
    ([2, 6, 9, 31], 3),
    ([1, 128, 32, 32], 32),
    ([2, 40, 37, 23], 10),
    ([1, 1, 170, 101], 1),
    ([2, 300, 3, 4], 20),
    ([1, 2048, 3, 3], 32),
    ([1, 2044, 2, 5], 4),
];

/// Statistics by the definition, in f64: the mean, then the mean of squares around it.
#[test]
fn group_normalisation_by_the_device_is_that_of_f64() {
    for kind in [Kind::Float, Kind::BFloat16] {
        for (i, (shape, groups)) in SHAPES.into_iter().enumerate() {
            let [images, channels, ..] = shape;
            // The mean is a few deviations away.
            let x = channels_last(&(random(&shape, 1) + 3.0).to_kind(kind));
            let part = |shape: &[i64], seed| random(shape, seed).to_kind(kind);
            let (weight, bias, modulation) =
                (part(&[channels], 2), part(&[channels], 3), part(&[images, 2 * channels], 4));
            let together = x.to_kind(Kind::Double).reshape([images, groups, -1]);
            let centred = &together - together.mean_dim(2, true, Kind::Double);
            let variance = centred.square().mean_dim(2, true, Kind::Double);
            let normed = (centred / (variance + 1e-5).sqrt()).reshape(shape);
            let normed = normed * spread(&weight.unsqueeze(0)) + spread(&bias.unsqueeze(0));
            let halves = spread(&modulation).chunk(2, 1);
            let modulated = (&normed * (&halves[0] + 1.0) + &halves[1]).silu();

            let norm = DeviceGroupNorm { weight: &weight, bias: &bias, groups, epsilon: 1e-5 };
            let silu = i.is_multiple_of(2);
            let plain = if silu { normed.silu() } else { normed };
            let allowed = if kind == Kind::BFloat16 { BF16 } else { F32 };
            let got = norm.by(emulated(), &x, None, silu).unwrap();
            assert_eq!(got.kind(), kind);
            assert!(apart(&got, &plain) < allowed, "{kind:?} {shape:?}: {:e}", apart(&got, &plain));
            let got = norm.by(emulated(), &x, Some(&modulation), true).unwrap();
            assert!(apart(&got, &modulated) < allowed, "{kind:?} {shape:?}, modulated: {:e}", apart(&got, &modulated));
        }
    }
}

/// x is given to 24 bits, of which a mean of 10⁴ deviations takes 13: what is left is all that the result can have.
#[test]
fn the_device_s_statistics_do_not_suffer_from_large_means() {
    for (mean, allowed) in [(100.0, 5e-5), (1e4, 5e-3)] {
        let x = (random(&[2, 64, 40, 40], 5) + mean).to_kind(Kind::Float);
        let one = Tensor::ones([64], (Kind::Float, Device::Cpu));
        let norm = DeviceGroupNorm { weight: &one, bias: &(&one * 0.0), groups: 16, epsilon: 1e-5 };
        let want = x.to_kind(Kind::Double).group_norm(16, None::<&Tensor>, None::<&Tensor>, 1e-5, true);
        let got = norm.by(emulated(), &x, None, false).unwrap();
        assert!(apart(&got, &want) < allowed, "{mean}: {:e}", apart(&got, &want));
        // The variance itself is right to f32's digits: rounding of x − mean averages out.
        let deviation = |y: &Tensor| f64::try_from(y.to_kind(Kind::Double).square().mean(Kind::Double).sqrt()).unwrap();
        assert!((deviation(&got) - deviation(&want)).abs() < 1e-3 * allowed, "{mean}");
    }
}

#[test]
fn an_image_s_bits_on_the_device_do_not_depend_on_the_batch() {
    let x = random(&[5, 48, 24, 24], 6).to_kind(Kind::BFloat16);
    let one = Tensor::ones([48], (Kind::BFloat16, Device::Cpu));
    let norm = DeviceGroupNorm { weight: &one, bias: &one, groups: 8, epsilon: 1e-5 };
    let all = norm.by(emulated(), &x, None, true).unwrap();
    for i in 0..5 {
        assert_eq!(norm.by(emulated(), &x.narrow(0, i, 1), None, true).unwrap(), all.narrow(0, i, 1));
    }
}

#[test]
fn sums_after_a_convolution_by_the_device_are_those_of_f64() {
    for kind in [Kind::Float, Kind::BFloat16] {
        for (shape, _) in SHAPES {
            let [images, channels, ..] = shape;
            let part = |shape: &[i64], seed| random(shape, seed).to_kind(kind);
            let (y, residual) = (channels_last(&part(&shape, 1)), part(&shape, 2));
            let (bias, time_bias) = (part(&[channels], 3), part(&[images, channels], 4));
            for which in 0..8 {
                let [with_bias, with_time_bias, with_residual] = [1, 2, 4].map(|bit| which & bit != 0);
                let sum = Sum {
                    bias: with_bias.then_some(&bias),
                    time_bias: with_time_bias.then_some(&time_bias),
                    residual: with_residual.then_some(&residual),
                    factor: 0.7,
                };
                let mut want = y.to_kind(Kind::Double);
                if with_bias {
                    want += spread(&bias.unsqueeze(0));
                }
                if with_time_bias {
                    want += spread(&time_bias);
                }
                if with_residual {
                    want += residual.to_kind(Kind::Double);
                }
                let got = sum.by(emulated(), &channels_last(&y.copy())).unwrap();
                let allowed = if kind == Kind::BFloat16 { BF16 } else { F32 };
                assert!(apart(&got, &(want * 0.7)) < allowed, "{kind:?} {shape:?} {which}");
            }
        }
    }
}

/// Every number that bf16 has, a little enlarged: ties, both neighbours, subnormal ones, and what is no number.
#[test]
fn the_device_rounds_to_bf16_as_libtorch_does() {
    let bits: Vec<i32> = (0..1 << 16).map(|high: i32| high << 16).collect();
    let x = Tensor::from_slice(&bits).view_dtype(Kind::Float);
    // Times 1 + 2⁻⁸, which f32 holds exactly, and bf16 has to round.
    let y = x.to_kind(Kind::BFloat16).reshape([1, 1, 256, 256]);
    let sum = Sum { bias: None, time_bias: None, residual: None, factor: 1.00390625 };
    let got = sum.by(emulated(), &y.copy()).unwrap().to_kind(Kind::Float).flatten(0, -1);
    let want = (y.to_kind(Kind::Float) * 1.00390625).to_kind(Kind::BFloat16).to_kind(Kind::Float).flatten(0, -1);
    let same = got
        .view_dtype(Kind::Int)
        .eq_tensor(&want.view_dtype(Kind::Int))
        .logical_or(&got.isnan().logical_and(&want.isnan()));
    assert!(bool::try_from(same.all()).unwrap());
}

/// SiLU far out, where exp overflows, and of what is no number.
#[test]
fn silu_by_the_device_has_the_right_ends() {
    let x = [-1e30f32, -200.0, -88.5, -1.0, 0.0, 1.0, 90.0, 1e30, f32::INFINITY, f32::NAN];
    for kind in [Kind::Float, Kind::BFloat16] {
        let given = Tensor::from_slice(&x).to_kind(kind).reshape([1, 1, 1, 10]);
        let folded = Tensor::from_slice(&[1f32, 0.0]);
        let y = given.empty_like();
        let place = |tensor: &Tensor| tensor.data_ptr() as u64;
        let arguments = [place(&given), place(&folded), place(&y), 10, 1, 10, 1];
        let name = if kind == Kind::Float { "apply_f32" } else { "apply_bf16" };
        // SAFETY: ten pixels of one channel, with one scale and one shift.
        unsafe { emulated().launch(name, [1, 1], 256, &arguments) }.unwrap();
        let got = Vec::<f64>::try_from(y.to_kind(Kind::Double).flatten(0, -1)).unwrap();
        let given = Vec::<f64>::try_from(given.to_kind(Kind::Double).flatten(0, -1)).unwrap();
        for (got, x) in got.into_iter().zip(given) {
            let want = x / (1.0 + (-x).exp());
            assert!(got.is_nan() == want.is_nan(), "{x}: {got}");
            assert!(want.is_nan() || got == want || (got - want).abs() <= BF16 * want.abs().max(1e-30), "{x}: {got}");
        }
    }
}

/// The number, less and plus up to so many units in the last place.
fn around(x: f64, count: u64) -> impl Iterator<Item = f64> {
    (x.to_bits() - count..=x.to_bits() + count).map(f64::from_bits)
}

/// Millions at random, all ends of (0, 1], and every number near a bound between two formulas: multiples of π/4, where msun
/// asks for the upper half of the bits, and √½ times powers of two.
#[test]
fn logarithm_sine_and_cosine_on_the_device_have_libm_s_bits() {
    const LAST: f64 = 1.0 / (1u64 << 53) as f64;
    let library = &emulated().library;
    // SAFETY: the prototypes are those of `emulation.cpp`.
    let (log, sincos) = unsafe {
        (
            library.get::<unsafe extern "C" fn(f64) -> f64>("device_log").unwrap(),
            library.get::<unsafe extern "C" fn(f64, *mut f64, *mut f64)>("device_sincos").unwrap(),
        )
    };
    let compare = |x: f64| {
        let (mut sine, mut cosine) = (0.0, 0.0);
        // SAFETY: functions of numbers, the second of which writes two.
        unsafe { sincos(x, &raw mut sine, &raw mut cosine) };
        let want = libm::sincos(x);
        assert_eq!((sine.to_bits(), cosine.to_bits()), (want.0.to_bits(), want.1.to_bits()), "of {x:e}");
    };
    let both = |u: f64| {
        // SAFETY: as above.
        let got = unsafe { log(u) };
        assert_eq!(got.to_bits(), libm::log(u).to_bits(), "logarithm of {u:e}");
        compare(TAU * u);
    };
    stream::uniform(11, 0, 0).take(3_000_000).for_each(both);
    // Small ones are rare at random.
    for power in 1..=53 {
        stream::uniform(12, power, 0).take(2_000).for_each(|u| both((u / 2f64.powi(power as i32)).max(LAST)));
        around(0.5f64.sqrt() / 2f64.powi(power as i32 - 1), 200).for_each(both);
    }
    for k in 1..=100_000u64 {
        both(k as f64 * LAST);
        both(1.0 - (k - 1) as f64 * LAST);
    }
    // Every bound of the upper half of x's bits, on both sides; and multiples of π/4, closely and from afar.
    for high in
        [0x3e46a09e, 0x3fe921fb, 0x3ff921fb, 0x4002d97c, 0x400921fb, 0x400f6a7a, 0x4012d97c, 0x4015fdbc, 0x401921fb]
    {
        for near in [high - 1, high, high + 1] {
            let first = f64::from_bits(near << 32);
            around(first, 2_000).filter(|x| *x <= TAU).for_each(compare);
            let inside = stream::uniform(13, near, 0)
                .take(50_000)
                .map(|u| f64::from_bits(near << 32 | (u * 4294967295.0) as u64));
            inside.filter(|x| *x <= TAU).for_each(compare);
        }
    }
    for quarter in 1..=8 {
        around(f64::from(quarter) * FRAC_PI_4, 20_000).filter(|x| *x <= TAU).for_each(compare);
    }
}

#[test]
fn noise_by_the_device_has_the_bits_of_the_host_s() {
    let mut draw = normals(14);
    let mut some = || draw().to_bits();
    for (seeds, each) in [(1, 1), (2, 7), (3, 8), (2, 9), (5, 3 * 32 * 32), (1, 2 * 2048), (1, 100_001), (300, 15)] {
        let seeds: Vec<u64> = (0..seeds).map(|i| if i == 0 { u64::MAX } else { some() }).collect();
        for at in [[0, 0], [1, 2], [some(), some()]] {
            for kind in [Kind::Float, Kind::Double] {
                let drawn = device::normal_by(emulated(), &seeds, each, at, kind, Device::Cpu).unwrap();
                assert_eq!((drawn.size(), drawn.kind()), (vec![seeds.len() as i64, each as i64], kind));
                let host = seeds.iter().flat_map(|&seed| stream::normal(seed, at[0], at[1]).take(each));
                if kind == Kind::Double {
                    let drawn = Vec::<f64>::try_from(drawn.flatten(0, -1)).unwrap();
                    assert!(drawn.iter().zip(host).all(|(a, b)| a.to_bits() == b.to_bits()), "{at:?} {each}");
                } else {
                    let drawn = Vec::<f32>::try_from(drawn.flatten(0, -1)).unwrap();
                    assert!(drawn.iter().zip(host).all(|(a, b)| a.to_bits() == (b as f32).to_bits()), "{at:?} {each}");
                }
            }
        }
    }
}

/// What is done before kernels serve on a GPU finds each of them that does nothing, and tells what a launch answers.
#[test]
fn kernels_that_compute_wrongly_are_found_out() {
    device::check(emulated(), Device::Cpu).unwrap();
    for kernel in KERNELS {
        let idle = device::check(&Faulty { kernel, answer: Ok(()) }, Device::Cpu);
        assert!(idle.is_err_and(|why| why.contains("off by") || why.contains("differ")), "{kernel}");
    }
    let failing = device::check(&Faulty { kernel: "fold_bf16", answer: Err("no such thing".to_owned()) }, Device::Cpu);
    assert_eq!(failing, Err("no such thing".to_owned()));
}

#[test]
fn without_a_gpu_the_reason_is_a_sentence() {
    assert!(device::status(Device::Cpu).is_err());
    if tch::Cuda::is_available() {
        assert_eq!(device::status(Device::Cuda(0)), Ok(()));
    } else {
        let why = device::status(Device::Cuda(0)).unwrap_err();
        assert!(why.contains("NVIDIA's driver") || why.contains("libtorch's CUDA libraries"), "{why}");
    }
}

/// Layers on a device whose kernels were adopted. This concerns the whole process, so it is one of its own.
#[test]
fn layers_compute_by_the_device_s_kernels_what_libtorch_does() {
    let mut own = Command::new(env::current_exe().unwrap());
    let own = own.args(["device::in_a_process_of_its_own", "--exact", "--ignored"]).env("TWEEDIE_KERNELS", "none");
    let output = own.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
#[ignore = "begun by the test above"]
fn in_a_process_of_its_own() {
    let weights = Weights::fresh(3, Device::Cpu, Kind::Float);
    let root = weights.root();
    let (norm, conv) = (GroupNorm::new(&(&root / "norm"), 8, 32, 1e-6), Conv::new(&(&root / "conv"), 32, 48, 3));
    for (i, (_, tensor)) in weights.finish().unwrap().iter().enumerate() {
        no_grad(|| {
            let more = (random(&tensor.size(), 20 + i as u64) * 0.1).to_kind(Kind::Float);
            drop(tensor.shallow_clone().g_add_(&more));
        });
    }
    let (time_bias, modulation) = (random(&[2, 48], 1), random(&[2, 64], 2));
    let (x, residual) = (random(&[2, 32, 9, 12], 3), random(&[2, 48, 9, 12], 4));
    let all = |kind: Kind| {
        let [x, residual, time_bias, modulation] = [&x, &residual, &time_bias, &modulation].map(|t| t.to_kind(kind));
        let (x, residual) = (channels_last(&x), channels_last(&residual));
        let around = Fusion {
            norm: Some(&norm),
            modulation: Some(&modulation),
            time_bias: Some(&time_bias),
            residual: Some(&residual),
            factor: 0.7,
        };
        let half = Fusion { norm: Some(&norm), ..Fusion::default() };
        [
            norm.forward(&x),
            norm.silu(&x, Some(&modulation)),
            conv.within(&x, &around),
            conv.within(&x, &half),
            conv.forward(&x),
        ]
    };
    let plain = all(Kind::Float);
    device::adopt(Device::Cpu, Arc::new(Faulty { kernel: "none", answer: Ok(()) }));
    assert_eq!(device::status(Device::Cpu), Ok(()));
    // Rounded on the way, in bf16: to its digits, at every one of three layers.
    for (kind, allowed) in [(Kind::Float, F32), (Kind::BFloat16, 4.0 * BF16)] {
        for (i, (got, want)) in all(kind).iter().zip(&plain).enumerate() {
            assert!(apart(got, want) < allowed, "{kind:?} {i}: {:e}", apart(got, want));
        }
    }
    kernels::set_exact(true);
    assert!(all(Kind::Float).iter().zip(&plain).all(|(a, b)| a == b), "--exact is libtorch alone");
    kernels::set_exact(false);

    // It fails once: libtorch serves at once, and from then on, and the reason is kept.
    device::adopt(Device::Cpu, Arc::new(Faulty { kernel: "add_f32_by_4", answer: Err("the GPU is gone".to_owned()) }));
    let got = all(Kind::Float);
    assert!(apart(&got[2], &plain[2]) < F32);
    assert_eq!(got[3], plain[3]);
    assert_eq!(device::status(Device::Cpu), Err("the GPU is gone".to_owned()));
}

/// By the code that compiles them on a GPU's machine, for A100, H100 and H200, and B200.
#[test]
fn nvidia_s_compiler_takes_the_kernels_wherever_it_is_installed() {
    for architecture in ["sm_80", "sm_90", "sm_100"] {
        match driver::compile(architecture) {
            Ok(compiled) => {
                assert!(compiled.binary.starts_with(b"\x7fELF"), "{architecture}");
                assert!(KERNELS.iter().all(|name| compiled.assembly.contains(&format!(".entry {name}("))));
                // Noise would not have the host's bits.
                assert!(!compiled.assembly.contains("fma.rn.f64"), "{architecture}");
                // Memory in lanes of 16 bytes, which is what these kernels are for.
                assert!(compiled.assembly.contains("ld.global.v4") && compiled.assembly.contains("st.global.v4"));
            }
            Err(why) if why.contains("is not installed") => return eprintln!("skipped: {why}"),
            Err(why) => panic!("{why}"),
        }
    }
}
