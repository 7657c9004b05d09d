//! Links against the libtorch that torch-sys found, and packs `models/` into the program.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rerun-if-changed=models");
    link();
    for (name, folder) in [("models.rs", "models"), ("features.rs", "models/features")] {
        let list = Path::new(&variable("OUT_DIR")).join(name);
        if let Err(e) = fs::write(&list, shipped(folder)) {
            panic!("{}: cannot be written: {e}", list.display());
        }
    }
}

fn link() {
    // torch-sys publishes this to the crates that depend on it directly.
    let lib = variable("DEP_TCH_LIBTORCH_LIB");
    // RPATH, not RUNPATH: libtorch's own libraries must find their neighbours through it as well.
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../../.libtorch/torch/lib");
    println!("cargo:rustc-env=TWEEDIE_LIBTORCH={lib}");
}

/// `SHIPPED`: name, card and weights of every card in `folder` that has weights beside it.
fn shipped(folder: &str) -> String {
    let folder = Path::new(&variable("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut cards: Vec<_> =
        entries.map(|entry| entry.path()).filter(|path| path.extension() == Some("yaml".as_ref())).collect();
    cards.sort();
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let rows = cards.iter().filter(|card| card.with_extension("safetensors").exists()).map(|card| {
        let name = quoted(Path::new(card.file_stem().unwrap_or_default()));
        let (card, weights) = (quoted(card), quoted(&card.with_extension("safetensors")));
        format!("    ({name}, include_str!({card}), include_bytes!({weights})),\n")
    });
    let rows: String = rows.collect();
    format!("pub const SHIPPED: &[crate::card::Shipped] = &[\n{rows}];\n")
}

fn variable(name: &str) -> String {
    match env::var(name) {
        Ok(value) => value,
        Err(e) => panic!("{name}: {e}: run `make` once, which finds or installs libtorch"),
    }
}
