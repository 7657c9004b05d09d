//! Replayed evaluations: when they are recorded, that wrong ones are never used, and how many are kept. A device that records is
//! played by one that computes again.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tch::{Device, Kind, Tensor};
use tweedie::{
    Error,
    backend::{
        cuda,
        host_copy::HostCopy,
        recorder::{Inputs, Recorder, Recording, Replay},
    },
    files::{images, rounding::Rounding},
    networks::{Graphed, Network, layers, weights::Weights},
};

/// 2x + σ, and the class on top; counts how often it is asked.
#[derive(Clone, Debug, Default)]
struct Line(Arc<AtomicUsize>);

fn line(x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor {
    let rows = |t: &Tensor| t.to_kind(Kind::Float).view([-1, 1, 1, 1]);
    x * 2.0 + rows(label) + class.map_or_else(|| Tensor::zeros([1], (Kind::Float, Device::Cpu)), rows)
}

impl Network for Line {
    fn forward(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        self.0.fetch_add(1, Ordering::Relaxed);
        line(x, label, class)
    }

    fn check(&self, _: [i64; 3]) -> Result<(), Error> {
        Ok(())
    }

    fn classes(&self) -> Option<i64> {
        Some(5)
    }

    fn null_class(&self) -> Option<i64> {
        Some(4)
    }
}

/// How a device that records may fail.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fault {
    None,
    /// It cannot record.
    Recording,
    /// What it replays does not read its inputs.
    Deaf,
    /// It does not write its answer again.
    Stale,
    /// It stops after so many replays.
    After(usize),
    /// Its answers differ by a rounding.
    Rounding,
}

#[derive(Debug)]
struct Played {
    fault: Fault,
    recorded: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Again {
    fault: Fault,
    inputs: Inputs,
    output: Tensor,
    times: usize,
}

impl Recorder for Played {
    fn record(&self, inputs: &Inputs, evaluate: &mut dyn FnMut(&Inputs) -> Tensor) -> Result<Recording, String> {
        if self.fault == Fault::Recording {
            return Err("operation not permitted".to_owned());
        }
        self.recorded.fetch_add(1, Ordering::Relaxed);
        let output = evaluate(inputs);
        let held = |x: &Tensor| if self.fault == Fault::Deaf { x.copy() } else { x.shallow_clone() };
        let inputs = Inputs { x: held(&inputs.x), label: held(&inputs.label), class: inputs.class.as_ref().map(held) };
        let replay = Again { fault: self.fault, inputs, output: output.shallow_clone(), times: 0 };
        Ok(Recording { output, replay: Box::new(replay) })
    }
}

impl Replay for Again {
    fn replay(&mut self) -> Result<(), String> {
        self.times += 1;
        match self.fault {
            Fault::After(most) if self.times > most => return Err("the device has gone".to_owned()),
            Fault::Stale => return Ok(()),
            _ => {}
        }
        let answer = line(&self.inputs.x, &self.inputs.label, self.inputs.class.as_ref());
        self.output.copy_(&if self.fault == Fault::Rounding { answer * 1.001 } else { answer });
        Ok(())
    }
}

struct Case {
    network: Graphed,
    asked: Arc<AtomicUsize>,
    recorded: Arc<AtomicUsize>,
}

impl Case {
    fn new(fault: Fault) -> Self {
        let (line, recorded) = (Line::default(), Arc::default());
        let asked = line.0.clone();
        let played = Played { fault, recorded: Arc::clone(&recorded) };
        Self { network: Graphed::new(Box::new(line), Box::new(played)), asked, recorded }
    }

    /// Asks with other numbers each time; whether the answer is the network's own.
    fn ask(&self, batch: i64, times: usize) {
        for i in 0..times {
            let x = Tensor::randn([batch, 1, 2, 2], (Kind::Float, Device::Cpu));
            let label = Tensor::full([batch], i as f64, (Kind::Float, Device::Cpu));
            let answer = self.network.forward(&x, &label, None);
            assert!(f64::try_from((answer - line(&x, &label, None)).abs().max()).unwrap() <= 0.05, "{batch} {i}");
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    fn recorded(&self) -> usize {
        self.recorded.load(Ordering::Relaxed)
    }
}

/// Evaluations that are computed before one is recorded: those that wait, the one that checks, and the recording itself.
const FIRST: usize = Graphed::PATIENCE + 2;

#[test]
fn an_evaluation_that_comes_again_is_recorded_once_and_replayed() {
    let case = Case::new(Fault::None);
    case.ask(3, 50);
    assert_eq!((case.asked(), case.recorded(), case.network.recordings()), (FIRST, 1, 1));
    assert!(case.network.refusals().is_empty());
    assert_eq!((case.network.classes(), case.network.null_class()), (Some(5), Some(4)));
}

#[test]
fn one_that_comes_seldom_is_not() {
    let case = Case::new(Fault::None);
    case.ask(3, Graphed::PATIENCE);
    assert_eq!((case.asked(), case.recorded()), (Graphed::PATIENCE, 0));
}

#[test]
fn answers_that_were_given_are_not_overwritten_by_later_ones() {
    let case = Case::new(Fault::None);
    case.ask(1, 5);
    let [first, second] = [1.0, 2.0].map(|value| {
        let x = Tensor::full([1, 1, 2, 2], value, (Kind::Float, Device::Cpu));
        case.network.forward(&x, &Tensor::zeros([1], (Kind::Float, Device::Cpu)), None)
    });
    assert_eq!((first.double_value(&[0, 0, 0, 0]), second.double_value(&[0, 0, 0, 0])), (2.0, 4.0));
}

#[test]
fn with_and_without_classes_are_two_recordings() {
    let case = Case::new(Fault::None);
    case.ask(2, 5);
    let class = Tensor::from_slice(&[3i64, 4]);
    for i in 0..5 {
        let x = Tensor::randn([2, 1, 2, 2], (Kind::Float, Device::Cpu));
        let label = Tensor::full([2], f64::from(i), (Kind::Float, Device::Cpu));
        let answer = case.network.forward(&x, &label, Some(&class));
        assert!(answer.allclose(&line(&x, &label, Some(&class)), 1e-6, 1e-6, false));
    }
    assert_eq!((case.recorded(), case.network.recordings()), (2, 2));
}

#[test]
fn a_recording_that_differs_is_not_used_and_the_reason_is_told() {
    for (fault, reason) in [
        (Fault::Recording, "operation not permitted"),
        (Fault::Deaf, "the replayed answer differs"),
        (Fault::Stale, "the replayed answer differs"),
        (Fault::After(0), "the device has gone"),
    ] {
        let case = Case::new(fault);
        case.ask(2, 20);
        let refusals = case.network.refusals();
        assert!(refusals.len() == 1 && refusals[0].contains(reason), "{fault:?}: {refusals:?}");
        assert!(refusals[0].starts_with("[2, 1, 2, 2]"), "{refusals:?}");
        assert_eq!(case.network.recordings(), 0, "{fault:?}");
        case.ask(5, 20);
        assert!(case.recorded() <= 1 && case.network.refusals() == refusals, "{fault:?}: is not tried again");
    }
}

#[test]
fn a_device_that_fails_later_leaves_the_network_to_compute() {
    let case = Case::new(Fault::After(4));
    case.ask(2, 20);
    assert_eq!(case.network.refusals().len(), 1);
    // The first of four replays was the check.
    assert_eq!(case.asked(), FIRST + 20 - Graphed::PATIENCE - 1 - 3);
}

#[test]
fn a_difference_of_rounding_is_none() {
    let case = Case::new(Fault::Rounding);
    case.ask(2, 20);
    assert_eq!(case.network.recordings(), 1);
}

#[test]
fn recordings_are_bounded_and_the_idle_one_makes_room() {
    let case = Case::new(Fault::None);
    let kept = Graphed::KEPT as i64;
    for batch in 1..=kept {
        case.ask(batch, 5);
    }
    // The first is used again, so that the second has been idle longest.
    case.ask(1, 1);
    case.ask(kept + 1, 5);
    assert_eq!(case.network.recordings(), Graphed::KEPT);
    let before = case.recorded();
    case.ask(1, 5);
    assert_eq!(case.recorded(), before, "the first was kept");
    case.ask(2, 5);
    assert_eq!(case.recorded(), before + 1, "the second had gone");
    for batch in 1..=200 {
        case.ask(batch, 1);
    }
    assert!(case.network.recordings() <= Graphed::KEPT);
}

#[test]
fn gradients_pass_through_the_network_itself() {
    let case = Case::new(Fault::None);
    case.ask(1, 5);
    let x = Tensor::ones([1, 1, 2, 2], (Kind::Float, Device::Cpu)).set_requires_grad(true);
    let answer = case.network.forward(&x, &Tensor::zeros([1], (Kind::Float, Device::Cpu)), None);
    answer.sum(Kind::Float).backward();
    assert_eq!(x.grad().double_value(&[0, 0, 1, 1]), 2.0);
}

/// The same network, which has a layer compute something on the side: two sums of two products.
#[derive(Debug)]
struct Working(layers::Linear);

impl Network for Working {
    fn forward(&self, x: &Tensor, label: &Tensor, class: Option<&Tensor>) -> Tensor {
        let _ = self.0.forward(&Tensor::ones([1, 2], (Kind::Float, Device::Cpu)));
        line(x, label, class)
    }

    fn check(&self, _: [i64; 3]) -> Result<(), Error> {
        Ok(())
    }
}

#[test]
fn replays_count_as_the_work_that_they_are() {
    let layer = layers::Linear::new(&Weights::fresh(1, Device::Cpu, Kind::Float).root(), 2, 2);
    let played = Played { fault: Fault::None, recorded: Arc::default() };
    let network = Graphed::new(Box::new(Working(layer)), Box::new(played));
    let (x, label) = (Tensor::ones([1, 1, 2, 2], (Kind::Float, Device::Cpu)), Tensor::from_slice(&[1f32]));
    for _ in 0..=Graphed::PATIENCE {
        let _ = network.forward(&x, &label, None);
    }
    assert_eq!(network.recordings(), 1);
    let before = layers::flops();
    let _ = network.forward(&x, &label, None);
    assert_eq!(layers::flops() - before, 8.0);
}

/// On the CPU there is no way to go: an arrival is the tensor itself.
#[test]
fn what_arrives_is_what_was_sent() {
    let x = Tensor::randn([3, 2, 4, 4], (Kind::Float, Device::Cpu));
    let pixels = Rounding::Edm.bytes(&x);
    let (sent, arrived) = (images::bytes(&pixels).unwrap(), HostCopy::start(&pixels).wait().unwrap());
    assert_eq!(images::bytes(&arrived).unwrap(), sent);
    assert_eq!(arrived.data_ptr(), pixels.data_ptr());
}

/// Where there is no CUDA, each part says so, and none ends the process.
#[test]
fn without_cuda_graphs_say_why() {
    if tweedie::backend::libtorch::cuda().is_ok() {
        return;
    }
    assert!(cuda::Graphs::new(0).check().is_err());
    assert!(cuda::Stream::current(0).is_err());
    assert!(cuda::peak_memory(0).is_err());
}

/// Names of C++ members change with the types of their arguments: libtorch's CUDA half, where it is at hand, has these.
#[test]
fn the_members_of_cuda_graphs_are_in_libtorch() {
    let library = tweedie::backend::libtorch::folder().join("libtorch_cuda.so");
    if !library.exists() {
        println!("skipped: no libtorch_cuda.so in {}", tweedie::backend::libtorch::folder().display());
        return;
    }
    let Ok(listed) = Command::new("nm").args(["-D", "--defined-only"]).arg(&library).output() else {
        println!("skipped: nm is not installed");
        return;
    };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    for symbol in cuda::SYMBOLS {
        assert!(listed.lines().any(|line| line.ends_with(&format!(" {symbol}"))), "{symbol}");
    }
}

/// What the table of speed on a GPU makes of its measurements: sums that need no GPU.
#[test]
fn the_arithmetic_of_the_gpu_table_holds() {
    let Ok(done) = Command::new("python3").args(["tests/parity/gpu.py", "--check"]).output() else {
        println!("skipped: python3 is not installed");
        return;
    };
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}
