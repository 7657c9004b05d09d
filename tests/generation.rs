//! Images for tables: each seed once, whoever draws it, and however often all of them are killed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Read,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tch::{Device, Kind, Tensor};
use tweedie::{
    evaluation::{
        features::FeatureCard,
        metrics::{Moments, frechet},
    },
    files::{
        archive::{ArchiveLayout, ImageArchive},
        data::{AnyData, Folder, Images},
        images,
        rounding::Rounding,
    },
    models::checkpoint::safetensors,
    networks::{Classifier, ClassifierConfig, Inception, weights::Weights},
    numbers::stream,
    run::{
        experiment::AnyExperiment,
        leases::{Leases, Owner, Rank},
        records::{self, Record},
        table,
    },
};

use super::{cli::Place, common::relative, features::weights};

/// What the programs named make of these pixels; computed by their own lines with PyTorch and NumPy.
#[test]
fn pixels_are_rounded_as_published_programs_round_them() {
    let x: [f32; 18] = [
        -1.2,
        -1.0,
        -0.9961,
        -0.5,
        -0.25,
        -0.00392157,
        0.0,
        0.001,
        0.0039,
        0.25,
        0.3,
        0.4999,
        0.5,
        0.7333,
        0.99,
        0.9961,
        1.0,
        1.3,
    ];
    let down = [0, 0, 0, 63, 95, 127, 127, 127, 127, 159, 165, 191, 191, 220, 253, 254, 255, 255];
    let near = [0, 0, 0, 64, 96, 127, 128, 128, 128, 159, 166, 191, 191, 221, 254, 255, 255, 255];
    for (rounding, wanted) in [
        (Rounding::Edm, near),
        (Rounding::Adm, down),
        (Rounding::ScoreSde, down),
        (Rounding::Torchvision, near),
        (Rounding::Diffusers, near),
    ] {
        let bytes = Vec::<u8>::try_from(rounding.bytes(&Tensor::from_slice(&x))).unwrap();
        assert_eq!(bytes, wanted, "{rounding:?}");
    }
}

#[test]
fn ranks_are_what_launchers_say() {
    let rank = |set: &[(&str, &str)]| {
        Rank::from_variables(|name| set.iter().find(|(k, _)| *k == name).map(|(_, v)| (*v).to_owned()))
    };
    assert_eq!(rank(&[]), None);
    let torchrun = [("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_RANK", "1")];
    assert_eq!(rank(&torchrun), Some(Rank { rank: 5, size: 8, local: 1 }));
    let slurm = [("SLURM_PROCID", "3"), ("SLURM_NTASKS", "4"), ("SLURM_LOCALID", "3")];
    assert_eq!(rank(&slurm), Some(Rank { rank: 3, size: 4, local: 3 }));
    // torchrun within a job of one task for each node.
    let both = [&[("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1"), ("SLURM_LOCALID", "0")], &torchrun[..]].concat();
    assert_eq!(rank(&both), Some(Rank { rank: 5, size: 8, local: 1 }));
    let mpi = [("OMPI_COMM_WORLD_RANK", "1"), ("OMPI_COMM_WORLD_SIZE", "2"), ("OMPI_COMM_WORLD_LOCAL_RANK", "1")];
    assert_eq!(rank(&mpi), Some(Rank { rank: 1, size: 2, local: 1 }));
    // mpiexec of Intel MPI or MPICH inside of an sbatch script, whose own variables say 0 of 1.
    let batch = [("SLURM_PROCID", "0"), ("SLURM_NTASKS", "1"), ("SLURM_LOCALID", "0")];
    let hydra = [("PMI_RANK", "2"), ("PMI_SIZE", "4"), ("MPI_LOCALRANKID", "2")];
    assert_eq!(rank(&[&batch[..], &hydra].concat()), Some(Rank { rank: 2, size: 4, local: 2 }));
    // srun --mpi=pmi2 sets both; the local rank is Slurm's.
    let srun =
        [("PMI_RANK", "5"), ("PMI_SIZE", "8"), ("SLURM_PROCID", "5"), ("SLURM_NTASKS", "8"), ("SLURM_LOCALID", "1")];
    assert_eq!(rank(&srun), Some(Rank { rank: 5, size: 8, local: 1 }));
    for names in [
        ["JSM_NAMESPACE_RANK", "JSM_NAMESPACE_SIZE", "JSM_NAMESPACE_LOCAL_RANK"],
        ["FLUX_TASK_RANK", "FLUX_JOB_SIZE", "FLUX_TASK_LOCAL_ID"],
        ["MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_LOCAL_RANK"],
        ["PMI_RANK", "PMI_SIZE", "PMI_LOCAL_RANK"],
    ] {
        let set = [(names[0], "6"), (names[1], "7"), (names[2], "2")];
        assert_eq!(rank(&set), Some(Rank { rank: 6, size: 7, local: 2 }), "{names:?}");
    }
}

#[test]
fn a_chunk_is_claimed_by_one_of_many() {
    let place = Place::new();
    let claims = |rank, patience| Leases::new(&place.path("chunks"), Owner::here(rank), patience).unwrap();
    let long = Duration::from_secs(600);
    let held: Vec<_> = thread::scope(|scope| {
        let claim = |rank| claims(rank, long).claim("a").unwrap();
        let threads: Vec<_> = (0..8).map(|rank| scope.spawn(move || claim(rank))).collect();
        threads.into_iter().filter_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(held.len(), 1);
    assert!(!claims(9, long).is_free("a") && claims(9, long).is_free("b"));
    // Given back, it is another's; finished, it is nobody's.
    drop(held);
    claims(9, long).claim("a").unwrap().unwrap().finish(b"done").unwrap();
    assert!(claims(1, long).claim("a").unwrap().is_none());
    assert_eq!(fs::read(place.path("chunks/a")).unwrap(), b"done");
    let left: Vec<_> = fs::read_dir(place.path("chunks")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["a"], "neither claims nor unfinished files");
}

#[test]
fn who_is_dead_or_silent_gives_way() {
    let place = Place::new();
    let folder = place.path("chunks");
    let claims = |patience| Leases::new(&folder, Owner::here(0), patience).unwrap();
    let (long, short) = (Duration::from_secs(600), Duration::from_millis(50));
    let write = |owner: &Owner| fs::write(folder.join("a.claim"), serde_json::to_vec(owner).unwrap()).unwrap();
    let here = Owner::here(1);
    claims(long);
    // A process of this machine with a number that cannot be, and one that has got the number of another since.
    for dead in [Owner { pid: u32::MAX, ..here.clone() }, Owner { born: format!("{}0", here.born), ..here.clone() }] {
        write(&dead);
        fs::write(folder.join(format!(".unfinished-a-{}-{}", dead.host, dead.pid)), b"half").unwrap();
        assert!(claims(long).claim("a").unwrap().is_some(), "{dead:?}");
        let left = fs::read_dir(&folder).unwrap().count();
        assert_eq!(left, 0, "what it left unfinished is gone");
    }
    // Of another machine nothing is known but how long it has been silent.
    write(&Owner { host: "elsewhere".to_owned(), born: "another boot 1".to_owned(), ..here });
    assert!(claims(long).claim("a").unwrap().is_none());
    thread::sleep(2 * short);
    assert!(claims(short).claim("a").unwrap().is_some());
    // A claim without a word in it: its owner may yet be about to write.
    fs::write(folder.join("b.claim"), b"").unwrap();
    assert!(claims(long).claim("b").unwrap().is_none());
}

#[test]
fn memory_that_does_not_suffice_halves_the_batch() {
    let limited = |batch: u64| {
        if batch > 5 { Err("CUDA out of memory. Tried to allocate 2.00 GiB".to_owned()) } else { Ok(batch * 10) }
    };
    assert_eq!(table::within_memory(64, limited), Ok((40, 4)));
    let other = table::within_memory(64, |_| Err::<(), _>("disk full"));
    assert_eq!(other, Err("disk full"));
    let never = table::within_memory(8, |_| Err::<(), _>("not enough memory"));
    assert_eq!(never, Err("not enough memory"));
    let panics = |batch: u64| -> Result<u64, String> {
        assert!(batch <= 2, "CUDA out of memory");
        Ok(batch)
    };
    assert_eq!(table::within_memory(8, panics), Ok((2, 2)));
}

#[test]
fn archives_hold_the_images_in_order() {
    let place = Place::new();
    let pixels = Tensor::randint(256, [5, 3, 4, 6], (Kind::Uint8, Device::Cpu));
    for layout in [ArchiveLayout::Npz, ArchiveLayout::Zip] {
        let mut archive = ImageArchive::create(&place.path("archive"), layout, 5, [3, 4, 6]).unwrap();
        archive.push(998..1001, &pixels.narrow(0, 0, 3)).unwrap();
        archive.push(1001..1003, &pixels.narrow(0, 3, 2)).unwrap();
        archive.finish().unwrap();
        if layout == ArchiveLayout::Npz {
            let arrays = Tensor::read_npz(place.path("archive")).unwrap();
            assert_eq!(arrays[0].0, "arr_0");
            assert_eq!(arrays[0].1, pixels.permute([0, 2, 3, 1]), "[count, height, width, channels]");
        } else {
            let mut zip = zip::ZipArchive::new(fs::File::open(place.path("archive")).unwrap()).unwrap();
            let names: Vec<String> = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
            let wanted = ["000000/000998.png", "000000/000999.png", "001000/001000.png", "001000/001001.png"];
            assert!(wanted.iter().all(|name| names.contains(&(*name).to_owned())) && names.len() == 5, "{names:?}");
            let mut png = Vec::new();
            zip.by_name("001000/001002.png").unwrap().read_to_end(&mut png).unwrap();
            fs::write(place.path("image.png"), png).unwrap();
            assert_eq!(images::read(&place.path("image.png"), 3).unwrap(), pixels.get(4));
        }
    }
}

/// A place with a tiny network of features and an experiment that measures 40 images in 10 chunks.
pub fn tiny(store: &str, repeats: u64) -> Place {
    let place = Place::new();
    let network = ClassifierConfig { in_channels: 1, widths: vec![8], features: 6, classes: 2 };
    let weights = Weights::fresh(3, Device::Cpu, Kind::Float);
    Classifier::new(&network, &weights).unwrap();
    let card = FeatureCard {
        name: "judge".to_owned(),
        about: "random weights".to_owned(),
        data: String::new(),
        licence: String::new(),
        training: String::new(),
        image: [1, 8, 8],
        network,
    };
    place.save("judge.safetensors", weights.finish().unwrap().into_iter().collect(), &card.text().unwrap());
    fs::create_dir(place.path("real")).unwrap();
    for i in 0..12u8 {
        let pixels = Tensor::from_slice(&(0..64u8).map(|j| j.wrapping_mul(i + 1)).collect::<Vec<_>>());
        images::write_png(&place.path(&format!("real/{i:02}.png")), &pixels.view([1, 8, 8])).unwrap();
    }
    let text = format!(
        "kind: generation
about: A tiny table
images: {}
repeats: {repeats}
chunk: 4
rounding: edm
store: {store}
evaluate: [{{network: judge.safetensors, metrics: [frechet, is, prdc, kid], subset_size: 10}}]
reference: {{kind: folder, path: real, channels: 1}}
image: [1, 8, 8]
range: [0.01, 40]
rows:
  - name: Heun
    model: tiny.safetensors
    plan: {{schedule: {{kind: karras, max: 40, min: 0.01}}, steps: 4, sampler: {{kind: heun, churn: 1}}}}
    golden: {{evaluations: 7, first: [50, 6.337915], last: [0.01, 0.0125]}}
    published: 1.5
",
        40 / repeats
    );
    fs::write(place.path("tiny.yaml"), text).unwrap();
    place
}

/// The program on the tiny experiment, in folders of its own.
pub const RUN: [&str; 8] = ["run", "tiny.yaml", "--out", "out", "--results", "results", "--batch", "2"];

/// All files of a folder and of those within it, by their paths.
pub fn tree(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name().into_string().unwrap());
        if path.is_dir() {
            files.extend(tree(&path).into_iter().map(|(inner, bytes)| (format!("{name}/{inner}"), bytes)));
        } else {
            files.insert(name, fs::read(path).unwrap());
        }
    }
    files
}

/// Whether a name ends so.
pub fn is(name: &str, ending: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == ending)
}

/// What a run leaves behind, without what differs from run to run: times, memory, and who typed what.
pub fn outcome(place: &Place) -> (BTreeMap<String, Vec<u8>>, Vec<Record>) {
    let mut files = tree(&place.path("out"));
    files.retain(|name, _| !name.ends_with("result.json"));
    let records = records::read(&place.path("results/records.jsonl")).unwrap();
    let plain = |record| Record { seconds: 0.0, memory: 0, command: String::new(), ..record };
    (files, records.into_iter().map(plain).collect())
}

pub fn start_again(place: &Place) {
    for folder in ["out", "results"] {
        let _ = fs::remove_dir_all(place.path(folder));
    }
}

fn start(place: &Place) -> Child {
    place.command(&RUN).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

#[test]
fn a_row_is_drawn_measured_and_recorded() {
    let place = tiny("png", 1);
    let said = place.succeed(&RUN);
    assert!(said.contains("| Heun | 1.50 |"), "{said}");
    let (files, records) = outcome(&place);
    let names: Vec<&str> = files.keys().map(String::as_str).filter(|name| name.contains("images/")).collect();
    assert!(names.len() == 40 && names[39] == "tiny/Heun/images/000039.png", "{names:?}");
    let [record] = &records[..] else { panic!("{records:?}") };
    assert_eq!((record.seeds.as_str(), record.evaluations, record.each.len()), ("0-39", 7.0, 1));
    // The figure is that of the stored images.
    let folder = |path: &str| AnyData::Folder(Folder { path: place.path(path), channels: 1 }).load().unwrap();
    let features =
        tweedie::evaluation::features::Features::open(place.path("judge.safetensors").to_str().unwrap(), Device::Cpu);
    let measure = |images: &Images| features.as_ref().unwrap().measure(images).unwrap().0;
    let wanted = frechet(&measure(&folder("out/tiny/Heun/images")), &measure(&folder("real"))).unwrap();
    // f32 features of batches of four and of all together differ in their last digits.
    assert!(relative(record.each[0], wanted) < 1e-4, "{} {wanted}", record.each[0]);
    // The same command has nothing to do, and says the same.
    assert_eq!(place.succeed(&RUN), said);
    assert_eq!(outcome(&place).1.len(), 1);
    let complaint = place.complaint(&[&RUN[..], &["--images", "5"]].concat());
    assert_eq!(complaint, "images: 5 are too few for the metrics of judge.safetensors: at least 10");
    let complaint = place.complaint(&[&RUN[..], &["--images", "12"]].concat());
    let wanted = "Heun: out/tiny/Heun: holds the images of another run (images was 40, is 12): choose another \
                  --out, or remove it";
    assert_eq!(complaint, wanted);
}

#[test]
fn stores_hold_the_same_images() {
    let folder = tiny("png", 2);
    folder.succeed(&RUN);
    let png = |seed: u64| images::read(&folder.path(&format!("out/tiny/Heun/images/{seed:06}.png")), 1).unwrap();
    let archive = tiny("npz", 2);
    archive.succeed(&RUN);
    for (repeat, first) in [(0, 0), (1, 20)] {
        let file = archive.path(&format!("out/tiny/Heun/images-{repeat}.npz"));
        let stored = Tensor::read_npz(file).unwrap().remove(0).1;
        for i in 0..20 {
            assert_eq!(stored.get(i).permute([2, 0, 1]), png(first + i as u64));
        }
    }
    let nothing = tiny("nothing", 2);
    nothing.succeed(&RUN);
    let statistics =
        |place: &Place, i: u64| fs::read(place.path(&format!("out/tiny/Heun/statistics-{i}.npz"))).unwrap();
    for i in 0..2 {
        assert!(statistics(&folder, i) == statistics(&archive, i) && statistics(&folder, i) == statistics(&nothing, i));
    }
    assert!(!nothing.path("out/tiny/Heun/images").exists());
    assert_eq!(outcome(&folder).1[0].each.len(), 2, "a figure for each set");
}

/// f64 sums in a fixed order: not even the last bit depends on who drew what.
#[test]
fn figures_do_not_depend_on_the_number_of_processes() {
    let place = tiny("npz", 2);
    place.succeed(&RUN);
    let alone = outcome(&place);
    for size in [2, 4] {
        start_again(&place);
        let rank = |rank: usize| {
            let mut command = place.command(&RUN);
            command
                .env("RANK", rank.to_string())
                .env("WORLD_SIZE", size.to_string())
                .env("LOCAL_RANK", rank.to_string());
            command.stdout(Stdio::null()).stderr(Stdio::inherit()).spawn().unwrap()
        };
        let ranks: Vec<Child> = (0..size).map(rank).collect();
        for mut rank in ranks {
            assert!(rank.wait().unwrap().success());
        }
        assert!(outcome(&place) == alone, "{size} processes");
    }
}

/// Starts and kills until so many kills have hit; every run that comes to its end is compared with one that nobody disturbed.
fn killed(kills: usize, seed: u64) {
    let place = tiny("png", 1);
    let begun = Instant::now();
    place.succeed(&RUN);
    let whole = begun.elapsed().as_secs_f64();
    let undisturbed = outcome(&place);
    start_again(&place);
    let mut moments = stream::uniform(seed, 0, 0);
    let (mut hits, mut ends) = (0, 0);
    while hits < kills || ends == 0 {
        let mut child = start(&place);
        thread::sleep(Duration::from_secs_f64(whole * 1.2 * moments.next().unwrap()));
        if hits < kills && child.try_wait().unwrap().is_none() {
            // SIGKILL: nothing in the process can answer it.
            child.kill().unwrap();
            child.wait().unwrap();
            hits += 1;
            damage(&place, hits);
        } else {
            assert!(child.wait().unwrap().success());
            let (files, records) = outcome(&place);
            let other: Vec<&String> = undisturbed
                .0
                .keys()
                .chain(files.keys())
                .filter(|name| undisturbed.0.get(*name) != files.get(*name))
                .collect();
            assert!(other.is_empty(), "after {hits} kills: {other:?}");
            assert_eq!(records, undisturbed.1, "after {hits} kills");
            start_again(&place);
            ends += 1;
        }
    }
}

/// Every third time, a file that is there is cut off, as a machine that loses its power may do it.
fn damage(place: &Place, turn: usize) {
    let chunks: Vec<_> = fs::read_dir(place.path("out/tiny/Heun/chunks")).into_iter().flatten().flatten().collect();
    let done = chunks.iter().find(|entry| is(&entry.file_name().to_string_lossy(), "npz"));
    if let Some(done) = done.filter(|_| turn.is_multiple_of(3)) {
        let whole = fs::read(done.path()).unwrap();
        fs::write(done.path(), &whole[..whole.len() / 2]).unwrap();
    }
}

#[test]
fn whoever_is_killed_leaves_what_an_undisturbed_run_leaves() {
    killed(5, 1);
}

/// Killed between the renaming of what it has finished and the removal of its claim.
#[test]
fn claims_to_what_is_finished_do_not_stay() {
    let place = tiny("png", 1);
    place.succeed(&RUN);
    let undisturbed = outcome(&place);
    for left in ["chunks/0-0.npz.claim", "result.json.claim"] {
        fs::write(place.path("out/tiny/Heun").join(left), "{}").unwrap();
    }
    place.succeed(&RUN);
    assert!(outcome(&place) == undisturbed);
}

/// `make soak`.
#[test]
#[ignore = "takes a minute"]
fn soak_sixty_kills() {
    killed(60, 2);
}

/// A limit on the size of files stands for a disk that is full: it is hit in the middle of a write.
#[test]
fn a_full_disk_is_told_and_what_was_done_is_kept() {
    let place = tiny("npz", 1);
    place.succeed(&RUN);
    let undisturbed = outcome(&place);
    start_again(&place);
    // Every chunk fits into 2,560 bytes, and the archive of all images does not; the signal would end the program without a word.
    let program = place.command(&RUN);
    let mut limited = Command::new("sh");
    let line = "trap '' XFSZ; ulimit -f 5; exec \"$0\" \"$@\"";
    limited.args(["-c", line]).arg(program.get_program()).args(program.get_args());
    limited.current_dir(program.get_current_dir().unwrap()).env("OMP_NUM_THREADS", "1");
    let output = limited.output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("cannot be written") && error.contains("large"), "{error}");
    let left: BTreeSet<String> = tree(&place.path("out")).into_keys().collect();
    assert!(left.iter().any(|name| is(name, "npz")), "{left:?}");
    assert!(!left.iter().any(|name| name.contains("unfinished") || is(name, "claim")), "{left:?}");
    place.succeed(&RUN);
    assert!(outcome(&place) == undisturbed);
}

#[test]
fn a_walk_that_is_not_the_papers_is_refused() {
    let place = tiny("nothing", 1);
    let text = fs::read_to_string(place.path("tiny.yaml")).unwrap();
    fs::write(place.path("tiny.yaml"), text.replace("steps: 4", "steps: 5")).unwrap();
    assert_eq!(place.complaint(&RUN), "Heun: the number of evaluations must be 7, but is 9");
    fs::write(place.path("tiny.yaml"), text.replace("max: 40, min", "max: 50, min")).unwrap();
    assert!(place.complaint(&RUN).starts_with("Heun: the first σ must be [50.0, 6.337915], but is [62.5"));
    let other = text.replace("    plan:", "    sha256: abc\n    plan:");
    fs::write(place.path("tiny.yaml"), other).unwrap();
    assert!(place.complaint(&RUN).ends_with("but the experiment means abc"));
    fs::write(place.path("tiny.yaml"), text.replace("tiny.safetensors", "away.pkl")).unwrap();
    let missing = "none of its checkpoints is here: put away.pkl into a folder and name it with --models DIR";
    assert_eq!(place.complaint(&RUN), missing);
}

/// A published row is measured while it is drawn, by what `tweedie evaluate` makes of its archive: Inception and a classifier,
/// statistics as a reference, files beside the checkpoint.
#[test]
fn rows_are_measured_as_evaluate_measures_them() {
    let place = tiny("zip", 1);
    fs::create_dir(place.path("files")).unwrap();
    let inception = place.path("files/inception.safetensors");
    safetensors::write(&inception, &weights(Inception::new), &BTreeMap::new()).unwrap();
    let evaluate = |arguments: &[&str]| -> Value {
        serde_json::from_str(&place.succeed(&[&["evaluate", "--json", "--quiet"], arguments].concat())).unwrap()
    };
    let network = ["--network", "inception:files/inception.safetensors"];
    let metrics = ["--metrics", "fid,is,sfid", "--parts", "3", "--bootstrap", "3"];
    evaluate(&[&["real", "--save-statistics", "files/real.npz", "--metrics", "sfid"], &network[..]].concat());
    let text = fs::read_to_string(place.path("tiny.yaml")).unwrap();
    let [start, end] = ["evaluate:", "image:"].map(|key| text.find(key).unwrap());
    let asked = "evaluate:
  - {network: \"inception:inception.safetensors\", metrics: [fid, is, sfid], parts: 3, bootstrap: 3}
  - {network: judge.safetensors, metrics: [fid]}
reference: real.npz
";
    fs::write(place.path("tiny.yaml"), [&text[..start], asked, &text[end..]].concat()).unwrap();
    // Nothing is drawn that could not be measured.
    let run = [&RUN[..], &["--images", "9"]].concat();
    let complaint = place.complaint(&run);
    assert!(
        complaint.starts_with("inception.safetensors: cannot be read") && complaint.contains("--draw-only"),
        "{complaint}"
    );
    let found = [&run[..], &["--models", "files"]].concat();
    let complaint = place.complaint(&found);
    let wanted = "holds statistics of 2048 features, but judge gives 6";
    assert!(complaint.contains(wanted) && !place.path("out/tiny/Heun/chunks").exists(), "{complaint}");
    let asked = asked.replace("reference: real.npz", "reference: {kind: folder, path: real, channels: 1}");
    fs::write(place.path("tiny.yaml"), [&text[..start], &asked, &text[end..]].concat()).unwrap();
    place.succeed(&found);
    let record = records::read(&place.path("results/records.jsonl")).unwrap().remove(0);
    let archive = ["out/tiny/Heun/images.zip", "--reference"];
    let by_inception = evaluate(&[&archive[..], &["files/real.npz"], &network, &metrics].concat());
    let judged = evaluate(&[&archive[..], &["real", "--network", "judge.safetensors"]].concat());
    let figures =
        by_inception["figures"].as_object().unwrap().values().chain(judged["figures"].as_object().unwrap().values());
    let mut wanted: Vec<(&str, f64, Option<f64>)> = figures
        .map(|figure| (figure["name"].as_str().unwrap(), figure["value"].as_f64().unwrap(), figure["spread"].as_f64()))
        .collect();
    wanted.sort_unstable_by_key(|(name, ..)| *name);
    let mut ours: Vec<_> =
        record.figures.iter().map(|(name, (value, spread))| (name.as_str(), *value, *spread)).collect();
    assert_eq!(ours[0].0, "FID (tf1)");
    ours.sort_unstable_by_key(|(name, ..)| *name);
    assert_eq!(ours.iter().map(|of| of.0).collect::<Vec<_>>(), wanted.iter().map(|of| of.0).collect::<Vec<_>>());
    for ((name, ours, spread), (_, wanted, theirs)) in ours.iter().zip(&wanted) {
        // f32 features of batches of four and of all together differ in their last digits.
        assert!(relative(*ours, *wanted) < 1e-4, "{name}: {ours} is not {wanted}");
        assert!(spread.zip(*theirs).is_none_or(|(a, b)| relative(a, b) < 1e-3), "{name}: ± {spread:?}, not {theirs:?}");
    }
    let told = record.warnings.join("; ");
    assert!(told.contains("9 images for 2048 features") && told.contains("published FIDs are of 50,000"), "{told}");
    // What was measured is its own statistics.
    let own = ["--reference", "out/tiny/Heun/statistics-Inception-tf1.npz", "--bootstrap", "0"];
    let itself = evaluate(&[&archive[..1], &own, &network].concat());
    assert!(itself["frechet_distance"].as_f64().unwrap().abs() < 1e-3 * ours[0].1.abs().max(1.0), "{itself}");
    // The same images without figures.
    let drawn =
        ["run", "tiny.yaml", "--images", "9", "--out", "drawn", "--results", "drawn", "--batch", "2", "--draw-only"];
    place.succeed(&drawn);
    let [a, b] = ["out", "drawn"].map(|out| fs::read(place.path(&format!("{out}/tiny/Heun/images.zip"))).unwrap());
    assert!(a == b, "--draw-only draws other images");
}

/// Published and measured beside each other, with plots, sheets and the command that makes them again.
#[test]
fn results_become_one_table_and_one_page() {
    let place = tiny("nothing", 2);
    let text = fs::read_to_string(place.path("tiny.yaml")).unwrap();
    let row = text.split_once("rows:\n").unwrap().1;
    let fewer = row.replace("steps: 4", "steps: 3").replace("name: Heun", "name: Heun, 3 levels");
    let fewer = fewer.lines().filter(|line| !line.contains("golden")).collect::<Vec<_>>().join("\n");
    fs::create_dir_all(place.path("experiments/more")).unwrap();
    fs::write(place.path("experiments/more/tiny.yaml"), format!("{text}{fewer}")).unwrap();
    fs::write(place.path("experiments/train.yaml"), "objective: {kind: denoise}\n").unwrap();
    let table = ["table", "experiments", "--results", "results"];
    assert!(place.complaint(&table).starts_with("results: holds no results of experiments yet"));
    let file = "experiments/more/tiny.yaml";
    place.succeed(&["run", file, "--out", "out", "--results", "results", "--batch", "2"]);
    place.succeed(&table);
    let text = fs::read_to_string(place.path("results/tables.md")).unwrap();
    assert!(text.contains("## A tiny table") && text.contains("`tweedie run experiments/more/tiny.yaml`"), "{text}");
    let [record, _] = &records::read(&place.path("results/records.jsonl")).unwrap()[..] else { panic!("two rows") };
    let (value, spread) = record.figures.values().next().unwrap();
    let line = format!("| Heun | 1.50 | {value:.4} ± {:.4} | {:.2} | 2 × 20 | 7 |", spread.unwrap(), value - 1.5);
    assert!(text.contains(&line), "{text}, not {line}");
    let page = fs::read_to_string(place.path("results/tables.html")).unwrap();
    // Two plots and two sheets.
    assert_eq!(page.matches("base64,").count(), 4);
    assert!(
        page.contains("<figcaption>Quality against evaluations</figcaption>")
            && page.contains("<th scope=row>Heun, 3 levels</th>")
    );
}

#[test]
fn check_tells_what_experiments_cost_and_what_does_not_hold() {
    let place = tiny("nothing", 1);
    let said = place.succeed(&["check", "tiny.yaml", "--rate", "0.1"]);
    // 7 × 40 / 0.1 s.
    assert!(said.contains("Heun: 7 evaluations × 40 images, 0.78 h"), "{said}");
    let text = fs::read_to_string(place.path("tiny.yaml")).unwrap();
    fs::write(place.path("tiny.yaml"), text.replace("steps: 4", "steps: 5")).unwrap();
    let output = place.run(&["check", "tiny.yaml"]);
    assert_eq!(output.status.code(), Some(1), "an expectation was missed");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("wrong: Heun: the number of evaluations must be 7, but is 9"), "{said}");
    assert!(String::from_utf8(output.stderr).unwrap().contains("statements of the experiments that do not hold: 1"));
    fs::write(place.path("tiny.yaml"), "kind: generation\nabout: x\nimagse: 3\n").unwrap();
    let said = String::from_utf8(place.run(&["check", "tiny.yaml"]).stdout).unwrap();
    assert!(said.contains("did you mean `images`?"), "{said}");
}

#[test]
fn a_line_that_was_cut_off_costs_no_other() {
    let place = Place::new();
    let path = place.path("records.jsonl");
    let record = |id: &str| Record { id: id.to_owned(), ..Record::default() };
    records::append(&path, &record("a")).unwrap();
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], &whole[..whole.len() / 2]].concat()).unwrap();
    for _ in 0..2 {
        records::append(&path, &record("b")).unwrap();
    }
    let ids: Vec<String> = records::read(&path).unwrap().into_iter().map(|record| record.id).collect();
    assert_eq!(ids, ["a", "b"]);
}

/// Merging is exact where sums are: those of whole numbers are.
#[test]
fn merged_moments_are_those_of_the_whole() {
    let x = Tensor::randint(200, [30, 4], (Kind::Double, Device::Cpu));
    let of = |x: &Tensor| {
        let mut moments = Moments::new(4);
        moments.push(x);
        moments
    };
    let mut merged = of(&x.narrow(0, 0, 7));
    merged.merge(&of(&x.narrow(0, 7, 23)));
    let whole = of(&x);
    let (count, sum, products) = whole.sums();
    let again = Moments::of_sums(count, sum.copy(), products.copy());
    for moments in [&whole, &again] {
        assert_eq!((merged.mean(), merged.covariance()), (moments.mean(), moments.covariance()));
    }
}

/// What every published table states, without a checkpoint: that it parses, that its walks are the paper's.
#[test]
fn published_tables_walk_as_they_say() {
    let mut rows = 0;
    for entry in fs::read_dir("experiments/published").unwrap().flatten() {
        let AnyExperiment::Generation(table) = AnyExperiment::read(&entry.path()).unwrap() else { continue };
        table.check().unwrap();
        for row in &table.rows {
            table.evaluations(row).unwrap_or_else(|e| panic!("{}: {}: {e}", entry.path().display(), row.name));
            assert!(row.golden.is_some() && row.published.is_some(), "{}: {}", entry.path().display(), row.name);
            rows += 1;
        }
    }
    assert!(rows > 40, "{rows}");
}
