//! libtorch, the kernels, CUDA and memory: the only wing with `unsafe` code and C++.

pub mod autograd;
pub mod cuda;
pub mod host_copy;
pub mod kernels;
pub mod libtorch;
pub mod memory;
pub mod recorder;
