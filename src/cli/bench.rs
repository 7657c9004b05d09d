//! `tweedie bench`: how fast a network is here, and where the time goes.

use std::{
    cell::Cell,
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::{Value, json};
use tch::{Cuda, Device, Kind, Tensor};
use tweedie::{
    backend::{
        cuda,
        kernels::{self, ConvGeometry, Direction, Method, Packed},
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

use super::{Common, not_interrupted};

/// Threads that wait for work turn round and round for some milliseconds before they sleep: a turn begins after that.
const PAUSE: Duration = Duration::from_millis(30);
/// What networks are told of σ where that decides nothing.
const LABEL: f64 = 500.0;
/// Turns on a GPU.
const TURNS: usize = 5;
/// Seconds of a turn beside a peer on a GPU, at least.
const TURN: f64 = 0.05;
const PEER: &str = include_str!("../../tests/parity/bench.py");

/// Measure a network's speed: images and evaluations per second, the loop's share, FLOP/s, memory
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  tweedie bench fashion-mnist
  tweedie bench fashion-mnist --gradient --batches 4
  tweedie bench google/ddpm-cifar10-32/ --batches 1,4,16 --compare --python .venv/bin/python")]
pub struct Bench {
    #[arg(help = super::MODEL)]
    model: String,
    /// Sizes of the batch, one after another
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64", value_name = "N,…")]
    batches: Vec<i64>,
    /// Steps of the model's own walk for each of them; of these, the first is not counted
    #[arg(long, default_value_t = 6, value_name = "K")]
    steps: usize,
    /// Of each evaluation also the gradient of a misfit through the network, as DPS asks for it
    #[arg(long)]
    gradient: bool,
    /// Beside PyTorch's UNet2DModel of diffusers with the same weights: turn by turn, median of the ratios
    #[arg(long)]
    compare: bool,
    /// Compare with its torch.compile, frozen; minutes for each size of batch
    #[arg(long, requires = "compare")]
    compiled: bool,
    /// Compare with what this script serves in place of UNet2DModel, as tests/parity/forwards.py does for other classes
    #[arg(long, requires = "compare", value_name = "FILE.py")]
    peer: Option<PathBuf>,
    /// Turns of the comparison
    #[arg(long, default_value_t = 15, value_name = "N")]
    rounds: usize,
    /// A Python that has torch and diffusers
    #[arg(long, default_value = "python3", value_name = "PATH")]
    python: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// One size of batch. Seconds are medians over steps.
#[derive(Debug, Serialize)]
struct Row {
    batch: i64,
    network_ms: f64,
    rest_ms: f64,
    evaluations_per_second: f64,
    images_per_second: f64,
    teraflops: f64,
    /// Of the largest matrix product measured in this run.
    share_of_peak: f64,
    /// Of the process so far; on a GPU, of tensors while this size was measured.
    peak_memory_mb: Option<f64>,
    /// The peer's seconds by ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_ms: Option<f64>,
    /// Of the peer's process so far; on a GPU, of its tensors.
    #[serde(skip_serializing_if = "Option::is_none")]
    peer_memory_mb: Option<f64>,
}

impl Bench {
    pub fn run(&self) -> Result<()> {
        let (model, device) = self.common.open(&self.model)?;
        let peak = peak(device, self.common.kind(device)?);
        let mut peer = self.compare.then(|| self.peer(&model, device)).transpose()?;
        self.common.say(format_args!(
            "{} {}, kernels: {}; matrix peak {:.3} TFLOP/s\n{:>6} {:>12} {:>9} {:>7} {:>9} {:>9} {:>9} {:>7} {:>8}  peer / ours",
            self.common.arithmetic(),
            if device.is_cuda() { "on CUDA" } else { "on the CPU" },
            kernels::instructions().unwrap_or("libtorch's"),
            peak / 1e12,
            "batch", "network ms", "rest ms", "rest %", "evals/s", "images/s", "TFLOP/s", "% peak", "memory MB"
        ));
        let mut rows = Vec::new();
        for &batch in &self.batches {
            not_interrupted()?;
            let mut row = self.row(&model, batch, peak, device)?;
            if let Some(peer) = &mut peer {
                let (ratio, seconds, memory) = self.against(peer, &model, batch, device)?;
                (row.ratio, row.peer_ms, row.peer_memory_mb) = (Some(ratio), Some(seconds * 1e3), Some(memory));
            }
            self.common.say(line(&row));
            rows.push(row);
        }
        let best = rows.iter().max_by(|a, b| a.images_per_second.total_cmp(&b.images_per_second));
        let best = best.map(|row| row.batch);
        self.common.say(format_args!("best batch: {}", best.unwrap_or_default()));
        let (threads, refusals) = (tch::get_num_threads(), model.denoiser.network.refusals());
        for why in &refusals {
            self.common.say(format_args!("note: launched layer by layer: {why}"));
        }
        self.common.record(
            &json!({"model": model.card.name, "arithmetic": self.common.arithmetic(), "threads": threads,
            "kernels": kernels::instructions(), "peak_teraflops": peak / 1e12, "rows": rows, "best_batch": best,
            "refusals": refusals}),
        )
    }

    /// Some steps of the model's own walk.
    fn row(&self, model: &Model, batch: i64, peak: f64, device: Device) -> Result<Row> {
        let plan = &model.card.sample;
        let ResolvedPlan { sigmas, scheme, .. } = plan.resolve(model.range(), f64::INFINITY)?;
        let [channels, height, width] = model.card.image;
        let noise = Seeded((0..batch as u64).collect());
        let like = Tensor::zeros([batch, channels, height, width], (Kind::Float, device));
        let x = noise.like(&like, 0, 0) * sigmas.max();
        let evaluations = scheme.asked().count() as f64;
        let tensors = device_memory(device);
        let Spent { network, rest, flops } = if device.is_cuda() && !self.gradient {
            self.by_turns(&model.denoiser, &scheme, &x, &noise)
        } else {
            self.by_steps(&model.denoiser, &scheme, &x, &noise)
        };
        Ok(Row {
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

    /// Step by step; the first is not counted.
    fn by_steps(&self, denoiser: &Pretrained, scheme: &Scheme, x: &Tensor, noise: &Seeded) -> Spent {
        let device = x.device();
        let (network, evaluations) = (Cell::default(), Cell::default());
        let prior = Timed { prior: denoiser, gradient: self.gradient, device, network, evaluations };
        let (mut whole, mut inside, mut work, mut asked) = (Vec::new(), Vec::new(), 0.0, 0);
        let mut start = (Instant::now(), layers::flops());
        for (step, _) in sample(scheme, x.shallow_clone(), &prior, noise).take(self.steps.max(2)).enumerate() {
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

    /// Turns of all steps beside turns of as many evaluations of the network alone. A GPU works on while the next of them are
    /// prepared, so that this process waits for it at the ends of turns alone; the first turns are not counted.
    fn by_turns(&self, denoiser: &Pretrained, scheme: &Scheme, x: &Tensor, noise: &Seeded) -> Spent {
        let _guard = tch::no_grad_guard();
        let label = Tensor::full([x.size()[0]], LABEL, (Kind::Float, x.device()));
        let walk = || {
            let watched = FiniteGuard::new(denoiser);
            sample(scheme, x.shallow_clone(), &watched, noise).take(self.steps.max(2)).for_each(drop);
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

    /// The peer, with the same weights: in the model's own folder of diffusers, or in one made of them.
    fn peer(&self, model: &Model, device: Device) -> Result<Peer> {
        if let Some(script) = &self.peer {
            return self.start(Some(script), Path::new(&self.model), device, None);
        }
        let beside = model.source.parent().filter(|folder| folder.join("config.json").exists());
        match (beside, &model.card.network) {
            (Some(folder), _) => self.start(None, folder, device, None),
            (None, AnyNetwork::Unet(config)) => {
                let made = tempfile::tempdir()?;
                write(config, model, made.path())?;
                let folder = made.path().to_owned();
                self.start(None, &folder, device, Some(made))
            }
            (None, _) => {
                bail!("{}: --compare knows UNet2DModel of diffusers alone: --peer FILE.py serves others", self.model)
            }
        }
    }

    fn start(
        &self,
        script: Option<&Path>,
        folder: &Path,
        device: Device,
        made: Option<tempfile::TempDir>,
    ) -> Result<Peer> {
        let python = &self.python;
        let mut command = Command::new(python);
        match script {
            Some(script) => command.arg(script),
            None => command.args(["-c", PEER]),
        };
        let mode = match (self.gradient, self.compiled) {
            (false, false) => "eager",
            (false, true) => "compile",
            (true, false) => "gradient",
            (true, true) => "gradient-compile",
        };
        let threads = tch::get_num_threads().to_string();
        let device = libtorch::kind(device);
        let precision = self.common.precision.name();
        command.arg(folder).args([&threads, mode, device, precision]);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut process = started.with_context(|| format!("{}: cannot be started", python.display()))?;
        let (Some(questions), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            bail!("{}: has no standard input and output", python.display());
        };
        let mut peer = Peer { process, questions, answers: BufReader::new(answers), _folder: made };
        if !peer.answer()?.starts_with("ready") {
            bail!("{}: needs torch and diffusers, or what its script asks for", python.display());
        }
        Ok(peer)
    }

    /// Turn by turn: the median of the peer's seconds by ours, and of the peer's seconds; and its memory in MB.
    ///
    /// On a GPU a turn is so many evaluations that both ends of it cost nothing, and the first few are not counted: there, the
    /// peer may compile and both may record what they replay.
    fn against(&self, peer: &mut Peer, model: &Model, batch: i64, device: Device) -> Result<(f64, f64, f64)> {
        let [channels, height, width] = model.card.image;
        let options = (self.common.kind(device)?, Device::Cpu);
        let x = layers::channels_last(&Tensor::randn([batch, channels, height, width], options).to_device(device));
        let label = Tensor::full([batch], LABEL, (Kind::Float, device));
        let (low, high) = model.range();
        let turn = |times: usize| {
            let evaluate = |_| {
                if self.gradient {
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
        for round in 0..first + self.rounds {
            not_interrupted()?;
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

/// Seconds of an evaluation, of what surrounds it, and its floating-point operations.
struct Spent {
    network: f64,
    rest: f64,
    flops: f64,
}

/// A denoiser that notes how long its network takes.
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

/// What is evaluated at x, once the gradient of ‖A f(x)‖ by x was asked for, where A sees the left half.
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

/// A process of Python that computes a forward when it is asked for one.
struct Peer {
    process: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
    _folder: Option<tempfile::TempDir>,
}

impl Peer {
    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        Ok(line.trim().to_owned())
    }

    /// Its seconds for one of so many forwards, and the most memory that it has had so far, in MB.
    fn forward(&mut self, batch: i64, channels: i64, side: i64, times: usize) -> Result<(f64, f64)> {
        writeln!(self.questions, "{batch} {channels} {side} {times}")?;
        let answer = self.answer()?;
        let (seconds, memory) = answer.split_once(' ').context("the peer has failed: its own words are above")?;
        Ok((seconds.parse()?, memory.parse()?))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A folder of diffusers with the network.
fn write(config: &UNetConfig, model: &Model, folder: &Path) -> Result<()> {
    let tensors = model.parameters.iter().map(|(name, tensor)| (name.clone(), tensor.shallow_clone())).collect();
    safetensors::write(&folder.join("diffusion_pytorch_model.safetensors"), &tensors, &Metadata::new())?;
    Ok(fs::write(folder.join("config.json"), described(config, model.card.image[1])?.to_string())?)
}

/// The network in the words of diffusers.
fn described(config: &UNetConfig, side: i64) -> Result<Value> {
    if config.attends_once_up || config.null_class.is_some() || !config.middle_attention {
        bail!("--compare does not know this network's arrangement of attention or classes");
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

fn line(row: &Row) -> String {
    let memory = row.peak_memory_mb.map_or("-".to_owned(), |mb| format!("{mb:.0}"));
    let ratio = row.ratio.map_or(String::new(), |ratio| format!("  {ratio:.2}"));
    let peer =
        row.peer_ms.zip(row.peer_memory_mb).map_or(String::new(), |(ms, mb)| format!(" ({ms:.1} ms, {mb:.0} MB)"));
    format!(
        "{:>6} {:>12.2} {:>9.2} {:>7.1} {:>9.1} {:>9.3} {:>9.3} {:>7.0} {memory:>9}{ratio}{peer}",
        row.batch,
        row.network_ms,
        row.rest_ms,
        100.0 * row.rest_ms / (row.network_ms + row.rest_ms),
        row.evaluations_per_second,
        row.images_per_second,
        row.teraflops,
        100.0 * row.share_of_peak,
    )
}

/// FLOP/s of the largest matrix product that is reasonable to wait for, by libtorch or by the kernels, whichever are faster.
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
    let packed = Packed::new(&b, ConvGeometry::SINGLE, Direction::Forward, Method::Direct);
    by_libtorch.max(most(&|| packed.convolve(&rows, &kernels::Fusion::default())))
}

/// The most memory that the process has held so far, in MB, where the system tells.
fn memory() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()? / 1024.0)
}

/// The most memory that tensors have had on a GPU since this was last asked, in MB.
fn device_memory(device: Device) -> Option<f64> {
    let Device::Cuda(index) = device else { return None };
    cuda::peak_memory(index).ok().map(|bytes| bytes as f64 / f64::from(1 << 20))
}

/// How long the device is busy with what `launch` gives it.
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
