//! Files of `torch.save`, in both layouts, and pickles with such streams inside; all tensors are loaded.
#![no_main]

use std::fs;

use libfuzzer_sys::fuzz_target;
use tweedie::models::checkpoint::torch::TorchArchive;

fuzz_target!(|bytes: &[u8]| {
    let file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    fs::write(file.path(), bytes).unwrap();
    let Ok(archive) = TorchArchive::open(file.path()) else { return };
    let root = archive.pickle().root();
    for (_, stored) in archive.tensors(root).unwrap_or_default() {
        let _ = archive.load(&stored);
    }
});
