//! The examples, which cargo builds beside the tests, run in a fresh folder, and their numbers; the README's Rust.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::cli::Place;

/// `examples/NAME.rs`, built: `target/release/examples/NAME`, beside the `deps` that this program lies in.
fn built(name: &str) -> PathBuf {
    let program = env::current_exe().unwrap();
    let path = program.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(path.exists(), "{}: cargo builds the examples for `cargo test` without --test", path.display());
    path
}

/// What an example prints.
fn printed(place: &Place, name: &str, arguments: &[&str]) -> String {
    let mut command = Command::new(built(name));
    command.args(arguments).current_dir(place.path("")).stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The number that follows `words`.
fn number(text: &str, words: &str) -> f64 {
    let (_, after) = text.split_once(words).unwrap_or_else(|| panic!("no `{words}` in {text}"));
    let number: String = after.trim_start().chars().take_while(|c| c.is_ascii_digit() || "-.e".contains(*c)).collect();
    number.parse().unwrap_or_else(|_| panic!("no number after `{words}` in {text}"))
}

#[test]
fn the_example_sample_draws_what_the_program_draws() {
    let place = Place::new();
    let said = printed(&place, "sample", &[]);
    assert!(said.starts_with("20 evaluations an image"), "{said}");
    let how = ["--sampler", "{kind: ddim, eta: 1}", "--steps", "20", "--seeds", "0-8", "--out", "out"];
    place.succeed(&[&["sample", "fashion-mnist"], &how[..]].concat());
    let [example, program] = ["out/examples/sample-ddim.png", "out/grid.png"].map(|path| fs::read(place.path(path)));
    assert!(example.unwrap() == program.unwrap(), "bit for bit");
    assert!(place.path("out/examples/sample.png").exists());
}

/// EDM's loop by hand and the library's Heun: f32, 35 evaluations of a network of a few units.
#[test]
fn the_example_of_edm_is_the_library_to_rounding() {
    let place = Place::new();
    let said = printed(&place, "edm_cifar10", &[]);
    let apart = number(&said, "differ by at most");
    assert!(apart < 1e-4, "{said}");
    assert!(place.path("out/examples/edm.png").exists());
}

/// Three quarters of the pixels are blank, with which a measurement has 8 dB.
#[test]
fn the_example_restore_gains_ten_decibels() {
    let place = Place::new();
    let photo = Path::new(env!("CARGO_MANIFEST_DIR")).join("experiments/demo/dress.png");
    let said = printed(&place, "restore", &[photo.to_str().unwrap()]);
    let [measurement, sample, mean] = ["measurement:", "sample:", "mean:"].map(|name| number(&said, name));
    assert!(sample > measurement + 10.0 && mean > sample, "{said}");
    // ‖y − A x‖/(η √m) of m = 1,024 numbers has the standard deviation √(1/2m) = 0.022; four of them.
    let residual = number(&said, "residual:");
    assert!((residual - 1.0).abs() < 4.0 * (0.5f64 / 1024.0).sqrt(), "{said}");
    assert!(place.path("out/examples/restore.png").exists());
}

/// Independent Gaussian pixels: what the example says "in truth" are closed forms.
#[test]
fn the_example_of_ones_own_network_sampler_and_operator_comes_to_the_closed_forms() {
    let place = Place::new();
    let said = printed(&place, "own_network", &[]);
    // 64 images of 256 pixels: a variance is known to √(2/16384) = 1.1 %; of half as many numbers, to 1.6 %.
    for (name, tolerance) in
        [("Heun:", 0.04), ("one's own sampler:", 0.04), ("one's own operator:", 0.08), ("what it hides:", 0.06)]
    {
        let line = said.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{said}"));
        let (found, truth) = line.rsplit_once(", ").unwrap();
        let found: f64 = found.rsplit(' ').next().unwrap().parse().unwrap();
        let truth: f64 = truth.strip_suffix(" in truth").unwrap().parse().unwrap();
        assert!((found / truth - 1.0).abs() < tolerance, "{line}");
    }
}

/// The Rust of a document: its ```rust blocks, or of a doc comment its blocks without a tag; hidden lines left out.
fn blocks(text: &str, fence: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if line.starts_with("```") {
            let block: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
            let shown = block.into_iter().filter(|line| !line.starts_with("# "));
            if line == fence {
                blocks.push(shown.collect::<Vec<_>>().join("\n"));
            }
        }
    }
    blocks
}

/// Cargo compiles and runs the front page's; so the README's runs as well.
#[test]
fn the_rust_of_the_readme_is_that_of_the_front_page() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let [readme, front] = ["README.md", "src/lib.rs"].map(|file| fs::read_to_string(root.join(file)).unwrap());
    let page = front.lines().filter_map(|line| line.strip_prefix("//!"));
    let page: Vec<&str> = page.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    let (readme, page) = (blocks(&readme, "```rust"), blocks(&page.join("\n"), "```"));
    assert_eq!(page.len(), 4, "the front page shows four uses");
    assert_eq!(readme, page);
}
