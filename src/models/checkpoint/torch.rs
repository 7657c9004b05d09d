//! Files that `torch.save` or Python's `pickle` wrote: what they hold, and its tensors, without a line of Python.
//!
//! Three layouts: a zip archive (PyTorch 1.6 and later), a stream of pickles followed by raw numbers (before), and a
//! bare pickle with such streams inside (EDM).

use std::{collections::HashMap, fmt, ops::Range, path::Path};

use tch::{Kind, Tensor};

use super::{
    pickle::{Id, Pickle, Value},
    source::{Source, Stored, span},
};
use crate::{Error, files::zip::Zip};

/// The first pickle of the layout before 1.6: this number.
const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Dimensions of a tensor, beyond which it is refused.
const MOST_DIMENSIONS: usize = 16;
/// Numbers of a tensor that repeats those of a smaller storage.
const MOST_REPEATED: i64 = 1 << 24;
/// Streams within streams.
const MOST_NESTED: usize = 2;

/// An open file. Its tensors stay in it until they are asked for.
pub struct TorchArchive {
    source: Source,
    stream: PickleStream,
}

impl fmt::Debug for TorchArchive {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TorchArchive").field("source", &self.source).finish_non_exhaustive()
    }
}

/// A pickle, and where the numbers are to which it refers.
struct PickleStream {
    pickle: Pickle,
    /// Begin of the pickle in the file: its places count from there.
    base: usize,
    storages: HashMap<Box<str>, Range<usize>>,
}

impl TorchArchive {
    /// Opens a file in any of the three layouts.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::new(Source::open(path)?)
    }

    /// Reads what a file in any of the three layouts describes.
    pub fn new(source: Source) -> Result<Self, Error> {
        let stream = stream(source.bytes(), 0..source.bytes().len());
        let stream = stream.map_err(|cause| Error::file(source.path(), cause))?;
        Ok(Self { source, stream })
    }

    /// The file.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// The pickle of the file.
    pub fn pickle(&self) -> &Pickle {
        &self.stream.pickle
    }

    /// The file alone, which is enough for tensors whose places are known.
    pub fn into_source(self) -> Source {
        self.source
    }

    /// The tensor that a value stands for, if it stands for one.
    pub fn stored(&self, id: Id) -> Result<Option<Stored>, Error> {
        self.stream.tensor(self.source.bytes(), id).map_err(|cause| Error::file(self.source.path(), cause))
    }

    /// The tensors of a dict by name, in its order; other entries are passed over.
    pub fn tensors(&self, dict: Id) -> Result<Vec<(String, Stored)>, Error> {
        let pickle = self.pickle();
        let mut tensors = Vec::new();
        for (key, value) in pickle.entries(dict).unwrap_or_default() {
            if let (Some(name), Some(stored)) = (pickle.text(*key), self.stored(*value)?) {
                tensors.push((name.to_owned(), stored));
            }
        }
        Ok(tensors)
    }

    /// Brings a tensor into memory: its numbers are copied once.
    pub fn load(&self, stored: &Stored) -> Result<Tensor, Error> {
        self.source.load(stored)
    }
}

/// Reads a stream of any layout from a part of the file.
fn stream(file: &[u8], part: Range<usize>) -> Result<PickleStream, String> {
    let bytes = &file[part.clone()];
    if bytes.starts_with(b"PK") {
        return zipped(bytes, part.start);
    }
    let (first, length) = read(bytes).map_err(|cause| match bytes.first() {
        Some(0x80) => cause,
        _ => "is no checkpoint: neither a zip archive of torch.save nor a pickle nor safetensors".to_owned(),
    })?;
    match first.get(first.root()) {
        Value::Long(magic) if bytes[magic.clone()] == MAGIC => old(bytes, part.start, length),
        _ => Ok(PickleStream { pickle: first, base: part.start, storages: HashMap::new() }),
    }
}

fn read(bytes: &[u8]) -> Result<(Pickle, usize), String> {
    Pickle::read(bytes).map_err(|fault| format!("not a whole checkpoint of PyTorch ({fault}): fetch it again"))
}

/// Whether a file is a TorchScript program: a zip archive with code.
pub fn is_script(source: &Source) -> bool {
    let has_code = |archive: Zip<&[u8]>| archive.names().any(|name| name.ends_with("/constants.pkl"));
    source.bytes().starts_with(b"PK") && Zip::new(source.bytes()).is_ok_and(has_code)
}

/// The layout since PyTorch 1.6: `NAME/data.pkl`, and `NAME/data/KEY` for each storage, none of them compressed.
fn zipped(bytes: &[u8], base: usize) -> Result<PickleStream, String> {
    let archive = Zip::new(bytes).map_err(|cause| format!("not a whole zip archive ({cause}): fetch it again"))?;
    let place = |name: &str| {
        let cut = || format!("its entry {name} is compressed or cut off: save it with torch.save");
        archive.stored(name).ok_or_else(cut)
    };
    let (mut pickle, mut storages) = (None, HashMap::new());
    for entry in archive.names() {
        match entry.split_once('/') {
            Some((_, "data.pkl")) => pickle = Some(place(entry)?),
            Some((_, "byteorder")) if &bytes[place(entry)?] != b"little" => return Err("is big-endian".to_owned()),
            Some((_, name)) => {
                if let Some(key) = name.strip_prefix("data/") {
                    let place = place(entry)?;
                    storages.insert(key.into(), base + place.start..base + place.end);
                }
            }
            None => {}
        }
    }
    let place = pickle.ok_or("is a zip archive, but not one of torch.save: it has no data.pkl")?;
    let (pickle, _) = read(&bytes[place.clone()])?;
    Ok(PickleStream { pickle, base: base + place.start, storages })
}

/// The layout before PyTorch 1.6: number, version and system, then the object, the keys of its storages in order, and
/// for each of these its length in numbers (8 bytes) and the numbers.
fn old(bytes: &[u8], base: usize, mut at: usize) -> Result<PickleStream, String> {
    let mut next = || -> Result<(Pickle, usize), String> {
        let (pickle, length) = read(&bytes[at..])?;
        at += length;
        Ok((pickle, at - length))
    };
    next()?;
    next()?;
    let (pickle, start) = next()?;
    let (keys, _) = next()?;
    let cut = "its numbers are cut off: fetch it again";
    let mut storages = HashMap::new();
    let widths = widths(&pickle);
    for key in keys.sequence(keys.root()).unwrap_or_default() {
        let key = keys.text(*key).ok_or("a storage has no name")?;
        let width = *widths.get(key).ok_or("a storage belongs to no tensor")?;
        let count = bytes.get(at..at + 8).and_then(|count| count.try_into().ok()).map(u64::from_le_bytes);
        let length = count.and_then(|count| usize::try_from(count).ok()?.checked_mul(width)).ok_or(cut)?;
        let begin = at + 8;
        let end = begin.checked_add(length).filter(|end| *end <= bytes.len()).ok_or(cut)?;
        storages.insert(key.into(), base + begin..base + end);
        at = end;
    }
    Ok(PickleStream { pickle, base: base + start, storages })
}

/// Bytes of a number, by the key of its storage.
fn widths(pickle: &Pickle) -> HashMap<&str, usize> {
    let named = pickle.persistent().filter_map(|name| {
        let parts = pickle.sequence(name)?;
        let kind = kind(pickle.global(*parts.get(1)?)?)?;
        Some((pickle.text(*parts.get(2)?)?, kind.elt_size_in_bytes()))
    });
    named.collect()
}

/// The kind of a storage class or of a dtype.
fn kind((module, name): (&str, &str)) -> Option<Kind> {
    if !module.starts_with("torch") {
        return None;
    }
    Some(match name {
        "FloatStorage" | "float32" => Kind::Float,
        "HalfStorage" | "float16" => Kind::Half,
        "BFloat16Storage" | "bfloat16" => Kind::BFloat16,
        "DoubleStorage" | "float64" => Kind::Double,
        "LongStorage" | "int64" => Kind::Int64,
        "IntStorage" | "int32" => Kind::Int,
        "ShortStorage" | "int16" => Kind::Int16,
        "CharStorage" | "int8" => Kind::Int8,
        "ByteStorage" | "uint8" | "UntypedStorage" => Kind::Uint8,
        "BoolStorage" | "bool" => Kind::Bool,
        _ => return None,
    })
}

impl PickleStream {
    /// The tensor behind a value: a call of one of the functions with which PyTorch builds its tensors anew.
    fn tensor(&self, file: &[u8], id: Id) -> Result<Option<Stored>, String> {
        let pickle = &self.pickle;
        let Some(((module, name), arguments)) = pickle.call(id) else { return Ok(None) };
        match (module, name, arguments) {
            // A lazy negation or conjugation is a flag of the tensor, not of its numbers.
            ("torch._utils", "_rebuild_tensor_v2", [.., metadata])
                if arguments.len() == 7 && self.is_lazy(*metadata) =>
            {
                Err("a tensor is saved with its negative or conjugate bit: save tensor.resolve_neg()".to_owned())
            }
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2", [storage, offset, size, stride, ..]) => {
                self.view(file, *storage, None, [*offset, *size, *stride]).map(Some)
            }
            ("torch._utils", "_rebuild_tensor_v3", [storage, offset, size, stride, _, _, dtype, ..]) => {
                let dtype = pickle.global(*dtype).and_then(kind).ok_or("a tensor of unknown dtype")?;
                self.view(file, *storage, Some(dtype), [*offset, *size, *stride]).map(Some)
            }
            // A parameter is the tensor that it wraps; nothing wraps a parameter in turn.
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state", [inner, ..]) => {
                match pickle.call(*inner) {
                    Some(((_, name), _)) if name.starts_with("_rebuild_tensor") => self.tensor(file, *inner),
                    _ => Err("a parameter without a tensor".to_owned()),
                }
            }
            _ => Ok(None),
        }
    }

    /// Whether a tensor's metadata set its negative or its conjugate bit.
    fn is_lazy(&self, metadata: Id) -> bool {
        let set = |name| self.pickle.entry(metadata, name).and_then(|flag| self.pickle.int(flag)) == Some(1);
        set("neg") || set("conj")
    }

    fn view(
        &self,
        file: &[u8],
        storage: Id,
        dtype: Option<Kind>,
        [offset, size, stride]: [Id; 3],
    ) -> Result<Stored, String> {
        let (held, place) = self.storage(file, storage, 0)?;
        let kind = dtype.unwrap_or(held);
        let numbers = |id: Id| -> Option<Vec<i64>> {
            self.pickle.sequence(id)?.iter().map(|id| self.pickle.int(*id).filter(|int| *int >= 0)).collect()
        };
        let read = || Some((self.pickle.int(offset).filter(|offset| *offset >= 0)?, numbers(size)?, numbers(stride)?));
        let (offset, size, stride) = read().ok_or("a tensor without size or stride")?;
        if size.len() != stride.len() || size.len() > MOST_DIMENSIONS {
            return Err("a tensor whose size and stride do not go together".to_owned());
        }
        let count = size.iter().try_fold(1i64, |count, size| count.checked_mul(*size));
        let end =
            if size.contains(&0) { Some(0) } else { span(&size, &stride).and_then(|span| offset.checked_add(span)) };
        let held = (place.len() / kind.elt_size_in_bytes()) as i64;
        match (count, end) {
            (Some(_), Some(end)) if end > held => {
                Err("a tensor reaches beyond its storage: fetch the file again".to_owned())
            }
            // A view that repeats its numbers (`expand`) could be of any size.
            (Some(count), Some(_)) if count <= held.max(MOST_REPEATED) => {
                Ok(Stored { kind, size, stride, offset, place })
            }
            (Some(_), Some(_)) => {
                Err("a tensor repeats the numbers of its storage too often: save tensor.contiguous()".to_owned())
            }
            _ => Err("a tensor reaches beyond its storage: fetch the file again".to_owned()),
        }
    }

    /// The kind of a storage and its place in the file.
    fn storage(&self, file: &[u8], id: Id, depth: usize) -> Result<(Kind, Range<usize>), String> {
        let pickle = &self.pickle;
        if let Value::Persistent(name) = pickle.get(id) {
            let parts = pickle.sequence(*name).unwrap_or_default();
            let [_, class, key, ..] = parts else { return Err("a storage without a name".to_owned()) };
            let kind = pickle.global(*class).and_then(kind).ok_or("a storage of unknown kind")?;
            let key = pickle.text(*key).ok_or("a storage without a name")?;
            let place = self.storages.get(key).cloned();
            return Ok((kind, place.ok_or_else(|| format!("storage {key} is not in the file: fetch it again"))?));
        }
        match pickle.call(id) {
            Some((("torch.storage", "_load_from_bytes"), [bytes])) if depth < MOST_NESTED => {
                let Value::Bytes(range) = pickle.get(*bytes) else { return Err("a storage without bytes".to_owned()) };
                let inner = stream(file, self.base + range.start..self.base + range.end)?;
                inner.storage(file, inner.pickle.root(), depth + 1)
            }
            _ => Err("a tensor without a storage".to_owned()),
        }
    }
}
