//! Everything that a checkpoint holds, laid out as one tree of dotted names.
//!
//! Trainers nest state dicts in dicts, objects and lists, and wrappers put words before the names: both are steps of one
//! path, as in `ema.module.conv_in.weight`.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value as Json};

use crate::{
    Error,
    models::checkpoint::{
        MOST_TENSORS,
        pickle::{Id, Pickle, Value},
        source::Stored,
        torch::TorchArchive,
    },
};

/// Steps from the root to a tensor's own dict.
const MOST_NESTED: usize = 24;
/// Bytes of all names together.
const MOST_TEXT: usize = 1 << 25;
/// Elements of a list that is looked into.
const MOST_ELEMENTS: usize = 64;
/// Parts of a checkpoint in which no network lies.
const STATES: [&str; 12] = [
    "optimizer",
    "optimizers",
    "optimizer_states",
    "optimizer_state",
    "optimizer_state_dict",
    "opt",
    "optim",
    "lr_scheduler",
    "lr_schedulers",
    "scaler",
    "callbacks",
    "loops",
];

/// See the [module](self).
#[derive(Debug, Default)]
pub struct Tree {
    /// Tensors by their paths, each with the number of its file.
    pub tensors: BTreeMap<String, (usize, Stored)>,
    /// Paths of the tensors in the order of the file, which is that of a network's parameters.
    pub order: Vec<String>,
    /// Tensors that cannot be read, with the reason.
    pub broken: BTreeMap<String, String>,
    /// Lists of tensors without names, by their paths.
    pub lists: BTreeMap<String, Vec<Stored>>,
    /// The class of each pickled module that states one, with its plain values, by the module's path.
    pub modules: BTreeMap<String, Json>,
    /// Entries of the root that hold neither tensors nor anything below them.
    pub others: BTreeSet<String>,
}

impl Tree {
    /// Adds the tensors of a file in which names are flat.
    pub fn add_flat(&mut self, tensors: BTreeMap<String, Stored>, file: usize) {
        self.order.extend(tensors.keys().cloned());
        self.tensors.extend(tensors.into_iter().map(|(name, stored)| (name, (file, stored))));
    }

    /// Walks through what `torch.save` or Python's `pickle` wrote.
    pub fn add_archive(&mut self, archive: &TorchArchive, file: usize) -> Result<(), Error> {
        let mut walk = Walk { archive, file, tree: self, path: Vec::new(), text: 0 };
        let done = walk.visit(archive.pickle().root(), "");
        done.map_err(|cause| Error::file(archive.source().path(), cause))
    }

    /// The part below a path, under the names that it has there.
    pub fn below<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a (usize, Stored))> {
        let from = self.tensors.range(path.to_owned()..);
        from.map_while(move |(name, placed)| Some((name.strip_prefix(path)?, placed)))
    }

    /// The tensors below a path in the order of the file.
    pub fn ordered<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, &'a (usize, Stored))> {
        self.order.iter().filter_map(move |name| Some((name.strip_prefix(path)?, self.tensors.get(name)?)))
    }

    /// Class and plain values of the pickled module at the path or nearest around it; null without one.
    pub fn described(&self, path: &str) -> Json {
        let path = path.trim_end_matches('.');
        let around = |module: &&String| module.is_empty() || path == *module || path.starts_with(&format!("{module}."));
        self.modules
            .keys()
            .filter(around)
            .max_by_key(|module| module.len())
            .map_or(Json::Null, |module| self.modules[module].clone())
    }
}

struct Walk<'a> {
    archive: &'a TorchArchive,
    file: usize,
    tree: &'a mut Tree,
    /// Values from the root to the present one.
    path: Vec<Id>,
    text: usize,
}

impl<'a> Walk<'a> {
    fn pickle(&self) -> &'a Pickle {
        self.archive.pickle()
    }

    fn visit(&mut self, id: Id, at: &str) -> Result<(), String> {
        if self.path.contains(&id) {
            return Err(format!("refers to itself at {}: no network does", shortened(at)));
        }
        if self.path.len() == MOST_NESTED {
            return Ok(());
        }
        self.path.push(id);
        let done = self.enter(id, at);
        self.path.pop();
        done
    }

    fn enter(&mut self, id: Id, at: &str) -> Result<(), String> {
        match self.archive.stored(id) {
            Ok(Some(stored)) => return self.tensor(at, Ok(stored)),
            Err(cause) => return self.tensor(at, Err(cause.to_string())),
            Ok(None) => {}
        }
        if let Some(state) = module_state(self.pickle(), id) {
            let described = described(self.pickle(), id, state);
            self.tree.modules.insert(at.to_owned(), described);
            return self.module(state, at);
        }
        if let Some(entries) = self.pickle().entries(id) {
            return self.dict(entries, at);
        }
        if let Some(items) = self.pickle().sequence(id) {
            return self.list(items, at);
        }
        match self.pickle().get(id) {
            Value::Object(object) => object.state.map_or(Ok(()), |state| self.visit(state, at)),
            _ => Ok(()),
        }
    }

    fn tensor(&mut self, at: &str, stored: Result<Stored, String>) -> Result<(), String> {
        self.text += at.len();
        if self.tree.tensors.len() >= MOST_TENSORS || self.text > MOST_TEXT {
            return Err(too_many());
        }
        match stored {
            Ok(stored) => {
                self.tree.order.push(at.to_owned());
                self.tree.tensors.insert(at.to_owned(), (self.file, stored));
            }
            Err(cause) => drop(self.tree.broken.insert(at.to_owned(), cause)),
        }
        Ok(())
    }

    fn dict(&mut self, entries: &[(Id, Id)], at: &str) -> Result<(), String> {
        for (key, value) in entries {
            let Some(name) = self.pickle().text(*key) else { continue };
            if at.is_empty() && STATES.contains(&name) {
                self.tree.others.insert(name.to_owned());
                continue;
            }
            let (tensors, lists) = (self.tree.tensors.len(), self.tree.lists.len());
            self.visit(*value, &joined(at, name))?;
            if at.is_empty() && (self.tree.tensors.len(), self.tree.lists.len()) == (tensors, lists) {
                self.tree.others.insert(name.to_owned());
            }
        }
        Ok(())
    }

    fn list(&mut self, items: &[Id], at: &str) -> Result<(), String> {
        let tensors: Option<Vec<Stored>> = items.iter().map(|item| self.archive.stored(*item).ok().flatten()).collect();
        if let Some(tensors) = tensors.filter(|tensors| !tensors.is_empty()) {
            self.tree.lists.insert(at.to_owned(), tensors);
            return Ok(());
        }
        for (i, item) in items.iter().take(MOST_ELEMENTS).enumerate() {
            self.visit(*item, &joined(at, &i.to_string()))?;
        }
        Ok(())
    }

    /// A module's parameters, buffers and modules, under the names that its state dict would give them.
    fn module(&mut self, state: Id, at: &str) -> Result<(), String> {
        for kind in ["_parameters", "_buffers", "_modules"] {
            if let Some(entries) = self.pickle().entry(state, kind).and_then(|dict| self.pickle().entries(dict)) {
                self.dict(entries, at)?;
            }
        }
        Ok(())
    }
}

fn too_many() -> String {
    format!("holds more than {MOST_TENSORS} tensors, or more than {} MB of names", MOST_TEXT >> 20)
}

fn joined(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// The begin of a name, for messages.
pub fn shortened(name: &str) -> String {
    const MOST: usize = 80;
    let mut short: String = name.chars().take(MOST).collect();
    if short.len() < name.len() {
        short.push('…');
    }
    short.escape_debug().to_string()
}

/// The state of a pickled module, as EDM's `persistence` or Python itself keeps it.
fn module_state(pickle: &Pickle, id: Id) -> Option<Id> {
    let state = match pickle.call(id) {
        Some(((_, "_reconstruct_persistent_obj"), [meta, ..])) => pickle.entry(*meta, "state"),
        _ => match pickle.get(id) {
            Value::Object(object) => object.state,
            _ => None,
        },
    }?;
    pickle.entry(state, "_modules").is_some().then_some(state)
}

/// `{class, …}`: the class of a pickled module, its plain values, and of its `model` the class and the share of images
/// whose own class was withheld in training.
fn described(pickle: &Pickle, module: Id, state: Id) -> Json {
    let mut described = Map::new();
    let class = |module: Id| {
        let (_, arguments) = pickle.call(module)?;
        pickle.text(pickle.entry(*arguments.first()?, "class_name")?)
    };
    described.insert("class".to_owned(), Json::from(class(module)));
    for (key, value) in pickle.entries(state).unwrap_or_default() {
        if let Some(key) = pickle.text(*key).filter(|key| !key.starts_with('_') && !["training", "class"].contains(key))
            && let Some(value) = plain(pickle, *value)
        {
            described.insert(key.to_owned(), value);
        }
    }
    let modules = pickle.entry(state, "_modules");
    if let Some(model) = modules.and_then(|modules| pickle.entry(modules, "model")) {
        described.insert("model".to_owned(), Json::from(class(model)));
        let dropout = module_state(pickle, model).and_then(|state| pickle.entry(state, "label_dropout"));
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
