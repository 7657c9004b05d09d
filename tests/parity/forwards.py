"""Whole forwards of the program beside the networks' own classes, turn by turn: the table of experiments/speed.md.

    forwards.py [--device cuda --precision bf16] [--compiled] [--rounds N] [NAME ...]

Each network gets random weights, is saved as its authors publish it, and is run by `tweedie bench --compare`, whose peer is this
file again: forwards.py MODEL THREADS MODE DEVICE PRECISION.

  ddpm-cifar10      google/ddpm-cifar10-32, by diffusers
  edm-vp, edm-ve    EDM's DDPM++ and NCSN++ for CIFAR-10, by deepinv, which has EDM's class
  ncsnpp-256        google/ncsnpp-*-256, by diffusers
  adm-ffhq          ffhq_10m.pt of guided-diffusion at 256x256, by azula, which has its class
  score-sde-ve      score_sde's NCSN++ for CIFAR-10 (VE, continuous), by its own repository, whose folder SCORE_SDE tells; on the
                    CPU alone, and left out where there is none
"""

import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile

import torch
from diffusers import UNet2DModel

import bench
from common import ROOT, redraw, save_ddpm
from networks import adm_unet, save_ncsnpp, score_sde_unet, song_unet

NETWORKS = {
    "ddpm-cifar10": ("ddpm-cifar10", [1, 4, 16], [1, 256]),
    "edm-vp": ("edm-cifar10-32x32-uncond-vp.pt", [1, 4], [1, 256]),
    "edm-ve": ("edm-cifar10-32x32-uncond-ve.pt", [1, 4], [1, 256]),
    "ncsnpp-256": ("ncsnpp-256", [1], [1, 16]),
    "adm-ffhq": ("ffhq_10m.pt", [1], [1, 32]),
} | ({"score-sde-ve": ("ve-cifar10-ncsnpp-continuous.pth", [1, 4], [])} if os.environ.get("SCORE_SDE") else {})
"""By name: the checkpoint, and sizes of the batch on the CPU and on CUDA."""

MODULES = {
    "ffhq_10m.pt": adm_unet,
    "edm-cifar10-32x32-uncond-vp.pt": lambda: song_unet("ddpm"),
    "edm-cifar10-32x32-uncond-ve.pt": lambda: song_unet("ncsn"),
    "ve-cifar10-ncsnpp-continuous.pth": score_sde_unet,
}


def write(path):
    if path.name == "ddpm-cifar10":
        save_ddpm(path, seed=1)
    elif path.name == "ncsnpp-256":
        save_ncsnpp(path)
    else:
        # EDM's programs have the network within its preconditioning.
        prefix = "model." if path.name.startswith("edm") else ""
        state = redraw(MODULES[path.name](), seed=5).state_dict()
        torch.save({prefix + key: tensor for key, tensor in state.items()}, path)


def read(path):
    if path.is_dir():
        return UNet2DModel.from_pretrained(path).eval()
    module = MODULES[path.name]()
    state = torch.load(path, weights_only=True)
    module.load_state_dict({key.removeprefix("model."): tensor for key, tensor in state.items()})
    return module.eval()


def beside(script, args, path, batch, *more, environment=None):
    """The row of `tweedie bench --compare` for this file and batch, with what `script` serves."""
    call = [args.tweedie, "bench", path, "--batches", batch, "--rounds", args.rounds, "--json", "--device", args.device]
    call += ["--compare", "--python", sys.executable, "--peer", script, *more]
    done = subprocess.run([*map(str, call)], check=True, capture_output=True, text=True, env=environment)
    return json.loads(done.stdout)["rows"][0]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which networks (default: all)")
    parser.add_argument("--tweedie", default=ROOT / "target/release/tweedie", help="the program")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--compiled", action="store_true", help="the peers by torch.compile")
    parser.add_argument("--rounds", type=int, default=15, help="turns (default: 15)")
    args = parser.parse_args()
    print("| network | batch | own class, ms | ours, ms | ratio | memory, theirs : ours, MB | share of the matrix peak |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or NETWORKS:
            file, cpu, cuda = NETWORKS[name]
            path = pathlib.Path(folder) / file
            write(path)
            for batch in cuda if args.device.startswith("cuda") else cpu:
                more = ["--steps", 4, "--precision", args.precision] + ["--compiled"] * args.compiled
                row = beside(__file__, args, path, batch, *more)
                print(f"| {name} | {batch} | {row['peer_ms']:.1f} | {row['peer_ms'] / row['ratio']:.1f} | {row['ratio']:.2f} | "
                      f"{row['peer_memory_mb']:.0f} : {row['peak_memory_mb'] or math.nan:.0f} | {row['share_of_peak']:.0%} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[2].isdigit():
        bench.serve(read(pathlib.Path(sys.argv[1])), *sys.argv[2:])
    else:
        main()
