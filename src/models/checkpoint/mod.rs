//! Files of named tensors.

pub mod foreign;
pub mod pickle;
pub mod safetensors;
pub mod source;
pub mod torch;

use std::path::Path;

use self::{safetensors::Tensors, source::Source, torch::TorchArchive};
use crate::Error;

/// Tensors of a file: the largest published networks have some thousands, and optimizers twice as many.
pub const MOST_TENSORS: usize = 100_000;

/// The tensors of a state dict that are `wanted` by name: what `torch.save` wrote of it, or a safetensors file.
pub fn state_dict(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Tensors, Error> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let source = Source::open(path)?;
        let stored = safetensors::index(&source)?.0.into_iter().filter(|(name, _)| wanted(name));
        return stored.map(|(name, stored)| Ok((name, source.load(&stored)?))).collect();
    }
    let archive = TorchArchive::open(path)?;
    let stored = archive.tensors(archive.pickle().root())?.into_iter().filter(|(name, _)| wanted(name));
    stored.map(|(name, stored)| Ok((name, archive.load(&stored)?))).collect()
}
