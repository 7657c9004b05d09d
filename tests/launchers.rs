//! Four processes by real launchers, one of them killed: `make soak`, where the launchers are installed.
//!
//! torchrun starts all of them again by itself; `mpirun` ends the others and is started again; under `srun` the others finish
//! what the dead one had begun.

use std::{
    env, fs,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::{
    cli::Place,
    generation::{RUN, is, outcome, start_again, tiny},
};

/// Long enough that a process can be killed at work.
fn long() -> Place {
    let place = tiny("png", 1);
    let text = fs::read_to_string(place.path("tiny.yaml")).unwrap();
    let lines = text.lines().filter(|line| !line.contains("golden")).collect::<Vec<_>>().join("\n");
    fs::write(place.path("tiny.yaml"), lines.replace("steps: 4", "steps: 300").replace("chunk: 4", "chunk: 2"))
        .unwrap();
    place
}

/// The launcher's own words in front of the program; none where it is not installed.
fn launcher(variable: &str, usual: &[&str]) -> Option<Vec<String>> {
    let given = env::var(variable).ok().map(|line| line.split_whitespace().map(str::to_owned).collect());
    let words: Vec<String> = given.unwrap_or_else(|| usual.iter().map(|word| (*word).to_owned()).collect());
    let found = Command::new(&words[0]).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("{} is not installed: nothing was tried", words[0]);
    }
    found.then_some(words)
}

fn launch(place: &Place, words: &[String]) -> Child {
    let program = place.command(&RUN);
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).arg(program.get_program()).args(program.get_args());
    command.current_dir(program.get_current_dir().unwrap()).env("OMP_NUM_THREADS", "1").stdin(Stdio::null());
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// The process that holds a claim, once one does and some chunks are finished.
fn at_work(place: &Place) -> String {
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < Duration::from_secs(120), "nobody works");
        thread::sleep(Duration::from_millis(20));
        let files: Vec<_> = fs::read_dir(place.path("out/tiny/Heun/chunks")).into_iter().flatten().flatten().collect();
        let names = || files.iter().map(|entry| entry.file_name().into_string().unwrap());
        if names().filter(|name| is(name, "npz")).count() < 3 {
            continue;
        }
        let claims = files.iter().filter(|entry| is(&entry.file_name().to_string_lossy(), "claim"));
        let owners = claims.filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok());
        if let Some(owner) = owners.map(|owner: serde_json::Value| owner["pid"].to_string()).next() {
            return owner;
        }
    }
}

fn survives(variable: &str, usual: &[&str]) {
    let Some(words) = launcher(variable, usual) else { return };
    let place = long();
    place.succeed(&RUN);
    let undisturbed = outcome(&place);
    start_again(&place);
    let mut job = launch(&place, &words);
    let victim = at_work(&place);
    assert!(Command::new("kill").args(["-9", &victim]).status().unwrap().success());
    let status = job.wait().unwrap();
    let finished = place.path("out/tiny/Heun/result.json").exists();
    println!("{}: killed {victim}: {status}; {}", words[0], if finished { "finished" } else { "started again" });
    if !finished {
        assert!(launch(&place, &words).wait().unwrap().success());
    }
    assert!(outcome(&place) == undisturbed);
}

#[test]
#[ignore = "wants torchrun"]
fn soak_torchrun_with_a_rank_killed() {
    let usual =
        ["torchrun", "--nproc-per-node", "4", "--max-restarts", "3", "--monitor-interval", "0.2", "--no-python"];
    survives("TORCHRUN", &usual);
}

#[test]
#[ignore = "wants Open MPI"]
fn soak_mpirun_with_a_rank_killed() {
    survives("MPIRUN", &["mpirun", "--oversubscribe", "-n", "4"]);
}

#[test]
#[ignore = "wants a Slurm that answers"]
fn soak_srun_with_a_rank_killed() {
    survives("SRUN", &["srun", "--ntasks", "4", "--overcommit", "--kill-on-bad-exit=0"]);
}
