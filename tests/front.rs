//! The program that a user starts: what it answers without the engine, and how it becomes it.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::{Duration, Instant},
};

use crate::cli::Place;

const FRONT: &str = env!("CARGO_BIN_EXE_tweedie");
const COMMANDS: [&str; 23] = [
    "sample",
    "restore",
    "denoise",
    "walk",
    "train",
    "evaluate",
    "information",
    "run",
    "table",
    "check",
    "inspect",
    "bench",
    "convert",
    "models",
    "samplers",
    "schedules",
    "tasks",
    "methods",
    "metrics",
    "families",
    "doctor",
    "completions",
    "man",
];

/// The front alone, in a folder without its engine.
fn alone(place: &Place) -> PathBuf {
    let program = place.path("alone/tweedie");
    fs::create_dir_all(place.path("alone")).unwrap();
    fs::copy(FRONT, &program).unwrap();
    program
}

/// A copy cannot start while a child that another test has just forked still holds its file open.
fn run(program: &Path, arguments: &[&str]) -> Output {
    loop {
        match Command::new(program).args(arguments).output() {
            Err(e) if e.kind() == ErrorKind::ExecutableFileBusy => thread::sleep(Duration::from_millis(10)),
            output => return output.unwrap(),
        }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap()
}

#[test]
fn help_version_completions_and_manual_need_no_engine() {
    let place = Place::new();
    let program = alone(&place);
    assert_eq!(text(run(&program, &["--version"]).stdout), concat!("tweedie ", env!("CARGO_PKG_VERSION"), "\n"));
    let help = text(run(&program, &["--help"]).stdout);
    for command in COMMANDS {
        assert!(help.contains(&format!("\n  {command} ")), "{command}: {help}");
    }
    for shell in ["bash", "zsh", "fish"] {
        let script = text(run(&program, &["completions", shell]).stdout);
        for word in COMMANDS.iter().chain(&["sampler", "overwrite", "guidance-range"]) {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let folder = place.path("man");
    assert!(run(&program, &["man", folder.to_str().unwrap()]).status.success());
    let page = fs::read_to_string(folder.join("tweedie.1")).unwrap();
    for command in COMMANDS {
        assert!(page.contains(&format!("tweedie\\-{command}(1)")), "{command}: {page}");
        assert!(folder.join(format!("tweedie-{command}.1")).exists(), "{command}");
    }
    // The short help fits a screen, the long one says more.
    let [short, long] = ["-h", "--help"].map(|flag| text(run(&program, &["information", flag]).stdout).lines().count());
    assert!(short < long, "{short} {long}");
}

#[test]
fn a_mistake_in_flags_needs_no_engine_and_names_the_nearest_flag() {
    let place = Place::new();
    let output = run(&alone(&place), &["sample", "fashion-mnist", "--sede", "1"]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(output.stderr);
    assert!(error.contains("unexpected argument '--sede'") && error.contains("'--seeds'"), "{error}");
}

#[test]
fn a_missing_engine_is_one_sentence() {
    let place = Place::new();
    let output = run(&alone(&place), &["tasks"]);
    assert_eq!(output.status.code(), Some(2));
    let error = text(output.stderr);
    assert!(error.starts_with("error: tweedie-engine") && error.lines().count() == 1, "{error}");
}

#[test]
fn an_engine_of_another_version_is_refused() {
    let engine = Path::new(FRONT).with_file_name("tweedie-engine");
    let output = Command::new(engine).arg("tasks").env("TWEEDIE_FRONT", "0.0.9").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(output.stderr).contains("version 0.0.9"));
}

/// Whoever links libtorch to the front loses its start-up.
#[test]
fn the_front_loads_no_libtorch() {
    let bytes = fs::read(FRONT).unwrap();
    let has = |word: &[u8]| bytes.windows(word.len()).any(|window| window == word);
    assert!(has(b"libc.so.6") && !has(b"libtorch_cpu.so") && !has(b"libc10.so"));
}

#[test]
fn the_front_answers_within_20_ms() {
    let mut times: Vec<Duration> = (0..15)
        .map(|_| {
            let begun = Instant::now();
            assert!(run(Path::new(FRONT), &["--version"]).status.success());
            begun.elapsed()
        })
        .collect();
    times.sort();
    // The quickest third: what others on this machine do is not the program's.
    assert!(times[4] < Duration::from_millis(20), "{times:?}");
}

#[test]
fn an_installed_program_finds_its_engine_behind_a_link() {
    let place = Place::new();
    let (bin, libexec) = (place.path("prefix/bin"), place.path("prefix/libexec/tweedie"));
    fs::create_dir_all(&bin).unwrap();
    fs::create_dir_all(&libexec).unwrap();
    fs::copy(FRONT, bin.join("tweedie")).unwrap();
    let engine = Path::new(FRONT).with_file_name("tweedie-engine");
    std::os::unix::fs::symlink(engine, libexec.join("tweedie-engine")).unwrap();
    let link = place.path("linked");
    std::os::unix::fs::symlink(bin.join("tweedie"), &link).unwrap();
    let output = run(&link, &["tasks", "inpaint-box"]);
    assert!(output.status.success(), "{}", text(output.stderr));
    assert!(text(output.stdout).starts_with("inpaint-box: "));
}
