//! Samples, restorations and a small table, as the program made them at commit fcc26db: `tests/golden/stored`; what MMPS
//! restores and the figures of restorations are later ones, without the noise of hidden pixels and of clipped pictures.
//!
//! The results of the same commands are compared number by number. With one thread on a machine like the one that stored
//! them they are equal to the bit. Other instruction sets sum in another order: by AVX2 and AVX-512, states differ by at most
//! 1.5e-7 of the largest number and figures by 3e-7, the rounding of f32 carried through six evaluations.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use tch::{Kind, Tensor};
use tweedie::files::images;

use crate::{cli::Place, common::relative};

/// Of the largest number that is stored beside it.
const CLOSE: f64 = 1e-6;
/// The crate's own convolutions round more than libtorch's.
const CLOSE_BY_KERNELS: f64 = 1e-5;

fn stored(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/stored").join(name)
}

/// The commands, carried out in a copy of the folder without the results.
fn made(how: &str) -> Place {
    let place = Place::new();
    fs::create_dir(place.path("real")).unwrap();
    let photos = fs::read_dir(stored("real")).unwrap().map(|entry| entry.unwrap().path());
    let photos = photos.map(|path| format!("real/{}", path.file_name().unwrap().to_str().unwrap()));
    let given = ["tiny.safetensors", "judge.safetensors", "table.yaml", "commands.sh"].map(str::to_owned);
    for name in photos.chain(given) {
        fs::copy(stored(&name), place.path(&name)).unwrap();
    }
    let mut shell = Command::new("sh");
    shell.arg("commands.sh").current_dir(place.path("")).env("TWEEDIE", env!("CARGO_BIN_EXE_tweedie"));
    let output = shell.env("HOW", how).env("STATES", "--states").env("OMP_NUM_THREADS", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    place
}

fn assert_close(what: &str, found: &Tensor, wanted: &Tensor, close: f64) {
    assert_eq!(found.size(), wanted.size(), "{what}");
    let [found, wanted] = [found, wanted].map(|tensor| tensor.to_kind(Kind::Double));
    let (apart, largest) = ((found - &wanted).abs().max().double_value(&[]), wanted.abs().max().double_value(&[]));
    assert!(apart <= close * largest, "{what}: {apart:.1e} of {largest:.1e}");
}

fn assert_states(place: &Place, close: f64) {
    let samples = (0..4).map(|seed| format!("sample/{seed:06}.npy"));
    let restored =
        ["mmps", "walk"].into_iter().flat_map(|method| (0..2).map(move |i| format!("{method}/04-sample-{i:03}.npy")));
    for name in samples.chain(restored) {
        let [found, wanted] = [place.path(&name), stored(&name)].map(|path| Tensor::read_npy(path).unwrap());
        assert_close(&name, &found, &wanted, close);
    }
}

/// Mean, covariance and count of features: as sums of products, covariances round as squares of the mean do.
fn assert_statistics(place: &Place, name: &str) {
    let of = |path: PathBuf| Tensor::read_npz(path).unwrap().into_iter().collect::<BTreeMap<_, _>>();
    let (found, wanted) = (of(place.path(name)), of(stored(name)));
    assert_eq!(wanted.keys().collect::<Vec<_>>(), ["count", "mu", "sigma"], "{name}");
    assert_eq!(found["count"], wanted["count"], "{name}");
    assert_close(name, &found["mu"], &wanted["mu"], CLOSE);
    let square = wanted["mu"].square().max().double_value(&[]);
    let apart = (&found["sigma"] - &wanted["sigma"]).abs().max().double_value(&[]);
    assert!(apart <= CLOSE * square, "{name}: {apart:.1e} of {square:.1e}");
}

/// The arrays of an archive, to the bit, each with its name.
fn assert_arrays(place: &Place, name: &str) {
    let [found, wanted] = [place.path(name), stored(name)].map(|path| Tensor::read_npz(path).unwrap());
    assert_eq!(found.len(), wanted.len(), "{name}");
    for ((found_name, found), (wanted_name, wanted)) in found.iter().zip(&wanted) {
        assert_eq!(found_name, wanted_name, "{name}");
        assert_close(&format!("{name}, {wanted_name}"), found, wanted, 0.0);
    }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Every number of `wanted` has its like in `found`; a pair [figure, its deviation] is as close as the figure is.
fn assert_figures(what: &str, found: &Value, wanted: &Value) {
    match wanted {
        Value::Object(map) => {
            for (key, wanted) in map {
                assert_figures(&format!("{what}, {key}"), &found[key], wanted);
            }
        }
        Value::Array(pair) => {
            let numbers = |pair: &[Value]| pair.iter().map(Value::as_f64).collect::<Vec<_>>();
            let (found, wanted) = (numbers(found.as_array().unwrap()), numbers(pair));
            let scale = wanted[0].unwrap().abs();
            for (found, wanted) in found.iter().zip(&wanted) {
                assert_eq!(found.is_some(), wanted.is_some(), "{what}");
                let apart = (found.unwrap_or_default() - wanted.unwrap_or_default()).abs();
                assert!(apart <= CLOSE * scale, "{what}: {found:?}, was {wanted:?}");
            }
        }
        Value::Number(wanted) => {
            let (found, wanted) = (found.as_f64().unwrap(), wanted.as_f64().unwrap());
            assert!(relative(found, wanted) <= CLOSE, "{what}: {found}, was {wanted}");
        }
        other => assert_eq!(found, other, "{what}"),
    }
}

/// A state so near to the middle between two bytes may be rounded to either.
fn assert_rounds_to(state: &Tensor, bytes: &Tensor, what: &str) {
    let exact = ((state + 1.0) * 127.5).clamp(0.0, 255.0);
    let apart = (exact - bytes.to_kind(Kind::Float)).abs().max().double_value(&[]);
    assert!(apart <= 0.5 + 127.5 * 5.0 * CLOSE, "{what}: {apart}");
}

#[test]
fn samples_restorations_and_a_table_are_those_of_the_program_before_the_library_had_an_engine() {
    let place = made("--exact --deterministic --threads 1");
    assert_states(&place, CLOSE);
    for method in ["mmps", "walk"] {
        assert_arrays(&place, &format!("{method}/measurement.npz"));
        let figures = format!("{method}/04.json");
        assert_figures(&figures, &json(&place.path(&figures)), &json(&stored(&figures)));
        for name in (0..2).map(|i| format!("{method}/04-sample-{i:03}")) {
            let state = Tensor::read_npy(place.path(&format!("{name}.npy"))).unwrap();
            assert_rounds_to(&state, &images::read(&stored(&format!("{name}.png")), 1).unwrap(), &name);
        }
    }
    for row in ["DDIM", "Heun"] {
        assert_arrays(&place, &format!("table/{row}/images.npz"));
        assert_statistics(&place, &format!("table/{row}/statistics.npz"));
        let result = format!("table/{row}/result.json");
        let [found, wanted] = [place.path(&result), stored(&result)].map(|path| json(&path));
        assert_eq!(wanted["figures"].as_object().unwrap().len(), 7);
        assert_figures(&result, &found["figures"], &wanted["figures"]);
        assert_figures(&result, &found["evaluations"], &wanted["evaluations"]);
    }
}

#[test]
fn states_by_the_crates_own_kernels_are_the_stored_ones_to_their_rounding() {
    assert_states(&made("--deterministic --threads 1"), CLOSE_BY_KERNELS);
}
