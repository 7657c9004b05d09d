"""A step of DPS by the program beside PyTorch, turn by turn: the table of gradients in experiments/speed.md.

    gradients.py [--frozen] [--checkpoint] [--rounds N] [--device cuda] [NAME ...]

A step is the network's answer, D, the norm of what a measurement of half the image leaves, and its gradient by the noisy image,
by `tweedie bench --gradient --compare`, whose peer is this file again: gradients.py MODEL THREADS MODE DEVICE PRECISION. As in
DPS's program (model.eval(), and no more) the peer's parameters could have gradients too; --frozen takes that from them. That
program keeps all states of its network for the way back; --checkpoint computes those within blocks again, as azula does always.

  adm-ffhq          ffhq_10m.pt of guided-diffusion at 256x256, by azula, which has its class
  ddpm-cifar10      google/ddpm-cifar10-32, by diffusers
"""

import argparse
import os
import pathlib
import sys
import tempfile

import bench
from common import ROOT
from forwards import beside, read, write

NETWORKS = {"adm-ffhq": ("ffhq_10m.pt", [1, 4]), "ddpm-cifar10": ("ddpm-cifar10", [4, 16])}
"""By name: the checkpoint, and sizes of the batch."""

FROZEN, CHECKPOINT = "TWEEDIE_PEER_FROZEN", "TWEEDIE_PEER_CHECKPOINT"
"""How the two options reach the peer's process."""


def peer(path):
    """The network as DPS's program has it, but for what the options say."""
    if path.is_file() and CHECKPOINT not in os.environ:
        from azula.plugins.adm._src import unet

        unet.checkpoint = lambda forward, *inputs, use_reentrant: forward(*inputs)
    return read(path).requires_grad_(FROZEN not in os.environ)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which networks (default: all)")
    parser.add_argument("--tweedie", default=ROOT / "target/release/tweedie", help="the program")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--frozen", action="store_true", help="no gradients of the peer's parameters")
    parser.add_argument("--checkpoint", action="store_true", help="the peer computes states within blocks again")
    parser.add_argument("--batches", help="N,... (default: 1,4 of adm-ffhq, 4,16 of ddpm-cifar10)")
    parser.add_argument("--rounds", type=int, default=3, help="turns (default: 3)")
    args = parser.parse_args()
    options = {FROZEN: args.frozen, CHECKPOINT: args.checkpoint}
    environment = os.environ | {name: "1" for name, on in options.items() if on}
    print("| network | batch | PyTorch, ms | ours, ms | ratio | memory, theirs and ours, MB | ours by theirs |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for name in args.names or NETWORKS:
            file, batches = NETWORKS[name]
            path = pathlib.Path(folder) / file
            write(path)
            for batch in args.batches.split(",") if args.batches else batches:
                row = beside(__file__, args, path, batch, "--gradient", "--steps", 3, environment=environment)
                theirs, ours = row["peer_memory_mb"], row["peak_memory_mb"] or float("nan")
                print(f"| {name} | {batch} | {row['peer_ms']:.0f} | {row['peer_ms'] / row['ratio']:.0f} | {row['ratio']:.2f} | "
                      f"{theirs:.0f}, {ours:.0f} | {ours / theirs:.2f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[2].isdigit():
        bench.serve(peer(pathlib.Path(sys.argv[1])), *sys.argv[2:])
    else:
        main()
