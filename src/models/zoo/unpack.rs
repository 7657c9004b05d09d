//! Contents of a file, laid out flat: one name for each tensor, and the file's own metadata.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde_json::{Map, Value as Json};
use tch::{Kind, Tensor};

use super::{Shapes, diffusers};
use crate::{
    Error,
    models::checkpoint::{
        pickle::{Id, Pickle, Value},
        safetensors,
        source::{Source, Stored},
        torch::TorchArchive,
    },
};

/// Modules within modules.
const MOST_NESTED: usize = 16;

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
        let folder = diffusers::DiffusersFolder::around(path)?;
        let files = match &folder {
            Some(folder) => folder.weights(path)?,
            None => vec![path.to_owned()],
        };
        let (mut sources, mut places) = (Vec::new(), BTreeMap::new());
        let (mut config, mut note) = (Json::Null, String::new());
        for file in files {
            let (source, unpacked) = read(&file, weights)?;
            places.extend(unpacked.tensors.into_iter().map(|(name, stored)| (name, (sources.len(), stored))));
            sources.push(source);
            (config, note) = (unpacked.config, unpacked.note);
        }
        if let Some(folder) = folder {
            config = folder.config();
        }
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

/// Reads one file.
fn read(path: &Path, weights: WeightsChoice) -> Result<(Source, Unpacked), Error> {
    if path.extension().is_some_and(|extension| extension == "safetensors") {
        let source = Source::open(path)?;
        let (tensors, _) = safetensors::index(&source)?;
        return Ok((source, Unpacked { tensors, config: Json::Null, note: String::new() }));
    }
    let archive = TorchArchive::open(path)?;
    let unpacked = unpack(&archive, weights)?.map_err(|cause| Error::file(path, cause))?;
    Ok((archive.into_source(), unpacked))
}

struct Unpacked {
    tensors: BTreeMap<String, Stored>,
    config: Json,
    note: String,
}

/// Finds the network's tensors in what a family's program saved around them.
fn unpack(archive: &TorchArchive, weights: WeightsChoice) -> Result<Result<Unpacked, String>, Error> {
    let pickle = archive.pickle();
    let root = pickle.root();
    let plain = |tensors: Vec<(String, Stored)>, note: &str| {
        let tensors = tensors.into_iter().map(|(name, stored)| (unwrapped(&name).to_owned(), stored)).collect();
        Unpacked { tensors, config: Json::Null, note: note.to_owned() }
    };
    // score_sde: {optimizer, model, ema: {shadow_params: […]}, step}.
    if let (Some(model), Some(ema)) = (pickle.entry(root, "model"), pickle.entry(root, "ema")) {
        let model = archive.tensors(model)?;
        if weights == WeightsChoice::Raw {
            return Ok(Ok(plain(model, RAW)));
        }
        let shadows = pickle.entry(ema, "shadow_params").and_then(|list| pickle.sequence(list)).unwrap_or_default();
        let shadows = shadows.iter().map(|id| archive.stored(*id)).collect::<Result<Vec<_>, _>>()?;
        return Ok(in_order(model, shadows.into_iter().flatten().collect()).map(|tensors| plain(tensors, EMA)));
    }
    // EDM: {ema: a network, …}.
    if let Some(ema) = pickle.entry(root, "ema")
        && let Some(state) = state(pickle, ema)
    {
        let mut tensors = BTreeMap::new();
        gather(archive, state, "", 0, &mut tensors)?;
        return Ok(Ok(Unpacked { tensors, config: described(pickle, ema), note: String::new() }));
    }
    // NCSN: [weights, optimizer, epoch, step, their average].
    if let Some(&[raw, .., last]) = pickle.sequence(root) {
        let (raw, last) = (archive.tensors(raw)?, archive.tensors(last)?);
        return Ok(Ok(match (weights, last.is_empty()) {
            (WeightsChoice::Ema, false) => {
                // Untrained tensors have no average.
                let mut tensors: BTreeMap<_, _> = plain(raw, "").tensors;
                let average = plain(last, EMA);
                tensors.extend(average.tensors);
                Unpacked { tensors, ..average }
            }
            (WeightsChoice::Raw, false) => plain(raw, RAW),
            (_, true) => plain(raw, ""),
        }));
    }
    let held = ["state_dict", "model_state_dict"].iter().find_map(|name| pickle.entry(root, name));
    Ok(Ok(plain(archive.tensors(held.unwrap_or(root))?, "")))
}

const EMA: &str = "the exponential moving average of the weights (weights=raw reads the weights themselves)";
const RAW: &str = "the weights themselves, not their average";

/// A name without what torch.nn.DataParallel puts before it.
fn unwrapped(name: &str) -> &str {
    name.strip_prefix("module.").unwrap_or(name)
}

/// An average without names, in the order of the parameters that are trained: neither `sigmas` nor the random
/// frequencies are.
fn in_order(model: Vec<(String, Stored)>, shadows: Vec<Stored>) -> Result<Vec<(String, Stored)>, String> {
    let fixed = |name: &str, stored: &Stored| {
        let name = unwrapped(name);
        name == "sigmas" || (name == "all_modules.0.W" && stored.size.len() == 1)
    };
    let mut shadows = shadows.into_iter();
    let mut tensors = Vec::with_capacity(model.len());
    for (name, raw) in model {
        if fixed(&name, &raw) {
            tensors.push((name, raw));
            continue;
        }
        match shadows.next() {
            Some(shadow) if shadow.size == raw.size => tensors.push((name, shadow)),
            _ => return Err(format!("its moving averages do not go with its weights from {name} on: set weights=raw")),
        }
    }
    if shadows.next().is_some() {
        return Err("it holds more moving averages than weights: set weights=raw".to_owned());
    }
    Ok(tensors)
}

/// The state of a pickled module, as EDM's `persistence` or Python itself keeps it.
fn state(pickle: &Pickle, module: Id) -> Option<Id> {
    match pickle.call(module) {
        Some(((_, "_reconstruct_persistent_obj"), [meta, ..])) => pickle.entry(*meta, "state"),
        _ => match pickle.get(module) {
            Value::Object(object) => object.state,
            _ => None,
        },
    }
}

/// The tensors of a pickled module and of those within it.
fn gather(
    archive: &TorchArchive,
    state: Id,
    prefix: &str,
    depth: usize,
    tensors: &mut BTreeMap<String, Stored>,
) -> Result<(), Error> {
    let pickle = archive.pickle();
    for kind in ["_parameters", "_buffers"] {
        let held = pickle.entry(state, kind).map(|dict| archive.tensors(dict)).transpose()?.unwrap_or_default();
        tensors.extend(held.into_iter().map(|(name, stored)| (format!("{prefix}{name}"), stored)));
    }
    let modules = pickle.entry(state, "_modules").and_then(|dict| pickle.entries(dict)).unwrap_or_default();
    for (name, module) in modules {
        if let (Some(name), Some(state)) = (pickle.text(*name), self::state(pickle, *module))
            && depth < MOST_NESTED
        {
            gather(archive, state, &format!("{prefix}{name}."), depth + 1, tensors)?;
        }
    }
    Ok(())
}

/// `{class, …}`: the class of a pickled module, its plain values, and of its `model` the class and the share of images
/// whose own class was withheld in training.
fn described(pickle: &Pickle, module: Id) -> Json {
    let mut described = Map::new();
    let Some((_, [meta, ..])) = pickle.call(module) else { return Json::Null };
    let class = pickle.entry(*meta, "class_name").and_then(|id| pickle.text(id));
    described.insert("class".to_owned(), Json::from(class));
    let Some(state) = state(pickle, module) else { return Json::Object(described) };
    let internal: BTreeSet<&str> = BTreeSet::from(["training", "class"]);
    for (key, value) in pickle.entries(state).unwrap_or_default() {
        if let Some(key) = pickle.text(*key).filter(|key| !key.starts_with('_') && !internal.contains(key))
            && let Some(value) = plain(pickle, *value)
        {
            described.insert(key.to_owned(), value);
        }
    }
    let modules = pickle.entry(state, "_modules");
    if let Some(model) = modules.and_then(|modules| pickle.entry(modules, "model")) {
        let class = pickle.call(model).and_then(|(_, arguments)| pickle.entry(*arguments.first()?, "class_name"));
        described.insert("model".to_owned(), Json::from(class.and_then(|id| pickle.text(id))));
        let dropout = self::state(pickle, model).and_then(|state| pickle.entry(state, "label_dropout"));
        described.insert("label_dropout".to_owned(), Json::from(dropout.and_then(|id| plain(pickle, id))));
    }
    Json::Object(described)
}

/// A number, a text or a truth value.
fn plain(pickle: &Pickle, id: Id) -> Option<Json> {
    match pickle.get(id) {
        Value::Bool(value) => Some(Json::from(*value)),
        Value::Int(value) => Some(Json::from(*value)),
        Value::Float(value) => Some(Json::from(*value)),
        Value::Text(value) => Some(Json::from(&**value)),
        _ => None,
    }
}
