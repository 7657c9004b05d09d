#!/bin/sh
# A checkpoint of torch.save is refused by the Rust crate zip if its name has 21 characters before the ending.
#
# torch 2.15.0, Python 3; zip 9.8.2 and 9.4.1 (without default features, with deflate-flate2), rawzip 0.5.2; x86-64 Linux.
#
# torch.save names the folder in its archive after the file, and always ends the archive with a zip64 record and its
# locator. The crate reads the archives of all names from 1 to 64 characters but those of 21, as training-state-000200.pt
# and checkpoint_epoch_0100.pth are: "invalid Zip archive: Invalid Central Directory header". torch.load, Python's zipfile
# and the crate rawzip read them all. (Where the same dict holds other entries another length may be the one.)
#
# Seen: the lengths that fail, by zip 9.8.2, zip 9.4.1, rawzip 0.5.2
#   [21] [21] []
set -e
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.15.0
mkdir "$place/files" "$place/src"
"$place/venv/bin/python" - "$place/files" <<'PY'
import sys, torch

for length in range(1, 65):
    torch.save({"w": torch.zeros(3)}, f"{sys.argv[1]}/{'n' * length}.pt")
PY
cat >"$place/Cargo.toml" <<'TOML'
[package]
name = "seen"
version = "0.1.0"
edition = "2021"
[dependencies]
new = { package = "zip", version = "=9.8.2", default-features = false, features = ["deflate-flate2"] }
flate2 = "1"
rawzip = "=0.5.2"
TOML
cat >"$place/src/main.rs" <<'RS'
use std::io::Cursor;

fn main() {
    let (mut by_zip, mut by_rawzip) = (Vec::new(), Vec::new());
    for length in 1..=64 {
        let bytes = std::fs::read(format!("{}/{}.pt", std::env::args().nth(1).unwrap(), "n".repeat(length))).unwrap();
        if new::ZipArchive::new(Cursor::new(&bytes[..])).is_err() {
            by_zip.push(length);
        }
        let archive = rawzip::ZipArchive::from_slice(&bytes[..]);
        let count = archive.map(|archive| {
            let mut entries = archive.entries();
            std::iter::from_fn(|| entries.next_entry().ok().flatten().map(|_| ())).count()
        });
        if !count.is_ok_and(|count| count > 0) {
            by_rawzip.push(length);
        }
    }
    println!("{by_zip:?} {by_rawzip:?}");
}
RS
(cd "$place" && cargo run -q --release -- files >new && sed -i 's/=9.8.2/=9.4.1/' Cargo.toml && cargo run -q --release -- files >old)
echo "$(cut -d' ' -f1 "$place/new") $(cut -d' ' -f1 "$place/old") $(cut -d' ' -f2 "$place/new")" >"$place/seen"
cat "$place/seen"
echo '[21] [21] []' | diff - "$place/seen"
