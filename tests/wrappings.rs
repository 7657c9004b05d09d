//! Networks as trainers wrap them: found in any nesting, and what was taken is said.

use std::{collections::BTreeMap, fs, path::Path, time::Instant};

use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{
    models::{
        card::Model,
        checkpoint::safetensors::{self, Tensors},
    },
    scores::denoiser::Denoiser,
};

use crate::pickles::{self, Py, dict, torch_save};

const FOLDER: &str = "tests/golden/zoo/diffusers-ddpm";

/// The tensors of a small network, each times `factor`.
fn network(factor: f64) -> Tensors {
    let (tensors, _) = safetensors::read(&Path::new(FOLDER).join("diffusion_pytorch_model.safetensors")).unwrap();
    tensors.into_iter().map(|(name, tensor)| (name, tensor * factor)).collect()
}

fn named(prefix: &str, factor: f64) -> Vec<(String, Py)> {
    network(factor).into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), Py::Tensor(tensor))).collect()
}

fn state(prefix: &str, factor: f64) -> Py {
    Py::Dict(named(prefix, factor))
}

fn vector() -> Py {
    Py::Tensor(Tensor::zeros([3], (Kind::Float, Device::Cpu)))
}

fn open(path: &Path, settings: &[&str]) -> Result<Model, tweedie::Error> {
    let settings: Vec<String> = settings.iter().map(|&setting| setting.to_owned()).collect();
    Model::open_with(path.to_str().unwrap(), None, &settings, Device::Cpu, Kind::Float)
}

/// D at a fixed place, which tells the weights apart.
fn answer(model: &Model) -> f64 {
    let z = Tensor::linspace(-1.0, 1.0, 3 * 16 * 16, (Kind::Float, Device::Cpu)).view([1, 3, 16, 16]);
    tch::no_grad(|| model.denoiser.denoise(&z, 0.7)).double_value(&[0, 1, 3, 5])
}

struct Answers {
    raw: f64,
    average: f64,
}

fn answers(place: &TempDir) -> Answers {
    let one = |factor| {
        let path = place.path().join("whole.safetensors");
        safetensors::write(&path, &network(factor), &BTreeMap::new()).unwrap();
        answer(&open(&path, &[]).unwrap())
    };
    Answers { raw: one(1.0), average: one(0.5) }
}

/// Each wrapping of the field: what it is, whether the average is read, and what is said of it.
#[test]
fn every_wrapping_opens_and_averages_are_preferred() {
    let place = TempDir::new().unwrap();
    let Answers { raw, average } = answers(&place);
    assert!((raw - average).abs() > 1e-3, "the test can tell them apart");
    let (weights, ema) = (|| state("", 1.0), || state("", 0.5));
    let shadows = || Py::List(network(0.5).into_values().map(Py::Tensor).collect());
    let optimizer = || dict([("state", dict([("exp_avg", vector())]))]);
    let cases: Vec<(&str, Py, f64, &str)> = vec![
        ("plain", weights(), raw, ""),
        ("model", dict([("model", weights()), ("step", Py::Int(3))]), raw, "the weights, from model; not used: step"),
        ("net", dict([("net", weights())]), raw, "the weights, from net"),
        ("ema alone", dict([("ema", ema())]), average, "moving average of the weights, from ema"),
        ("state_dict", dict([("state_dict", weights()), ("optimizer", optimizer())]), raw, "not used: optimizer"),
        (
            "params",
            dict([("params", weights()), ("params_ema", ema())]),
            average,
            "from params_ema; also in the file: params",
        ),
        ("model_ema", dict([("model", weights()), ("model_ema", ema())]), average, "from model_ema"),
        ("model_ema1", dict([("model", weights()), ("model_ema1", ema())]), average, "from model_ema1"),
        ("ema_model", dict([("model", weights()), ("ema_model", ema())]), average, "from ema_model"),
        (
            "names",
            dict([("model", weights()), ("ema", ema())]),
            average,
            "(weights=raw reads the weights themselves), from ema",
        ),
        (
            "state dicts",
            dict([("model_state_dict", weights()), ("ema_state_dict", ema())]),
            average,
            "from ema_state_dict",
        ),
        ("shadow", dict([("ema", dict([("shadow", ema()), ("decay", Py::Int(1))]))]), average, "from ema.shadow"),
        (
            "in order",
            dict([("model", weights()), ("ema", dict([("shadow_params", shadows())]))]),
            average,
            "from ema.shadow_params",
        ),
        (
            "gan",
            dict([("generator", weights()), ("discriminator", dict([("w", vector()), ("v", vector())]))]),
            raw,
            "not used: discriminator",
        ),
        (
            "lightning",
            dict([("state_dict", state("model.", 1.0)), ("callbacks", optimizer())]),
            raw,
            "from state_dict.model",
        ),
        (
            "weight averaging",
            dict([("state_dict", state("unet.", 0.5)), ("current_model_state", state("unet.", 1.0))]),
            average,
            "from state_dict.unet",
        ),
        (
            "averaged model",
            dict(named("module.", 0.5).into_iter().chain([("n_averaged".to_owned(), vector())])),
            average,
            "from module",
        ),
        (
            "ema-pytorch",
            dict([("ema", dict(named("online_model.", 1.0).into_iter().chain(named("ema_model.", 0.5))))]),
            average,
            "from ema.ema_model; also in the file: ema.online_model",
        ),
        ("buffers", dict(named("", 1.0).into_iter().chain([("betas".to_owned(), vector())])), raw, "not used: betas"),
        (
            "latent",
            dict(
                named("model.diffusion_model.", 1.0).into_iter().chain([("first_stage_model.a".to_owned(), vector())]),
            ),
            raw,
            "from model.diffusion_model; not used: first_stage_model",
        ),
        ("list", Py::List(vec![weights(), optimizer(), Py::Int(1), Py::Int(2), ema()]), average, "from 4"),
    ];
    for (case, value, expected, said) in cases {
        let path = place.path().join(format!("{case}.pt"));
        fs::write(&path, torch_save(case, &value)).unwrap();
        let model = open(&path, &[]).unwrap_or_else(|cause| panic!("{case}: {cause}"));
        assert!((answer(&model) - expected).abs() < 1e-6, "{case}: {} of {raw} and {average}", answer(&model));
        assert!(model.assumed.contains(said), "{case}: {}", model.assumed);
        if expected.to_bits() == average.to_bits() && model.assumed.contains("weights=raw") {
            let model = open(&path, &["weights=raw"]).unwrap_or_else(|cause| panic!("{case}: {cause}"));
            assert!((answer(&model) - raw).abs() < 1e-6, "{case}, raw");
            assert!(model.assumed.contains("the weights themselves, not their average"), "{case}: {}", model.assumed);
        }
    }
    let path = place.path().join("ema alone.pt");
    let refused = open(&path, &["weights=raw"]).unwrap_err().to_string();
    assert!(refused.ends_with("holds no weights but an average, ema: leave weights=raw out"), "{refused}");
}

/// A module of modules, as `torch.save(model)` writes it.
fn module(tensors: Vec<(String, Tensor)>) -> Py {
    let (mut own, mut within) = (Vec::new(), BTreeMap::<String, Vec<(String, Tensor)>>::new());
    for (name, tensor) in tensors {
        match name.split_once('.') {
            Some((first, rest)) => within.entry(first.to_owned()).or_default().push((rest.to_owned(), tensor)),
            None => own.push((name, Py::Tensor(tensor))),
        }
    }
    Py::Module(own, within.into_iter().map(|(name, tensors)| (name, module(tensors))).collect())
}

/// The prefixes of wrappers alone and in any order, in both formats, and whole pickled modules.
#[test]
fn every_prefix_opens_in_both_formats() {
    let place = TempDir::new().unwrap();
    let Answers { raw, average } = answers(&place);
    for prefix in [
        "module.",
        "_orig_mod.",
        "model.",
        "net.",
        "unet.",
        "ema_model.",
        "model.diffusion_model.",
        "denoise_fn.",
        "diffusion.",
        "module._orig_mod.",
        "_orig_mod.module.",
        "model.module.unet.",
    ] {
        let (pickled, flat) = (place.path().join("p.pt"), place.path().join("p.safetensors"));
        fs::write(&pickled, torch_save("p", &state(prefix, 1.0))).unwrap();
        let tensors = network(1.0).into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect();
        safetensors::write(&flat, &tensors, &BTreeMap::new()).unwrap();
        for path in [pickled, flat] {
            let model = open(&path, &[]).unwrap_or_else(|cause| panic!("{prefix}: {cause}"));
            assert!((answer(&model) - raw).abs() < 1e-6, "{prefix}");
            assert!(model.assumed.contains(&format!("from {}", prefix.trim_end_matches('.'))), "{}", model.assumed);
        }
    }
    // torch.save(model).
    let whole = module(network(1.0).into_iter().collect());
    let path = place.path().join("module.pt");
    fs::write(&path, torch_save("module", &whole)).unwrap();
    assert!((answer(&open(&path, &[]).unwrap()) - raw).abs() < 1e-6);
    let pair = dict([("net", whole), ("ema", module(network(0.5).into_iter().collect()))]);
    fs::write(&path, torch_save("module", &pair)).unwrap();
    assert!((answer(&open(&path, &[]).unwrap()) - average).abs() < 1e-6);
}

/// PyTorch names the folder inside of an archive after the file, and always writes a zip64 record at its end.
#[test]
fn archives_open_under_names_of_every_length() {
    let place = TempDir::new().unwrap();
    for length in 1..=64 {
        let name = "n".repeat(length);
        let bytes = torch_save(&name, &dict([("a.weight", vector()), ("step", Py::Int(1))]));
        let path = place.path().join(format!("{name}.pt"));
        fs::write(&path, bytes).unwrap();
        let tensors = tweedie::models::checkpoint::state_dict(&path, |_| true);
        assert_eq!(tensors.unwrap_or_else(|cause| panic!("{length}: {cause}")).len(), 1);
    }
    // Under any ending, or none.
    let Answers { raw, .. } = answers(&place);
    for name in ["last.pth.tar", "training-state-000200.pt", "weights", "checkpoint_epoch_0100.pth", "net.pt2"] {
        let path = place.path().join(name);
        fs::write(&path, torch_save(name.split_once('.').map_or(name, |(stem, _)| stem), &state("", 1.0))).unwrap();
        assert!((answer(&open(&path, &[]).unwrap()) - raw).abs() < 1e-6, "{name}");
    }
    let flat = place.path().join("weights.ckpt");
    fs::copy(place.path().join("whole.safetensors"), &flat).unwrap();
    assert!(open(&flat, &[]).is_ok(), "safetensors under another ending");
}

/// Folders as trainers leave them: half precision under its own name, checkpoint-N, an average beside the weights.
#[test]
fn folders_of_training_open() {
    let place = TempDir::new().unwrap();
    let Answers { raw, average } = answers(&place);
    let config = |folder: &Path| {
        fs::create_dir_all(folder).unwrap();
        fs::copy(Path::new(FOLDER).join("config.json"), folder.join("config.json")).unwrap();
    };
    let write = |folder: &Path, name: &str, factor: f64| {
        safetensors::write(&folder.join(name), &network(factor), &BTreeMap::new()).unwrap();
    };
    let half = place.path().join("half");
    config(&half);
    write(&half, "diffusion_pytorch_model.fp16.safetensors", 1.0);
    assert!((answer(&open(&half, &[]).unwrap()) - raw).abs() < 1e-6);

    // checkpoint-500 of a training script, the scheduler in the folder of the pipeline.
    let run = place.path().join("run");
    let checkpoint = run.join("checkpoint-500");
    for (folder, factor) in [("unet", 1.0), ("unet_ema", 0.5)] {
        config(&checkpoint.join(folder));
        write(&checkpoint.join(folder), "diffusion_pytorch_model.safetensors", factor);
    }
    fs::create_dir_all(run.join("scheduler")).unwrap();
    // A mark of byte order, and numbers that only Python writes.
    let scheduler = "\u{feff}{\"_class_name\": \"DDPMScheduler\", \"prediction_type\": \"v_prediction\", \"x\": -Infinity, \"y\": NaN}";
    fs::write(run.join("scheduler/scheduler_config.json"), scheduler).unwrap();
    let model = open(&checkpoint, &[]).unwrap();
    assert!(format!("{:?}", model.card.precondition).contains("prediction: V"), "the scheduler above is read");
    assert!(model.assumed.contains("unet_ema (weights=raw reads unet)"), "{}", model.assumed);
    fs::remove_dir_all(run.join("scheduler")).unwrap();
    assert!((answer(&open(&checkpoint, &[]).unwrap()) - average).abs() < 1e-6);
    assert!((answer(&open(&checkpoint, &["weights=raw"]).unwrap()) - raw).abs() < 1e-6);

    // Weights of any name beside a configuration, which is read; accelerate's model.safetensors without one.
    let beside = place.path().join("beside");
    config(&beside);
    write(&beside, "ema_0.9999.safetensors", 1.0);
    let model = open(&beside.join("ema_0.9999.safetensors"), &[]).unwrap();
    assert!(model.card.image == [3, 16, 16] && !model.assumed.contains("no config.json"), "{}", model.assumed);
    let accelerate = place.path().join("checkpoint-7");
    fs::create_dir(&accelerate).unwrap();
    write(&accelerate, "model.safetensors", 1.0);
    assert!((answer(&open(&accelerate, &[]).unwrap()) - raw).abs() < 1e-6);
}

/// Files that are something else are named for what they are.
#[test]
fn foreign_files_are_named_for_what_they_are() {
    let place = TempDir::new().unwrap();
    let onnx = b"\x08\x08\x12\x07pytorch\x1a\x052.1.0";
    for (bytes, said) in [
        (
            &b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n"[..],
            "is a pointer of Git LFS in place of the file",
        ),
        (b"\n<!DOCTYPE html><html>", "is a web page"),
        (b"\x1f\x8b\x08\0", "is compressed by gzip"),
        (b"\x89HDF\r\n\x1a\n", "is HDF5"),
        (onnx, "is ONNX"),
        (b"GGUF\x03", "is GGUF"),
        (b"\x82\xa6params\x81", "is MessagePack, as Flax writes it"),
        (b"", "is empty"),
        (b"weights: none", "is no checkpoint: neither"),
    ] {
        for name in ["model.pt", "model.bin", "model"] {
            let path = place.path().join(name);
            fs::write(&path, bytes).unwrap();
            let refused = open(&path, &[]).unwrap_err().to_string();
            assert!(refused.starts_with(&format!("{}: {said}", path.display())), "{refused}");
        }
    }
}

/// What would take time or memory without bound is an error at once.
#[test]
fn graphs_without_end_and_heaps_of_names_are_refused_in_time() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("guarded.pt");
    for (bytes, said) in [
        (pickles::circle(), "refers to itself at a"),
        (pickles::many_names(300_000, 8), "too many values"),
        (pickles::many_names(40, 1 << 20), "MB of names"),
    ] {
        fs::write(&path, bytes).unwrap();
        let start = Instant::now();
        let refused = open(&path, &[]).unwrap_err().to_string();
        assert!(refused.contains(said) && refused.len() < 400, "{refused}");
        assert!(start.elapsed().as_secs_f64() < 2.0, "{said}: {:?}", start.elapsed());
    }
    // Flat names, as safetensors has them.
    let flat = place.path().join("guarded.safetensors");
    let one = Tensor::zeros([1], (Kind::Float, Device::Cpu));
    let many = (0..110_000).map(|i| (format!("layer{i}.weight"), one.shallow_clone())).collect();
    safetensors::write(&flat, &many, &BTreeMap::new()).unwrap();
    let start = Instant::now();
    let refused = open(&flat, &[]).unwrap_err().to_string();
    assert!(refused.contains("holds more than 100000 tensors"), "{refused}");
    assert!(start.elapsed().as_secs_f64() < 2.0, "{:?}", start.elapsed());
}

/// A pipe as a checkpoint or a configuration, and a device without end, are refused without waiting.
#[cfg(unix)]
#[test]
fn pipes_and_devices_are_refused_without_waiting() {
    let place = TempDir::new().unwrap();
    let pipe = place.path().join("config.json");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [&pipe, Path::new("/dev/zero")] {
        let refused = open(path, &[]).unwrap_err().to_string();
        assert!(refused.ends_with("is no file"), "{refused}");
    }
    let refused = open(place.path(), &[]).unwrap_err().to_string();
    assert!(refused.ends_with("config.json: is no file"), "{refused}");
}

/// Views as `expand` and `.mT.conj()` leave them: read as what they are, or refused for the true reason.
#[test]
fn views_of_storages_are_read_as_what_they_are() {
    let place = TempDir::new().unwrap();
    let path = place.path().join("views.pt");
    let read = |view: Py| {
        fs::write(&path, torch_save("views", &dict([("w", view)]))).unwrap();
        tweedie::models::checkpoint::state_dict(&path, |_| true)
    };
    // torch.tensor([1., 2.]).expand(3, 2), and the same turned.
    let rows = read(Py::View(vec![1.0, 2.0], vec![3, 2], vec![0, 1], false)).unwrap();
    assert_eq!(Vec::<f32>::try_from(rows["w"].flatten(0, -1)).unwrap(), [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
    let columns = read(Py::View(vec![1.0, 2.0], vec![2, 3], vec![1, 0], false)).unwrap();
    assert_eq!(Vec::<f32>::try_from(columns["w"].flatten(0, -1)).unwrap(), [1.0, 1.0, 1.0, 2.0, 2.0, 2.0]);
    for (view, said) in [
        (
            Py::View(vec![1.0], vec![1 << 20, 1 << 20], vec![0, 0], false),
            "repeats the numbers of its storage too often",
        ),
        (Py::View(vec![1.0, 2.0], vec![3], vec![1], false), "reaches beyond its storage"),
        (Py::View(vec![1.0, 2.0], vec![2], vec![1], true), "saved with its negative or conjugate bit"),
    ] {
        let refused = read(view).unwrap_err().to_string();
        assert!(refused.contains(said), "{refused}");
    }
}
