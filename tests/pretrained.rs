//! The published networks themselves, for whoever holds their files: `make verify-pretrained DIR=…`.
//!
//! Each must give the numbers that the authors of diffusers pinned for it (scripts/generate_logits.py), and a grid of
//! samples to look at.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::Mutex,
};

use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{models::card::Model, numbers::precondition::AnyPrecondition};

/// The tolerance of the pinned numbers, which have four digits.
const PINNED: f64 = 1e-3;
/// What the networks are told: a time, or σ for pixels of 0 … 1.
const LABEL: f64 = 10.0;

/// By name of the repository, without its owner.
type References = BTreeMap<String, Vec<f64>>;

fn references() -> References {
    serde_json::from_slice(&fs::read("tests/golden/pretrained/google.json").unwrap()).unwrap()
}

/// The generator of these numbers is libtorch's own, of which there is one.
static GENERATOR: Mutex<()> = Mutex::new(());

/// The first 30 numbers of F, given noise that PyTorch draws from seed 0.
fn first_numbers(model: &Model) -> Vec<f64> {
    let [channels, height, width] = model.card.image;
    let noise = {
        let _alone = GENERATOR.lock();
        tch::manual_seed(0);
        Tensor::randn([1, channels, height, width], (Kind::Float, Device::Cpu))
    };
    let told = |label: f64| Tensor::from_slice(&[label as f32]);
    let network = &model.denoiser.network;
    let answer = tch::no_grad(|| match &model.card.precondition {
        // There the network centres pixels of 0 … 1 itself, is told σ, and divides by it.
        AnyPrecondition::Ve(_) => network.forward(&(noise * 2.0 - 1.0), &told(LABEL.ln()), None) / LABEL,
        _ => network.forward(&noise, &told(LABEL), None),
    });
    Vec::try_from(answer.flatten(0, -1).slice(0, 0, 30, 1).to_kind(Kind::Double)).unwrap()
}

/// Where a repository's folder is: by its name, with its owner's, or as the hub's own cache lays it out.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let cached = folder.join(format!("models--google--{name}/snapshots"));
    let snapshots = fs::read_dir(cached).into_iter().flatten().flatten().map(|entry| entry.path());
    let plain = [folder.join(name), folder.join("google").join(name), folder.join(format!("google--{name}"))];
    plain.into_iter().chain(snapshots).find(|path| path.is_dir())
}

/// A row for each network that is there: its name, and the largest difference or why it does not open.
fn verify(folder: &Path, references: &References) -> Vec<(String, PathBuf, Result<f64, String>)> {
    let found = references.iter().filter_map(|(name, numbers)| Some((name, numbers, find(folder, name)?)));
    let checked = found.map(|(name, numbers, path)| {
        let difference = Model::open_on(path.to_str().unwrap(), Device::Cpu, Kind::Float).map(|model| {
            let pairs = first_numbers(&model).into_iter().zip(numbers);
            pairs.map(|(got, want)| (got - want).abs()).fold(0.0, f64::max)
        });
        (name.clone(), path, difference.map_err(|error| error.to_string()))
    });
    checked.collect()
}

#[test]
#[ignore = "needs the published files: make verify-pretrained DIR=…"]
fn published_networks_give_their_pinned_numbers() {
    let folder = PathBuf::from(env::var("PRETRAINED").expect("make verify-pretrained DIR=…"));
    let rows = verify(&folder, &references());
    assert!(!rows.is_empty(), "{} holds none of {:?}", folder.display(), references().keys());
    let mut failed = Vec::new();
    for (name, path, difference) in rows {
        let hash = Model::open_on(path.to_str().unwrap(), Device::Cpu, Kind::Float).and_then(|model| model.sha256());
        println!("{name}: {difference:?} off, SHA-256 {}", hash.unwrap_or_else(|error| error.to_string()));
        if !difference.is_ok_and(|difference| difference < PINNED) {
            failed.push(name);
            continue;
        }
        let out = format!("out/pretrained/{name}");
        let sampled = Command::new(env!("CARGO_BIN_EXE_tweedie"))
            .args(["sample", path.to_str().unwrap(), "--seeds", "0-15", "--out", &out])
            .status();
        assert!(sampled.unwrap().success());
        println!("{name}: look at {out}/grid.png");
    }
    assert!(failed.is_empty(), "not the published numbers: {failed:?}");
}

/// On stand-ins: networks of the same two families with random weights, whose numbers diffusers computed. Right ones pass,
/// wrong ones do not.
#[test]
fn the_check_of_published_networks_tells_right_from_wrong() {
    let place = TempDir::new().unwrap();
    for (name, case) in [("ddpm-cifar10-32", "diffusers-ddpm"), ("google/ncsnpp-ffhq-256", "diffusers-ncsnpp")] {
        let to = place.path().join(name);
        fs::create_dir_all(&to).unwrap();
        for file in ["config.json", "scheduler_config.json", "diffusion_pytorch_model.safetensors"] {
            fs::copy(Path::new("tests/golden/zoo").join(case).join(file), to.join(file)).unwrap();
        }
    }
    let stand_ins: References =
        serde_json::from_slice(&fs::read("tests/golden/pretrained/stand-ins.json").unwrap()).unwrap();
    let rows = verify(place.path(), &stand_ins);
    assert_eq!(rows.len(), 2);
    for (name, _, difference) in rows {
        assert!(difference.clone().is_ok_and(|difference| difference < PINNED), "{name}: {difference:?}");
    }
    // Against the published numbers, both are wrong.
    let rows = verify(place.path(), &references());
    assert!(rows.len() == 2 && rows.iter().all(|(.., difference)| difference.clone().is_ok_and(|d| d > PINNED)));
}
