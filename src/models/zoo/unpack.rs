//! Contents of a file, laid out flat: one name for each tensor, and the file's own metadata.
//!
//! The network is found by one search: every part of the file's [tree](super::tree) is shown to the families, and of those
//! that one of them recognises an average is preferred, unless the weights themselves are asked for.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    path::Path,
};

use serde_json::Value as Json;
use tch::{Kind, Tensor};

use super::{
    Shapes, diffusers,
    tree::{Tree, shortened},
};
use crate::{
    Error,
    files::several,
    models::checkpoint::{
        foreign, safetensors,
        source::{Source, Stored},
        torch::TorchArchive,
    },
};

/// Fewest tensors of a network.
const FEWEST: usize = 2;
/// Words before the names of a network.
const MOST_WORDS: usize = 8;
/// Names that are shown to the families in all.
const MOST_SHOWN: usize = 1 << 20;

/// Choice between two sets of weights, where a file holds both.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum WeightsChoice {
    /// The exponential moving average, with which the authors sampled.
    #[default]
    Ema,
    /// The weights themselves.
    Raw,
}

/// The tensors of a file, or of several, under flat names.
#[derive(Debug)]
pub struct Contents {
    name: String,
    shapes: Shapes,
    config: Json,
    note: String,
    sources: Vec<Source>,
    /// The source of each tensor, and its place there.
    places: BTreeMap<String, (usize, Stored)>,
}

impl Contents {
    /// Names and shapes alone.
    pub fn described(name: &str, shapes: Shapes, config: Json) -> Self {
        let (note, sources, places) = (String::new(), Vec::new(), BTreeMap::new());
        Self { name: name.to_owned(), shapes, config, note, sources, places }
    }

    /// Opens a folder of diffusers, or a file that `torch.save`, Python's `pickle` or safetensors wrote.
    pub fn open(path: &Path, weights: WeightsChoice) -> Result<Self, Error> {
        let folder = diffusers::DiffusersFolder::around(path, weights)?;
        let files = match &folder {
            Some(folder) => folder.weights(path)?,
            None => vec![path.to_owned()],
        };
        let (mut sources, mut tree) = (Vec::new(), Tree::default());
        for file in files {
            sources.push(read(&file, sources.len(), &mut tree)?);
        }
        let Chosen { places, config, note } = choose(&tree, weights).map_err(|cause| Error::file(path, cause))?;
        let note = joined(&[folder.as_ref().map_or("", |folder| folder.note()), &note]);
        let config = folder.map_or(config, diffusers::DiffusersFolder::config);
        let shapes = places.iter().map(|(name, (_, stored))| (name.clone(), stored.size.clone())).collect();
        Ok(Self { name: name(path), shapes, config, note, sources, places })
    }

    /// Name of the model.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Name and shape of each tensor.
    pub fn shapes(&self) -> &Shapes {
        &self.shapes
    }

    /// The file's own configuration, or the one beside it: null, or an object.
    pub fn config(&self) -> &Json {
        &self.config
    }

    /// Note on the weights that were read, where there is a choice.
    pub fn note(&self) -> &str {
        &self.note
    }

    /// The files themselves.
    pub fn into_sources(self) -> Vec<Source> {
        self.sources
    }

    /// A tensor; a single zero in its shape where that is all that is known.
    pub fn load(&self, name: &str) -> Result<Tensor, Error> {
        if let Some((source, stored)) = self.places.get(name) {
            return self.sources[*source].load(stored);
        }
        let shape = self.shapes.get(name).map_or(&[][..], Vec::as_slice);
        Ok(Tensor::f_zeros([1], (Kind::Float, tch::Device::Cpu))?.f_expand(shape, false)?)
    }

    /// Loads a tensor for a network that computes in `kind`: as it lies in the file, if it can be.
    pub fn load_as(&self, name: &str, kind: Kind) -> Result<Tensor, Error> {
        if let Some((source, stored)) = self.places.get(name)
            && stored.kind == kind
            && let Some(view) = self.sources[*source].view(stored)?
        {
            return Ok(view);
        }
        self.load(name)
    }

    /// The numbers of a tensor, if the file holds it.
    pub fn numbers(&self, name: &str) -> Option<Vec<f64>> {
        let (source, stored) = self.places.get(name)?;
        let tensor = self.sources[*source].load(stored).ok()?;
        Vec::<f64>::try_from(tensor.flatten(0, -1).to_kind(Kind::Double)).ok()
    }
}

/// A file's name without its ending; a folder's name.
fn name(path: &Path) -> String {
    let absolute = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if path.is_dir() { absolute.file_name() } else { path.file_stem() };
    name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Adds one file to a tree.
fn read(path: &Path, number: usize, tree: &mut Tree) -> Result<Source, Error> {
    let source = Source::open(path)?;
    if let Some(cause) = foreign::sentence(path, source.bytes()) {
        return Err(Error::file(path, cause));
    }
    let is_named = path.extension().is_some_and(|ending| ending == "safetensors");
    if safetensors::is_safetensors(&source) || is_named && !source.bytes().starts_with(b"PK") {
        let (tensors, _) = safetensors::index(&source)?;
        tree.add_flat(tensors, number);
        return Ok(source);
    }
    let archive = TorchArchive::new(source)?;
    tree.add_archive(&archive, number)?;
    Ok(archive.into_source())
}

/// The network's part of a tree.
struct Chosen {
    places: BTreeMap<String, (usize, Stored)>,
    config: Json,
    note: String,
}

/// A part of a tree that a family recognises: what stands before its names, with a full stop at its end unless empty.
#[derive(Clone, Debug, PartialEq)]
struct Part {
    path: String,
    average: bool,
}

impl Part {
    /// Path in messages.
    fn named(&self) -> String {
        if self.path.is_empty() { "the top".to_owned() } else { shortened(self.path.trim_end_matches('.')) }
    }
}

const EMA: &str = "the exponential moving average of the weights";
const RAW: &str = "the weights themselves, not their average";

fn choose(tree: &Tree, weights: WeightsChoice) -> Result<Chosen, String> {
    let parts = parts(tree);
    let (averages, raws): (Vec<&Part>, Vec<&Part>) = parts.iter().partition(|part| part.average);
    let lists: Vec<&String> = tree.lists.keys().filter(|path| is_average(tree, path)).collect();
    let (part, note) = match (weights, averages.first(), raws.first()) {
        (WeightsChoice::Ema, Some(average), raw) => {
            let remedy = if raw.is_some() { " (weights=raw reads the weights themselves)" } else { "" };
            (*average, format!("{EMA}{remedy}"))
        }
        (WeightsChoice::Ema, None, Some(raw)) if !lists.is_empty() => return in_order(tree, raw, lists[0], &parts),
        (WeightsChoice::Raw, Some(_), Some(raw)) => (*raw, RAW.to_owned()),
        (WeightsChoice::Raw, None, Some(raw)) if !lists.is_empty() => (*raw, RAW.to_owned()),
        (WeightsChoice::Raw, Some(average), None) => {
            return Err(format!("holds no weights but an average, {}: leave weights=raw out", average.named()));
        }
        (_, None, Some(raw)) => (*raw, String::new()),
        (_, None, None) => return Ok(unrecognised(tree)),
    };
    let mut places = taken(tree, part)?;
    if part.average
        && let Some(raw) = raws.first()
    {
        // Buffers are not averaged.
        for (name, placed) in tree.below(&raw.path) {
            places.entry(name.to_owned()).or_insert_with(|| placed.clone());
        }
    }
    Ok(Chosen { places, config: tree.described(&part.path), note: noted(tree, note, part, &parts) })
}

/// The tensors of a part, under the names that they have there.
fn taken(tree: &Tree, part: &Part) -> Result<BTreeMap<String, (usize, Stored)>, String> {
    let mut broken = tree.broken.range(part.path.clone()..).take_while(|(name, _)| name.starts_with(&part.path));
    if let Some((name, cause)) = broken.next() {
        return Err(format!("its tensor {} cannot be read: {cause}", shortened(name)));
    }
    Ok(tree.below(&part.path).map(|(name, placed)| (name.to_owned(), placed.clone())).collect())
}

/// All parts that a family recognises, those nearest to the top first.
fn parts(tree: &Tree) -> Vec<Part> {
    let (mut found, mut queue, mut shown) = (Vec::new(), VecDeque::from([(String::new(), 0)]), 0);
    while let Some((path, words)) = queue.pop_front() {
        let shapes: Shapes =
            tree.below(&path).map(|(name, (_, stored))| (name.to_owned(), stored.size.clone())).collect();
        shown += shapes.len();
        if shapes.len() < FEWEST || shown > MOST_SHOWN {
            continue;
        }
        let mut within: BTreeSet<String> =
            shapes.keys().filter_map(|name| Some(name.split_once('.')?.0.to_owned())).collect();
        if super::is_known(shapes) {
            found.push(Part { average: is_average(tree, &path), path: path.clone() });
            within.retain(|word| says_average(word));
        }
        if words < MOST_WORDS {
            queue.extend(within.into_iter().map(|word| (format!("{path}{word}."), words + 1)));
        }
    }
    found
}

/// Whether a path leads to an average: by its words, as in `ema.module.` or `params_ema.`, or by the entries beside it.
fn is_average(tree: &Tree, path: &str) -> bool {
    let mut around = String::new();
    let mut average = false;
    for word in path.split_terminator('.') {
        // torch.optim.swa_utils.AveragedModel counts its updates; Lightning's WeightAveraging keeps the weights elsewhere.
        average |= word == "module" && tree.tensors.contains_key(&format!("{around}n_averaged"));
        average |= around.is_empty() && word == "state_dict" && tree.below("current_model_state.").next().is_some();
        // NCSN and DDIM: [weights, optimizer, epoch, step, their average].
        average |= around.is_empty() && word == "4" && tree.below("0.").next().is_some();
        // ema-pytorch keeps the weights beside the average.
        average = (average || says_average(word)) && !word.starts_with("online");
        around = format!("{around}{word}.");
    }
    average
}

/// Whether a word says that an average lies below it: ema, model_ema1, params_ema, shadow, averaged_model.
fn says_average(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    word.split(['_', '-']).any(|part| {
        part.strip_prefix("ema").is_some_and(|rest| !rest.starts_with(|c: char| c.is_ascii_alphabetic()))
            || part.starts_with("averag")
            || ["shadow", "swa"].contains(&part)
    })
}

/// An average without names, in the order of the parameters that are trained: neither `sigmas` nor the random
/// frequencies are.
fn in_order(tree: &Tree, raw: &Part, list: &str, parts: &[Part]) -> Result<Chosen, String> {
    let fixed = |name: &str, stored: &Stored| name == "sigmas" || (name == "all_modules.0.W" && stored.size.len() == 1);
    let mut shadows = tree.lists[list].iter();
    let mut places = taken(tree, raw)?;
    for (name, (file, stored)) in tree.ordered(&raw.path) {
        if fixed(name, stored) {
            continue;
        }
        match shadows.next() {
            Some(shadow) if shadow.size == stored.size => drop(places.insert(name.to_owned(), (*file, shadow.clone()))),
            _ => {
                let name = shortened(name);
                return Err(format!("its moving averages do not go with its weights from {name} on: set weights=raw"));
            }
        }
    }
    if shadows.next().is_some() {
        return Err("it holds more moving averages than weights: set weights=raw".to_owned());
    }
    let average = Part { path: format!("{list}."), average: true };
    let note = format!("{EMA} (weights=raw reads the weights themselves)");
    Ok(Chosen { places, config: tree.described(&raw.path), note: noted(tree, note, &average, parts) })
}

/// A note on the part that was taken, and on all else in the file.
fn noted(tree: &Tree, note: String, part: &Part, parts: &[Part]) -> String {
    let mut sentences = Vec::new();
    if !note.is_empty() || !part.path.is_empty() {
        let note = if note.is_empty() { "the weights" } else { &note };
        sentences.push(if part.path.is_empty() { note.to_owned() } else { format!("{note}, from {}", part.named()) });
    }
    let others: Vec<String> = parts.iter().filter(|other| *other != part).map(Part::named).collect();
    if !others.is_empty() {
        sentences.push(format!("also in the file: {}", several(&others)));
    }
    let taken = |name: &str| name.starts_with(&part.path) || parts.iter().any(|other| name.starts_with(&other.path));
    let unused: BTreeSet<String> = (tree.tensors.keys().chain(tree.broken.keys()))
        .filter(|name| !taken(name))
        .map(|name| apart(name, parts))
        .chain(tree.others.iter().map(String::as_str))
        .map(shortened)
        .collect();
    if !unused.is_empty() {
        sentences.push(format!("not used: {}", several(&unused.into_iter().collect::<Vec<_>>())));
    }
    sentences.join("; ")
}

/// The shortest begin of a tensor's path below which no part lies.
fn apart<'a>(name: &'a str, parts: &[Part]) -> &'a str {
    let holds_part = |begin: &str| parts.iter().any(|part| part.path.starts_with(&format!("{begin}.")));
    let ends = name.match_indices('.').map(|(end, _)| &name[..end]);
    ends.chain([name]).find(|begin| !holds_part(begin)).unwrap_or(name)
}

/// Notes, those without a word left out.
pub(crate) fn joined(notes: &[&str]) -> String {
    notes.iter().filter(|note| !note.is_empty()).copied().collect::<Vec<_>>().join("; ")
}

/// A file of no known family, for a card that knows its names: the usual state dicts, or all of it.
fn unrecognised(tree: &Tree) -> Chosen {
    let held = |path: &&str| tree.below(path).next().is_some();
    let mut path = ["state_dict.", "model_state_dict."].into_iter().find(held).unwrap_or_default().to_owned();
    for word in ["module.", "_orig_mod."] {
        if tree.below(&path).all(|(name, _)| name.starts_with(word)) {
            path += word;
        }
    }
    let places = tree.below(&path).map(|(name, placed)| (name.to_owned(), placed.clone())).collect();
    Chosen { places, config: tree.described(&path), note: String::new() }
}
