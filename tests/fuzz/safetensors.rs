//! Files of safetensors; all tensors are loaded.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use tweedie::models::checkpoint::safetensors;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    fs::write(file.path(), bytes).unwrap();
    let _ = safetensors::read(file.path());
});
