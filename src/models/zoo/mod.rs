//! Published checkpoints: what their tensors' names and shapes tell, and what their family takes for granted.
//!
//! A file is unpacked to flat names first; a family is a file with one function: from names, shapes and what the file
//! says of itself to a card, and to what our network calls the same tensors. Loading is total: what the card's network
//! lacks, or what is left over, is an error that lists it all.

mod flags;
mod scheduler;
mod tree;
mod unpack;

use std::{collections::BTreeMap, path::Path};

pub(crate) use flags::Flags;
use rayon::prelude::*;
use tch::{Device, Kind, Tensor};
pub(crate) use unpack::joined;
pub use unpack::{Contents, WeightsChoice};

use crate::{
    Error,
    files::several,
    models::{
        card::Card,
        checkpoint::{safetensors::Tensors, source::Source},
    },
    networks::{AnyNetwork, weights::placed},
    numbers::{
        plan::Plan,
        precondition::{AnyPrecondition, DdpmConfig, Labels, Prediction},
        registry::{Info, List},
        schedule::AnyChain,
    },
};

/// The tensors of a file: name and shape.
pub type Shapes = BTreeMap<String, Vec<i64>>;

/// A file as a family reads it.
#[derive(Debug)]
pub struct Recognised {
    /// The model, with the conventions that the family is published with.
    pub card: Card,
    /// Assumptions, in a sentence.
    pub assumed: String,
    /// Names in our network of each tensor of the file, with the change it needs; a tensor that is known, but not used,
    /// has no names.
    pub names: Names,
}

/// See [`Recognised::names`].
pub type Names = BTreeMap<String, Vec<(String, Change)>>;

/// Change from a tensor of a file to the one that a network asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// The tensor takes this shape.
    Shape(Vec<i64>),
    /// The order of its two dimensions.
    Transposed,
    /// Every `step`-th row from row `first` on, without the dimensions of size 1 at its end.
    Rows {
        /// 0, …, `step` − 1.
        first: i64,
        /// Number of interleaved tensors.
        step: i64,
    },
    /// The order of its two dimensions, and two of size 1 behind them.
    Convolution,
    /// Within each of so many heads, rows (c, q k v) become rows (q k v, c).
    Heads(i64),
}

impl Change {
    /// The tensor that the network asks for.
    pub fn apply(&self, tensor: &Tensor) -> Result<Tensor, Error> {
        Ok(match self {
            Self::Keep => tensor.shallow_clone(),
            Self::Shape(shape) => tensor.f_reshape(shape)?,
            Self::Transposed => tensor.f_transpose(0, 1)?.f_contiguous()?,
            Self::Convolution => tensor.f_transpose(0, 1)?.f_contiguous()?.f_unsqueeze(-1)?.f_unsqueeze(-1)?,
            Self::Rows { first, step } => {
                let rows = tensor.f_slice(0, *first, None, *step)?;
                if rows.dim() > 2 { rows.f_flatten(1, -1)? } else { rows }.f_contiguous()?
            }
            Self::Heads(heads) => {
                let size = tensor.size();
                let rest: i64 = size[1..].iter().product();
                let shape: Vec<i64> = if size.len() > 1 { vec![size[0], rest, 1] } else { size.clone() };
                tensor.f_reshape([*heads, -1, 3, rest])?.f_transpose(1, 2)?.f_reshape(shape)?
            }
        })
    }
}

/// A family's reading of a file, if it is one of its own.
type Family = fn(file: &Contents) -> Option<Result<Recognised, String>>;

/// Declares the families: a row has the file, the checkpoints in a line, the names by which they are known, the source.
macro_rules! families {
    ($($file:ident: $what:literal, $tensors:literal, $source:literal;)+) => {
        $(mod $file;)+

        /// All families, in the order in which they are asked.
        const FAMILIES: &[Family] = &[$($file::recognise),+];

        /// The families of checkpoints that are recognised.
        pub const LIST: List = List {
            noun: "family",
            entries: &[$(&Info { facts: &[("tensors", $tensors)], ..Info::new(stringify!($file), $what, $source) }),+],
            others: &[],
            sequence: None,
        };
    };
}

families! {
    adm: "guided-diffusion, improved-diffusion, DPS, ILVR", "input_blocks.i.j, output_blocks.i.j", "Dhariwal & Nichol 2021";
    ddpm: "pytorch_diffusion, ddim", "down.i.block.j, up.i.attn.j", "DDPM";
    diffusers: "folders of diffusers: DDPM’s U-Net, NCSN++", "down_blocks.i.resnets.j", "diffusers";
    edm: "EDM’s pickles: SongUNet, DhariwalUNet", "model.enc.*, model.dec.*", "EDM";
    ffdnet: "FFDNet of KAIR and IPOL: denoisers", "model.0, model.2, …", "Zhang et al. 2018";
    ncsn: "NCSN, NCSNv2", "begin_conv, refineN, end_conv", "NCSN";
    score_sde: "score_sde_pytorch: NCSN++, DDPM++, DDPM", "all_modules.N", "Score SDE";
}

/// Endings of the files that may hold a family's checkpoint.
pub const EXTENSIONS: [&str; 7] = ["ckpt", "pth", "pt", "bin", "pkl", "safetensors", "ts"];

/// The card of a published network of our own conventions, −1 … 1.
fn card(name: &str, about: String, reference: &str, image: [i64; 3], network: AnyNetwork) -> Card {
    Card {
        name: name.to_owned(),
        about,
        reference: reference.to_owned(),
        data: String::new(),
        licence: String::new(),
        training: String::new(),
        image,
        pixels: Card::PIXELS,
        network,
        precondition: AnyPrecondition::Ddpm(DdpmConfig {
            beta: AnyChain::LinearBeta(crate::numbers::schedule::LinearBeta::default()),
            prediction: Prediction::Epsilon,
            label_times: None,
            labels: Labels::default(),
        }),
        sample: Plan::ddim(),
        restore: Plan::posterior(),
        clip: None,
    }
}

/// Recognises a file with these contents.
pub fn recognise(file: &Contents) -> Result<Recognised, String> {
    FAMILIES.iter().find_map(|family| family(file)).unwrap_or_else(|| Err(unknown(file.shapes())))
}

/// Whether tensors of these names and shapes are a family's.
fn is_known(shapes: Shapes) -> bool {
    let file = Contents::described("", shapes, serde_json::Value::Null);
    FAMILIES.iter().any(|family| family(&file).is_some())
}

/// A checkpoint, opened.
#[derive(Debug)]
pub struct Opened {
    /// The model.
    pub card: Card,
    /// Assumptions that neither names nor shapes nor the file itself confirm, in a sentence.
    pub assumed: String,
    /// The files that it was read from.
    pub sources: Vec<Source>,
    /// Tensors under our names, as a network on the device wants them.
    pub tensors: Tensors,
}

/// Opens a checkpoint as its authors published it, or, with a card, as that says; the tensors of a file of no known
/// family then go by the names that our network gives them.
pub fn open(
    path: &Path,
    weights: WeightsChoice,
    card: Option<Card>,
    device: Device,
    kind: Kind,
) -> Result<Opened, Error> {
    let file = Contents::open(path, weights)?;
    let found = recognise(&file);
    let is_family = found.is_ok();
    let mut recognised = match (found, &card) {
        (Ok(recognised), _) => recognised,
        (Err(_), Some(card)) => {
            let names = file.shapes().keys().map(|name| (name.clone(), vec![(name.clone(), Change::Keep)])).collect();
            Recognised { card: card.clone(), assumed: String::new(), names }
        }
        (Err(cause), None) => return Err(Error::file(path, cause)),
    };
    let unused = if is_family { recognised.pass_over(&file) } else { String::new() };
    let tensors = recognised.tensors(&file, device, kind)?;
    let assumed = if card.is_some() { String::new() } else { recognised.assumed };
    let assumed = joined(&[file.note(), &unused, &assumed]);
    Ok(Opened { card: card.unwrap_or(recognised.card), assumed, sources: file.into_sources(), tensors })
}

impl Recognised {
    /// Passes over tensors beside the network that none of its layers could hold, such as a trainer's `betas` and `step`;
    /// a sentence names them.
    fn pass_over(&mut self, file: &Contents) -> String {
        let keeps_name =
            |name: &String| self.names.get(name).is_none_or(|uses| uses.iter().any(|(ours, _)| ours == name));
        let beside = |(name, shape): &(&String, &Vec<i64>)| !name.contains('.') && shape.len() <= 1 && keeps_name(name);
        let beside: Vec<String> = file.shapes().iter().filter(beside).map(|(name, _)| name.clone()).collect();
        self.names.extend(beside.iter().map(|name| (name.clone(), Vec::new())));
        if beside.is_empty() { String::new() } else { format!("not used: {}", several(&beside)) }
    }

    /// The tensors of the file under our names, as a network on `device` that computes in `kind` wants them; those that
    /// nobody knows keep theirs, so that they are reported as left over.
    pub fn tensors(&self, file: &Contents, device: Device, kind: Kind) -> Result<Tensors, Error> {
        let kept = |name: &String| vec![(name.clone(), Change::Keep)];
        let loaded = file.shapes().par_iter().map(|(theirs, _)| {
            let uses = self.names.get(theirs).cloned().unwrap_or_else(|| kept(theirs));
            if uses.is_empty() {
                return Ok(Vec::new());
            }
            let tensor = file.load_as(theirs, kind)?;
            let used = uses.into_iter().map(|(ours, change)| {
                let tensor = placed(&ours, &change.apply(&tensor)?, device, kind);
                Ok((ours, tensor))
            });
            used.collect()
        });
        Ok(loaded.collect::<Result<Vec<Vec<_>>, Error>>()?.into_iter().flatten().collect())
    }
}

fn unknown(shapes: &Shapes) -> String {
    if shapes.is_empty() {
        return "holds no named tensors at its top: a state dict is wanted".to_owned();
    }
    let first: Vec<String> = shapes.iter().take(3).map(|(name, shape)| format!("{name} {shape:?}")).collect();
    format!("is of no known family; its first tensors are {}", first.join(", "))
}
