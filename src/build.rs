//! Links against the libtorch that torch-sys found, compiles what is in C++, and packs `models/` into the program.

use std::{env, fs, path::Path};

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rerun-if-changed=models");
    link();
    shims();
    kernels();
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
    // A crate that depends on this one reads it as DEP_TWEEDIE_LIBTORCH: what is said to the linker here ends here.
    println!("cargo:libtorch={lib}");
}

/// Builds the C++ code that calls libtorch, by libtorch's headers alone, without CUDA's.
fn shims() {
    let headers = Path::new(&variable("DEP_TCH_LIBTORCH_LIB")).with_file_name("include");
    let mut build = cc::Build::new();
    build.cpp(true).std("c++17").opt_level(1).define("_GLIBCXX_USE_CXX11_ABI", "1");
    for folder in [headers.join("torch/csrc/api/include"), headers] {
        build.flag("-isystem").flag(folder);
    }
    for source in ["src/backend/autograd/autograd.cpp", "src/backend/cuda/cuda.cpp", "src/backend/memory/memory.cpp"] {
        println!("cargo:rerun-if-changed={source}");
        build.file(source);
    }
    build.compile("tweedie_shims");
    // After those who use it.
    println!("cargo:rustc-link-lib=c10");
}

/// `src/backend/kernels/kernels.cpp`, once for each instruction set; elsewhere, layers compute by libtorch alone.
fn kernels() {
    let source = "src/backend/kernels/kernels.cpp";
    println!("cargo:rerun-if-changed={source}");
    println!("cargo:rustc-check-cfg=cfg(kernels)");
    if variable("CARGO_CFG_TARGET_ARCH") != "x86_64" || variable("CARGO_CFG_TARGET_OS") != "linux" {
        return;
    }
    let avx512 = ["-mavx512f", "-mavx512bw", "-mavx512dq", "-mavx512vl", "-mfma", "-mprefer-vector-width=512"];
    for (name, lanes, flags) in [("avx512", "16", &avx512[..]), ("avx2", "8", &["-mavx2", "-mfma"])] {
        let mut build = cc::Build::new();
        build.cpp(true).std("c++17").opt_level(3).file(source).flag("-fopenmp").flag("-fno-exceptions");
        build.define("LANES", lanes).define("KERNELS", &*format!("tweedie_{name}"));
        for flag in flags {
            build.flag(flag);
        }
        build.compile(&format!("tweedie_{name}"));
    }
    // libtorch brings the one that its threads are of.
    println!("cargo:rustc-link-lib=gomp");
    println!("cargo:rustc-cfg=kernels");
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
    format!("pub const SHIPPED: &[crate::models::card::Shipped] = &[\n{rows}];\n")
}

fn variable(name: &str) -> String {
    match env::var(name) {
        Ok(value) => value,
        Err(e) => panic!("{name}: {e}: run `make` once, which finds or installs libtorch"),
    }
}
