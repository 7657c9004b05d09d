"""A whole job: 64 images of the shipped network by DDIM in 50 steps, by the program and by diffusers' pipeline, in turns.

    job.py [--rounds 5] [--precision f32] [--batch 16]

Of the program the whole command is timed, from its start to the written PNG files. Of diffusers the pipeline's call alone is:
imports, reading weights and writing files are not counted. Both have the same weights, steps and threads.
"""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from safetensors.torch import load_file

import common

COUNT, STEPS = 64, 50
CARD = dict(
    sample_size=32,
    in_channels=1,
    out_channels=1,
    layers_per_block=1,
    block_out_channels=(16, 32, 64, 128),
    down_block_types=("DownBlock2D", "DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    up_block_types=("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    norm_num_groups=8,
    attention_head_dim=None,
)
"""models/fashion-mnist.yaml in the words of diffusers."""


def pipeline():
    unet = UNet2DModel(**CARD).eval()
    unet.load_state_dict(load_file(common.ROOT / "models/fashion-mnist.safetensors"))
    scheduler = DDIMScheduler(beta_schedule="linear", prediction_type="v_prediction")
    made = DDIMPipeline(unet, scheduler)
    made.set_progress_bar_config(disable=True)
    return made


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--precision", default="f32")
    parser.add_argument("--batch", type=int, default=16, help="of the program (default: 16, as its own); the pipeline has all at once")
    args = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))
    torch.set_num_threads(threads)
    peer, ratios = pipeline(), []
    with tempfile.TemporaryDirectory() as folder:
        for k in range(args.rounds):
            call = [args.tweedie, "sample", "fashion-mnist", "--seeds", f"0-{COUNT - 1}", "--steps", STEPS, "--sampler", "ddim"]
            call += ["--batch", args.batch, "--precision", args.precision, "--quiet", "--threads", threads]
            start = time.perf_counter()
            subprocess.run([*map(str, call), "--out", pathlib.Path(folder) / str(k), "--device", args.device], check=True)
            ours = time.perf_counter() - start
            start = time.perf_counter()
            peer(batch_size=COUNT, num_inference_steps=STEPS, output_type="np")
            theirs = time.perf_counter() - start
            ratios.append(theirs / ours)
            print(f"diffusers {theirs:.2f} s, tweedie {ours:.2f} s, ratio {theirs / ours:.2f}", flush=True)
    print(f"median {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    sys.exit(main())
