//! Tells the benches where libtorch lies, as every crate does that depends on tweedie.

fn main() {
    let lib = std::env::var("DEP_TWEEDIE_LIBTORCH").unwrap_or_default();
    println!("cargo:rustc-link-arg=-Wl,--disable-new-dtags,-rpath,{lib}");
}
