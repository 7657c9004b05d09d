//! Checkpoints as PyTorch and Python write them: every number, and no harm.
//!
//! The sums were computed by Python's own `pickle` and `zipfile` with stand-ins for PyTorch's classes.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use tch::Kind;
use tempfile::TempDir;
use tweedie::models::checkpoint::{
    pickle::{Id, Pickle, Value},
    torch::TorchArchive,
};

const ZOO: &str = "tests/golden/zoo";

/// What goes off takes hours or all memory, what is refused takes milliseconds; a machine that others share may stop
/// for seconds in between, so that a second told nothing.
const AT_ONCE: Duration = Duration::from_secs(30);

fn open(name: &str) -> TorchArchive {
    TorchArchive::open(&Path::new(ZOO).join(name)).unwrap()
}

fn sum(archive: &TorchArchive, id: Id) -> f64 {
    let stored = archive.stored(id).unwrap().unwrap();
    f64::try_from(archive.load(&stored).unwrap().sum(Kind::Double)).unwrap()
}

/// Σ|x| of all tensors within lists and dicts, and how many numbers they hold.
fn total(archive: &TorchArchive, id: Id) -> (f64, usize) {
    if let Some(stored) = archive.stored(id).unwrap() {
        let tensor = archive.load(&stored).unwrap();
        return (f64::try_from(tensor.to_kind(Kind::Double).abs().sum(Kind::Double)).unwrap(), tensor.numel());
    }
    let pickle = archive.pickle();
    let inner: Vec<Id> = match pickle.entries(id) {
        Some(entries) => entries.iter().map(|(_, value)| *value).collect(),
        None => pickle.sequence(id).unwrap_or_default().to_vec(),
    };
    inner.into_iter().map(|id| total(archive, id)).fold((0.0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
}

/// Sums of a few hundred thousand numbers in f64, in another order.
fn assert_close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-9 * b.abs().max(1.0), "{a} is not {b}");
}

#[test]
fn both_layouts_of_pytorch_give_every_number() {
    for (name, absolute, count) in [
        ("ermon-ddim/model.ckpt", 13439.059574088338, 285_667),
        ("guided-diffusion/model.pt", 15584.134646017168, 354_822),
        ("ncsn/checkpoint.pth", 25366.95239205612, 143_795),
        ("scoresde-ncsnpp-ve/checkpoint.pth", 20049.754039556134, 165_718),
    ] {
        let archive = open(name);
        let (sum, numbers) = total(&archive, archive.pickle().root());
        assert_eq!(numbers, count, "{name}");
        assert_close(sum, absolute);
    }
}

#[test]
fn tensors_come_by_name_and_in_order() {
    let archive = open("ermon-ddim/model.ckpt");
    let tensors = archive.tensors(archive.pickle().root()).unwrap();
    assert_eq!(tensors.len(), 142);
    let (name, first) = &tensors[0];
    assert_eq!(
        (name.as_str(), first.size.as_slice(), first.kind),
        ("temb.dense.0.weight", &[128, 32][..], Kind::Float)
    );
    assert_close(f64::try_from(archive.load(first).unwrap().sum(Kind::Double)).unwrap(), 6.982764431042597);
    assert_eq!(tensors[141].0, "conv_out.bias");
    let archive = open("scoresde-ncsnpp-ve/checkpoint.pth");
    let pickle = archive.pickle();
    let model = pickle.entry(pickle.root(), "model").unwrap();
    let names: Vec<String> = archive.tensors(model).unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names[..2], ["module.sigmas", "module.all_modules.0.W"]);
    let shadow = pickle.entry(pickle.entry(pickle.root(), "ema").unwrap(), "shadow_params").unwrap();
    let last = *pickle.sequence(shadow).unwrap().last().unwrap();
    assert_close(sum(&archive, last), -0.35649794340133667);
    assert!(pickle.int(pickle.entry(pickle.root(), "step").unwrap()).is_some());
}

/// EDM's pickle is Python objects with streams of tensors inside: the class names and the state can be read.
#[test]
fn a_pickled_network_shows_its_class_and_its_state() {
    let archive = open("edm-vp/network-snapshot.pkl");
    let pickle = archive.pickle();
    let object = |id: Id| -> Id {
        let ((_, name), arguments) = pickle.call(id).unwrap();
        assert_eq!(name, "_reconstruct_persistent_obj");
        arguments[0]
    };
    let down = |id: Id, names: &[&str]| names.iter().fold(id, |id, name| pickle.entry(id, name).unwrap());
    let ema = object(down(pickle.root(), &["ema"]));
    assert_eq!(pickle.text(down(ema, &["class_name"])), Some("VPPrecond"));
    let model = object(down(ema, &["state", "_modules", "model"]));
    assert_eq!(pickle.text(down(model, &["class_name"])), Some("SongUNet"));
    let layer = object(down(model, &["state", "_modules", "map_layer0"]));
    assert_close(sum(&archive, down(layer, &["state", "_parameters", "weight"])), -11.775255463086069);
}

/// The same object in protocols 0, 2 and 4, as CPython 3.11 writes it.
#[test]
fn all_protocols_say_the_same() {
    // {'a': [1, -2.5, None, True], 'b': (300, 70000, -1), 'c': {'ü'}, 'd': 2**40}
    let streams: [&[u8]; 3] = [
        b"(dp0\nVa\np1\n(lp2\nI1\naF-2.5\naNaI01\nasVb\np3\n(I300\nI70000\nI-1\ntp4\nsVc\np5\nc__builtin__\nset\np6\n((lp7\nV\xfc\np8\natp9\nRp10\nsVd\np11\nL1099511627776L\ns.",
        b"\x80\x02}q\x00(X\x01\x00\x00\x00aq\x01]q\x02(K\x01G\xc0\x04\x00\x00\x00\x00\x00\x00N\x88eX\x01\x00\x00\x00bq\x03M,\x01Jp\x11\x01\x00J\xff\xff\xff\xff\x87q\x04X\x01\x00\x00\x00cq\x05c__builtin__\nset\nq\x06]q\x07X\x02\x00\x00\x00\xc3\xbcq\x08a\x85q\tRq\nX\x01\x00\x00\x00dq\x0b\x8a\x06\x00\x00\x00\x00\x00\x01u.",
        b"\x80\x04\x95F\x00\x00\x00\x00\x00\x00\x00}\x94(\x8c\x01a\x94]\x94(K\x01G\xc0\x04\x00\x00\x00\x00\x00\x00N\x88e\x8c\x01b\x94M,\x01Jp\x11\x01\x00J\xff\xff\xff\xff\x87\x94\x8c\x01c\x94\x8f\x94(\x8c\x02\xc3\xbc\x94\x90\x8c\x01d\x94\x8a\x06\x00\x00\x00\x00\x00\x01u.",
    ];
    for stream in streams {
        let (pickle, length) = Pickle::read(stream).unwrap();
        assert_eq!(length, stream.len());
        let entry = |name: &str| pickle.entry(pickle.root(), name).unwrap();
        let values: Vec<&Value> = pickle.sequence(entry("a")).unwrap().iter().map(|id| pickle.get(*id)).collect();
        assert_eq!(values, [&Value::Int(1), &Value::Float(-2.5), &Value::None, &Value::Bool(true)]);
        let ints: Vec<i64> = pickle.sequence(entry("b")).unwrap().iter().filter_map(|id| pickle.int(*id)).collect();
        assert_eq!(ints, [300, 70_000, -1]);
        let elements = match pickle.get(entry("c")) {
            Value::Set(elements) => elements.clone(),
            _ => pickle.sequence(pickle.call(entry("c")).unwrap().1[0]).unwrap().to_vec(),
        };
        assert_eq!(pickle.text(elements[0]), Some("ü"));
        assert_eq!(pickle.int(entry("d")), Some(1 << 40));
    }
}

/// The published weights of LPIPS, and of torchvision's first networks, were written so.
#[test]
fn an_ordered_dict_of_python_2_has_its_entries_in_a_list() {
    let stream = b"ccollections\nOrderedDict\n((l(Va\nI1\nla(Vb\nI2\nlatR.";
    let (pickle, _) = Pickle::read(stream).unwrap();
    let root = pickle.root();
    assert_eq!(pickle.entries(root).unwrap().len(), 2);
    assert_eq!(["a", "b"].map(|name| pickle.int(pickle.entry(root, name).unwrap())), [Some(1), Some(2)]);
    // Neither another class nor a list of anything else.
    for other in ["ccollections\nCounter\n((l(Va\nI1\nlatR.", "ccollections\nOrderedDict\n((lVa\natR."] {
        let (pickle, _) = Pickle::read(other.as_bytes()).unwrap();
        assert!(pickle.entries(pickle.root()).unwrap().is_empty());
    }
}

/// What calls a shell when Python loads it is a value like others here.
#[test]
fn nothing_is_called() {
    let folder = TempDir::new().unwrap();
    let witness = folder.path().join("witness");
    let stream = format!("cposix\nsystem\n(S'touch {}'\ntR.", witness.display());
    let file = folder.path().join("evil.pth");
    fs::write(&file, &stream).unwrap();
    let archive = TorchArchive::open(&file).unwrap();
    let (call, arguments) = archive.pickle().call(archive.pickle().root()).unwrap();
    assert_eq!((call, arguments.len()), (("posix", "system"), 1));
    assert!(archive.tensors(archive.pickle().root()).unwrap().is_empty());
    assert!(archive.stored(archive.pickle().root()).unwrap().is_none());
    assert!(!witness.exists());
}

#[test]
fn bombs_are_refused_at_once() {
    let refused = |stream: &[u8], why: &str| {
        let start = Instant::now();
        let fault = Pickle::read(stream).unwrap_err();
        assert_eq!(fault.what, why);
        assert!(start.elapsed() < AT_ONCE);
    };
    refused(b"\x8e\x00\x00\x00\x00\x00\x00\x00\x10.", "an end before its time"); // 2^60 bytes
    refused(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff.", "an end before its time");
    refused(&vec![b'N'; 3_000_000], "too many values");
    refused(&vec![b'('; 3_000_000], "too many marks");
    refused(&[vec![b'N'], vec![b'2'; 5_000_000]].concat(), "too many values");
    refused(&[vec![b'N'], vec![0x94; 3_000_000]].concat(), "too many values");
    // One list of ten thousand pairs, given to a thousand dicts.
    let pairs = [b"]\x94".to_vec(), b"NN\x86a".repeat(10_000)].concat();
    let dicts = b"ccollections\nOrderedDict\nh\x00\x85R".repeat(1000);
    refused(&[pairs, dicts, b".".to_vec()].concat(), "too many values");
    refused(b"0", "an empty stack");
    refused(b"(0.", "an empty stack");
    refused(b"h\x00.", "a value that was never noted");
    refused(b"\x80\x06N.", "a protocol newer than 5");
    refused(b"\x82\x01.", "a code of Python's private extension registry");
    // A million lists within each other, and a list within itself: neither is walked, nor dropped one by one.
    let deep = [vec![b']'; 900_000], vec![b'a'; 899_999], vec![b'.']].concat();
    assert!(Pickle::read(&deep).is_ok());
    assert!(Pickle::read(b"]\x94h\x00a.").is_ok());
    // Tuples of tuples of tuples: 2^60 leaves for whoever counts them, 60 values here.
    let doubling: Vec<u8> = (0..60).flat_map(|_| [b'2', 0x86]).collect();
    assert!(Pickle::read(&[b"N".as_slice(), &doubling, b"."].concat()).is_ok());
}

/// A tensor of 2^40 numbers, or one that ends behind its storage, is refused by name.
#[test]
fn tensors_beyond_their_storage_are_refused() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("long.pth");
    let whole = fs::read(Path::new(ZOO).join("ermon-ddim/model.ckpt")).unwrap();
    // The first tensor is 128 × 32: K\x80 … K\x20 in its tuple of sizes.
    let place = whole.windows(5).position(|bytes| bytes == b"K\x80K \x86").unwrap();
    let mut longer = whole.clone();
    longer[place + 1] = 0xff;
    fs::write(&file, &longer).unwrap();
    let archive = TorchArchive::open(&file).unwrap();
    let error = archive.tensors(archive.pickle().root()).unwrap_err().to_string();
    assert!(error.ends_with("long.pth: a tensor reaches beyond its storage: fetch the file again"), "{error}");
}
