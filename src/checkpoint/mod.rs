//! Files of named tensors.

pub mod pickle;
pub mod safetensors;
pub mod source;
pub mod torch;
