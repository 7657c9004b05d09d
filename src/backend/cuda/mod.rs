//! Streams, graphs and memory of CUDA devices, for which tch has no words.
//!
//! The program is built without CUDA, and may meet it at run time: `cuda.cpp` goes through libtorch's virtual functions, and
//! what has none is looked up in libtorch_cuda by name. So everything here may fail, and says why.

#![allow(unsafe_code)]

use std::{
    any::Any,
    cell::Cell,
    ffi::{CStr, c_char, c_int, c_void},
    panic::{self, AssertUnwindSafe, catch_unwind},
    ptr::null_mut,
    sync::{Once, OnceLock},
};

use libloading::os::unix::Library;
use tch::{Device, Kind, Tensor};

use crate::backend::recorder::{Inputs, Recorder, Recording, Replay};

/// Members of `at::cuda::CUDAGraph` as libtorch_cuda exports them, in the order of `Functions` in `cuda.cpp`.
pub const SYMBOLS: [&str; 5] = [
    "_ZN2at4cuda9CUDAGraphC1Eb",
    "_ZN2at4cuda9CUDAGraphD1Ev",
    "_ZN2at4cuda9CUDAGraph13capture_beginESt4pairIyyE21cudaStreamCaptureMode",
    "_ZN2at4cuda9CUDAGraph11capture_endEv",
    "_ZN2at4cuda9CUDAGraph6replayEv",
];

/// Layout as in `cuda.cpp`.
#[repr(C)]
struct Functions([*const c_void; SYMBOLS.len()]);

// SAFETY: addresses of functions, which never change.
unsafe impl Send for Functions {}
// SAFETY: as above.
unsafe impl Sync for Functions {}

type Answer = *mut c_char;

unsafe extern "C" {
    fn tweedie_stream_current(index: c_int, id: *mut i64) -> Answer;
    fn tweedie_stream_another(index: c_int, id: *mut i64) -> Answer;
    fn tweedie_stream_enter(index: c_int, id: i64, was_index: *mut c_int, was_id: *mut i64) -> Answer;
    fn tweedie_stream_leave(index: c_int, was_id: i64, was_index: c_int) -> Answer;
    fn tweedie_stream_wait(index: c_int, id: i64) -> Answer;
    fn tweedie_event_new(index: c_int, id: i64, event: *mut *mut c_void) -> Answer;
    fn tweedie_event_block(event: *const c_void, index: c_int, id: i64) -> Answer;
    fn tweedie_event_wait(event: *const c_void) -> Answer;
    fn tweedie_event_free(event: *mut c_void);
    fn tweedie_graph_new(functions: *const Functions, graph: *mut *mut c_void) -> Answer;
    fn tweedie_graph_begin(functions: *const Functions, graph: *mut c_void) -> Answer;
    fn tweedie_graph_end(functions: *const Functions, graph: *mut c_void) -> Answer;
    fn tweedie_graph_replay(functions: *const Functions, graph: *mut c_void) -> Answer;
    fn tweedie_graph_free(functions: *const Functions, graph: *mut c_void, index: c_int) -> Answer;
    fn tweedie_memory_release() -> Answer;
    fn tweedie_memory_peak(index: c_int, bytes: *mut i64) -> Answer;
}

/// Turns the answer of a function of `cuda.cpp` into a result; an error is one line.
fn checked(answer: Answer) -> Result<(), String> {
    if answer.is_null() {
        return Ok(());
    }
    // SAFETY: a C string that is ours to free, which happens once it is copied.
    let message = unsafe {
        let message = CStr::from_ptr(answer).to_string_lossy().into_owned();
        libc::free(answer.cast());
        message
    };
    Err(first_line(&message))
}

fn first_line(message: &str) -> String {
    message.lines().next().unwrap_or_default().trim().to_owned()
}

fn functions() -> Result<&'static Functions, String> {
    static FOUND: OnceLock<Result<Functions, String>> = OnceLock::new();
    let find = || {
        crate::backend::libtorch::cuda()?;
        let mut found = [std::ptr::null(); SYMBOLS.len()];
        for (place, name) in found.iter_mut().zip(SYMBOLS) {
            // SAFETY: the address alone is taken. libtorch_cuda is open, and open to all.
            let symbol = unsafe { Library::this().get::<*const c_void>(name.as_bytes()) };
            *place = symbol.map_err(|_| format!("this libtorch's CUDA half has no {name}"))?.into_raw().cast_const();
        }
        Ok(Functions(found))
    };
    FOUND.get_or_init(find).as_ref().map_err(Clone::clone)
}

/// A queue of work on a device: what is in one is done in order, and beside what is in another.
#[derive(Clone, Copy, Debug)]
pub struct Stream {
    index: c_int,
    id: i64,
}

impl Stream {
    /// The one to which this thread gives its work on GPU `index`.
    pub fn current(index: usize) -> Result<Self, String> {
        let mut stream = Self { index: index as c_int, id: 0 };
        // SAFETY: `id` lives through the call.
        checked(unsafe { tweedie_stream_current(stream.index, &raw mut stream.id) })?;
        Ok(stream)
    }

    /// Another one.
    pub fn another(index: usize) -> Result<Self, String> {
        let mut stream = Self { index: index as c_int, id: 0 };
        // SAFETY: `id` lives through the call.
        checked(unsafe { tweedie_stream_another(stream.index, &raw mut stream.id) })?;
        Ok(stream)
    }

    /// Gives the work of `launch` to this stream.
    pub fn run<T>(&self, launch: impl FnOnce() -> T) -> Result<T, String> {
        struct Back(c_int, i64, c_int);
        impl Drop for Back {
            fn drop(&mut self) {
                // SAFETY: numbers alone. Where this fails, the device has failed, and the next call says so.
                let _ = checked(unsafe { tweedie_stream_leave(self.0, self.1, self.2) });
            }
        }
        let (mut was_index, mut was_id) = (0, 0);
        // SAFETY: both live through the call.
        checked(unsafe { tweedie_stream_enter(self.index, self.id, &raw mut was_index, &raw mut was_id) })?;
        let _back = Back(self.index, was_id, was_index);
        Ok(launch())
    }

    /// The moment when it has done all that it was given so far.
    pub fn event(&self) -> Result<Event, String> {
        let mut event = null_mut();
        // SAFETY: `event` lives through the call.
        checked(unsafe { tweedie_event_new(self.index, self.id, &raw mut event) })?;
        Ok(Event(event))
    }

    /// Goes on after this moment only.
    pub fn after(&self, event: &Event) -> Result<(), String> {
        // SAFETY: the event lives.
        checked(unsafe { tweedie_event_block(event.0, self.index, self.id) })
    }

    /// Until it has done all that it was given.
    pub fn wait(&self) -> Result<(), String> {
        // SAFETY: numbers alone.
        checked(unsafe { tweedie_stream_wait(self.index, self.id) })
    }
}

/// A moment in a stream's work.
#[derive(Debug)]
pub struct Event(*mut c_void);

// SAFETY: CUDA's events may be waited for in any thread; each of ours has one owner.
unsafe impl Send for Event {}

impl Event {
    /// Until it has come.
    pub fn wait(&self) -> Result<(), String> {
        // SAFETY: the event lives.
        checked(unsafe { tweedie_event_wait(self.0) })
    }
}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: made by `tweedie_event_new`, and freed here alone.
        unsafe { tweedie_event_free(self.0) };
    }
}

/// Work given to a stream between a beginning and an end, to be given again at once.
#[derive(Debug)]
struct Graph {
    graph: *mut c_void,
    index: c_int,
}

// SAFETY: the object knows its device and no thread; it has one owner.
unsafe impl Send for Graph {}

impl Graph {
    fn new(index: c_int) -> Result<Self, String> {
        let mut graph = null_mut();
        // SAFETY: `graph` lives through the call; the functions are those of the object that it makes.
        checked(unsafe { tweedie_graph_new(functions()?, &raw mut graph) })?;
        Ok(Self { graph, index })
    }

    /// Records what `launch` gives to the current stream, which does none of it yet.
    fn record<T>(&self, launch: impl FnOnce() -> T) -> Result<T, String> {
        let functions = functions()?;
        // SAFETY: the object lives, and its functions are its own.
        checked(unsafe { tweedie_graph_begin(functions, self.graph) })?;
        let launched = quietly(launch);
        // SAFETY: as above. It ends what was begun, whatever came of it.
        let ended = checked(unsafe { tweedie_graph_end(functions, self.graph) });
        let launched = launched?;
        ended.map(|()| launched)
    }
}

impl Replay for Graph {
    fn replay(&mut self) -> Result<(), String> {
        // SAFETY: the object lives, and its functions are its own.
        checked(unsafe { tweedie_graph_replay(functions()?, self.graph) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        if let Ok(functions) = functions() {
            // SAFETY: made by `tweedie_graph_new`, and freed here alone.
            let _ = checked(unsafe { tweedie_graph_free(functions, self.graph, self.index) });
        }
    }
}

/// Records evaluations on a GPU as CUDA graphs.
#[derive(Debug)]
pub struct Graphs {
    index: usize,
}

impl Graphs {
    /// The graphs of GPU `index`.
    pub fn new(index: usize) -> Self {
        Self { index }
    }

    /// Whether graphs may be used: `TWEEDIE_GRAPHS=none` forbids them, for whoever doubts a result.
    pub fn allowed() -> bool {
        std::env::var("TWEEDIE_GRAPHS").map_or(true, |asked| asked != "none")
    }

    /// Checks that a small computation, recorded and replayed, gives the right numbers.
    pub fn check(&self) -> Result<(), String> {
        if !Self::allowed() {
            return Err("TWEEDIE_GRAPHS=none forbids them".to_owned());
        }
        functions()?;
        let zeros = |size: &[i64]| Tensor::zeros(size, (Kind::Float, Device::Cuda(self.index)));
        let mut inputs = quietly(|| Inputs { x: zeros(&[1, 2, 3, 3]), label: zeros(&[1]), class: None })?;
        let mut recording = self.record(&inputs, &mut |inputs| &inputs.x * 2.0 + &inputs.label)?;
        let _ = quietly(|| [inputs.x.fill_(3.0), inputs.label.fill_(1.0)])?;
        recording.replay.replay()?;
        let largest = quietly(|| (recording.output - 7.0).abs().max().double_value(&[]))?;
        if largest == 0.0 { Ok(()) } else { Err(format!("a replayed 2 · 3 + 1 is {largest} away from 7")) }
    }
}

/// Evaluations before a recording: libraries choose their algorithms and take their memory meanwhile, as nothing may
/// while a stream is recorded.
const SETTLING: usize = 2;

impl Recorder for Graphs {
    fn record(&self, inputs: &Inputs, evaluate: &mut dyn FnMut(&Inputs) -> Tensor) -> Result<Recording, String> {
        let (own, side) = (Stream::current(self.index)?, Stream::another(self.index)?);
        side.after(&own.event()?)?;
        let graph = Graph::new(self.index as c_int)?;
        let output = side.run(|| -> Result<Tensor, String> {
            for _ in 0..SETTLING {
                let _ = quietly(|| evaluate(inputs))?;
            }
            side.wait()?;
            // A graph has memory of its own, and takes none of what others have laid aside.
            // SAFETY: what is given back is what no tensor uses.
            checked(unsafe { tweedie_memory_release() })?;
            graph.record(|| evaluate(inputs))
        })??;
        own.after(&side.event()?)?;
        Ok(Recording { output, replay: Box::new(graph) })
    }
}

/// The most memory that tensors had on GPU `index` since this was last asked, in bytes.
pub fn peak_memory(index: usize) -> Result<i64, String> {
    let mut bytes = 0;
    // SAFETY: `bytes` lives through the call.
    checked(unsafe { tweedie_memory_peak(index as c_int, &raw mut bytes) })?;
    Ok(bytes)
}

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Result of `work`, or the message of its panic, without a word on standard error: tch panics where libtorch throws.
fn quietly<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic);
            }
        }));
    });
    let was = QUIET.replace(true);
    let made = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(was);
    made.map_err(|cause| first_line(&cause_of(&*cause)))
}

/// tch's words are `called Result::unwrap() on an Err value: Torch("…\n…")`.
fn cause_of(cause: &(dyn Any + Send)) -> String {
    let message = cause.downcast_ref::<String>().map(String::as_str);
    let message = message.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("unknown cause");
    let torch = message.split_once("Torch(\"").map_or(message, |(_, torch)| torch);
    torch.split("\\n").next().unwrap_or(torch).to_owned()
}
