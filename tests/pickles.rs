//! Writes what `torch.save` writes, so that tests can wrap a network as trainers do.

use tch::{Kind, Tensor};

/// A Python value.
#[derive(Debug)]
pub enum Py {
    /// A tensor of f32.
    Tensor(Tensor),
    /// A view of a storage of f32: its numbers, size and stride, and whether its negative bit is set.
    View(Vec<f32>, Vec<i64>, Vec<i64>, bool),
    /// A dict from texts.
    Dict(Vec<(String, Py)>),
    /// A list.
    List(Vec<Py>),
    /// An integer.
    Int(i32),
    /// An instance of `torch.nn.Module` with these parameters and modules.
    Module(Vec<(String, Py)>, Vec<(String, Py)>),
}

/// A dict.
pub fn dict(entries: impl IntoIterator<Item = (impl ToString, Py)>) -> Py {
    Py::Dict(entries.into_iter().map(|(name, value)| (name.to_string(), value)).collect())
}

/// The bytes of `torch.save(value, "NAME.pt")`, with the zip64 tail that PyTorch always writes.
pub fn torch_save(name: &str, value: &Py) -> Vec<u8> {
    let (mut pickle, mut storages) = (vec![0x80, 2], Vec::new());
    write(value, &mut pickle, &mut storages);
    pickle.push(b'.');
    let mut entries = vec![(format!("{name}/data.pkl"), pickle), (format!("{name}/byteorder"), b"little".to_vec())];
    entries.extend(storages.into_iter().enumerate().map(|(key, data)| (format!("{name}/data/{key}"), data)));
    entries.push((format!("{name}/version"), b"3\n".to_vec()));
    zip64(&entries)
}

fn write(value: &Py, out: &mut Vec<u8>, storages: &mut Vec<Vec<u8>>) {
    match value {
        Py::Int(int) => {
            out.push(b'J');
            out.extend(int.to_le_bytes());
        }
        Py::List(items) => {
            out.extend(b"](");
            for item in items {
                write(item, out, storages);
            }
            out.push(b'e');
        }
        Py::Dict(entries) => {
            out.extend(b"}(");
            for (name, value) in entries {
                text(name, out);
                write(value, out, storages);
            }
            out.push(b'u');
        }
        Py::Module(parameters, modules) => {
            out.extend(b"ctorch.nn.modules.module\nModule\n)\x81}(");
            for (key, entries) in [("_parameters", parameters), ("_buffers", &Vec::new()), ("_modules", modules)] {
                text(key, out);
                out.extend(b"}(");
                for (name, value) in entries {
                    text(name, out);
                    write(value, out, storages);
                }
                out.push(b'u');
            }
            out.extend(b"ub");
        }
        Py::Tensor(tensor) => {
            let flat = Vec::<f32>::try_from(tensor.to_kind(Kind::Float).contiguous().view([-1])).unwrap();
            let (size, mut stride, mut step) = (tensor.size(), Vec::new(), 1);
            for side in size.iter().rev() {
                stride.insert(0, step);
                step *= side;
            }
            write(&Py::View(flat, size, stride, false), out, storages);
        }
        Py::View(flat, size, stride, negative) => {
            out.extend(b"ctorch._utils\n_rebuild_tensor_v2\n((");
            text("storage", out);
            out.extend(b"ctorch\nFloatStorage\n");
            text(&storages.len().to_string(), out);
            text("cpu", out);
            int(flat.len() as i64, out);
            out.extend(b"tQ");
            int(0, out);
            for numbers in [size, stride] {
                out.push(b'(');
                for number in numbers {
                    int(*number, out);
                }
                out.push(b't');
            }
            out.extend(b"\x89ccollections\nOrderedDict\n)R");
            if *negative {
                out.extend(b"}(");
                text("neg", out);
                out.extend(b"\x88u");
            }
            out.extend(b"tR");
            storages.push(flat.iter().flat_map(|number| number.to_le_bytes()).collect());
        }
    }
}

fn text(text: &str, out: &mut Vec<u8>) {
    out.push(b'X');
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
}

fn int(int: i64, out: &mut Vec<u8>) {
    out.push(b'J');
    out.extend((int as i32).to_le_bytes());
}

/// An archive of stored entries, the data of each at a multiple of 64, with the zip64 record and its locator.
fn zip64(entries: &[(String, Vec<u8>)]) -> Vec<u8> {
    let (mut file, mut directory) = (Vec::new(), Vec::new());
    for (name, data) in entries {
        let offset = file.len() as u32;
        let padding = (64 - (file.len() + 30 + name.len() + 4) % 64) % 64;
        let mut crc = flate2::Crc::new();
        crc.update(data);
        let mut common = Vec::new();
        common.extend([0u8; 6]);
        common.extend([0, 0, 0, 0]);
        common.extend(crc.sum().to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((data.len() as u32).to_le_bytes());
        common.extend((name.len() as u16).to_le_bytes());
        file.extend(b"PK\x03\x04");
        file.extend(&common[..]);
        file.extend(((4 + padding) as u16).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(b"FB");
        file.extend((padding as u16).to_le_bytes());
        file.extend(vec![b'Z'; padding]);
        file.extend(data);
        directory.extend(b"PK\x01\x02\0\0");
        directory.extend(common);
        directory.extend([0u8; 2 + 2 + 2 + 2 + 4]);
        directory.extend(offset.to_le_bytes());
        directory.extend(name.as_bytes());
    }
    let (start, length, count) = (file.len() as u64, directory.len() as u64, entries.len() as u64);
    file.extend(&directory);
    let record = file.len() as u64;
    file.extend(b"PK\x06\x06");
    file.extend(44u64.to_le_bytes());
    file.extend([0x1e, 3, 45, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    for number in [count, count, length, start] {
        file.extend(number.to_le_bytes());
    }
    file.extend(b"PK\x06\x07\0\0\0\0");
    file.extend(record.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    file.extend(b"PK\x05\x06\0\0\0\0");
    for count in [count as u16; 2] {
        file.extend(count.to_le_bytes());
    }
    file.extend((length as u32).to_le_bytes());
    file.extend((start as u32).to_le_bytes());
    file.extend([0, 0]);
    file
}

/// A dict in which `a` leads to itself, `depth` steps down.
pub fn circle() -> Vec<u8> {
    let mut pickle = vec![0x80, 2];
    pickle.extend(b"}q\x00(X\x01\0\0\0ah\x00u.");
    zip64(&[("circle/data.pkl".to_owned(), pickle)])
}

/// A pickle with one storage under `count` names of `length` bytes each.
pub fn many_names(count: usize, length: usize) -> Vec<u8> {
    let mut pickle = vec![0x80, 2];
    pickle.extend(b"}(");
    let mut first = Vec::new();
    write(&Py::Tensor(Tensor::zeros([1], (Kind::Float, tch::Device::Cpu))), &mut first, &mut Vec::new());
    for i in 0..count {
        let number = i.to_string();
        text(&("n".repeat(length - number.len()) + &number), &mut pickle);
        pickle.extend(&first);
    }
    pickle.extend(b"u.");
    zip64(&[("many/data.pkl".to_owned(), pickle), ("many/data/0".to_owned(), vec![0; 4])])
}
