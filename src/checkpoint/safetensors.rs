//! safetensors files: named tensors, and a card of text beside them in the header.

use std::{collections::BTreeMap, path::Path};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use tch::{Kind, Tensor};

use super::source::{Source, Stored};
use crate::{Error, images::write_whole};

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

/// Where the tensors of a file are, and its metadata.
pub fn index(source: &Source) -> Result<(BTreeMap<String, Stored>, Metadata), Error> {
    let (bytes, path) = (source.bytes(), source.path());
    let broken = |e| Error::file(path, format!("not a whole safetensors file ({e}): fetch it again"));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(broken)?;
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

/// Writes tensors (f16, f32 or f64) and metadata, whole or not at all.
pub fn write(path: &Path, tensors: &Tensors, metadata: &Metadata) -> Result<(), Error> {
    let raw: Vec<_> = tensors.iter().map(|(name, tensor)| Ok((name, raw(tensor)?))).collect::<Result<_, Error>>()?;
    let views = raw.iter().map(|(name, (dtype, shape, bytes))| {
        TensorView::new(*dtype, shape.clone(), bytes).map(|view| (name.as_str(), view))
    });
    let failed = |e: safetensors::SafeTensorError| Error::file(path, format!("cannot be written: {e}"));
    let views = views.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let bytes = safetensors::serialize(views, Some(metadata.clone().into_iter().collect())).map_err(failed)?;
    write_whole(path, &bytes)
}

fn raw(tensor: &Tensor) -> Result<(Dtype, Vec<usize>, Vec<u8>), Error> {
    let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous();
    let dtype = match tensor.kind() {
        Kind::Double => Dtype::F64,
        Kind::Half => Dtype::F16,
        Kind::BFloat16 => Dtype::BF16,
        Kind::Int64 => Dtype::I64,
        _ => Dtype::F32,
    };
    let mut bytes = vec![0; tensor.numel() * tensor.kind().elt_size_in_bytes()];
    tensor.f_copy_data_u8(&mut bytes, tensor.numel())?;
    Ok((dtype, tensor.size().iter().map(|&n| n as usize).collect(), bytes))
}
