//! Files that are broken, or were made to break things: an error at once, and nothing else.
//!
//! Wrong bytes are tried in a process of its own, so that its memory can be told and a panic, an abort or a hang seen.

use std::{
    env,
    fs::{self, File},
    io::{Cursor, Write},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use tch::{Device, Kind};
use tempfile::TempDir;
use tweedie::{models::card::Model, numbers::stream};
use zip::{ZipWriter, write::SimpleFileOptions};

/// One of each format, and of each family that is spelt in its own way.
const FILES: [&str; 5] = [
    "diffusers-ddpm/diffusion_pytorch_model.safetensors",
    "edm-vp/network-snapshot.pkl",
    "ermon-ddim/model.ckpt",
    "ncsn/checkpoint.pth",
    "scoresde-ncsnpp-ve/checkpoint.pth",
];
/// Wrong bytes for each.
const FLIPS: usize = 2000;
/// Of processor time, in the best of a few trials: on a machine that others share even this counts some of their time.
const SECOND: Duration = Duration::from_secs(1);
const TRIALS: usize = 5;
/// More memory than an honest opening needs.
const MEMORY: usize = 256 << 20;
const VICTIM: &str = "TWEEDIE_HOSTILE_FILE";

/// Opens a file as the command line does.
fn open(path: &Path) -> Result<(), String> {
    let model = Model::open_on(path.to_str().unwrap(), Device::Cpu, Kind::Float);
    model.map(drop).map_err(|error| error.to_string())
}

/// The same, which must be done within a second.
fn open_at_once(path: &Path, what: &str) -> Result<(), String> {
    for _ in 0..TRIALS {
        let start = processor();
        let result = open(path);
        if processor().saturating_sub(start) < SECOND {
            return result;
        }
    }
    panic!("{what} takes more than {SECOND:?}");
}

/// Processor time that this process has used.
fn processor() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(10 * ticks)
}

/// The most memory that this process has held, in bytes.
fn peak() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

#[test]
fn wrong_bytes_and_cuts_do_no_harm() {
    for file in FILES {
        let child = Command::new(env::current_exe().unwrap())
            .args(["hostile::victim", "--exact", "--ignored", "--nocapture"])
            .env(VICTIM, Path::new("tests/golden/zoo").join(file))
            .env("OMP_NUM_THREADS", "1")
            .output()
            .unwrap();
        let told = [child.stdout, child.stderr].concat();
        assert!(child.status.success(), "{file}: {}", String::from_utf8_lossy(&told));
    }
}

#[test]
#[ignore = "runs in a process of its own, for wrong_bytes_and_cuts_do_no_harm"]
fn victim() {
    let Some(original) = env::var_os(VICTIM) else { return };
    let bytes = fs::read(&original).unwrap();
    let place = TempDir::new().unwrap();
    let path = place.path().join(Path::new(&original).file_name().unwrap());
    fs::write(&path, &bytes).unwrap();
    open(&path).unwrap();
    let before = peak();
    for part in 0..64 {
        fs::write(&path, &bytes[..bytes.len() * part / 64]).unwrap();
        assert!(open_at_once(&path, "a cut file").is_err(), "cut to {part}/64");
    }
    fs::write(&path, &bytes).unwrap();
    let file = File::options().write(true).open(&path).unwrap();
    let mut refused = 0;
    for (i, u) in stream::uniform(1, 0, 0).take(FLIPS).enumerate() {
        // Anywhere, and where headers, pickles and the zip's directory lie.
        let near = (u * 30_000.0) as usize % bytes.len();
        let at = match i % 3 {
            0 => (u * bytes.len() as f64) as usize,
            1 => near,
            _ => bytes.len() - 1 - near,
        };
        file.write_all_at(&[bytes[at] ^ (1 << (i % 8))], at as u64).unwrap();
        refused += usize::from(open_at_once(&path, &format!("bit {} of byte {at}", i % 8)).is_err());
        file.write_all_at(&bytes[at..=at], at as u64).unwrap();
    }
    open(&path).unwrap();
    assert!(refused > 0, "some of them are errors");
    assert!(peak() - before < MEMORY, "{} MiB more than an honest file", (peak() - before) >> 20);
}

/// A zip archive of entries as they are.
fn zip(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, contents) in entries {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(contents).unwrap();
    }
    zip.finish().unwrap().into_inner()
}

#[test]
fn claims_beyond_reason_are_refused() {
    let place = TempDir::new().unwrap();
    let refused = |name: &str, bytes: &[u8], why: &str| {
        let path = place.path().join(name);
        fs::write(&path, bytes).unwrap();
        let start = Instant::now();
        let error = open(&path).unwrap_err();
        assert!(error.contains(why), "{name}: {error}");
        assert!(start.elapsed() < Duration::from_secs(30));
    };
    let header = [&(1u64 << 63).to_le_bytes()[..], b"{}"].concat();
    refused("header.safetensors", &header, "not a whole safetensors file");
    let shape = r#"{"x":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}}"#;
    let header = [&(shape.len() as u64).to_le_bytes()[..], shape.as_bytes(), &[0; 4]].concat();
    refused("shape.safetensors", &header, "not a whole safetensors file");
    // Widths that would take all memory, in tensors without a number.
    let empty = |name: &str, shape: &str| format!(r#""{name}":{{"dtype":"F32","shape":{shape},"data_offsets":[0,0]}}"#);
    let names = [
        empty("conv_in.weight", "[0,1048576,3,3]"),
        empty("conv_out.weight", "[1048576,0,3,3]"),
        empty("time_embedding.linear_1.weight", "[0,1048576]"),
        empty("down_blocks.0.resnets.0.conv1.weight", "[1048576,0,3,3]"),
        empty("down_blocks.1.resnets.0.conv1.weight", "[1048576,0,3,3]"),
    ];
    let text = format!("{{{}}}", names.join(","));
    let header = [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat();
    refused("wide.safetensors", &header, "the weights do not fit the network");
    refused("no.pth", &zip(&[("other/file", b"x")]), "it has no data.pkl");
    // What unpacks to much is not unpacked at all: method 8 in both of its headers.
    let mut bomb = zip(&[("archive/data.pkl", b"\x80\x02}q\x00.")]);
    let central = bomb.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    (bomb[8], bomb[central + 10]) = (8, 8);
    refused("bomb.pth", &bomb, "compressed");
    // Names that lead elsewhere are names.
    let before = fs::read_dir(place.path()).unwrap().count();
    refused("path.pth", &zip(&[("../../evil/data.pkl", b"\x80\x02}q\x00.")]), "");
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), before + 1);
    assert!(!place.path().join("../evil").exists() && !place.path().join("../../evil").exists());
}
