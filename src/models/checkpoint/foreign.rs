//! Files that are no checkpoint, known by how they begin.

use std::path::Path;

/// Begin of a file, what it is then, and the remedy.
const BEGINS: [(&[u8], &str, &str); 15] = [
    (
        b"version https://git-lfs",
        "is a pointer of Git LFS in place of the file",
        "`git lfs pull` fetches the file itself",
    ),
    (b"\x89HDF", "is HDF5, as Keras and MATLAB write it", CONVERT),
    (b"GGUF", "is GGUF", CONVERT),
    (b"\x1f\x8b", "is compressed by gzip", "`gunzip` unpacks it"),
    (b"BZh", "is compressed by bzip2", "`bunzip2` unpacks it"),
    (b"\xfd7zXZ", "is compressed by xz", "`unxz` unpacks it"),
    (b"\x28\xb5\x2f\xfd", "is compressed by zstd", "`unzstd` unpacks it"),
    (b"7z\xbc\xaf", "is a 7z archive", "unpack it"),
    (b"Rar!", "is a RAR archive", "unpack it"),
    (b"\x93NUMPY", "is an array of NumPy", "a checkpoint is wanted"),
    (b"\x89PNG", "is a PNG image", "a checkpoint is wanted"),
    (b"\xff\xd8\xff", "is a JPEG image", "a checkpoint is wanted"),
    (b"%PDF", "is a PDF document", "a checkpoint is wanted"),
    (b"\x7fELF", "is a program", "a checkpoint is wanted"),
    (b"TFL3", "is TensorFlow Lite", CONVERT),
];
const CONVERT: &str = "save its weights from PyTorch as a state dict, by torch.save or safetensors";
/// Offset of the mark of a tar archive.
const TAR: usize = 257;

/// A sentence on a file that is no checkpoint, if it is known what it is.
pub fn sentence(path: &Path, bytes: &[u8]) -> Option<String> {
    if bytes.is_empty() {
        return Some("is empty: fetch it again".to_owned());
    }
    let known = BEGINS.iter().find(|(begin, ..)| bytes.starts_with(begin));
    if let Some((_, what, remedy)) = known {
        return Some(format!("{what}: {remedy}"));
    }
    if bytes.get(TAR..).is_some_and(|rest| rest.starts_with(b"ustar")) {
        return Some("is a tar archive: `tar -xf` unpacks it".to_owned());
    }
    let text = bytes.trim_ascii_start();
    let begins = |words: &[&str]| {
        words.iter().any(|word| text.get(..word.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(word.as_bytes())))
    };
    if begins(&["<!doctype", "<html", "<?xml"]) {
        let remedy = "a server answered with it in place of the file: fetch the file itself";
        return Some(format!("is a web page: {remedy}"));
    }
    if is_onnx(bytes) || path.extension().is_some_and(|ending| ending == "onnx") {
        return Some(format!("is ONNX: {CONVERT}, or the program by torch.jit.save"));
    }
    if is_msgpack(bytes) {
        return Some(format!("is MessagePack, as Flax writes it: {CONVERT}"));
    }
    None
}

/// ONNX's protocol buffer begins with the version of its format, a small number, and the name of its producer.
fn is_onnx(bytes: &[u8]) -> bool {
    matches!(bytes, [0x08, 1..=32, 0x12, length, rest @ ..] if rest.len() > usize::from(*length)
        && rest[..usize::from(*length)].iter().all(u8::is_ascii_graphic))
}

/// Flax's state dicts are maps from texts: a map of few or many entries, then a text of 1 to 31 bytes or more.
fn is_msgpack(bytes: &[u8]) -> bool {
    matches!(bytes, [0x81..=0x8f, 0xa1..=0xbf | 0xd9, ..] | [0xde, _, _, 0xa1..=0xbf | 0xd9, ..])
}
