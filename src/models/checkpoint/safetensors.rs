//! safetensors files: named tensors, and a card of text beside them in the header.

use std::{borrow::Cow, collections::BTreeMap, path::Path};

use safetensors::{Dtype, SafeTensors, View};
use tch::{Kind, Tensor};

use super::{
    MOST_TENSORS,
    source::{Source, Stored},
};
use crate::{Error, files::images::write_by};

/// Named tensors, in the order of their names.
pub type Tensors = BTreeMap<String, Tensor>;

/// The header's free text, by key.
pub type Metadata = BTreeMap<String, String>;

/// Tensors and metadata of the file at `path`.
pub fn read(path: &Path) -> Result<(Tensors, Metadata), Error> {
    let source = Source::open(path)?;
    let (stored, metadata) = index(&source)?;
    let tensors = stored.into_iter().map(|(name, stored)| Ok((name, source.load(&stored)?)));
    Ok((tensors.collect::<Result<_, Error>>()?, metadata))
}

/// Whether a file begins as one of safetensors, whatever its name: the length of a header, and the header's brace.
pub fn is_safetensors(source: &Source) -> bool {
    let bytes = source.bytes();
    let length = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
    bytes.get(8) == Some(&b'{') && length.is_some_and(|length| length <= bytes.len() as u64)
}

/// Whether a card lies in the header of a file.
pub fn has_card(source: &Source) -> Result<bool, Error> {
    Ok(header(source)?.metadata().as_ref().is_some_and(|text| text.contains_key("card")))
}

fn header(source: &Source) -> Result<safetensors::tensor::Metadata, Error> {
    let broken = |e| Error::file(source.path(), format!("not a whole safetensors file ({e}): fetch it again"));
    let (_, header) = SafeTensors::read_metadata(source.bytes()).map_err(broken)?;
    if header.offset_keys().len() > MOST_TENSORS {
        return Err(Error::file(source.path(), format!("holds more than {MOST_TENSORS} tensors: no network does")));
    }
    Ok(header)
}

/// Reads the places of a file's tensors, and its metadata.
pub fn index(source: &Source) -> Result<(BTreeMap<String, Stored>, Metadata), Error> {
    let (bytes, path) = (source.bytes(), source.path());
    let header = header(source)?;
    let broken = |e| Error::file(path, format!("not a whole safetensors file ({e}): fetch it again"));
    let file = SafeTensors::deserialize(bytes).map_err(broken)?;
    let start = bytes.as_ptr() as usize;
    let stored = file.iter().map(|(name, view)| {
        let fault = |cause| Error::file(path, format!("tensor {name} {cause}"));
        let kind = kind(view.dtype()).ok_or_else(|| fault(format!("is {:?}: convert it to f32", view.dtype())))?;
        let begin = view.data().as_ptr() as usize - start;
        let size = view.shape().iter().map(|&n| i64::try_from(n)).collect::<Result<Vec<_>, _>>();
        let stored = size.ok().and_then(|size| Stored::whole(kind, size, begin..begin + view.data().len()));
        Ok((name.to_owned(), stored.ok_or_else(|| fault("has more numbers than bytes".to_owned()))?))
    });
    Ok((stored.collect::<Result<_, Error>>()?, header.metadata().clone().unwrap_or_default().into_iter().collect()))
}

fn kind(dtype: Dtype) -> Option<Kind> {
    Some(match dtype {
        Dtype::F64 => Kind::Double,
        Dtype::F32 => Kind::Float,
        Dtype::F16 => Kind::Half,
        Dtype::BF16 => Kind::BFloat16,
        Dtype::I64 => Kind::Int64,
        Dtype::I32 => Kind::Int,
        Dtype::I16 => Kind::Int16,
        Dtype::I8 => Kind::Int8,
        Dtype::U8 => Kind::Uint8,
        Dtype::BOOL => Kind::Bool,
        _ => return None,
    })
}

/// Writes tensors and metadata, whole or not at all.
pub fn write(path: &Path, tensors: &Tensors, metadata: &Metadata) -> Result<(), Error> {
    let views = tensors.iter().map(|(name, tensor)| Ok((name.as_str(), TensorView::new(name, tensor)?)));
    let views = views.collect::<Result<Vec<_>, String>>().map_err(|cause| Error::file(path, cause))?;
    let metadata = (!metadata.is_empty()).then(|| metadata.clone().into_iter().collect());
    write_by(path, |unfinished| safetensors::serialize_to_file(views, metadata, unfinished).map_err(|e| e.to_string()))
}

/// A tensor on its way into a file, which copies its numbers when they are written.
struct TensorView<'a> {
    tensor: &'a Tensor,
    dtype: Dtype,
    shape: Vec<usize>,
}

impl<'a> TensorView<'a> {
    fn new(name: &str, tensor: &'a Tensor) -> Result<Self, String> {
        let dtype = match tensor.kind() {
            Kind::Double => Dtype::F64,
            Kind::Float => Dtype::F32,
            Kind::Half => Dtype::F16,
            Kind::BFloat16 => Dtype::BF16,
            Kind::Int64 => Dtype::I64,
            kind => return Err(format!("tensor {name} is {kind:?}, which is not written")),
        };
        Ok(Self { tensor, dtype, shape: tensor.size().iter().map(|&n| n as usize).collect() })
    }
}

impl View for TensorView<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        let tensor = self.tensor.detach().to_device(tch::Device::Cpu).contiguous();
        let mut bytes = vec![0; self.data_len()];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        bytes.into()
    }

    fn data_len(&self) -> usize {
        self.tensor.numel() * self.tensor.kind().elt_size_in_bytes()
    }
}
