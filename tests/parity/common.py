"""What the comparisons share: random weights, DDPM's chain, calls of the program, and the measure of a difference."""

import argparse
import math
import pathlib
import subprocess
import sys

import numpy
import torch
from diffusers import DDPMScheduler, UNet2DModel

ROOT = pathlib.Path(__file__).resolve().parents[2]

CIFAR10 = dict(
    sample_size=32,
    in_channels=3,
    out_channels=3,
    layers_per_block=2,
    block_out_channels=(128, 256, 256, 256),
    down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"),
    up_block_types=("UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    time_embedding_type="positional",
    flip_sin_to_cos=False,
    freq_shift=1,
    center_input_sample=False,
    downsample_padding=0,
    mid_block_scale_factor=1,
    act_fn="silu",
    attention_head_dim=None,
    norm_num_groups=32,
    norm_eps=1e-6,
)
"""google/ddpm-cifar10-32."""

CHAIN = dict(num_train_timesteps=1000, beta_start=1e-4, beta_end=0.02, beta_schedule="linear")
"""DDPM's chain, as diffusers writes it."""


def arguments(about):
    """A parser with what every script takes."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tweedie", default=ROOT / "target/release/tweedie", help="the program")
    parser.add_argument("--folder", type=pathlib.Path, help="keep the files here (default: a temporary folder)")
    parser.add_argument("--device", default="cpu", help="where the program computes (default: cpu)")
    return parser


class Program:
    """The program under test, with the flags that its commands share; `walk` computes nothing, and takes no device."""

    def __init__(self, args):
        self.path = str(args.tweedie)
        self.device = ["--device", args.device]

    def run(self, *words):
        """Standard output; ends this script if the program fails."""
        call = [self.path, *map(str, words), *([] if words[0] == "walk" else self.device), "--quiet"]
        done = subprocess.run(call, capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{' '.join(call)}\nended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def denoise(self, checkpoint, sigma, z, folder):
        """D(z, sigma) as the program has it."""
        numpy.save(folder / "z.npy", z.numpy())
        self.run("denoise", checkpoint, "--sigma", repr(sigma), folder / "z.npy", folder / "out.npy")
        return torch.from_numpy(numpy.load(folder / "out.npy"))


def redraw(module, seed):
    """Draws every trained parameter anew, so that none is zero: weights of unit gain, norms near 1, biases of 0.1."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in module.named_parameters():
        if not parameter.requires_grad:
            continue
        normal = torch.randn(parameter.shape, generator=generator)
        if parameter.ndim > 1:
            value = normal * math.sqrt(parameter.shape[0] / parameter.numel())
        elif name.endswith("weight"):
            value = 1 + 0.1 * normal
        else:
            value = 0.1 * normal
        parameter.data.copy_(value)
    return module.eval()


def uniform(seed, count):
    """Numbers in [0, 1) on a grid of 2^-24: splitmix64 of seed 2^32 + i."""
    z = (numpy.arange(count, dtype=numpy.uint64) + numpy.uint64(seed << 32)) * numpy.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    z ^= z >> numpy.uint64(31)
    return (z >> numpy.uint64(40)).astype(numpy.float64) / 2**24


def noisy(shape, sigma, seed, black=-1.0, white=1.0):
    """clean + sigma n, f32, with clean uniform on black ... white."""
    generator = torch.Generator().manual_seed(seed)
    clean = black + (white - black) * torch.rand(shape, generator=generator)
    return clean + sigma * torch.randn(shape, generator=generator)


def alpha_bar():
    """DDPM's cumulative products of 1 - beta, in f64."""
    betas = torch.linspace(CHAIN["beta_start"], CHAIN["beta_end"], CHAIN["num_train_timesteps"], dtype=torch.float64)
    return torch.cumprod(1 - betas, 0)


def sigma_at(t):
    """The sigma of DDPM's time t: sqrt((1 - abar) / abar)."""
    a = alpha_bar()[t].item()
    return math.sqrt((1 - a) / a)


def from_epsilon(epsilon, z, t):
    """D(z, sigma_t) by a network that predicts noise: (x - sqrt(1 - abar) eps) / sqrt(abar) at x = sqrt(abar) z."""
    a = alpha_bar()[t]
    x = a.sqrt() * z.double()
    predicted = epsilon(x.float(), torch.full((len(z),), t)).double()
    return (x - (1 - a).sqrt() * predicted) / a.sqrt()


def save_ddpm(folder, seed, **changes):
    """A folder of diffusers in the layout of google/ddpm-cifar10-32, with random weights."""
    redraw(UNet2DModel(**{**CIFAR10, **changes}), seed).save_pretrained(folder)
    DDPMScheduler(**CHAIN, variance_type="fixed_large", clip_sample=True).save_pretrained(folder)


def relative(found, expected):
    """max |found - expected| / max |expected|."""
    found, expected = found.double(), expected.double()
    if found.shape != expected.shape:
        sys.exit(f"the program wrote {tuple(found.shape)}, but {tuple(expected.shape)} was expected")
    return ((found - expected).abs().max() / expected.abs().max()).item()


def report(name, error, tolerance):
    """Prints one line; whether the error is within the tolerance (NaN is not)."""
    within = error < tolerance
    print(f"{name:<44} {error:9.2e}   {'ok' if within else f'MISSED {tolerance:g}'}", flush=True)
    return within
