//! NVIDIA's run-time compiler and driver, as far as `device.cu` needs them.
//!
//! Both are opened when they are first asked for: the build knows neither, and the program runs where they are missing.

#![allow(unsafe_code)]

use std::{
    collections::BTreeMap,
    ffi::{CStr, CString, c_char, c_int, c_uint, c_void},
    fs,
    path::PathBuf,
    ptr::{null, null_mut},
    sync::OnceLock,
};

use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW, Symbol};

use super::device::{KERNELS, Launch, SOURCE};
use crate::backend::libtorch;

/// The compiler's names, newest first.
const COMPILERS: [&str; 3] = ["libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so"];
/// Folders of the compiler in libtorch's wheels, seen from libtorch's own libraries; alone, it lies beside these.
const FOLDERS: [&str; 3] = ["../../nvidia/cu13/lib", "../../nvidia/cuda_nvrtc/lib", "."];
const COMPUTE_CAPABILITY: [c_int; 2] = [75, 76];

/// `device.cu`, compiled.
#[derive(Debug)]
pub struct Compiled {
    /// Machine code for one kind of GPU, as its driver loads it.
    pub binary: Vec<u8>,
    /// The code as text, before registers were assigned.
    pub assembly: String,
}

/// The compiler, or why there is none.
fn compiler() -> Result<&'static Library, String> {
    static OPENED: OnceLock<Result<Library, String>> = OnceLock::new();
    OPENED.get_or_init(open_compiler).as_ref().map_err(Clone::clone)
}

fn open_compiler() -> Result<Library, String> {
    let folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| libtorch::folder().join(folder)).collect();
    // The compiler opens these by their bare name, which finds those that are open.
    for entry in folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with("libnvrtc-builtins.so") {
            // SAFETY: a library of the compiler, which opens it itself otherwise; it is never unloaded.
            let _ = unsafe { Library::open(Some(entry.path()), RTLD_NOW | RTLD_LOCAL) }.map(std::mem::forget);
        }
    }
    // SAFETY: with RTLD_NOLOAD nothing is run: only a library that is open already is found.
    let open = |name: &&str| unsafe { Library::open(Some(*name), RTLD_NOW | libc::RTLD_NOLOAD) }.ok();
    if let Some(library) = COMPILERS.iter().find_map(open) {
        return Ok(library);
    }
    let beside = folders.iter().flat_map(|folder| COMPILERS.iter().map(|name| folder.join(name)));
    let beside = beside.filter(|path| path.exists());
    // SAFETY: NVIDIA's library, which does nothing of consequence when it is opened.
    let load = |path: PathBuf| unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.ok();
    let found = beside.chain(COMPILERS.iter().map(PathBuf::from)).find_map(load);
    found.ok_or_else(|| format!("NVIDIA's run-time compiler is not installed ({} was not found)", COMPILERS[0]))
}

/// One of the library's functions.
///
/// # Safety
///
/// `T` is the function's type.
unsafe fn function<T>(library: &Library, name: &str) -> Result<Symbol<T>, String> {
    // SAFETY: as is asked above.
    unsafe { library.get(name) }.map_err(|e| e.to_string())
}

/// Compiles `device.cu` for GPUs of this architecture, `sm_90` for instance; this takes a second or two.
pub fn compile(architecture: &str) -> Result<Compiled, String> {
    type Create = unsafe extern "C" fn(
        *mut *mut c_void,
        *const c_char,
        *const c_char,
        c_int,
        *const *const c_char,
        *const *const c_char,
    ) -> c_int;
    type Compile = unsafe extern "C" fn(*mut c_void, c_int, *const *const c_char) -> c_int;
    type Destroy = unsafe extern "C" fn(*mut *mut c_void) -> c_int;

    let library = compiler()?;
    // SAFETY: the prototypes are those of nvrtc.h.
    let (create, compile, destroy) = unsafe {
        (
            function::<Create>(library, "nvrtcCreateProgram")?,
            function::<Compile>(library, "nvrtcCompileProgram")?,
            function::<Destroy>(library, "nvrtcDestroyProgram")?,
        )
    };
    let source = CString::new(SOURCE).map_err(|e| e.to_string())?;
    // Were products contracted with sums, noise would depend on the device.
    let options = [format!("--gpu-architecture={architecture}"), "--fmad=false".to_owned(), "--std=c++17".to_owned()];
    let options = options.map(|option| CString::new(option).unwrap_or_default());
    let pointers = options.each_ref().map(|option| option.as_ptr());
    let mut program = null_mut();
    // SAFETY: the strings live longer than the program, which is destroyed below and used in between only.
    unsafe {
        if create(&raw mut program, source.as_ptr(), c"device.cu".as_ptr(), 0, null(), null()) != 0 {
            return Err("NVIDIA's run-time compiler does not start".to_owned());
        }
        let failed = compile(program, pointers.len() as c_int, pointers.as_ptr()) != 0;
        let result = if failed {
            let log = text(written(library, "nvrtcGetProgramLog", program)?);
            Err(format!("NVIDIA's run-time compiler refuses {architecture}: {}", log.trim()))
        } else {
            written(library, "nvrtcGetCUBIN", program)
                .and_then(|binary| Ok(Compiled { binary, assembly: text(written(library, "nvrtcGetPTX", program)?) }))
        };
        destroy(&raw mut program);
        result
    }
}

/// Text about a program that one of the compiler's functions writes; a second one, `…Size`, gives its length.
///
/// # Safety
///
/// `name` is such a function, and `program` one of the compiler's.
unsafe fn written(library: &Library, name: &str, program: *mut c_void) -> Result<Vec<u8>, String> {
    let mut size = 0usize;
    // SAFETY: the prototypes are those of nvrtc.h, and the buffer is as long as the compiler asked for.
    unsafe {
        let measure =
            function::<unsafe extern "C" fn(*mut c_void, *mut usize) -> c_int>(library, &format!("{name}Size"))?;
        let write = function::<unsafe extern "C" fn(*mut c_void, *mut u8) -> c_int>(library, name)?;
        let measured = measure(program, &raw mut size);
        let mut bytes = vec![0u8; size];
        if measured != 0 || write(program, bytes.as_mut_ptr()) != 0 {
            return Err(format!("{name} fails"));
        }
        Ok(bytes)
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned()
}

/// A handle of the driver.
type Handle = *mut c_void;

/// The driver's functions, with the prototypes of cuda.h, and libtorch's current stream.
struct Driver {
    error: Symbol<unsafe extern "C" fn(c_int, *mut *const c_char) -> c_int>,
    device: Symbol<unsafe extern "C" fn(*mut c_int, c_int) -> c_int>,
    attribute: Symbol<unsafe extern "C" fn(*mut c_int, c_int, c_int) -> c_int>,
    retain: Symbol<unsafe extern "C" fn(*mut Handle, c_int) -> c_int>,
    push: Symbol<unsafe extern "C" fn(Handle) -> c_int>,
    pop: Symbol<unsafe extern "C" fn(*mut Handle) -> c_int>,
    load: Symbol<unsafe extern "C" fn(*mut Handle, *const u8) -> c_int>,
    function: Symbol<unsafe extern "C" fn(*mut Handle, Handle, *const c_char) -> c_int>,
    launch: Symbol<LaunchKernel>,
    is_capturing: Symbol<unsafe extern "C" fn(Handle, *mut c_int) -> c_int>,
    stream: Symbol<unsafe extern "C" fn(i32, *mut Handle) -> i32>,
    /// The library that holds the symbols.
    _library: Library,
}

type LaunchKernel = unsafe extern "C" fn(
    Handle,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    Handle,
    *const *const u64,
    *const Handle,
) -> c_int;

fn driver() -> Result<&'static Driver, String> {
    static OPENED: OnceLock<Result<Driver, String>> = OnceLock::new();
    OPENED.get_or_init(Driver::open).as_ref().map_err(Clone::clone)
}

impl Driver {
    fn open() -> Result<Self, String> {
        // SAFETY: NVIDIA's driver, which libtorch has opened already where there is a GPU; it is never unloaded.
        let library = unsafe { Library::open(Some("libcuda.so.1"), RTLD_NOW | RTLD_LOCAL) };
        let library = library.map_err(|e| format!("NVIDIA's driver is not installed ({e})"))?;
        let torch = libtorch::folder().join("libtorch_cuda.so");
        // SAFETY: with RTLD_NOLOAD nothing is run: only a library that is open already is found.
        let torch = unsafe { Library::open(Some(torch), RTLD_NOW | libc::RTLD_NOLOAD) };
        let torch = torch.map_err(|_| "libtorch's CUDA libraries are not open".to_owned())?;
        // SAFETY: the prototypes are those of cuda.h and of libtorch's shim.h; `_2` and `_v2` are what cuda.h makes of the names.
        let driver = unsafe {
            let start = function::<unsafe extern "C" fn(c_uint) -> c_int>(&library, "cuInit")?;
            if start(0) != 0 {
                return Err("NVIDIA's driver does not start".to_owned());
            }
            Self {
                error: function(&library, "cuGetErrorString")?,
                device: function(&library, "cuDeviceGet")?,
                attribute: function(&library, "cuDeviceGetAttribute")?,
                retain: function(&library, "cuDevicePrimaryCtxRetain")?,
                push: function(&library, "cuCtxPushCurrent_v2")?,
                pop: function(&library, "cuCtxPopCurrent_v2")?,
                load: function(&library, "cuModuleLoadData")?,
                function: function(&library, "cuModuleGetFunction")?,
                launch: function(&library, "cuLaunchKernel")?,
                is_capturing: function(&library, "cuStreamIsCapturing")?,
                stream: function(&torch, "aoti_torch_get_current_cuda_stream")?,
                _library: library,
            }
        };
        std::mem::forget(torch);
        Ok(driver)
    }

    /// Turns the driver's code into a result.
    fn done(&self, what: &str, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        let mut message = null();
        // SAFETY: the driver points `message` to a text that it keeps, or leaves it alone.
        let message = unsafe {
            (self.error)(code, &raw mut message);
            if message.is_null() { "unknown".into() } else { CStr::from_ptr(message).to_string_lossy() }
        };
        Err(format!("{what} fails: {message} ({code})"))
    }

    /// The stream on which libtorch works now, in this thread.
    fn stream(&self, number: usize) -> Result<Handle, String> {
        let mut stream = null_mut();
        // SAFETY: libtorch writes a handle, or answers that it failed.
        let code = unsafe { (self.stream)(number as i32, &raw mut stream) };
        if code == 0 { Ok(stream) } else { Err("libtorch does not report its stream".to_owned()) }
    }

    /// Does it in this context, which is the thread's own no longer than that.
    fn within<T>(&self, context: Handle, job: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
        // SAFETY: `context` was retained and is never released.
        self.done("cuCtxPushCurrent", unsafe { (self.push)(context) })?;
        let result = job();
        let mut popped = null_mut();
        // SAFETY: takes away what was pushed above.
        self.done("cuCtxPopCurrent", unsafe { (self.pop)(&raw mut popped) })?;
        result
    }
}

/// Whether libtorch's current stream is being captured into a graph.
pub fn is_capturing(number: usize) -> Result<bool, String> {
    let driver = driver()?;
    let (stream, mut status) = (driver.stream(number)?, 0);
    // SAFETY: the stream is libtorch's, and alive as long as the process.
    driver.done("cuStreamIsCapturing", unsafe { (driver.is_capturing)(stream, &raw mut status) })?;
    Ok(status != 0)
}

/// `device.cu` on one GPU.
#[derive(Debug)]
pub struct CudaModule {
    number: usize,
    context: Handle,
    functions: BTreeMap<&'static str, Handle>,
}

// SAFETY: the driver's handles may be used by any thread, in the context that `launch` makes current.
unsafe impl Send for CudaModule {}
// SAFETY: as above.
unsafe impl Sync for CudaModule {}

impl CudaModule {
    /// Compiles for the GPU that libtorch numbers so, and loads it there.
    pub fn load(number: usize) -> Result<Self, String> {
        let driver = driver()?;
        let (mut device, mut context, mut capability) = (0, null_mut(), [0; 2]);
        // SAFETY: the driver writes to what the addresses are of. The context is the one that libtorch uses.
        unsafe {
            driver.done("cuDeviceGet", (driver.device)(&raw mut device, number as c_int))?;
            for (value, name) in capability.iter_mut().zip(COMPUTE_CAPABILITY) {
                driver.done("cuDeviceGetAttribute", (driver.attribute)(value, name, device))?;
            }
            driver.done("cuDevicePrimaryCtxRetain", (driver.retain)(&raw mut context, device))?;
        }
        let compiled = compile(&format!("sm_{}{}", capability[0], capability[1]))?;
        let functions = driver.within(context, || {
            let mut module = null_mut();
            // SAFETY: the compiler made these bytes for the driver; the module is never unloaded.
            driver.done("cuModuleLoadData", unsafe { (driver.load)(&raw mut module, compiled.binary.as_ptr()) })?;
            let function = |name: &'static str| {
                let (mut function, c_name) = (null_mut(), CString::new(name).unwrap_or_default());
                // SAFETY: the module is loaded, and the name a C string.
                let code = unsafe { (driver.function)(&raw mut function, module, c_name.as_ptr()) };
                driver.done(name, code).map(|()| (name, function))
            };
            KERNELS.into_iter().map(function).collect()
        })?;
        Ok(Self { number, context, functions })
    }
}

impl Launch for CudaModule {
    unsafe fn launch(&self, kernel: &str, grid: [u32; 2], threads: u32, arguments: &[u64]) -> Result<(), String> {
        let driver = driver()?;
        let Some(&function) = self.functions.get(kernel) else {
            return Err(format!("there is no kernel {kernel}"));
        };
        let stream = driver.stream(self.number)?;
        let addresses: Vec<*const u64> = arguments.iter().map(|argument| &raw const *argument).collect();
        let [across, down] = grid;
        driver.within(self.context, || {
            // SAFETY: the arguments are right, as the caller says; the driver copies them before it returns.
            let code = unsafe {
                (driver.launch)(function, across, down, 1, threads, 1, 1, 0, stream, addresses.as_ptr(), null())
            };
            driver.done(kernel, code)
        })
    }
}
