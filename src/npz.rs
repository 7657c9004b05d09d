//! Tensors as NumPy's bytes.

use std::io::{Cursor, Write};

use tch::{Device, Kind, Tensor};
use zip::{CompressionMethod, DateTime, ZipWriter, result::ZipResult, write::SimpleFileOptions};

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

/// What stands before the data of an array of this type and shape.
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
