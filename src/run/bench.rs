//! Speed of a network: evaluations and images per second, the loop's share, FLOP/s, memory, and a comparison with a
//! peer.

use std::{
    cell::Cell,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json};
use tch::{Cuda, Device, Kind, Tensor};

use super::{
    observer::{Observer, go_on},
    session::Session,
};
use crate::{
    Error,
    backend::{
        cuda,
        kernels::{self, ConvGeometry, ConvMethod, Direction, Packed},
        libtorch,
    },
    models::{
        card::Model,
        checkpoint::safetensors::{self, Metadata},
    },
    networks::{AnyNetwork, Graphed, UNetConfig, layers},
    numbers::{plan::ResolvedPlan, scheme::Scheme},
    scores::{
        denoiser::{Denoiser, Pretrained},
        noise::{Noise, Seeded},
        sample::{FiniteGuard, sample},
    },
};

/// Pause before each turn: idle threads of the other program busy-wait for some milliseconds before they sleep.
const PAUSE: Duration = Duration::from_millis(30);
/// Time label of the network where only the speed matters.
const LABEL: f64 = 500.0;
/// Number of turns on a GPU.
const TURNS: usize = 5;
/// Minimum length of a turn of a comparison on a GPU, in seconds.
const TURN: f64 = 0.05;
const PEER: &str = include_str!("../../tests/parity/bench.py");

/// A request to measure a network's speed.
#[derive(Clone, Debug)]
pub struct BenchRequest {
    /// Number of steps of the model's own walk at each batch size; the first is not counted.
    pub steps: usize,
    /// Whether each evaluation includes the gradient of a misfit through the network, as DPS needs it.
    pub gradient: bool,
    /// Peer to compare with, turn by turn.
    pub peer: Option<PeerRequest>,
}

/// Another program that computes with the same weights.
#[derive(Clone, Debug)]
pub struct PeerRequest {
    /// Path of a Python that has torch and diffusers.
    pub python: PathBuf,
    /// Program to run in place of diffusers' UNet2DModel; it receives the path in `model`.
    pub script: Option<PathBuf>,
    /// Path of the model, as the user gave it.
    pub model: PathBuf,
    /// Whether the peer runs under torch.compile, frozen.
    pub compiled: bool,
    /// Number of turns of the comparison.
    pub rounds: usize,
}

/// Speed at one batch size. Times are medians over steps.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct BenchRow {
    /// Number of images in the batch.
    pub batch: i64,
    /// Milliseconds of an evaluation of the network.
    pub network_ms: f64,
    /// Milliseconds of everything besides the network, for each evaluation.
    pub rest_ms: f64,
    /// Evaluations of single images per second.
    pub evaluations_per_second: f64,
    /// Images per second of the model's own sampler.
    pub images_per_second: f64,
    /// 10¹² floating-point operations per second of the network.
    pub teraflops: f64,
    /// FLOP/s of the network divided by those of the largest matrix product measured in this run.
    pub share_of_peak: f64,
    /// Peak memory of the process so far, in MB; on a GPU, peak memory of tensors during the measurement at this batch
    /// size.
    pub peak_memory_mb: Option<f64>,
    /// Seconds of the peer divided by ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
    /// Milliseconds of the peer's evaluation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_ms: Option<f64>,
    /// Peak memory of the peer's process so far, in MB; on a GPU, peak memory of its tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_memory_mb: Option<f64>,
}

/// A model that is being measured.
#[derive(Debug)]
pub struct Bench<'a> {
    request: BenchRequest,
    model: &'a Model,
    session: Session,
    peak: f64,
    peer: Option<Peer>,
}

impl<'a> Bench<'a> {
    /// Measures the speed of the largest matrix product, and starts the peer.
    pub fn new(request: &BenchRequest, model: &'a Model, session: &Session) -> Result<Self, Error> {
        let request = request.clone();
        let peak = peak(session.device, session.kind()?);
        let mut bench = Self { request, model, session: session.clone(), peak, peer: None };
        bench.peer = bench.request.peer.as_ref().map(|peer| bench.start(peer)).transpose()?;
        Ok(bench)
    }

    /// Returns the FLOP/s of the largest matrix product.
    pub fn peak(&self) -> f64 {
        self.peak
    }

    /// Measures the speed at one batch size.
    pub fn row(&mut self, batch: i64, observer: &dyn Observer) -> Result<BenchRow, Error> {
        go_on(observer)?;
        let row = self.alone(batch)?;
        let Some(mut peer) = self.peer.take() else { return Ok(row) };
        let (ratio, seconds, memory) = self.against(&mut peer, batch, observer)?;
        self.peer = Some(peer);
        Ok(BenchRow { ratio: Some(ratio), peer_ms: Some(seconds * 1e3), peer_memory_mb: Some(memory), ..row })
    }

    /// Measures some steps of the model's own walk, without the peer.
    fn alone(&self, batch: i64) -> Result<BenchRow, Error> {
        let Self { model, session, peak, .. } = self;
        let (plan, device) = (&model.card.sample, session.device);
        let ResolvedPlan { sigmas, scheme, .. } = plan.resolve(model.range(), f64::INFINITY)?;
        let [channels, height, width] = model.card.image;
        let noise = Seeded((0..batch as u64).collect());
        let like = Tensor::zeros([batch, channels, height, width], (Kind::Float, device));
        let x = noise.like(&like, 0, 0) * sigmas.max();
        let evaluations = scheme.asked().count() as f64;
        let tensors = device_memory(device);
        let Spent { network, rest, flops } = if device.is_cuda() && !self.request.gradient {
            self.by_turns(&model.denoiser, &scheme, &x, &noise)
        } else {
            self.by_steps(&model.denoiser, &scheme, &x, &noise)
        };
        Ok(BenchRow {
            batch,
            network_ms: network * 1e3,
            rest_ms: rest * 1e3,
            evaluations_per_second: batch as f64 / (network + rest),
            images_per_second: batch as f64 / ((network + rest) * evaluations),
            teraflops: flops / network / 1e12,
            share_of_peak: flops / network / peak,
            peak_memory_mb: if tensors.is_some() { device_memory(device) } else { memory() },
            ratio: None,
            peer_ms: None,
            peer_memory_mb: None,
        })
    }

    /// Measures step by step; the first step is not counted.
    fn by_steps(&self, denoiser: &Pretrained, scheme: &Scheme, x: &Tensor, noise: &Seeded) -> Spent {
        let device = x.device();
        let (network, evaluations) = (Cell::default(), Cell::default());
        let prior = Timed { prior: denoiser, gradient: self.request.gradient, device, network, evaluations };
        let (mut whole, mut inside, mut work, mut asked) = (Vec::new(), Vec::new(), 0.0, 0);
        let mut start = (Instant::now(), layers::flops());
        for (step, _) in sample(scheme, x.shallow_clone(), &prior, noise).take(self.request.steps.max(2)).enumerate() {
            synchronize(device);
            let (seconds, network, count) =
                (start.0.elapsed().as_secs_f64(), prior.network.take(), prior.evaluations.take());
            if step > 0 {
                whole.push((seconds - network).max(0.0));
                inside.push(network / f64::from(count.max(1)));
                asked += count;
                work = layers::flops() - start.1;
            }
            start = (Instant::now(), layers::flops());
        }
        let each = f64::from(asked) / whole.len() as f64;
        Spent { network: median(&mut inside), rest: median(&mut whole) / each, flops: work / each }
    }

    /// Alternates turns of all steps with turns of as many evaluations of the network alone. A GPU works while the next
    /// evaluations are prepared, so this process waits for it only at the ends of turns; the first turns are not
    /// counted.
    fn by_turns(&self, denoiser: &Pretrained, scheme: &Scheme, x: &Tensor, noise: &Seeded) -> Spent {
        let _guard = tch::no_grad_guard();
        let label = Tensor::full([x.size()[0]], LABEL, (Kind::Float, x.device()));
        let walk = || {
            let watched = FiniteGuard::new(denoiser);
            sample(scheme, x.shallow_clone(), &watched, noise).take(self.request.steps.max(2)).for_each(drop);
            watched.evaluations()
        };
        let asked = walk();
        let alone = || (0..asked).for_each(|_| drop(denoiser.network.forward(x, &label, None)));
        alone();
        let (mut whole, mut inside) = (Vec::new(), Vec::new());
        let before = layers::flops();
        for _ in 0..TURNS {
            whole.push(seconds(x.device(), walk));
            inside.push(seconds(x.device(), alone));
        }
        let flops = (layers::flops() - before) / (2 * TURNS * asked) as f64;
        let network = median(&mut inside) / asked as f64;
        Spent { network, rest: (median(&mut whole) / asked as f64 - network).max(0.0), flops }
    }

    /// Starts the peer with the same weights: from the model's own diffusers folder, or from a temporary one with the
    /// model's weights.
    fn start(&self, request: &PeerRequest) -> Result<Peer, Error> {
        if request.script.is_some() {
            return self.process(request, &request.model, None);
        }
        let beside = self.model.source.parent().filter(|folder| folder.join("config.json").exists());
        match (beside, &self.model.card.network) {
            (Some(folder), _) => self.process(request, folder, None),
            (None, AnyNetwork::Unet(config)) => {
                let made = tempfile::tempdir().map_err(|e| Error::file("the temporary folder", e))?;
                write(config, self.model, made.path())?;
                let folder = made.path().to_owned();
                self.process(request, &folder, Some(made))
            }
            (None, _) => {
                let cause = "`compare` knows UNet2DModel of diffusers alone: `peer` FILE.py serves others";
                Err(Error::file(&request.model, cause))
            }
        }
    }

    fn process(&self, request: &PeerRequest, folder: &Path, made: Option<tempfile::TempDir>) -> Result<Peer, Error> {
        let python = &request.python;
        let mut command = Command::new(python);
        match &request.script {
            Some(script) => command.arg(script),
            None => command.args(["-c", PEER]),
        };
        let mode = match (self.request.gradient, request.compiled) {
            (false, false) => "eager",
            (false, true) => "compile",
            (true, false) => "gradient",
            (true, true) => "gradient-compile",
        };
        let threads = tch::get_num_threads().to_string();
        let (device, precision) = (libtorch::kind(self.session.device), self.session.precision.name());
        command.arg(folder).args([&threads, mode, device, precision]);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.map_err(|e| Error::file(python, format!("cannot be started: {e}")))?;
        let (Some(questions), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err(Error::file(python, "has no standard input and output"));
        };
        let mut peer = Peer { process, questions, answers: BufReader::new(answers), _folder: made };
        if !peer.answer()?.starts_with("ready") {
            return Err(Error::file(python, "needs torch and diffusers, or the packages that its script imports"));
        }
        Ok(peer)
    }

    /// Alternates turns of this program and of the peer; returns the median ratio of the peer's seconds to ours, the
    /// median of the peer's seconds, and its peak memory in MB.
    ///
    /// On a GPU a turn has enough evaluations that the waits at its ends are negligible. The first turns are not
    /// counted, since the peer may compile in them and both programs may record the graphs that they replay later.
    fn against(&self, peer: &mut Peer, batch: i64, observer: &dyn Observer) -> Result<(f64, f64, f64), Error> {
        let (model, device) = (self.model, self.session.device);
        let [channels, height, width] = model.card.image;
        let options = (self.session.kind()?, Device::Cpu);
        let x = layers::channels_last(&Tensor::randn([batch, channels, height, width], options).to_device(device));
        let label = Tensor::full([batch], LABEL, (Kind::Float, device));
        let (low, high) = model.range();
        let turn = |times: usize| {
            let evaluate = |_| {
                if self.request.gradient {
                    drop(steered(&x, |x| model.denoiser.denoise(x, (low * high).sqrt())));
                } else {
                    drop(tch::no_grad(|| model.denoiser.network.forward(&x, &label, None)));
                }
            };
            seconds(device, || (0..times).for_each(evaluate)) / times as f64
        };
        let (mut ratios, mut theirs, mut memory) = (Vec::new(), Vec::new(), 0.0);
        let (first, times) = if device.is_cuda() {
            turn(Graphed::PATIENCE + 2);
            (Graphed::PATIENCE + 2, (TURN / turn(1)).clamp(1.0, 100.0) as usize)
        } else {
            (1, 1)
        };
        let rounds = self.request.peer.as_ref().map_or(0, |peer| peer.rounds);
        for round in 0..first + rounds {
            go_on(observer)?;
            thread::sleep(PAUSE);
            let ours = turn(times);
            thread::sleep(PAUSE);
            let (seconds, most) = peer.forward(batch, channels, height, times)?;
            memory = most;
            if round >= first {
                ratios.push(seconds / ours);
                theirs.push(seconds);
            }
        }
        Ok((median(&mut ratios), median(&mut theirs), memory))
    }
}

/// Seconds of the network, seconds of everything else, and floating-point operations, for each evaluation.
struct Spent {
    network: f64,
    rest: f64,
    flops: f64,
}

/// A denoiser that measures the time of its network.
struct Timed<'a> {
    prior: &'a Pretrained,
    gradient: bool,
    device: Device,
    network: Cell<f64>,
    evaluations: Cell<u32>,
}

impl Timed<'_> {
    fn timed(&self, x: &Tensor, evaluate: impl Fn(&Tensor) -> Tensor) -> Tensor {
        synchronize(self.device);
        let start = Instant::now();
        let y = if self.gradient { steered(x, evaluate) } else { evaluate(x) };
        synchronize(self.device);
        self.network.set(self.network.get() + start.elapsed().as_secs_f64());
        self.evaluations.set(self.evaluations.get() + 1);
        y
    }
}

impl Denoiser for Timed<'_> {
    fn denoise(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.timed(x, |x| self.prior.denoise(x, sigma))
    }

    fn residual(&self, x: &Tensor, sigma: f64) -> Tensor {
        self.timed(x, |x| self.prior.residual(x, sigma))
    }
}

/// Evaluates f = `evaluate` at x and the gradient of ‖A f(x)‖ with respect to x, where A selects the left half.
fn steered(x: &Tensor, evaluate: impl Fn(&Tensor) -> Tensor) -> Tensor {
    let leaf = x.detach().set_requires_grad(true);
    let (y, misfit) = tch::with_grad(|| {
        let y = evaluate(&leaf);
        let misfit = y.narrow(3, 0, y.size()[3] / 2).norm();
        (y, misfit)
    });
    let _ = Tensor::run_backward(&[misfit], &[leaf], false, false);
    y.detach()
}

/// A Python process that computes forward passes on request.
#[derive(Debug)]
struct Peer {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    _folder: Option<tempfile::TempDir>,
}

impl Peer {
    fn answer(&mut self) -> Result<String, Error> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(|e| Error::request(format!("the peer does not answer: {e}")))?;
        Ok(line.trim().to_owned())
    }

    /// Returns the mean seconds of one of `times` forward passes, and the peak memory of the peer in MB.
    fn forward(&mut self, batch: i64, channels: i64, side: i64, times: usize) -> Result<(f64, f64), Error> {
        let failed = || Error::request("the peer has failed: its own words are above");
        writeln!(self.questions, "{batch} {channels} {side} {times}").map_err(|_| failed())?;
        let answer = self.answer()?;
        let (seconds, memory) = answer.split_once(' ').ok_or_else(failed)?;
        Ok((seconds.parse().map_err(|_| failed())?, memory.parse().map_err(|_| failed())?))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Writes the network as a diffusers folder.
fn write(config: &UNetConfig, model: &Model, folder: &Path) -> Result<(), Error> {
    let tensors = model.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    safetensors::write(&folder.join("diffusion_pytorch_model.safetensors"), &tensors, &Metadata::new())?;
    let (path, text) = (folder.join("config.json"), described(config, model.card.image[1])?.to_string());
    fs::write(&path, text).map_err(|e| Error::file(&path, e))
}

/// Describes the network as a diffusers configuration.
fn described(config: &UNetConfig, side: i64) -> Result<Value, Error> {
    if config.attends_once_up || config.null_class.is_some() || !config.middle_attention {
        let cause = "`compare` does not know this network's arrangement of attention or classes";
        return Err(Error::request(cause));
    }
    let levels = 0..config.block_out_channels.len();
    let block = |direction: &str, level: usize| {
        let attention = if config.attention_levels.contains(&level) { "Attn" } else { "" };
        format!("{attention}{direction}Block2D")
    };
    let down: Vec<String> = levels.clone().map(|level| block("Down", level)).collect();
    let up: Vec<String> = levels.rev().map(|level| block("Up", level)).collect();
    Ok(json!({
        "_class_name": "UNet2DModel", "sample_size": side, "in_channels": config.in_channels,
        "out_channels": config.out_channels.unwrap_or(config.in_channels), "down_block_types": down, "up_block_types": up,
        "block_out_channels": config.block_out_channels, "layers_per_block": config.layers_per_block,
        "attention_head_dim": config.attention_head_dim, "norm_num_groups": config.norm_num_groups,
        "norm_eps": config.norm_eps, "flip_sin_to_cos": config.flip_sin_to_cos, "freq_shift": config.freq_shift,
        "downsample_padding": config.downsample_padding, "num_class_embeds": config.num_class_embeds, "act_fn": "silu",
    }))
}

/// Measures the FLOP/s of a matrix product as large as is reasonable to wait for, by libtorch or by the kernels,
/// whichever are faster.
fn peak(device: Device, kind: Kind) -> f64 {
    let (side, times) = if device.is_cuda() { (8192, 10) } else { (1536, 1) };
    let _guard = tch::no_grad_guard();
    let [a, b] = [0, 1].map(|_| Tensor::randn([side, side], (Kind::Float, device)).to_kind(kind));
    let work = 2.0 * (side as f64).powi(3) * f64::from(times);
    let most = |product: &dyn Fn() -> Tensor| {
        let products = || (0..times).for_each(|_| drop(product()));
        (0..8).map(|_| work / seconds(device, products)).fold(0.0, f64::max)
    };
    let by_libtorch = most(&|| a.matmul(&b));
    let rows = a.view([1, side, 1, side]).permute([0, 3, 1, 2]);
    if !kernels::take(&rows, &[&b], &[]) {
        return by_libtorch;
    }
    let packed = Packed::new(&b, ConvGeometry::SINGLE, Direction::Forward, ConvMethod::Direct);
    by_libtorch.max(most(&|| packed.convolve(&rows, &kernels::ConvFusion::default())))
}

/// Returns the peak memory of the process in MB; `None` where the system does not report it.
fn memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1024.0)
}

/// Returns the peak memory of tensors on a GPU since the last call, in MB.
fn device_memory(device: Device) -> Option<f64> {
    let Device::Cuda(index) = device else { return None };
    cuda::peak_memory(index).ok().map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// Measures the seconds for which the device is busy with the work of `launch`.
fn seconds<T>(device: Device, launch: impl FnOnce() -> T) -> f64 {
    synchronize(device);
    let start = Instant::now();
    let _made = launch();
    synchronize(device);
    start.elapsed().as_secs_f64()
}

fn synchronize(device: Device) {
    if let Device::Cuda(index) = device {
        Cuda::synchronize(index as i64);
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
