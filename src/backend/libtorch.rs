//! The libtorch that this process runs on.

#![allow(unsafe_code)]

use std::{env, path::PathBuf, sync::OnceLock};

use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
use tch::{Cuda, Device};

use crate::{Error, backend::memory};

/// The version that the program is built for.
pub const VERSION: &str = "2.11.0";

/// Result of opening libtorch's CUDA half.
static CUDA: OnceLock<Result<(), String>> = OnceLock::new();

/// The folder with libtorch's libraries.
pub fn folder() -> PathBuf {
    let beside = env::current_exe().ok().and_then(|exe| Some(exe.ancestors().nth(3)?.join(".libtorch/torch/lib")));
    beside.filter(|folder| folder.exists()).unwrap_or_else(|| PathBuf::from(env!("TWEEDIE_LIBTORCH")))
}

unsafe extern "C" {
    /// Least severity that libtorch prints: 1 is a warning, 2 an error.
    #[link_name = "FLAGS_caffe2_log_level"]
    static mut LOG_LEVEL: libc::c_int;
}

/// Prepares the process; to be called first of all, while there is one thread.
///
/// - libtorch_cuda is opened here: linkers drop it, and once libtorch has been asked for CUDA without it, CUDA stays
///   invisible for the whole process.
/// - f32 means f32: unless `tf32` is asked for, cuDNN and cuBLAS must not round their inputs to TF32.
/// - Memory stays with the process instead of going back and forth to the system at every operation; of tensors, large blocks
///   stay whole.
/// - libtorch's warnings are for those who write programs with it, and are not printed.
pub fn start(tf32: bool) {
    let (name, value) = if tf32 { ("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1") } else { ("NVIDIA_TF32_OVERRIDE", "0") };
    // SAFETY: no other thread reads the environment yet.
    unsafe { env::set_var(name, value) };
    // SAFETY: a plain number of libc10, which is linked, and no other thread reads it yet.
    unsafe { LOG_LEVEL = 2 };
    // SAFETY: mallopt only sets numbers of glibc's allocator, and no other thread allocates yet.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 30);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
        libc::mallopt(libc::M_TOP_PAD, 64 << 20);
    }
    memory::keep_blocks();
    open_cuda();
}

/// Opens libtorch_cuda if it is there; once for the process.
pub fn open_cuda() {
    let _ = CUDA.get_or_init(|| {
        let path = folder().join("libtorch_cuda.so");
        // SAFETY: the library is libtorch's own and meant to be loaded beside libtorch_cpu; it is never unloaded.
        match unsafe { Library::open(Some(&path), RTLD_NOW | RTLD_GLOBAL) } {
            Ok(library) => {
                std::mem::forget(library);
                Ok(())
            }
            Err(e) => Err(e.to_string()),
        }
    });
}

/// Number of GPUs, or the reason why CUDA cannot be used.
pub fn cuda() -> Result<i64, String> {
    match CUDA.get() {
        Some(Ok(())) if Cuda::is_available() => Ok(Cuda::device_count()),
        Some(Ok(())) => Err("libtorch's CUDA libraries are here, but no NVIDIA GPU or driver is".to_owned()),
        Some(Err(e)) => {
            Err(format!("libtorch's CUDA libraries are not installed ({e}): run `make` where there is a GPU"))
        }
        None => Err("libtorch was not prepared".to_owned()),
    }
}

/// Whether libtorch has fast convolutions of bf16 for this CPU; else it goes number by number.
pub fn convolves_bf16() -> bool {
    #[cfg(target_arch = "x86_64")]
    return is_x86_feature_detected!("avx512bw") && is_x86_feature_detected!("avx512dq");
    #[cfg(not(target_arch = "x86_64"))]
    true
}

/// Name of a device in records, whichever of several GPUs it is.
pub fn kind(device: Device) -> &'static str {
    if device.is_cuda() { "cuda" } else { "cpu" }
}

/// The device of a process that shares a machine with others: each has its own GPU, where any will do.
pub fn device_of_rank(name: &str, local: usize) -> String {
    let gpus = cuda().unwrap_or(0) as usize;
    if matches!(name, "auto" | "cuda") && gpus > 0 { format!("cuda:{}", local % gpus) } else { name.to_owned() }
}

/// The device that `name` stands for: auto, cpu, cuda or cuda:N.
pub fn device(name: &str) -> Result<Device, Error> {
    let number = match name {
        "auto" => return Ok(if cuda().is_ok() { Device::Cuda(0) } else { Device::Cpu }),
        "cpu" => return Ok(Device::Cpu),
        "cuda" => Some(0),
        _ => name.strip_prefix("cuda:").and_then(|number| number.parse().ok()),
    };
    let Some(number) = number else {
        return Err(Error::parameter("`device`", "auto, cpu, cuda or cuda:N", name));
    };
    match cuda() {
        Ok(count) if (number as i64) < count => Ok(Device::Cuda(number)),
        Ok(count) => Err(Error::parameter("`device`", "one of the GPUs that are here", format!("{name} of {count}"))),
        Err(why) => Err(Error::Cuda(why)),
    }
}
