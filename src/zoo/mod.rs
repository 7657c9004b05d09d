//! Published checkpoints: what their tensors' names and shapes tell, and what their family takes for granted.
//!
//! A family is a file with one function: from names and shapes to a card, and to the names that our network has for the
//! same tensors. Loading is total: what the card's network lacks, or what is left over, is an error that lists it all.

mod adm;
mod ddpm;

use std::{collections::BTreeMap, path::Path};

use crate::{
    Error,
    card::{Card, sha256},
    checkpoint::{
        safetensors::Tensors,
        torch::{Archive, Stored},
    },
    networks::AnyNetwork,
    plan::Plan,
    precondition::{AnyPrecondition, DdpmConfig, Prediction},
    schedule::AnyChain,
};

/// The tensors of a file: name and shape.
pub type Shapes = BTreeMap<String, Vec<i64>>;

/// What a family makes of a file.
#[derive(Debug)]
pub struct Recognised {
    /// The model, with the conventions that the family is published with.
    pub card: Card,
    /// What was taken for granted, a sentence.
    pub assumed: String,
    /// Our name and shape for each tensor of the file that the network uses.
    pub names: BTreeMap<String, (String, Vec<i64>)>,
}

/// A family's reading of a file, if it is one of its own; `name` is what to call the model.
type Family = fn(name: &str, shapes: &Shapes) -> Option<Result<Recognised, String>>;

/// All families, in the order in which they are asked.
const FAMILIES: [Family; 2] = [adm::recognise, ddpm::recognise];

/// Endings of the files that may hold a family's checkpoint.
pub const EXTENSIONS: [&str; 4] = ["ckpt", "pth", "pt", "bin"];

/// The card of a published network that predicts ε on a chain of discrete times.
fn epsilon_card(
    name: &str,
    about: String,
    reference: &str,
    image: [i64; 3],
    network: AnyNetwork,
    beta: AnyChain,
) -> Card {
    Card {
        name: name.to_owned(),
        about,
        reference: reference.to_owned(),
        data: String::new(),
        licence: String::new(),
        training: String::new(),
        image,
        network,
        precondition: AnyPrecondition::Ddpm(DdpmConfig { beta, prediction: Prediction::Epsilon }),
        sample: Plan::ddim(),
        restore: Plan::posterior(),
    }
}

/// Opens a checkpoint as its authors published it: card, what was assumed, the file's SHA-256, and the tensors under our
/// names.
pub fn open(path: &Path) -> Result<(Card, String, String, Tensors), Error> {
    let archive = Archive::open(path)?;
    let stored: BTreeMap<String, Stored> = archive.tensors(archive.pickle().root())?.into_iter().collect();
    let shapes: Shapes = stored.iter().map(|(name, stored)| (name.clone(), stored.size.clone())).collect();
    let name = path.file_stem().map_or_else(|| "model".to_owned(), |stem| stem.to_string_lossy().into_owned());
    let recognised = FAMILIES.iter().find_map(|family| family(&name, &shapes)).ok_or_else(|| unknown(path, &shapes))?;
    let Recognised { card, assumed, names } = recognised.map_err(|cause| Error::file(path, cause))?;
    let mut tensors = Tensors::new();
    for (theirs, stored) in &stored {
        let tensor = archive.load(stored)?;
        match names.get(theirs) {
            Some((ours, shape)) => tensors.insert(ours.clone(), tensor.f_reshape(shape)?),
            None => tensors.insert(theirs.clone(), tensor),
        };
    }
    Ok((card, assumed, sha256(archive.bytes()), tensors))
}

fn unknown(path: &Path, shapes: &Shapes) -> Error {
    if shapes.is_empty() {
        return Error::file(path, "holds no named tensors at its top: a state dict is wanted");
    }
    let first: Vec<String> = shapes.iter().take(3).map(|(name, shape)| format!("{name} {shape:?}")).collect();
    let cause = format!("is of no known family; its first tensors are {}", first.join(", "));
    Error::file(path, cause)
}
