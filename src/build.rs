//! Links against the libtorch that torch-sys found, and remembers where it lies.

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    // torch-sys publishes it to the crates that depend on it directly.
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        panic!("torch-sys did not say where libtorch lies: run `make` once, which finds or installs it");
    };
    // RPATH, not RUNPATH: libtorch's own libraries must find their neighbours through it as well.
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{lib}");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN/../../.libtorch/torch/lib");
    println!("cargo:rustc-env=TWEEDIE_LIBTORCH={lib}");
}
