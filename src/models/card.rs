//! Cards: what a checkpoint is, where it came from, and by which conventions it is used.

use std::{
    fmt::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tch::{CModule, Device, Kind};

use crate::{
    Error,
    backend::cuda::Graphs,
    files,
    models::{
        checkpoint::{
            safetensors::{self, Metadata, Tensors},
            source::Source,
            torch,
        },
        zoo,
    },
    networks::{AnyNetwork, Graphed, Network, Own, OwnConfig, ScriptClassifier, TorchScript, weights::Weights},
    numbers::{plan::Plan, precondition::AnyPrecondition},
    scores::denoiser::{Clip, Pretrained},
};

/// Name, card and weights, kept inside the program so that it works from anywhere.
pub(crate) type Shipped = (&'static str, &'static str, &'static [u8]);

/// The cards and weights of `models/`.
mod models {
    include!(concat!(env!("OUT_DIR"), "/models.rs"));
}

/// A model, as a card file states it.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Card {
    /// Name on the command line.
    pub name: String,
    /// One line for `tweedie models`.
    pub about: String,
    /// Paper or place of origin.
    #[serde(default)]
    pub reference: String,
    /// Training data.
    #[serde(default)]
    pub data: String,
    /// Licence of the weights.
    #[serde(default)]
    pub licence: String,
    /// Training: command, duration, loss, figures.
    #[serde(default)]
    pub training: String,
    /// `[channels, height, width]`; pixels are −1 … 1.
    pub image: [i64; 3],
    /// The pixels of the program that trained it. Everything here is in −1 … 1 all the same, σ too; `denoise` alone reads
    /// and writes these.
    #[serde(default = "Card::pixels", skip_serializing_if = "Card::usual")]
    pub pixels: [f64; 2],
    /// The network F.
    pub network: AnyNetwork,
    /// Preconditioning that makes D of F.
    pub precondition: AnyPrecondition,
    /// The sampler that serves it best within 50 evaluations.
    pub sample: Plan,
    /// The walk for posterior sampling.
    pub restore: Plan,
    /// In sampling the denoised image is held within −clip … clip at every step, or within a range of its own; never if left
    /// out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip: Option<Clip>,
}

impl Card {
    /// The smallest and the largest σ of the training, in data units.
    pub fn range(&self) -> Result<(f64, f64), Error> {
        Ok(self.precondition.build()?.range())
    }

    /// The pixels of almost all programs.
    pub const PIXELS: [f64; 2] = [-1.0, 1.0];

    fn pixels() -> [f64; 2] {
        Self::PIXELS
    }

    fn usual(pixels: &[f64; 2]) -> bool {
        *pixels == Self::PIXELS
    }

    /// Parses the text of a card; `path` is used in messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        crate::files::yaml::parse(text, path)
    }

    /// The card with some of its values replaced, each given as `key=value`.
    ///
    /// A key is a path with dots, as in `network.class=207`; the name alone is enough for what is in the network, in the
    /// preconditioning or at the top. For networks of guided- and improved-diffusion, their programs' flags do as well, as
    /// in `num_head_channels=64`.
    pub fn with(&self, settings: &[String]) -> Result<Self, Error> {
        Ok(self.with_note(settings)?.0)
    }

    /// The same, with a sentence on settings that have no effect.
    fn with_note(&self, settings: &[String]) -> Result<(Self, String), Error> {
        let wrong = |cause: String| Error::file(Path::new("`set`"), cause);
        let mut card = serde_json::to_value(self).map_err(|e| Error::file("card", e))?;
        let mut flags = zoo::Flags::default();
        for setting in settings {
            let (key, value) =
                setting.split_once('=').ok_or_else(|| wrong(format!("{setting}: is not of the form key=value")))?;
            let value: serde_json::Value = crate::files::yaml::parse(value, Path::new("`set`"))?;
            let path = format!("/{}", key.replace('.', "/"));
            let places = ["", "/network", "/precondition"].map(|place| format!("{place}{path}"));
            let place = places.iter().find(|place| card.pointer(place).is_some());
            if let Some(found) = place.and_then(|place| card.pointer_mut(place)) {
                *found = value;
            } else if !flags.keep(&card["network"], key, &value) {
                let known = known(&card).join(", ");
                return Err(wrong(format!("{setting}: the card has no such key; it has {known}")));
            }
        }
        let mut card: Self = serde_json::from_value(card).map_err(|e| wrong(format!("{}: {e}", settings.join(" "))))?;
        let note = flags.apply(&mut card).map_err(wrong)?;
        Ok((card, note))
    }

    /// The card as YAML.
    pub fn text(&self) -> Result<String, Error> {
        serde_yaml::to_string(self).map_err(|e| Error::file("card", e))
    }
}

/// The keys of a card that describe the network and its conventions.
fn known(card: &serde_json::Value) -> Vec<String> {
    let within =
        |key: &str| card.get(key).and_then(serde_json::Value::as_object).into_iter().flat_map(|map| map.keys());
    within("network")
        .chain(within("precondition"))
        .filter(|key| *key != "kind")
        .cloned()
        .chain(["image".into()])
        .collect()
}

/// A network that no card's configuration builds: a TorchScript program, or one that the calling program holds.
#[derive(Clone)]
enum ExternalNetwork {
    Program(Arc<CModule>),
    Own(Own),
}

/// Parameters by name, in the network's order.
type Parameters = Vec<(String, tch::Tensor)>;

/// A TorchScript program on its device, set to compute in `kind`.
fn program(path: &Path, device: Device, kind: Kind) -> Result<Arc<CModule>, Error> {
    let mut module = CModule::load_on_device(path, device)?;
    module.f_set_eval()?;
    module.to(device, kind, false);
    Ok(Arc::new(module))
}

/// Opens a classifier of noisy images, forward(x, label) → logits, for images of this `[channels, height, width]`.
pub fn classifier(path: &Path, shape: [i64; 3], device: Device, kind: Kind) -> Result<ScriptClassifier, Error> {
    ScriptClassifier::new(script(path, device, kind)?, shape, device, kind).map_err(|cause| Error::file(path, cause))
}

/// Opens any TorchScript program on `device`, set to compute in `kind`.
pub fn script(path: &Path, device: Device, kind: Kind) -> Result<Arc<CModule>, Error> {
    if !torch::is_script(&Source::open(path)?) {
        return Err(Error::file(path, "is no TorchScript program: torch.jit.trace and torch.jit.script make one"));
    }
    program(path, device, kind)
}

/// A card with its weights.
pub struct Model {
    /// The card.
    pub card: Card,
    /// File of the weights.
    pub source: PathBuf,
    /// The files themselves.
    sources: Arc<[Source]>,
    /// The network itself, where the card cannot build it.
    given: Option<ExternalNetwork>,
    /// Assumptions of the family that neither names nor shapes of its file confirm; empty where a card states them.
    pub assumed: String,
    /// Parameters, by name and in the network's order.
    pub parameters: Vec<(String, tch::Tensor)>,
    /// D(x, σ).
    pub denoiser: Pretrained,
}

impl fmt::Debug for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Model").field("card", &self.card).field("source", &self.source).finish_non_exhaustive()
    }
}

/// SHA-256 in hexadecimal.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

/// SHA-256 of a file, hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String, Error> {
    let mut hash = Sha256::new();
    Source::open(path)?.hash(&mut hash)?;
    Ok(hexadecimal(hash))
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The names of the shipped cards.
pub fn names() -> impl Iterator<Item = &'static str> {
    models::SHIPPED.iter().map(|(name, ..)| *name)
}

/// The shipped cards.
pub fn cards() -> Result<Vec<Card>, Error> {
    models::SHIPPED.iter().map(|(name, card, _)| Card::parse(card, Path::new(name))).collect()
}

/// The card of a shipped model or of a card file, without the weights; none where only the weights' file has it.
pub fn card(model: &str) -> Result<Option<Card>, Error> {
    stated(model, models::SHIPPED)?.map(|card| Card::parse(&card, Path::new(model))).transpose()
}

/// A model on the command line, found.
pub(crate) struct OpenedSource {
    /// The text of the card, and the file that it came from.
    pub card: (String, PathBuf),
    /// File of the weights.
    pub source: Source,
    /// The weights, by name.
    pub tensors: Tensors,
}

/// Finds a name among the shipped cards, a card file (.yaml) with its weights beside it, or a .safetensors file with a
/// card inside.
pub(crate) fn find(model: &str, shipped: &[Shipped]) -> Result<OpenedSource, Error> {
    let (card, source) = locate(model, shipped)?;
    let (stored, metadata) = safetensors::index(&source)?;
    let card = match card {
        Some(card) => (card, PathBuf::from(model)),
        None => (inside(&metadata, source.path())?, source.path().to_owned()),
    };
    let tensors = stored.into_iter().map(|(name, stored)| Ok((name, source.load(&stored)?)));
    Ok(OpenedSource { card, tensors: tensors.collect::<Result<_, Error>>()?, source })
}

fn inside(metadata: &Metadata, source: &Path) -> Result<String, Error> {
    metadata
        .get("card")
        .cloned()
        .ok_or_else(|| Error::file(source, "has no card inside: name a card file (.yaml) that lies beside it instead"))
}

/// The text of a card.
fn text(path: &Path) -> Result<String, Error> {
    files::read_text(path)
}

/// The text of the card that a name stands for, where it does not lie inside the weights.
fn stated(model: &str, shipped: &[Shipped]) -> Result<Option<String>, Error> {
    if let Some((_, card, _)) = shipped.iter().find(|(name, ..)| *name == model) {
        return Ok(Some((*card).to_owned()));
    }
    let path = Path::new(model);
    let is_card = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml") && path.exists();
    is_card.then(|| text(path)).transpose()
}

/// The card and the weights that a name stands for.
fn locate(model: &str, shipped: &[Shipped]) -> Result<(Option<String>, Source), Error> {
    let card = stated(model, shipped)?;
    if let Some((name, _, weights)) = shipped.iter().find(|(name, ..)| *name == model) {
        return Ok((card, Source::program(Path::new(name), weights)));
    }
    let path = Path::new(model);
    match path.extension().and_then(|e| e.to_str()) {
        _ if !path.exists() => Err(missing(path, shipped)),
        Some("yaml" | "yml") => Ok((card, Source::open(&path.with_extension("safetensors"))?)),
        _ => Ok((card, Source::open(path)?)),
    }
}

/// A name that is neither a model's nor a file's, with the nearest that is.
fn missing(path: &Path, shipped: &[Shipped]) -> Error {
    let near = nearest(path, shipped).map(|name| format!(": did you mean `{name}`?"));
    let is_file = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml" || ending == "safetensors");
    if let Some(remedy) = on_the_hub(&path.display().to_string()) {
        return Error::file(path, remedy);
    }
    let cause = if is_file { "cannot be read: No such file or directory" } else { "no such model or file" };
    let known = || {
        format!("; the models that ship are: {}", shipped.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", "))
    };
    let remedy = near.unwrap_or_else(|| if is_file { String::new() } else { known() });
    Error::file(path, format!("{cause}{remedy}"))
}

/// A sentence on a name that is one of the Hugging Face Hub, owner/name, and of no folder that is here.
fn on_the_hub(name: &str) -> Option<String> {
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.starts_with('.')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    let (owner, model) = name.split_once('/')?;
    let has_ending =
        zoo::EXTENSIONS.iter().chain(&["yaml", "yml"]).any(|ending| model.ends_with(&format!(".{ending}")));
    let is_hub = is_word(owner) && is_word(model) && !has_ending && !Path::new(owner).exists();
    is_hub.then(|| {
        format!(
            "is not here: if it is a model of the Hugging Face Hub, `hf download {name} --local-dir {model}` fetches it, and \
             {model} opens it"
        )
    })
}

/// The name of a shipped model, or of a file beside `path` that may be one, if it differs in a few letters alone.
fn nearest(path: &Path, shipped: &[Shipped]) -> Option<String> {
    let wrong = path.display().to_string();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let is_model = |path: &PathBuf| {
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        ["yaml", "yml"].contains(&ending) || zoo::EXTENSIONS.contains(&ending)
    };
    let beside = std::fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten().flatten();
    let beside = beside.map(|entry| folder.unwrap_or(Path::new("")).join(entry.file_name())).filter(is_model);
    let names =
        shipped.iter().map(|(name, ..)| (*name).to_owned()).chain(beside.map(|path| path.display().to_string()));
    let apart = names.map(|name| (strsim::damerau_levenshtein(&wrong, &name), name));
    apart.filter(|(distance, _)| *distance <= 1 + wrong.len() / 6).min().map(|(_, name)| name)
}

/// Whether a path is a checkpoint as its authors published it, and none of our own with a card inside.
fn is_published(path: &Path) -> Result<bool, Error> {
    if path.is_dir() {
        return Ok(true);
    }
    let is_card = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
    if is_card || !path.exists() {
        return Ok(false);
    }
    let source = Source::open(path)?;
    Ok(!safetensors::is_safetensors(&source) || !safetensors::has_card(&source)?)
}

/// The last of `weights=ema` and `weights=raw`.
fn weights(settings: &[String]) -> Result<zoo::WeightsChoice, Error> {
    settings.last().map_or(Ok(zoo::WeightsChoice::default()), |setting| match setting.as_str() {
        "weights=ema" => Ok(zoo::WeightsChoice::Ema),
        "weights=raw" => Ok(zoo::WeightsChoice::Raw),
        _ => Err(Error::file(Path::new("`set`"), format!("{setting}: weights are ema or raw"))),
    })
}

impl Model {
    /// Opens what the command line calls MODEL on `device`; its network computes in `kind`.
    pub fn open_on(model: &str, device: Device, kind: Kind) -> Result<Self, Error> {
        Self::open_with(model, None, &[], device, kind)
    }

    /// Opens a model with another card than its own, and with values of the card replaced, as [`Card::with`] does.
    pub fn open_with(
        model: &str,
        card: Option<&Path>,
        settings: &[String],
        device: Device,
        kind: Kind,
    ) -> Result<Self, Error> {
        let given = card.map(|path| Card::parse(&text(path)?, path)).transpose()?;
        let path = Path::new(model);
        if is_published(path)? {
            if path.is_file() {
                let source = Source::open(path)?;
                if torch::is_script(&source) {
                    return Self::script(source, given, settings, device, kind);
                }
            }
            let (choice, settings): (Vec<_>, Vec<_>) =
                settings.iter().cloned().partition(|setting| setting.starts_with("weights="));
            let zoo::Opened { card, mut assumed, sources, tensors } =
                zoo::open(path, weights(&choice)?, given, device, kind)?;
            if !settings.is_empty() && !assumed.is_empty() {
                assumed += "; but `set` replaces this";
            }
            let (card, note) = card.with_note(&settings)?;
            let assumed = zoo::joined(&[&assumed, &note]);
            let weights = Weights::stored(tensors, device, kind);
            return Self::build(card, path.to_owned(), sources.into(), assumed, weights, None);
        }
        let OpenedSource { card: (card, path), source, tensors } = find(model, models::SHIPPED)?;
        let card = given.map_or_else(|| Card::parse(&card, &path), Ok)?.with(settings)?;
        let place = source.path().to_owned();
        Self::build(card, place, [source].into(), String::new(), Weights::stored(tensors, device, kind), None)
    }

    /// A network of the caller's own: images of `[channels, height, width]`, and how F becomes D.
    ///
    /// `parameters` tell the network from others in the records of folders, and on which device and in which kind it
    /// computes; without any, that is f32 on the CPU.
    ///
    /// ```
    /// use tch::Tensor;
    /// use tweedie::{
    ///     Model,
    ///     networks::FnNetwork,
    ///     numbers::precondition::{Plain, Quantity},
    /// };
    ///
    /// // D(x, σ) of images whose pixels are N(0, 1): x/(1 + σ²).
    /// let network = FnNetwork(|x: &Tensor, sigma: &Tensor| x / (sigma.square() + 1.0).view([-1, 1, 1, 1]));
    /// let precondition = Plain { predicts: Quantity::Denoised, range: [0.002, 80.0] };
    /// let model = Model::own("white noise", [1, 8, 8], precondition, network, Vec::new())?;
    /// let images = model.sample(0..4)?;
    /// # Ok::<(), tweedie::Error>(())
    /// ```
    pub fn own(
        name: &str,
        image: [i64; 3],
        precondition: impl Into<AnyPrecondition>,
        network: impl Network + 'static,
        parameters: Vec<(String, tch::Tensor)>,
    ) -> Result<Self, Error> {
        let card = Card {
            name: name.to_owned(),
            about: String::new(),
            reference: String::new(),
            data: String::new(),
            licence: String::new(),
            training: String::new(),
            image,
            pixels: Card::PIXELS,
            network: AnyNetwork::Own(OwnConfig {}),
            precondition: precondition.into(),
            sample: Plan::within_range(),
            restore: Plan::posterior(),
            clip: None,
        };
        let (device, kind) =
            parameters.first().map_or((Device::Cpu, Kind::Float), |(_, tensor)| (tensor.device(), tensor.kind()));
        let weights = Weights::shared(&parameters, device, kind);
        let given = Some((ExternalNetwork::Own(Own::new(network)), parameters));
        Self::build(card, PathBuf::from(name), Arc::new([]), String::new(), weights, given)
    }

    /// Opens a TorchScript program; only its card knows what it takes and gives.
    fn script(
        source: Source,
        card: Option<Card>,
        settings: &[String],
        device: Device,
        kind: Kind,
    ) -> Result<Self, Error> {
        let path = source.path().to_owned();
        let wrong = |cause: String| Error::file(&path, cause);
        let contract = "is a TorchScript program: say in a card what it takes and gives (`card` FILE.yaml with network: \
                        {kind: torchscript, in_channels: 3})";
        let card = card.ok_or_else(|| wrong(contract.to_owned()))?.with(settings)?;
        let AnyNetwork::TorchScript(config) = &card.network else { return Err(wrong(contract.to_owned())) };
        let module = program(&path, device, kind)?;
        TorchScript::new(config, module.clone(), kind)?.fits(card.image, device).map_err(wrong)?;
        let parameters = module.named_parameters()?;
        let weights = Weights::shared(&parameters, device, kind);
        let given = Some((ExternalNetwork::Program(module), parameters));
        Self::build(card, path.clone(), [source].into(), String::new(), weights, given)
    }

    fn build(
        card: Card,
        source: PathBuf,
        sources: Arc<[Source]>,
        assumed: String,
        weights: Weights,
        given: Option<(ExternalNetwork, Parameters)>,
    ) -> Result<Self, Error> {
        let (given, network, parameters): (_, Box<dyn Network>, _) = match (&card.network, given) {
            (AnyNetwork::TorchScript(config), Some((ExternalNetwork::Program(module), parameters))) => {
                let network = TorchScript::new(config, module.clone(), weights.root().kind())?;
                (Some(ExternalNetwork::Program(module)), Box::new(network), parameters)
            }
            (_, Some((ExternalNetwork::Own(own), parameters))) => {
                (Some(ExternalNetwork::Own(own.clone())), Box::new(own), parameters)
            }
            (network, _) => {
                let network = network.build(&weights)?;
                (None, network, weights.finish().map_err(|e| Error::file(&source, e))?)
            }
        };
        network.check(card.image)?;
        let network = match parameters.first().map(|(_, tensor)| tensor.device()) {
            Some(Device::Cuda(index)) if Graphs::allowed() => {
                Box::new(Graphed::new(network, Box::new(Graphs::new(index))))
            }
            _ => network,
        };
        let denoiser = Pretrained { network, precondition: card.precondition.build()? };
        Ok(Self { card, source, sources, given, assumed, parameters, denoiser })
    }

    /// Whether the network is a TorchScript program.
    pub fn is_script(&self) -> bool {
        matches!(self.given, Some(ExternalNetwork::Program(_)))
    }

    /// Whether the network is one of the calling program.
    pub fn is_own(&self) -> bool {
        matches!(self.given, Some(ExternalNetwork::Own(_)))
    }

    /// Another network with the same parameters, for a thread of its own: they are shared, not copied.
    pub fn replica(&self) -> Result<Self, Error> {
        let device = self.parameters.first().map_or(Device::Cpu, |(_, tensor)| tensor.device());
        let kind = self.parameters.first().map_or(Kind::Float, |(_, tensor)| tensor.kind());
        let weights = Weights::shared(&self.parameters, device, kind);
        let (card, source) = (self.card.clone(), self.source.clone());
        let copied = || self.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
        let given = self.given.as_ref().map(|given| (given.clone(), copied()));
        Self::build(card, source, self.sources.clone(), self.assumed.clone(), weights, given)
    }

    /// SHA-256 of the file of weights, in hexadecimal; of several, one after another; of a network of the caller's own, of
    /// its parameters. It is computed when it is asked for.
    pub fn sha256(&self) -> Result<String, Error> {
        let mut hash = Sha256::new();
        self.sources.iter().try_for_each(|source| source.hash(&mut hash))?;
        if self.is_own() {
            self.hash_parameters(&mut hash)?;
        }
        Ok(hexadecimal(hash))
    }

    fn hash_parameters(&self, hash: &mut Sha256) -> Result<(), Error> {
        if self.parameters.is_empty() {
            let name = &self.card.name;
            return Err(Error::request(format!(
                "{name}: without parameters no record can tell it apart: draw in memory"
            )));
        }
        for (name, tensor) in &self.parameters {
            hash.update(name.as_bytes());
            let values = tensor.to_device(Device::Cpu).to_kind(Kind::Double).contiguous().view([-1]);
            Vec::<f64>::try_from(values)?.iter().for_each(|value| hash.update(value.to_le_bytes()));
        }
        Ok(())
    }

    /// The σ for which it was trained: smallest and largest.
    pub fn range(&self) -> (f64, f64) {
        self.denoiser.precondition.range()
    }

    /// Number of parameters.
    pub fn count(&self) -> usize {
        self.parameters.iter().map(|(_, tensor)| tensor.numel()).sum()
    }
}
