//! Tensors as NumPy's bytes, and back.

use std::{
    collections::BTreeMap,
    io::{Cursor, Write},
    path::Path,
};

use tch::{Device, Kind, Tensor};
use zip::{CompressionMethod, DateTime, ZipWriter, result::ZipResult, write::SimpleFileOptions};

use super::zip::Zip;
use crate::Error;

/// A tensor as the bytes of a .npy file: f64, i64 and bytes as they are, anything else as f32.
pub fn npy(x: &Tensor) -> Result<Vec<u8>, Error> {
    let flat = x.to_device(Device::Cpu).contiguous().view([-1]);
    Ok(match x.kind() {
        Kind::Double => file("<f8", x, Vec::<f64>::try_from(flat)?.iter().flat_map(|value| value.to_le_bytes())),
        Kind::Int64 => file("<i8", x, Vec::<i64>::try_from(flat)?.iter().flat_map(|value| value.to_le_bytes())),
        Kind::Uint8 => file("|u1", x, Vec::<u8>::try_from(flat)?.into_iter()),
        _ => {
            let values = Vec::<f32>::try_from(flat.to_kind(Kind::Float))?;
            file("<f4", x, values.iter().flat_map(|value| value.to_le_bytes()))
        }
    })
}

/// Header and data of an array with the shape of `x`.
fn file(descr: &str, x: &Tensor, data: impl Iterator<Item = u8>) -> Vec<u8> {
    let mut file = header(descr, &x.size());
    file.extend(data);
    file
}

/// Bytes before the data of an array of this type and shape.
pub fn header(descr: &str, size: &[i64]) -> Vec<u8> {
    let sides: Vec<String> = size.iter().map(ToString::to_string).collect();
    let comma = if sides.is_empty() { "" } else { "," };
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", sides.join(", "));
    // Magic, version and length take 10 bytes; the header ends in a newline and the data begin at a multiple of 64.
    let length = (10 + header.len() + 1).next_multiple_of(64) - 10;
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((length as u16).to_le_bytes());
    file.extend(format!("{header:<width$}\n", width = length - 1).as_bytes());
    file
}

/// Named tensors as the bytes of a .npz file; the same tensors give the same bytes.
pub fn npz(arrays: &[(String, Tensor)]) -> Result<Vec<u8>, Error> {
    let files: Vec<(&String, Vec<u8>)> =
        arrays.iter().map(|(name, x)| Ok((name, npy(x)?))).collect::<Result<_, Error>>()?;
    archive(&files).map_err(|e| Error::parameter("an array's name", "one that a zip archive takes", e))
}

fn archive(files: &[(&String, Vec<u8>)]) -> ZipResult<Vec<u8>> {
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .last_modified_time(DateTime::default());
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in files {
        zip.start_file(format!("{name}.npy"), options)?;
        zip.write_all(contents)?;
    }
    Ok(zip.finish()?.into_inner())
}

/// The arrays of a .npz file that are `wanted` by name; those that hold no numbers (text, objects) are passed over.
pub fn read(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<BTreeMap<String, Tensor>, Error> {
    let archive = Zip::open(path)?;
    let named = archive.names().map(|entry| (entry, entry.trim_end_matches(".npy")));
    let mut arrays = BTreeMap::new();
    for (entry, name) in named.filter(|(_, name)| wanted(name)) {
        let array = archive.contents(entry).and_then(|bytes| array(&bytes));
        let array = array.map_err(|cause| Error::file(path, format!("not a whole .npz file ({name}: {cause})")))?;
        arrays.extend(array.map(|array| (name.to_owned(), array)));
    }
    Ok(arrays)
}

/// The names of a .npz file's arrays.
pub fn names(path: &Path) -> Result<Vec<String>, Error> {
    Ok(Zip::open(path)?.names().map(|name| name.trim_end_matches(".npy").to_owned()).collect())
}

/// The array of a .npy file, in any byte order, rows or columns first.
pub fn read_npy(path: &Path) -> Result<Tensor, Error> {
    let array =
        array(&super::read(path)?).map_err(|cause| Error::file(path, format!("not a whole .npy file ({cause})")))?;
    array.ok_or_else(|| Error::file(path, "holds text or objects: an array of numbers is wanted"))
}

/// The bytes of a .npy file as a tensor, if they are numbers that a tensor can hold.
fn array(bytes: &[u8]) -> Result<Option<Tensor>, String> {
    let (header, data) = parts(bytes).ok_or("it does not begin as an array of NumPy")?;
    let value = |key: &str| header.split_once(&format!("'{key}':")).map(|(_, rest)| rest.trim_start());
    let (Some(descr), Some(order), Some(shape)) = (value("descr"), value("fortran_order"), value("shape")) else {
        return Err("its header is not NumPy's".to_owned());
    };
    let Some(dtype) = descr.strip_prefix('\'').and_then(|descr| Dtype::parse(descr.split('\'').next()?)) else {
        return Ok(None);
    };
    let mut size = sides(shape).ok_or("its shape is not one of numbers")?;
    let count = size.iter().try_fold(1usize, |count, &side| count.checked_mul(usize::try_from(side).ok()?));
    let length = count.and_then(|count| count.checked_mul(dtype.bytes));
    if length != Some(data.len()) {
        return Err(format!("{} bytes for an array of {size:?}", data.len()));
    }
    // Columns first: the same numbers are an array of the reversed shape.
    let columns_first = order.starts_with("True");
    if columns_first {
        size.reverse();
    }
    let tensor = dtype.tensor(data, &size)?;
    let reversed: Vec<i64> = (0..size.len() as i64).rev().collect();
    Ok(Some(if columns_first { tensor.permute(&reversed).contiguous() } else { tensor }))
}

/// A type of NumPy's.
#[derive(Clone, Copy, Debug)]
struct Dtype {
    /// Kind of the tensor.
    kind: Kind,
    /// Bytes of an element in the file.
    bytes: usize,
    /// Bytes of a number: half of a complex element.
    number: usize,
    /// Whether a number begins with its highest byte.
    big: bool,
    /// Whether it is an integer without a sign, which no tensor has: it is read as a larger one.
    unsigned: bool,
}

impl Dtype {
    fn parse(descr: &str) -> Option<Self> {
        let (order, name) = descr.split_at_checked(1)?;
        let (kind, number, unsigned) = match name {
            "f8" => (Kind::Double, 8, false),
            "f4" => (Kind::Float, 4, false),
            "f2" => (Kind::Half, 2, false),
            "c8" => (Kind::ComplexFloat, 4, false),
            "c16" => (Kind::ComplexDouble, 8, false),
            "i8" => (Kind::Int64, 8, false),
            "i4" => (Kind::Int, 4, false),
            "i2" => (Kind::Int16, 2, false),
            "i1" => (Kind::Int8, 1, false),
            "u8" => (Kind::Int64, 8, true),
            "u4" => (Kind::Int64, 4, true),
            "u2" => (Kind::Int, 2, true),
            "u1" => (Kind::Uint8, 1, false),
            "b1" => (Kind::Bool, 1, false),
            _ => return None,
        };
        let bytes = if name.starts_with('c') { 2 * number } else { number };
        let big = match order {
            "<" | "|" | "=" => false,
            ">" => true,
            _ => return None,
        };
        Some(Self { kind, bytes, number, big, unsigned })
    }

    fn tensor(self, data: &[u8], size: &[i64]) -> Result<Tensor, String> {
        let whole = |data: &[u8]| Tensor::f_from_data_size(data, size, self.kind).map_err(|e| e.to_string());
        if self.unsigned {
            return self.widened(data, size);
        }
        if self.big && self.number > 1 {
            return whole(
                &data.chunks_exact(self.number).flat_map(|number| number.iter().rev().copied()).collect::<Vec<_>>(),
            );
        }
        whole(data)
    }

    /// Integers without a sign as i64, or as i32 where these suffice.
    fn widened(self, data: &[u8], size: &[i64]) -> Result<Tensor, String> {
        let number = |number: &[u8]| {
            let add = |sum: u64, byte: &u8| sum << 8 | u64::from(*byte);
            let value = if self.big { number.iter().fold(0, add) } else { number.iter().rev().fold(0, add) };
            i64::try_from(value).map_err(|_| format!("{value} is larger than any number that a tensor holds"))
        };
        let numbers = data.chunks_exact(self.number).map(number).collect::<Result<Vec<_>, _>>()?;
        Ok(Tensor::from_slice(&numbers).view(size).to_kind(self.kind))
    }
}

/// Header and data.
fn parts(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(b"\x93NUMPY")?;
    let (start, length): (usize, usize) = match rest.first()? {
        1 => (4, usize::from(u16::from_le_bytes(rest.get(2..4)?.try_into().ok()?))),
        _ => (6, u32::from_le_bytes(rest.get(2..6)?.try_into().ok()?) as usize),
    };
    let end = start.checked_add(length)?;
    Some((std::str::from_utf8(rest.get(start..end)?).ok()?, &rest[end..]))
}

/// The sides in `(3, 4), …}`.
fn sides(text: &str) -> Option<Vec<i64>> {
    let inside = text.strip_prefix('(')?.split(')').next()?;
    inside.split(',').map(str::trim).filter(|side| !side.is_empty()).map(|side| side.parse().ok()).collect()
}
