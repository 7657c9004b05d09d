//! Gradients of our own in libtorch's graph: an output that was computed in any way becomes a function of its inputs, with a
//! closure that goes back from its gradient to theirs.
//!
//! libtorch records every operation with what its own gradient needs, whether or not another way back would need less.

#![allow(unsafe_code)]

use std::{
    any::Any,
    borrow::Cow,
    ffi::{CStr, c_char, c_long, c_void},
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind},
    slice,
};

use tch::Tensor;
use torch_sys::C_tensor;

/// The gradients of the inputs, in their order; none where one is not wanted. Or why there are none.
pub type Gradients = Result<Vec<Option<Tensor>>, String>;

/// Whether results computed from `inputs` in this thread now have a gradient.
pub fn recording(inputs: &[&Tensor]) -> bool {
    // SAFETY: reads a flag of this thread.
    inputs.iter().any(|input| input.requires_grad()) && unsafe { tweedie_recording() }
}

/// `output` as a function of `inputs`, where [`recording`]: `backward` makes of its gradient those of the inputs, which have
/// the inputs' shapes and kinds.
///
/// What the closure holds is freed as soon as it has been called, unless the graph is kept, or when the graph is dropped. It
/// must hold neither `output` nor inputs that are not [`Saved`]: they would hold it in turn. It may be called in another
/// thread. A gradient of these gradients (`create_graph`) is refused.
///
/// # Panics
///
/// If libtorch refuses, as for an output that is not of floating point.
pub fn record<F>(inputs: &[&Tensor], output: Tensor, backward: F) -> Tensor
where
    F: Fn(Tensor) -> Gradients + Send + 'static,
{
    if !recording(inputs) {
        return output;
    }
    let closure = Closure { place: Box::into_raw(Box::new(backward)).cast(), call: call::<F>, drop: drop_boxed::<F> };
    let all: Vec<*const C_tensor> = inputs.iter().map(|input| input.as_ptr()).collect();
    let mut message: [c_char; MESSAGE] = [0; MESSAGE];
    // SAFETY: the tensors live until the call ends, `message` has the stated number of bytes, and the closure is given
    // away.
    let recorded = unsafe {
        tweedie_record(
            output.as_ptr(),
            all.as_ptr(),
            all.len() as c_long,
            closure,
            message.as_mut_ptr(),
            MESSAGE as c_long,
        )
    };
    // SAFETY: zeros from the last byte that was written to the end.
    assert!(!recorded.is_null(), "{}", unsafe { CStr::from_ptr(message.as_ptr()) }.to_string_lossy());
    // SAFETY: a new tensor, which is ours.
    unsafe { Tensor::from_ptr(recorded) }
}

/// A tensor that a way back needs, apart from the graph that it came of.
#[derive(Debug)]
pub struct Saved {
    tensor: Tensor,
    version: i64,
}

impl Saved {
    /// The tensor as it is now; its numbers are not copied.
    pub fn new(tensor: &Tensor) -> Self {
        Self { tensor: tensor.detach(), version: tensor.internal_version() }
    }

    /// The tensor, if it was not changed in place since.
    pub fn get(&self) -> Result<&Tensor, String> {
        if self.tensor.internal_version() == self.version {
            return Ok(&self.tensor);
        }
        Err(format!("a tensor {:?} that a gradient needs was changed in place", self.tensor.size()))
    }
}

/// Bytes of a message, with the zero at its end.
const MESSAGE: usize = 1024;

/// Layout as in `autograd.cpp`.
#[repr(C)]
struct Closure {
    place: *mut c_void,
    call: unsafe extern "C" fn(*mut c_void, *mut C_tensor, *mut *mut C_tensor, c_long, *mut c_char, c_long) -> bool,
    drop: unsafe extern "C" fn(*mut c_void),
}

unsafe extern "C" {
    fn tweedie_recording() -> bool;
    fn tweedie_record(
        output: *const C_tensor,
        inputs: *const *const C_tensor,
        count: c_long,
        closure: Closure,
        message: *mut c_char,
        size: c_long,
    ) -> *mut C_tensor;
}

/// Calls the closure at `place`.
///
/// # Safety
///
/// There must be one, the gradient must be a tensor that is given away, and there must be room for `count` gradients and for
/// `size` bytes of a message.
unsafe extern "C" fn call<F: Fn(Tensor) -> Gradients>(
    place: *mut c_void,
    gradient: *mut C_tensor,
    gradients: *mut *mut C_tensor,
    count: c_long,
    message: *mut c_char,
    size: c_long,
) -> bool {
    // SAFETY: as promised; the node of the graph calls from one thread at a time.
    let (gradient, backward) = unsafe { (Tensor::from_ptr(gradient), &*place.cast::<F>()) };
    let answer =
        catch_unwind(AssertUnwindSafe(|| backward(gradient))).unwrap_or_else(|panic| Err(words(&*panic).into()));
    let answer = answer.and_then(|found| {
        let wrong = || format!("{} gradients of {count} inputs", found.len());
        if found.len() == count as usize { Ok(found) } else { Err(wrong()) }
    });
    match answer {
        Ok(found) => {
            for (i, tensor) in found.into_iter().enumerate() {
                let given = tensor.map_or(std::ptr::null_mut(), |tensor| ManuallyDrop::new(tensor).as_mut_ptr());
                // SAFETY: `i` is below `count`; the tensor behind `given` is no longer ours.
                unsafe { *gradients.add(i) = given };
            }
            true
        }
        Err(text) => {
            // SAFETY: as promised.
            let bytes = unsafe { slice::from_raw_parts_mut(message.cast::<u8>(), size as usize) };
            let count = text.len().min(bytes.len() - 1);
            bytes[..count].copy_from_slice(&text.as_bytes()[..count]);
            bytes[count] = 0;
            false
        }
    }
}

/// Drops the closure at `place`.
///
/// # Safety
///
/// There must be one, and nobody may use it again.
unsafe extern "C" fn drop_boxed<F>(place: *mut c_void) {
    // SAFETY: made by `Box::into_raw` in `record`.
    drop(unsafe { Box::from_raw(place.cast::<F>()) });
}

/// Message of a panic.
fn words(panic: &(dyn Any + Send)) -> Cow<'static, str> {
    match (panic.downcast_ref::<&'static str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => Cow::Borrowed(text),
        (_, Some(text)) => Cow::Owned(text.clone()),
        _ => Cow::Borrowed("a gradient has panicked"),
    }
}
