//! The real program in a fresh folder: what it says, what it writes, and what it never leaves behind.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::Duration,
};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tempfile::TempDir;
use tweedie::{
    evaluation::metrics::{self, Lpips, Window, psnr},
    files::{depth::Depth, images},
    models::{
        card::Model,
        checkpoint::safetensors::{self, Metadata, Tensors},
    },
    networks::{AnyNetwork, UNetConfig, weights::Weights},
    scores::{
        denoiser::Score,
        noise::{Noise, Seeded},
    },
};

const CARD: &str = "
name: tiny
about: a network of random weights
image: [1, 8, 8]
network: {kind: unet, in_channels: 1, block_out_channels: [8, 8], layers_per_block: 1, norm_num_groups: 4}
precondition: {kind: ddpm, beta: {kind: linear-beta}, prediction: v}
sample: {schedule: {kind: karras, max: 40.0}, steps: 6, sampler: {kind: ddim, eta: 0.5}}
restore: {schedule: {kind: geometric, max: 1.0}, steps: 20, sampler: {kind: simplified, c: 0.2, t0: 1.0}}
";

/// A fresh folder with a tiny model in it.
pub struct Place(TempDir);

impl Place {
    pub fn new() -> Self {
        let place = Self(TempDir::new().unwrap());
        place.save("tiny.safetensors", tensors(), CARD);
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub fn save(&self, name: &str, tensors: Tensors, card: &str) {
        let metadata = Metadata::from([("card".to_owned(), card.to_owned())]);
        safetensors::write(&self.path(name), &tensors, &metadata).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tweedie"));
        // Tests run side by side: more threads would only wait for each other.
        command.args(arguments).current_dir(self.0.path()).stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn succeed(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one sentence of a run that must fail; the program must neither panic nor leave unfinished files.
    pub fn complaint(&self, arguments: &[&str]) -> String {
        self.complaint_of(&mut self.command(arguments), &format!("{arguments:?}"))
    }

    fn complaint_of(&self, command: &mut Command, what: &str) -> String {
        let output = command.output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{what} says {error}");
        assert!(
            !error.contains("panicked") && !error.contains("backtrace") && !error.contains("inside the program"),
            "{error}"
        );
        assert!(self.unfinished().is_empty());
        error.trim_end().strip_prefix("error: ").unwrap_or_else(|| panic!("{error}")).to_owned()
    }

    fn unfinished(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(self.0.path()).unwrap().flatten().map(|entry| entry.path());
        let inner = all.filter(|path| path.is_dir()).flat_map(|dir| fs::read_dir(dir).unwrap().flatten());
        inner.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains(".unfinished")).collect()
    }

    pub fn image(&self, name: &str, size: [i64; 3], value: u8) {
        let pixels = Tensor::full(size, i64::from(value), (Kind::Uint8, Device::Cpu));
        images::write_png(&self.path(name), &pixels).unwrap();
    }

    /// The seeds' images in a folder, by file name.
    pub fn images(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(self.path(folder)).unwrap().flatten();
        let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
        named.filter(|(name, _)| name.starts_with('0')).map(|(name, path)| (name, fs::read(path).unwrap())).collect()
    }
}

/// Random weights throughout, also where training starts from zeros.
fn tensors() -> Tensors {
    let config = UNetConfig {
        in_channels: 1,
        block_out_channels: vec![8, 8],
        layers_per_block: 1,
        attention_levels: vec![],
        norm_num_groups: 4,
        ..UNetConfig::default()
    };
    let weights = Weights::fresh(5, Device::Cpu, Kind::Float);
    AnyNetwork::Unet(config).build(&weights).unwrap();
    tch::manual_seed(5);
    let randomise = |(name, tensor): (String, Tensor)| {
        let noise = tensor.randn_like() * 0.2;
        (name, tensor + noise)
    };
    weights.finish().unwrap().into_iter().map(randomise).collect()
}

#[test]
fn an_image_depends_on_its_seed_and_block_size_alone() {
    let place = Place::new();
    place.succeed(&["sample", "tiny.safetensors", "--seeds", "0-7", "--batch", "4", "--out", "whole"]);
    let whole = place.images("whole");
    assert_eq!(whole.len(), 8);
    assert!(whole["000000.png"] != whole["000001.png"], "other seeds are other images");
    // Another order, in pieces, and parts of a block only.
    for seeds in ["6", "4-5,7", "0,3", "1-2"] {
        place.succeed(&["sample", "tiny.safetensors", "--seeds", seeds, "--batch", "4", "--out", "pieces"]);
    }
    assert!(place.images("pieces") == whole, "bit for bit");
    let page = fs::read_to_string(place.path("whole/index.html")).unwrap();
    assert!(page.matches("base64,").count() == 8 && page.contains("<dt>sha256</dt>"));
    let plan = "{sampler: {eta: 0.5, kind: ddim}, schedule: {kind: karras, max: 40.0, rho: 7.0}, steps: 6}";
    assert!(page.contains(&format!("<dt>plan</dt><dd>{plan}</dd>")), "{page}");
    // The contact sheet is none of the images.
    let listed = images::Listing::new(&place.path("whole"), false).unwrap().images;
    assert!(place.path("whole/grid.png").exists() && listed.len() == 8);
    // A run that lost some of its images draws just these again.
    fs::remove_file(place.path("whole/000002.png")).unwrap();
    let said = place.succeed(&["sample", "tiny.safetensors", "--seeds", "0-7", "--batch", "4", "--out", "whole"]);
    assert!(said.contains("8 images (1 new"), "{said}");
    assert!(place.images("whole") == place.images("pieces"));
}

/// x ← x + τ s(x, σ) + √(2τT) n, carried out here over the rows that `walk` prints.
#[test]
fn final_states_are_where_the_printed_table_leads() {
    let place = Place::new();
    let plan = ["--sampler", "{kind: ddim, eta: 0.5}", "--schedule", "{kind: karras, max: 3.0}", "--steps", "5"];
    let sample = |seeds: &str| {
        let run = ["sample", "tiny.safetensors", "--states", "--seeds", seeds, "--batch", "2", "--out", "out"];
        place.succeed(&[&run[..], &plan].concat())
    };
    sample("0-1");
    let model = Model::open_on(place.path("tiny.safetensors").to_str().unwrap(), Device::Cpu, Kind::Float).unwrap();
    let noise = Seeded(vec![0, 1]);
    let zeros = Tensor::zeros([2, 1, 8, 8], (Kind::Float, Device::Cpu));
    let mut x = noise.like(&zeros, 0, 0) * model.denoiser.precondition.start(3.0);
    let table = place.succeed(&[&["walk", "tiny.safetensors", "--csv"][..], &plan].concat());
    for (k, row) in table.lines().skip(1).enumerate() {
        let row: Vec<f64> = row.split(',').map(|number| number.parse().unwrap()).collect();
        let (sigma, tau, temperature) = (row[1], row[2], row[3]);
        let score = tch::no_grad(|| model.denoiser.score(&x, sigma));
        x = x + score * tau + noise.like(&zeros, k as u64 + 1, 0) * (2.0 * tau * temperature).sqrt();
    }
    let state = |seed| Tensor::read_npy(place.path(&format!("out/{seed:06}.npy"))).unwrap();
    let states = Tensor::stack(&[state(0), state(1)], 0);
    // States of a few units, rounded five times on each side.
    assert!(f64::try_from((&states - x).abs().max()).unwrap() < 1e-4);
    let picture = images::read(&place.path("out/000001.png"), 1).unwrap();
    assert_eq!(picture, images::to_bytes(&states.get(1)), "the picture is the state, clipped and rounded");
    // An image without its state is not finished.
    fs::remove_file(place.path("out/000000.npy")).unwrap();
    let said = sample("0-1");
    assert!(said.contains("2 images (1 new"), "{said}");
    assert_eq!(state(0), states.get(0), "bit for bit");
}

#[test]
fn deterministic_images_do_not_depend_on_the_block_size() {
    let place = Place::new();
    for batch in ["1", "3", "8"] {
        let out = format!("out{batch}");
        let arguments =
            ["sample", "tiny.safetensors", "--seeds", "0-7", "--deterministic", "--batch", batch, "--out", &out];
        place.succeed(&arguments);
    }
    assert!(place.images("out1") == place.images("out3") && place.images("out1") == place.images("out8"));
}

/// Every sampler and solver that `tweedie samplers` lists: each runs by its name.
fn samplers(place: &Place) -> Vec<String> {
    let listed: Value = serde_json::from_str(&place.succeed(&["samplers", "--json"])).unwrap();
    let methods = ["rows", "solvers"].into_iter().flat_map(|list| listed[list].as_array().unwrap());
    methods.map(|method| method["name"].as_str().unwrap().to_owned()).collect()
}

/// Also those that look at the state to decide how far they go, be it with the lengths of the whole batch.
#[test]
fn deterministic_images_of_every_sampler_do_not_depend_on_the_block_size() {
    let place = Place::new();
    let coupled = "{kind: predictor-corrector, norms: batch}".to_owned();
    for (i, sampler) in samplers(&place).iter().chain([&coupled]).enumerate() {
        let asked = |batch: &'static str| {
            let how = ["--sampler", sampler, "--schedule", "{kind: karras, max: 10}", "--steps", "8"];
            let which = ["--seeds", "0-2", "--deterministic", "--batch", batch, "--out"];
            [&["sample", "tiny.safetensors"], how.as_slice(), which.as_slice()].concat()
        };
        // This network has no second half.
        if sampler == "ddpm-learned" {
            let refused = place.complaint(&[asked("1").as_slice(), &["refused"]].concat());
            assert!(refused.contains("neither network nor guidance says how much noise a step adds"), "{refused}");
            continue;
        }
        let run = |batch| {
            let out = format!("out{i}-{batch}");
            place.succeed(&[asked(batch).as_slice(), &[&out]].concat());
            place.images(&out)
        };
        let images = run("1");
        assert!(images.len() == 3 && images == run("2"), "{sampler}");
    }
}

/// What a solver of adaptive steps has asked for is told of the images, and is their own.
#[test]
fn adaptive_steps_are_each_images_own() {
    let place = Place::new();
    let run = |batch: &str, tolerance: &str| {
        let sampler = format!("{{kind: rk45, absolute: {tolerance}, relative: {tolerance}}}");
        let out = format!("out{batch}-{tolerance}");
        let how = ["--sampler", &sampler, "--schedule", "karras", "--steps", "2", "--seeds", "0-3", "--json"];
        let record =
            place.succeed(&[&["sample", "tiny.safetensors", "--batch", batch, "--out", &out], how.as_slice()].concat());
        let record: Value = serde_json::from_str(&record).unwrap();
        (place.images(&out), record["evaluations"].as_u64().unwrap())
    };
    let (alone, spent) = run("1", "1e-3");
    assert_eq!(run("4", "1e-3"), (alone, spent), "to the bit");
    assert!(spent > 7 && spent < run("4", "1e-5").1, "{spent}");
}

/// Float rounding may move a pixel that lies between two grey levels, and hardly ever does.
#[test]
fn other_block_sizes_give_the_same_image_up_to_rounding() {
    let place = Place::new();
    for batch in ["1", "5"] {
        let out = format!("out{batch}");
        place.succeed(&["sample", "tiny.safetensors", "--seeds", "0-19", "--batch", batch, "--out", &out]);
    }
    let read = |out: &str, seed: u64| {
        let file = place.path(&format!("{out}/{seed:06}.png"));
        images::read(&file, 1).unwrap().to_kind(Kind::Int64)
    };
    let (mut moved, mut most, mut pixels) = (0, 0, 0);
    for seed in 0..20 {
        let difference = (read("out1", seed) - read("out5", seed)).abs();
        moved += i64::try_from(difference.gt(0).sum(Kind::Int64)).unwrap();
        most = most.max(i64::try_from(difference.max()).unwrap());
        pixels += difference.numel();
    }
    assert!(most <= 1 && moved as f64 <= 1e-3 * pixels as f64, "{moved} of {pixels} pixels, by up to {most}");
}

#[test]
fn a_folder_belongs_to_one_run() {
    let place = Place::new();
    place.succeed(&["sample", "tiny.safetensors", "--seeds", "0", "--out", "out"]);
    let complaint = place.complaint(&["sample", "tiny.safetensors", "--seeds", "0", "--steps", "7", "--out", "out"]);
    let wanted = "out: holds the images of another run (steps was 6, is 7): choose another --out, or --overwrite to \
                  replace that run";
    assert_eq!(complaint, wanted);
    place.succeed(&["sample", "tiny.safetensors", "--seeds", "0", "--steps", "7", "--out", "out", "--overwrite"]);
}

#[test]
fn checkpoints_that_cannot_be_used_are_named() {
    let place = Place::new();
    let complaint = |model: &str| place.complaint(&["sample", model, "--seeds", "0", "--out", "out"]);
    assert!(complaint("nowhere.safetensors").starts_with("nowhere.safetensors: cannot be read: No such file"));
    assert!(complaint("nosuch").starts_with("nosuch: no such model or file; the models that ship are:"));
    let whole = fs::read(place.path("tiny.safetensors")).unwrap();
    fs::write(place.path("cut.safetensors"), &whole[..whole.len() / 2]).unwrap();
    assert!(complaint("cut.safetensors").starts_with("cut.safetensors: not a whole safetensors file"));
    fs::write(place.path("foreign.safetensors"), b"\x80\x02}q\x00.").unwrap();
    assert!(complaint("foreign.safetensors").starts_with("foreign.safetensors: not a whole safetensors file"));
    fs::write(place.path("foreign.pth"), b"PK").unwrap();
    assert!(complaint("foreign.pth").starts_with("foreign.pth: not a whole zip archive"));
    fs::write(place.path("foreign.bin"), b"\x80\x02}q\x00.").unwrap();
    assert_eq!(complaint("foreign.bin"), "foreign.bin: holds no named tensors at its top: a state dict is wanted");
    fs::write(place.path("foreign.txt"), b"text").unwrap();
    assert!(complaint("foreign.txt").starts_with("foreign.txt: is no checkpoint"));
    let mut wrong = tensors();
    wrong.insert("conv_in.weight".to_owned(), Tensor::zeros([8, 3, 3, 3], (Kind::Float, Device::Cpu)));
    place.save("wrong.safetensors", wrong, CARD);
    let wrong =
        "wrong.safetensors: the weights do not fit the network: conv_in.weight is [8, 3, 3, 3], not [8, 1, 3, 3]";
    assert_eq!(complaint("wrong.safetensors"), wrong);
    assert!(!place.path("out").exists(), "nothing half-written");
}

#[test]
fn a_slip_in_yaml_is_told_with_its_place_and_the_nearest_word() {
    let place = Place::new();
    let plan = "schedule: {kind: karras}\nsteps: 5\nsampler:\n  kind: ddim\n  etta: 1\n";
    fs::write(place.path("plan.yaml"), plan).unwrap();
    let complaint = place.complaint(&["walk", "--sampler", "plan.yaml"]);
    assert!(complaint.starts_with("plan.yaml: "), "{complaint}");
    assert!(complaint.contains("etta") && complaint.contains("did you mean `eta`?"), "{complaint}");
    assert!(complaint.contains("line") && complaint.contains("column"), "{complaint}");
    let complaint = place.complaint(&["walk", "--sampler", "ddmi"]);
    assert!(complaint.contains("did you mean `ddim`?"), "{complaint}");
}

#[test]
fn impossible_walks_are_refused() {
    let place = Place::new();
    let complaint =
        |flags: &[&str]| place.complaint(&[&["sample", "tiny.safetensors", "--out", "out"], flags].concat());
    assert_eq!(complaint(&["--steps", "0"]), "steps must be at least 1, but is 0");
    let rising = "{kind: list, sigmas: [1.0, 2.0]}";
    assert_eq!(
        complaint(&["--schedule", rising, "--steps", "2"]),
        "noise levels must be finite, positive and strictly decreasing, but level 1 is 2"
    );
    assert_eq!(complaint(&["--seeds", "9-3"]), "seeds must be like 0-63 or 0-3,8, but is 9-3");
    assert_eq!(complaint(&["--batch", "0"]), "--batch must be at least 1, but is 0");
    assert!(!place.path("out").exists(), "nothing half-written");
}

#[test]
fn cuda_is_refused_where_there_is_none() {
    if tch::Cuda::is_available() {
        return;
    }
    let place = Place::new();
    let complaint = place.complaint(&["sample", "tiny.safetensors", "--device", "cuda", "--out", "out"]);
    assert!(
        complaint.starts_with("--device cuda: ") && complaint.ends_with("--device cpu works everywhere"),
        "{complaint}"
    );
    let complaint = place.complaint(&["sample", "tiny.safetensors", "--device", "tpu", "--out", "out"]);
    assert_eq!(complaint, "--device must be auto, cpu, cuda or cuda:N, but is tpu");
}

#[test]
fn damaged_inputs_of_a_restoration_are_named() {
    let place = Place::new();
    let complaint =
        |flags: &[&str]| place.complaint(&[&["restore", "tiny.safetensors", "--out", "out"], flags].concat());
    let nan = Tensor::full([1, 1, 8, 8], f64::NAN, (Kind::Float, Device::Cpu));
    images::write_npy(&place.path("y.npy"), &nan).unwrap();
    let found = complaint(&["--measurement", "y.npy", "--task", "inpaint-random"]);
    assert_eq!(found, "y.npy: 64 of its 64 values are NaN or infinite");
    place.image("large.png", [1, 16, 16], 100);
    place.image("small.png", [1, 8, 6], 100);
    let found = complaint(&["--image", "small.png", "--task", "inpaint-random"]);
    let remedy = "tiny takes 1×8×8 or larger images of as many channels: pad or resize it";
    assert_eq!(found, format!("small.png: is 1×8×6, but {remedy}"));
    fs::create_dir(place.path("mixed")).unwrap();
    place.image("mixed/a.png", [1, 8, 8], 100);
    place.image("mixed/b.png", [1, 8, 9], 100);
    let found = complaint(&["--image", "mixed", "--task", "inpaint-random"]);
    assert_eq!(found, "mixed/b.png: has another size than the image before it: restore them one by one");
    place.image("black.png", [1, 8, 8], 0);
    place.image("grey.png", [1, 8, 8], 128);
    let found = complaint(&["--image", "grey.png", "--mask", "black.png"]);
    assert!(found.starts_with("black.png: ") && found.contains("hides everything"), "{found}");
    let found = complaint(&["--image", "grey.png", "--task", "inpaint-randm"]);
    assert!(found.contains("did you mean `inpaint-random`?"), "{found}");
    // As far from inpaint-box, but an abbreviation.
    let found = complaint(&["--image", "grey.png", "--task", "inpaint-rnd"]);
    assert!(found.contains("did you mean `inpaint-random`?"), "{found}");
    fs::write(place.path("text.png"), "not an image").unwrap();
    let found = complaint(&["--image", "text.png", "--task", "inpaint-random"]);
    assert!(found.starts_with("text.png: not a readable image"), "{found}");
    assert!(!place.path("out").exists(), "nothing half-written");
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let place = Place::new();
    fs::write(place.path("file"), "").unwrap();
    let complaint = place.complaint(&["sample", "tiny.safetensors", "--seeds", "0", "--out", "file/out"]);
    assert!(complaint.starts_with("file/out/record.json: cannot be written: "), "{complaint}");
}

/// A limit on the size of a file makes `write` fail in the middle of a run, as a full disk does.
#[cfg(unix)]
#[test]
fn a_disk_that_fills_up_ends_the_run_and_keeps_what_is_finished() {
    let place = Place::new();
    let card = CARD.replace("[1, 8, 8]", "[1, 64, 64]");
    place.save("large.safetensors", tensors(), &card);
    let arguments = ["sample", "large.safetensors", "--seeds", "0-3", "--batch", "1", "--out", "out"];
    let limited = |blocks: u32| {
        let mut shell = Command::new("sh");
        let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_tweedie")]).args(arguments);
        shell.current_dir(place.0.path()).stdin(Stdio::null()).env("OMP_NUM_THREADS", "1");
        shell
    };
    let complaint = place.complaint_of(&mut limited(0), "no space at all");
    assert!(complaint.starts_with("out/record.json: cannot be written: "), "{complaint}");
    assert!(!place.path("out/record.json").exists());
    // The record has room in four blocks of 512 bytes, an image of 4096 random grey levels has not.
    let complaint = place.complaint_of(&mut limited(4), "no space for images");
    assert!(complaint.starts_with("out/0000") && complaint.contains(".png: cannot be written: "), "{complaint}");
    assert!(place.images("out").is_empty());
    place.succeed(&arguments);
    assert_eq!(place.images("out").len(), 4);
}

#[test]
fn a_network_that_is_not_finite_stops_the_run_and_nothing_is_written() {
    let place = Place::new();
    let mut broken = tensors();
    broken.insert("conv_out.bias".to_owned(), Tensor::from_slice(&[f32::NAN]));
    place.save("broken.safetensors", broken, CARD);
    let complaint =
        place.complaint(&["sample", "broken.safetensors", "--seeds", "4-5", "--batch", "2", "--out", "out"]);
    assert!(
        complaint.starts_with("the score is not finite from evaluation 0 on (σ = 40.000000) for seed 4, 5"),
        "{complaint}"
    );
    assert!(place.images("out").is_empty());
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_is_finished_and_the_run_goes_on() {
    let place = Place::new();
    let arguments = ["sample", "tiny.safetensors", "--seeds", "0-39", "--batch", "1", "--steps", "100", "--out", "out"];
    let mut child = place.command(&arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    while !place.path("out/000001.png").exists() {
        thread::sleep(Duration::from_millis(20));
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{error}");
    let left = "interrupted; finished images are kept, and the same command resumes from there\n";
    assert!(error.ends_with(left), "{error}");
    let kept = place.images("out");
    assert!(!kept.is_empty() && kept.len() < 40 && place.unfinished().is_empty());
    place.succeed(&arguments);
    let all = place.images("out");
    assert!(all.len() == 40 && kept.iter().all(|(name, image)| all[name] == *image));
}

/// Training that Ctrl-C has stopped says at which step, and goes on as if nothing had happened.
#[cfg(unix)]
#[test]
fn ctrl_c_keeps_the_step_of_training() {
    let place = Place::new();
    fs::create_dir(place.path("photos")).unwrap();
    for i in 0..6u8 {
        place.image(&format!("photos/{i}.png"), [1, 8, 8], 40 * i);
    }
    fs::write(place.path("part.yaml"), training("part", 3000)).unwrap();
    let mut child =
        place.command(&["train", "part.yaml"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    while !place.path("part/checkpoint.safetensors").exists() {
        thread::sleep(Duration::from_millis(5));
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be interrupted");
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(130), "{error}");
    let step = error.trim_end().strip_prefix("interrupted at step ").and_then(|rest| rest.split_once(';'));
    let (step, rest) = step.unwrap_or_else(|| panic!("{error}"));
    assert_eq!(rest, " --resume goes on from there");
    let stored = safetensors::read(&place.path("part/checkpoint.safetensors")).unwrap().1;
    assert_eq!(stored["step"], step);
    assert!(!place.path("part/model.safetensors").exists());
}

/// The flags of each group that a command takes; all commands take --quiet and --json.
const FLAGS: [(&str, &[&str]); 18] = [
    ("sample", &["set", "card", "device", "precision", "exact", "threads", "batch", "deterministic"]),
    ("restore", &["set", "card", "device", "precision", "exact", "threads", "batch", "deterministic", "seed"]),
    ("run", &["set", "device", "precision", "exact", "threads", "batch", "deterministic", "seed"]),
    ("information", &["set", "card", "device", "precision", "exact", "threads", "batch", "deterministic", "seed"]),
    ("denoise", &["set", "card", "device", "precision", "exact", "threads"]),
    ("bench", &["set", "card", "device", "precision", "exact", "threads"]),
    ("train", &["device", "precision", "exact", "threads"]),
    ("evaluate", &["device", "exact", "threads", "batch", "seed"]),
    ("convert", &["set", "card", "precision"]),
    ("walk", &["set", "card"]),
    ("inspect", &["set", "card"]),
    ("table", &[]),
    ("check", &[]),
    ("models", &[]),
    ("samplers", &[]),
    ("tasks", &[]),
    ("methods", &[]),
    ("doctor", &[]),
];

#[test]
fn a_command_refuses_the_flags_that_it_does_not_use() {
    let place = Place::new();
    let all: std::collections::BTreeSet<&str> = FLAGS.iter().flat_map(|(_, flags)| flags.iter().copied()).collect();
    let help = place.succeed(&["--help"]);
    for (command, flags) in FLAGS.iter().filter(|(name, _)| help.contains(&format!("\n  {name} "))) {
        let told = place.succeed(&[command, "--help"]);
        let takes = |flag: &str| {
            told.lines().any(|line| line.contains(&format!("--{flag} ")) || line.ends_with(&format!("--{flag}")))
        };
        assert!(takes("quiet") && takes("json"), "{command}: {told}");
        for flag in &all {
            assert_eq!(takes(flag), flags.contains(flag), "{command} --{flag}");
        }
        if let Some(refused) = all.iter().find(|flag| !flags.contains(flag)) {
            let output = place.run(&[command, &format!("--{refused}")]);
            let error = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.code() == Some(2) && error.contains("unexpected argument"), "{command}: {error}");
        }
    }
    let output = place.run(&["tasks", "--batch", "0", "--device", "moon"]);
    assert_eq!(output.status.code(), Some(2));
    let complaint = place.complaint(&["walk", "tiny.safetensors", "--set", "nonsense=1"]);
    assert!(complaint.starts_with("--set: nonsense=1: the card has no such key"), "{complaint}");
    let complaint = place.complaint(&["walk", "--set", "nonsense=1"]);
    assert_eq!(complaint, "--set and --card change the card of a model: name MODEL");
    // What is set of a card is heard: the levels of another chain.
    let table = |flags: &[&str]| place.succeed(&[&["walk", "tiny.safetensors", "--csv"], flags].concat());
    let shorter = "beta={kind: linear-beta, first: 0.0001, last: 0.03, times: 500}";
    assert_ne!(table(&[]), table(&["--set", shorter]));
}

#[test]
fn the_nearest_model_is_named() {
    let place = Place::new();
    let complaint = |model: &str| place.complaint(&["sample", model, "--out", "out"]);
    let hub = "google/ddpm-cifar10-32: is not here: if it is a model of the Hugging Face Hub, `hf download \
               google/ddpm-cifar10-32 --local-dir ddpm-cifar10-32` fetches it, and ddpm-cifar10-32 opens it";
    assert_eq!(complaint("google/ddpm-cifar10-32"), hub);
    assert_eq!(complaint("fashon-mnist"), "fashon-mnist: no such model or file: did you mean `fashion-mnist`?");
    let near = "tinny.safetensors: cannot be read: No such file or directory: did you mean `tiny.safetensors`?";
    assert_eq!(complaint("tinny.safetensors"), near);
    assert_eq!(complaint("far.safetensors"), "far.safetensors: cannot be read: No such file or directory");
}

/// The size of the blocks was derived from eight images, not given: four more are drawn as those were.
#[test]
fn a_finished_run_can_be_extended() {
    let place = Place::new();
    let sample = |seeds: &str, more: &[&str]| {
        place.succeed(&[&["sample", "tiny.safetensors", "--seeds", seeds][..], more].concat())
    };
    sample("0-7", &["--out", "out"]);
    let said = sample("0-11", &["--out", "out"]);
    assert!(said.contains("12 images (4 new"), "{said}");
    sample("0-11", &["--out", "whole", "--batch", "8"]);
    assert!(place.images("out") == place.images("whole"), "bit for bit");
    let complaint =
        place.complaint(&["sample", "tiny.safetensors", "--seeds", "0-11", "--out", "out", "--batch", "16"]);
    assert!(complaint.contains("batch was 8"), "{complaint}");
}

#[test]
fn denoise_writes_the_denoiser_of_what_it_reads() {
    let place = Place::new();
    let x = Tensor::arange(128, (Kind::Float, Device::Cpu)).view([2, 1, 8, 8]) / 64.0 - 1.0;
    images::write_npy(&place.path("x.npy"), &x).unwrap();
    place.succeed(&["denoise", "tiny.safetensors", "--sigma", "0.5", "x.npy", "clean.npy"]);
    let clean = Tensor::read_npy(place.path("clean.npy")).unwrap();
    let model = tweedie::models::card::Model::open_on(
        place.path("tiny.safetensors").to_str().unwrap(),
        Device::Cpu,
        Kind::Float,
    );
    let expected = tch::no_grad(|| tweedie::scores::denoiser::Denoiser::denoise(&model.unwrap().denoiser, &x, 0.5));
    // The same program on the same batch, but perhaps with another number of threads.
    assert!(f64::try_from((clean - expected).abs().max()).unwrap() < 1e-5);
    let complaint = place.complaint(&["denoise", "tiny.safetensors", "--sigma", "-1", "x.npy", "clean.npy"]);
    assert_eq!(complaint, "--sigma must be positive, but is -1");
}

/// The answer is in the pixels of the program that trained the network, 0 … 1 here, and of the class that was asked for.
/// What is converted needs no other file, and computes the same to the bit.
#[test]
fn a_converted_checkpoint_is_the_same_model() {
    let place = Place::new();
    let zoo = |name: &str| fs::canonicalize("tests/golden/zoo").unwrap().join(name).to_str().unwrap().to_owned();
    for (folder, file, sigma) in [
        ("ermon-ddim", "model.ckpt", "0.9"),
        ("scoresde-ncsnpp-ve", "checkpoint.pth", "1.3"),
        ("diffusers-ncsnpp", "", "1.7"),
        ("edm-vp", "network-snapshot.pkl", "2.3"),
    ] {
        let (model, z) = (zoo(&format!("{folder}/{file}")), zoo(&format!("{folder}/z.npy")));
        place.succeed(&["convert", &model, "converted.safetensors"]);
        place.succeed(&["denoise", &model, "--sigma", sigma, &z, "published.npy"]);
        place.succeed(&["denoise", "converted.safetensors", "--sigma", sigma, &z, "converted.npy"]);
        let [published, converted] = ["published.npy", "converted.npy"].map(|name| fs::read(place.path(name)).unwrap());
        assert!(published == converted, "{folder}");
        let shown = place.succeed(&["inspect", "converted.safetensors"]);
        assert!(shown.contains("converted from") && shown.contains("SHA-256"), "{shown}");
    }
    let complaint = place.complaint(&["convert", "tiny.safetensors", "tiny.safetensors"]);
    assert_eq!(complaint, "tiny.safetensors: would be written over itself: name another file");
    let complaint = place.complaint(&["convert", "tiny.safetensors", "tiny.pth"]);
    assert_eq!(complaint, "tiny.pth: name a .safetensors file");
}

#[test]
fn denoise_speaks_the_pixels_and_classes_of_the_checkpoint() {
    let place = Place::new();
    let golden = |name: &str| fs::canonicalize(Path::new("tests/golden/zoo").join(name)).unwrap();
    let plain = |name: &str| golden(name).to_str().unwrap().to_owned();
    let (file, z) = (plain("edm-adm/network-snapshot.pkl"), plain("edm-adm/z.npy"));
    let denoise = ["denoise", &file, "--sigma", "0.9", &z, "clean.npy"];
    let agrees = |expected: &str, tolerance: f64| {
        let clean = Tensor::read_npy(place.path("clean.npy")).unwrap();
        let expected = Tensor::read_npy(golden(expected)).unwrap();
        let largest = |x: Tensor| f64::try_from(x.abs().max()).unwrap();
        largest(clean - &expected) < tolerance * largest(expected)
    };
    place.succeed(&[&denoise[..], &["--class", "1,3"]].concat());
    assert!(agrees("edm-adm/denoised.npy", 1e-4));
    place.succeed(&[&denoise[..], &["--class", "3,1"]].concat());
    assert!(!agrees("edm-adm/denoised.npy", 1e-4));
    let complaint = place.complaint(&denoise);
    assert!(
        complaint.ends_with("makes images of 5 classes: choose with --class, for instance --class 0-4"),
        "{complaint}"
    );
    let complaint = place.complaint(&[&denoise[..], &["--class", "5"]].concat());
    assert!(complaint.ends_with("knows the classes 0 to 4"), "{complaint}");
    let complaint = place.complaint(&[&denoise[..], &["--class", "cat"]].concat());
    assert!(complaint.contains("neither a class, as 207, nor some, as 0-9"), "{complaint}");
    let complaint = place.complaint(&["sample", "tiny.safetensors", "--class", "0"]);
    assert!(complaint.ends_with("knows no classes"), "{complaint}");
    // Its frequencies are 0.01 off (see zoo.rs), so that the answer is near, but not within rounding.
    let (file, z) = (plain("scoresde-ncsnpp-ve/checkpoint.pth"), plain("scoresde-ncsnpp-ve/z.npy"));
    place.succeed(&["denoise", &file, "--sigma", "2.3", &z, "clean.npy"]);
    assert!(agrees("scoresde-ncsnpp-ve/denoised.npy", 1e-3));
}

/// Images of a class do not depend on which others are drawn with them.
#[test]
fn classes_go_by_seed() {
    let place = Place::new();
    let file = fs::canonicalize("tests/golden/zoo/edm-adm/network-snapshot.pkl").unwrap();
    let file = file.to_str().unwrap();
    let sample = ["sample", file, "--steps", "2", "--batch", "1", "--class", "0-4"];
    place.succeed(&[&sample[..], &["--seeds", "0-5", "--out", "all"]].concat());
    place.succeed(&[&sample[..], &["--seeds", "3", "--out", "one"]].concat());
    let (all, one) = (place.images("all"), place.images("one"));
    assert_eq!(all["000003.png"], one["000003.png"]);
    place.succeed(&["sample", file, "--steps", "2", "--batch", "1", "--class", "4", "--seeds", "3", "--out", "four"]);
    assert_ne!(place.images("four")["000003.png"], one["000003.png"]);
}

/// A file of 16 bits gives pictures of 16 bits, which hold a sample to half a step of 1/65535, and so does one of real numbers.
#[test]
fn pictures_have_the_depth_of_the_image() {
    let place = Place::new();
    let x = (Tensor::arange(64, (Kind::Float, Device::Cpu)).view([1, 8, 8]) * 1000.0 + 77.0) / 32_767.5 - 1.0;
    images::write(&place.path("deep.png"), &x, Depth::Sixteen).unwrap();
    images::write(&place.path("real.tif"), &x, Depth::Real).unwrap();
    fs::write(place.path("words.npy"), {
        let numbers = (0..64u16).flat_map(|k| (k * 1000 + 77).to_be_bytes()).collect::<Vec<_>>();
        let header = "{'descr': '>u2', 'fortran_order': False, 'shape': (8, 8), }\n";
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), &numbers].concat()
    })
    .unwrap();
    let mut truths = Vec::new();
    for (image, range) in
        [("deep.png", "numbers 0 … 65535"), ("real.tif", "real numbers 0 … 1"), ("words.npy", "numbers 0 … 65535")]
    {
        let name = image.split('.').next().unwrap();
        let arguments = ["restore", "tiny.safetensors", "--image", image, "--task", "identity", "--samples", "2"];
        let said = place.succeed(&[&arguments[..], &["--states", "--out", name]].concat());
        let told =
            format!("images have {range}: PSNR takes the whole of that range, and pictures are written with 16 bits");
        assert!(said.contains(&told), "{said}");
        let picture = |what: &str| images::read_units(&place.path(&format!("{name}/{name}-{what}.png")), None).unwrap();
        let (sample, depth) = picture("sample-001");
        assert_eq!(depth, Depth::Sixteen);
        let state = Tensor::read_npy(place.path(&format!("{name}/{name}-sample-001.npy"))).unwrap();
        let apart = f64::try_from((sample - state.clamp(-1.0, 1.0)).abs().max()).unwrap();
        // Half a step of 2/65535, and a rounding of f32.
        assert!(apart < 1.6e-5, "{name}: {apart}");
        truths.push(picture("truth").0);
        // PSNR is that of what is written; bytes would move it by 0.002 dB.
        let row: Value =
            serde_json::from_slice(&fs::read(place.path(&format!("{name}/{name}.json"))).unwrap()).unwrap();
        let unit = |x: &Tensor| images::to_unit(x).unsqueeze(0);
        let expected = psnr(&unit(&picture("measurement").0), &unit(&truths[truths.len() - 1]))[0];
        let found = row["truth"]["measurement"]["psnr"].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-4, "{name}: {found}, {expected}");
        assert!(f64::try_from((&truths[0] - &x).abs().max()).unwrap() < 1e-6, "{name}");
    }
    assert!(truths.iter().all(|truth| truth.equal(&truths[0])));
    // The answer to real numbers is real where the name asks for TIFF.
    place.succeed(&["denoise", "tiny.safetensors", "--sigma", "0.5", "real.tif", "clean.tif"]);
    place.succeed(&["denoise", "tiny.safetensors", "--sigma", "0.5", "real.tif", "clean.png"]);
    let [(exact, Depth::Real), (rounded, Depth::Sixteen)] =
        ["clean.tif", "clean.png"].map(|name| images::read_units(&place.path(name), None).unwrap())
    else {
        panic!("another depth")
    };
    assert!(f64::try_from((&exact - &rounded).abs().max()).unwrap() < 1.6e-5 && !exact.equal(&rounded));
    images::write_npy(&place.path("wide.npy"), &(&x * 2.0)).unwrap();
    let wide = ["restore", "tiny.safetensors", "--image", "wide.npy", "--task", "identity", "--out", "wide"];
    let complaint = place.complaint(&wide);
    assert!(complaint.contains("wide.npy: holds numbers from") && complaint.contains("images of its type are -1 … 1"));
}

#[test]
fn restore_writes_pictures_a_table_and_goes_on_where_it_stopped() {
    let place = Place::new();
    fs::create_dir(place.path("photos")).unwrap();
    place.image("photos/a.png", [1, 8, 8], 60);
    place.image("photos/b.png", [1, 8, 8], 200);
    let arguments = [
        "restore",
        "tiny.safetensors",
        "--image",
        "photos",
        "--task",
        "inpaint-random",
        "--samples",
        "3",
        "--out",
        "out",
    ];
    let said = place.succeed(&arguments);
    let expected =
        "η = 0.05 for pixels 0 … 1 (0.1 in data units −1 … 1), mmps, 20 evaluations a sample and 60 gradients";
    assert!(said.contains(expected), "{said}");
    for file in ["a-truth", "a-measurement", "a-sample-000", "a-sample-002", "a-mean", "a-std", "b-mean", "sheet"] {
        assert!(place.path(&format!("out/{file}.png")).exists(), "{file}");
    }
    // One column for what there is: no baseline, no LPIPS, and no SSIM of images that are smaller than its window.
    let table = fs::read_to_string(place.path("out/table.md")).unwrap();
    assert!(table.starts_with("| image | measurement | sample | mean | coverage | residual |\n| --- |"), "{table}");
    assert!(table.contains("\n| b | ") && table.contains("\n| **median** | "), "{table}");
    let page = fs::read_to_string(place.path("out/index.html")).unwrap();
    // Of each of two images: truth, measurement, three samples, mean and spread; two sliders.
    assert_eq!(page.matches("base64,").count(), 14);
    assert_eq!(page.matches("type=range").count(), 4);
    assert!(page.contains("tweedie restore tiny.safetensors --image photos --task inpaint-random"), "the command");
    let before = fs::read(place.path("out/a-sample-001.png")).unwrap();
    fs::remove_file(place.path("out/a.json")).unwrap();
    place.succeed(&arguments);
    assert!(fs::read(place.path("out/a-sample-001.png")).unwrap() == before, "the same samples again");
}

/// PSNR, min–max PSNR, SSIM and LPIPS of a measurement without a mask and without much noise are those of the photograph
/// itself: what the program tells is what the library computes of the two files.
#[test]
fn restore_tells_the_figures_that_it_is_asked_for() {
    let place = Place::new();
    place.save("larger.safetensors", tensors(), &CARD.replace("[1, 8, 8]", "[1, 32, 32]"));
    let ramp = Tensor::arange(1024, (Kind::Int64, Device::Cpu)).remainder(200).view([1, 32, 32]).to_kind(Kind::Uint8);
    images::write_png(&place.path("ramp.png"), &ramp).unwrap();
    let (backbone, linear) = crate::metrics::weights("alex");
    safetensors::write(&place.path("alexnet.safetensors"), &backbone, &Metadata::new()).unwrap();
    safetensors::write(&place.path("linear.safetensors"), &linear, &Metadata::new()).unwrap();
    let plain = [
        "restore",
        "larger.safetensors",
        "--image",
        "ramp.png",
        "--task",
        "{kind: inpaint-box, height: 0.25, width: 0.25}",
        "--noise",
        "1e-6",
        "--samples",
        "2",
        "--steps",
        "3",
        "--out",
        "out",
        "--json",
    ];
    let all = [&plain[..], &["--min-max", "--lpips", "alexnet.safetensors", "linear.safetensors"]].concat();
    let record: Value = serde_json::from_str(&place.succeed(&all)).unwrap();
    let row = &record["rows"][0];
    assert!(row["lpips"].as_str().unwrap().starts_with("AlexNet "));
    let read = |name: &str| images::from_bytes(&images::read(&place.path(name), 1).unwrap()).unsqueeze(0);
    // A measurement of whole grey levels: its picture is the measurement, but for the noise.
    let (y, truth) = (read("out/ramp-measurement.png"), read("out/ramp-truth.png"));
    let unit = (images::to_unit(&y), images::to_unit(&truth));
    let judge =
        Lpips::open(&place.path("alexnet.safetensors"), &place.path("linear.safetensors"), Device::Cpu).unwrap();
    for (name, expected) in [
        ("psnr", metrics::psnr(&unit.0, &unit.1)),
        ("psnr_min_max", metrics::psnr_min_max(&unit.0, &unit.1)),
        ("ssim", metrics::ssim(&unit.0, &unit.1, Window::Gaussian).unwrap()),
        ("ssim_uniform", metrics::ssim(&unit.0, &unit.1, Window::Uniform).unwrap()),
        ("lpips", judge.distance(&y, &truth).unwrap()),
    ] {
        let found = row["truth"]["measurement"][name].as_f64().unwrap();
        // A hidden pixel is 0 in data units, and 128 as a byte: half a grey level in 64 of 1024 pixels.
        assert!((found - expected[0]).abs() < 0.01 * found.abs(), "{name}: {found} is not {}", expected[0]);
        assert!(row["truth"]["mean"][name].is_number() && row["truth"]["sample"][name].is_number(), "{name}");
    }
    // What was finished without a figure has none, and the figures of two networks do not mix.
    place.succeed(&all);
    place.succeed(&plain);
    let fewer: Vec<&str> = plain.iter().map(|word| if *word == "out" { "fewer" } else { word }).collect();
    place.succeed(&fewer);
    let told = place.complaint(&[&fewer[..], &["--min-max"]].concat());
    let remedy = "remove it, and its image is restored again";
    assert_eq!(told, format!("fewer/ramp.json: was written without the PSNR that --min-max asks for: {remedy}"));
    let told = place.complaint(&[&fewer[..], &["--lpips", "alexnet.safetensors", "linear.safetensors"]].concat());
    assert_eq!(told, format!("fewer/ramp.json: was written without the LPIPS that --lpips asks for: {remedy}"));
    let old = r#"{"name": "ramp", "residual": 1.0, "truth": {"measurement": 12.0, "sample": 20.0, "mean": 22.0, "coverage": 0.9}}"#;
    fs::write(place.path("fewer/ramp.json"), old).unwrap();
    let told = place.complaint(&fewer);
    assert_eq!(told, format!("fewer/ramp.json: is no row of figures as this version writes them: {remedy}"));
}

#[test]
fn restore_follows_the_likelihood_that_it_is_told_to() {
    let place = Place::new();
    place.image("grey.png", [1, 8, 8], 120);
    let arguments = ["restore", "tiny.safetensors", "--image", "grey.png", "--task", "identity", "--samples", "2"];
    let exact = ["--method", "walk", "--steps", "5", "--out", "exact"];
    let said = place.succeed(&[&arguments[..], &exact].concat());
    assert!(said.contains(", walk, 5 evaluations a sample"), "{said}");
    let annealed = ["--method", "annealed", "--steps", "5", "--out", "annealed"];
    let said = place.succeed(&[&arguments[..], &annealed].concat());
    assert!(said.contains(", annealed, 5 evaluations"), "{said}");
    place.succeed(&[&arguments[..], &["--steps", "5", "--out", "moments"]].concat());
    let sample = |of: &str| fs::read(place.path(&format!("{of}/grey-sample-000.png"))).unwrap();
    assert!(sample("exact") != sample("annealed") && sample("annealed") != sample("moments"));
    let complaint =
        place.complaint(&[&arguments[..], &["--method", "walk", "--steps", "5", "--out", "moments"]].concat());
    assert!(complaint.contains("moments"), "another method is another run: {complaint}");
    let none = ["--method", "{kind: mmps, iterations: 0}", "--out", "none"];
    let complaint = place.complaint(&[&arguments[..], &none].concat());
    assert_eq!(complaint, "iterations must be at least 1, but is 0");
    let own = ["--method", "ddrm", "--sampler", "ddim", "--out", "none"];
    let complaint = place.complaint(&[&arguments[..], &own].concat());
    assert_eq!(complaint, "--sampler: --method ddrm goes down the levels in its own way; leave it out");
}

#[test]
fn training_in_bf16_keeps_its_parameters_in_f32() {
    let place = Place::new();
    fs::create_dir(place.path("photos")).unwrap();
    for i in 0..6u8 {
        place.image(&format!("photos/{i}.png"), [1, 8, 8], 40 * i);
    }
    let train = |out: &str, precision: &str| {
        fs::write(place.path(&format!("{out}.yaml")), training(out, 20)).unwrap();
        let said = place.succeed(&["train", &format!("{out}.yaml"), "--precision", precision, "--json"]);
        let record: serde_json::Value = serde_json::from_str(&said).unwrap();
        let model = safetensors::read(&place.path(&format!("{out}/model.safetensors"))).unwrap().0;
        (record["loss"].as_f64().unwrap(), model)
    };
    let ((loss, whole), (rounded, model)) = (train("f32", "f32"), train("bf16", "bf16"));
    // bf16 has eight bits, and the loss is an average of 20 steps.
    assert!(loss != rounded && (loss - rounded).abs() < 0.01 * loss, "{loss} and {rounded}");
    // Adam moves a parameter by at most about the rate in each step, whichever way its gradient was rounded.
    let apart = |name: &String| f64::try_from((&whole[name] - &model[name]).abs().max()).unwrap();
    assert!(model.iter().all(|(name, tensor)| tensor.kind() == Kind::Float && apart(name) < 2.0 * 20.0 * 0.001));
}

/// A training file for eight pixels by eight.
fn training(out: &str, steps: u64) -> String {
    format!(
        "objective:
  kind: denoise
  network: {{kind: unet, in_channels: 1, block_out_channels: [8, 8], layers_per_block: 1, norm_num_groups: 4}}
  precondition: {{kind: ddpm, beta: {{kind: linear-beta}}, prediction: v}}
  sigma: {{kind: lognormal, mean: -0.5, std: 1.0}}
data: {{kind: folder, path: photos, channels: 1}}
batch: 4
steps: {steps}
optimizer: {{rate: 0.001, ema: 0.9}}
checkpoint_every: 3
out: {out}
"
    )
}

#[test]
fn training_that_was_killed_goes_on_as_if_nothing_had_happened() {
    let place = Place::new();
    fs::create_dir(place.path("photos")).unwrap();
    for i in 0..6u8 {
        place.image(&format!("photos/{i}.png"), [1, 8, 8], 40 * i);
    }
    let write = |out: &str, text: String| fs::write(place.path(&format!("{out}.yaml")), text).unwrap();
    write("whole", training("whole", 60));
    place.succeed(&["train", "whole.yaml"]);
    write("part", training("part", 60));
    let mut child = place.command(&["train", "part.yaml"]).stdout(Stdio::null()).spawn().unwrap();
    while !place.path("part/checkpoint.safetensors").exists() {
        thread::sleep(Duration::from_millis(5));
        assert!(child.try_wait().unwrap().is_none(), "the run ended before it could be killed");
    }
    child.kill().unwrap(); // SIGKILL on Unix
    assert!(!child.wait().unwrap().success(), "the run ended before it could be killed");
    // What it was writing just then keeps its temporary name.
    place.unfinished().iter().for_each(|file| fs::remove_file(file).unwrap());
    let complaint = place.complaint(&["train", "part.yaml"]);
    assert!(complaint.starts_with("part: holds a run already: --resume goes on with it"), "{complaint}");
    place.succeed(&["train", "part.yaml", "--resume"]);
    let read = |out: &str| safetensors::read(&place.path(&format!("{out}/model.safetensors"))).unwrap().0;
    let (whole, part) = (read("whole"), read("part"));
    assert!(whole.iter().all(|(name, tensor)| tensor == &part[name]), "bit for bit");
    assert!(place.path("whole/loss.png").exists() && place.path("whole/loss.csv").exists());
    place.succeed(&["sample", "whole/model.safetensors", "--seeds", "0", "--steps", "2", "--out", "images"]);
    // Of the same run, half the size, and what it holds is the same to f16's eleven bits.
    write("part", training("part", 60) + "half: true\n");
    place.succeed(&["train", "part.yaml", "--resume"]);
    for (name, half) in read("part") {
        assert_eq!(half.kind(), Kind::Half);
        let error = (half.to_kind(Kind::Float) - &whole[&name]).abs();
        let allowed = whole[&name].abs() * (1.0 / 2048.0) + 1e-7;
        assert!(bool::try_from(error.le_tensor(&allowed).all()).unwrap(), "{name}");
    }
    write("part", training("part", 60).replace("0.001", "0.002"));
    let complaint = place.complaint(&["train", "part.yaml", "--resume"]);
    assert!(complaint.contains("belongs to a run with other settings"), "{complaint}");
}

/// Class 0 is dark and class 1 is bright: a classifier learns it, and tells the two sets apart.
#[test]
fn a_classifier_is_trained_and_measures_sets_of_images() {
    let place = Place::new();
    let idx = |name: &str, header: &[u8], bytes: Vec<u8>| {
        fs::write(place.path(name), [header, &bytes].concat()).unwrap();
    };
    let grey = |i: u8| if i.is_multiple_of(2) { 20 + i } else { 200 + i };
    let images: Vec<u8> = (0..40u8).flat_map(|i| [grey(i); 64]).collect();
    idx("images", &[0, 0, 8, 3, 0, 0, 0, 40, 0, 0, 0, 8, 0, 0, 0, 8], images);
    idx("labels", &[0, 0, 8, 1, 0, 0, 0, 40], (0..40u8).map(|i| i % 2).collect());
    let config = "objective: {kind: classify, network: {in_channels: 1, widths: [8], features: 4, classes: 2}}
data: {kind: idx, images: images, labels: labels}
batch: 20
steps: 100
optimizer: {rate: 0.01, ema: 0.9}
checkpoint_every: 100
out: judge
";
    fs::write(place.path("judge.yaml"), config).unwrap();
    place.succeed(&["train", "judge.yaml"]);
    let network = ["--network", "judge/model.safetensors"];
    let all = "{kind: idx, images: images, labels: labels}";
    let said = place.succeed(&[&["evaluate", all], &network[..]].concat());
    assert_eq!(said, "accuracy of judge: 100.00 % of 40 images\n");
    fs::create_dir(place.path("dark")).unwrap();
    for i in 0..20u8 {
        place.image(&format!("dark/{i:02}.png"), [1, 8, 8], grey(2 * i));
    }
    let distance = |images: &str| {
        let arguments = [&["evaluate", images, "--reference", all, "--json"], &network[..]].concat();
        let record: serde_json::Value = serde_json::from_str(&place.succeed(&arguments)).unwrap();
        record["frechet_distance"].as_f64().unwrap()
    };
    let (same, dark) = (distance(all), distance("dark"));
    // Of a set from itself: the rounding of eigenvalues, under a root.
    assert!(same.abs() < 1e-5 * dark && dark > 0.0, "{same}, {dark}");
    place.image("large.png", [1, 16, 16], 3);
    fs::create_dir(place.path("others")).unwrap();
    fs::rename(place.path("large.png"), place.path("others/large.png")).unwrap();
    let complaint = place.complaint(&[&["evaluate", "others"], &network[..]].concat());
    assert_eq!(complaint, "an image has shape [1, 16, 16], but [1, 8, 8] for the features of judge is wanted");
}

/// γ* = (1 − v/V)/(2 ln(V/v)) with V = v + σ_max² [S2N, §4].
#[test]
fn walk_tells_the_gamma_for_a_set_of_images() {
    let place = Place::new();
    fs::create_dir(place.path("own")).unwrap();
    // Two greys 102/127.5 apart: a variance of 0.8²/2.
    place.image("own/a.png", [1, 8, 8], 51);
    place.image("own/b.png", [1, 8, 8], 153);
    let levels = ["--schedule", "{kind: geometric, max: 80, min: 0.0001}", "--steps", "200"];
    let told = place.succeed(&[&["walk", "--gamma-for", "own", "--json"], &levels[..]].concat());
    let told: Value = serde_json::from_str(&told).unwrap();
    let (v, total) = (0.32, 0.32 + 6400.0f64);
    assert!((told["v"].as_f64().unwrap() - v).abs() < 1e-6, "{told}");
    let formula = (1.0 - v / total) / (2.0 * (total / v).ln());
    assert!((told["gamma_formula"].as_f64().unwrap() - formula).abs() < 1e-6, "{told}");
    // The formula is that of infinitely many levels.
    assert!((told["gamma"].as_f64().unwrap() / formula - 1.0).abs() < 0.03, "{told}");
}

/// Section 8's table, as the command prints it.
#[test]
fn walk_prints_what_a_gaussian_prior_would_get() {
    let place = Place::new();
    let rows = [
        ("{kind: simplified, c: 0.4, t0: 0.4}", "linear-beta", 1000, "1.0206 1.0699 1.1516 1.2938 1.7795 3.5611"),
        (
            "{kind: simplified, c: 0.7, t0: 0.1}",
            "{kind: sigmoid, start: 0.0, end: 3.0, tau: 0.3}",
            100,
            "0.8771 0.9530 1.0410 1.1276 1.2371 1.3562",
        ),
        (
            "{kind: simplified, c: 0.16, t0: 0.4}",
            "{kind: geometric, max: 348.0, min: 0.01}",
            1000,
            "0.8896 0.9319 0.9801 1.0281 1.1398 1.8892",
        ),
        ("{kind: ddpm, variance: posterior}", "linear-beta", 1000, "0.9911 0.9845 0.9671 0.9276 0.7794 0.4305"),
        ("{kind: ddim, eta: 0.0}", "linear-beta", 1000, "0.9963 0.9940 0.9868 0.9667 0.8557 0.4700"),
    ];
    for (sampler, schedule, steps, printed) in rows {
        let steps = steps.to_string();
        let table = place.succeed(&["walk", "--sampler", sampler, "--schedule", schedule, "--steps", &steps]);
        let ratios: Vec<&str> = table.lines().filter_map(|line| line.split_once("V/v = ").map(|(_, v)| v)).collect();
        assert_eq!(ratios.join(" "), printed, "{sampler}");
    }
}

#[test]
fn every_listed_sampler_and_task_is_known() {
    let place = Place::new();
    let names = |text: &str| -> Vec<String> {
        let rows: Vec<[String; 3]> = serde_json::from_str(text).unwrap();
        rows.into_iter().map(|[name, ..]| name).collect()
    };
    for sampler in samplers(&place) {
        let table = place.succeed(&["walk", "--sampler", &sampler, "--schedule", "karras", "--steps", "40"]);
        assert!(table.contains("V/v"), "{sampler}: {table}");
    }
    let listed: Value = serde_json::from_str(&place.succeed(&["samplers", "--json"])).unwrap();
    for process in listed["processes"].as_array().unwrap() {
        let process = process[0].as_str().unwrap();
        if process != "table" {
            let schedule = format!("{{kind: in-time, sde: {process}}}");
            place.succeed(&["walk", "--schedule", &schedule, "--steps", "40"]);
        }
    }
    place.image("grey.png", [1, 8, 8], 128);
    place.image("mask.png", [1, 8, 8], 255);
    for name in names(&place.succeed(&["tasks", "--json"])) {
        let task = match name.as_str() {
            // There are no programs among these files; `forward.rs` runs one.
            "torchscript" => continue,
            "super-resolution" => "{kind: super-resolution, factor: 2}",
            "inpaint-mask" => "{kind: inpaint-mask, file: mask.png}",
            "mri-mask" => "{kind: mri-mask, mask: mask.png}",
            "compose" => "{kind: compose, tasks: [inpaint-random, {kind: deblur-gaussian}]}",
            name => name,
        };
        let image = if name == "colorization" { "colours.png" } else { "grey.png" };
        let model = if name == "colorization" { "colours.safetensors" } else { "tiny.safetensors" };
        if !place.path(model).exists() {
            continue;
        }
        let out = format!("out-{name}");
        let flags = ["--task", task, "--method", "dps", "--samples", "1", "--steps", "2", "--out", &out];
        place.succeed(&[&["restore", model, "--image", image], flags.as_slice()].concat());
    }
    let methods: Value = serde_json::from_str(&place.succeed(&["methods", "--json"])).unwrap();
    for method in methods.as_array().unwrap() {
        let name = method["name"].as_str().unwrap();
        let out = format!("by-{name}");
        let flags = ["--task", "inpaint-random", "--method", name, "--samples", "1", "--steps", "3", "--out", &out];
        place.succeed(&[&["restore", "tiny.safetensors", "--image", "grey.png"], flags.as_slice()].concat());
    }
}

#[test]
fn every_experiment_file_can_be_read() {
    for entry in fs::read_dir("experiments").unwrap().flatten() {
        let path = entry.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("train-")) {
            tweedie::files::yaml::read::<tweedie::training::Training>(&path).unwrap_or_else(|e| panic!("{e}"));
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            tweedie::run::experiment::AnyExperiment::read(&path).unwrap_or_else(|e| panic!("{e}"));
        }
    }
    assert!(Path::new("experiments/train-fashion-mnist.yaml").exists());
    // Published protocols: their operators are built and their methods laid out for them, without any weights.
    let place = Place::new();
    for entry in fs::read_dir("experiments/published").unwrap().flatten() {
        let path = fs::canonicalize(entry.path()).unwrap();
        let told = place.succeed(&["run", path.to_str().unwrap(), "--dry-run"]);
        assert!(told.contains("| evaluations |"), "{told}");
    }
}

/// A denoiser of photographs with random weights, which takes tiles of 64×64.
const DENOISER: &str = "tests/golden/zoo/ffdnet-kair/model.pth";

impl Place {
    /// Restores an image of `size` = [height, width] in tiles, one sample, and reads its row.
    fn photograph(&self, size: [i64; 2], task: &str) -> Value {
        let count = 3 * size[0] * size[1];
        let pixels = (Tensor::arange(count, (Kind::Int64, Device::Cpu)) * 7).remainder(253).to_kind(Kind::Uint8);
        images::write_png(&self.path("photo.png"), &pixels.view([3, size[0], size[1]])).unwrap();
        let model = fs::canonicalize(DENOISER).unwrap();
        let restore =
            ["restore", model.to_str().unwrap(), "--set", "image=[3, 64, 64]", "--image", "photo.png", "--task"];
        let how = [task, "--method", "dpir", "--steps", "2", "--samples", "1", "--out", "out"];
        self.succeed(&[&restore[..], &how[..]].concat());
        serde_json::from_slice(&fs::read(self.path("out/photo.json")).unwrap()).unwrap()
    }
}

/// Bytes in the files are rounded; the figures are not.
const ROUNDED: f64 = 2e-3;

#[test]
fn a_tall_photograph_has_the_ssim_of_all_its_pixels() {
    let place = Place::new();
    let row = place.photograph([700, 64], "inpaint-random");
    let read = |what: &str| {
        let bytes = images::read_as_is(&place.path(&format!("out/photo-{what}.png"))).unwrap();
        images::to_unit(&images::from_bytes(&bytes).unsqueeze(0))
    };
    for (window, name) in [(Window::Gaussian, "ssim"), (Window::Uniform, "ssim_uniform")] {
        let whole = metrics::ssim(&read("mean"), &read("truth"), window).unwrap()[0];
        let told = row["truth"]["mean"][name].as_f64().unwrap();
        assert!((told - whole).abs() < ROUNDED, "{name}: {told} of {whole}");
    }
}

#[test]
fn a_measurement_that_is_no_image_is_shown_as_its_pseudo_inverse() {
    for (task, inverse) in
        [("mri-cartesian", true), ("tomography", true), ("{kind: super-resolution, factor: 2}", false)]
    {
        let place = Place::new();
        place.photograph([64, 80], task);
        assert_eq!(place.path("out/photo-pseudo-inverse.png").exists(), inverse, "{task}");
        let page = fs::read_to_string(place.path("out/index.html")).unwrap();
        assert_eq!(page.contains("measurement, A⁺ y"), inverse, "{task}");
        let sheet = images::read_as_is(&place.path("out/sheet.png")).unwrap().size();
        // Truth, measurement, sample and mean, each twice as wide as it is, with gaps and margins.
        assert_eq!(sheet[2], 4 * (160 + 4) + 20, "{task}: {sheet:?}");
        // One sample has no spread to tell of.
        let table = fs::read_to_string(place.path("out/table.md")).unwrap();
        assert!(!table.lines().next().unwrap().contains("coverage"), "{table}");
    }
}

#[test]
fn a_sheet_shows_photographs_no_larger_than_a_thousand_pixels() {
    let pixels = Tensor::full([3, 1100, 2100], 77, (Kind::Uint8, Device::Cpu));
    let drawn = tweedie::report::sheet::sheet(&["photo".to_owned()], &[(String::new(), vec![pixels])]).unwrap();
    // A third of 2100 and of 1100 pixels, beside a gap, a header and margins.
    assert!(drawn.size()[2] == 700 + 24 && drawn.size()[1] == 366 + 24 + 26, "{:?}", drawn.size());
    let middle = drawn.narrow(1, 100, 200).narrow(2, 100, 200);
    assert!(bool::try_from(middle.eq(77).all()).unwrap());
}
