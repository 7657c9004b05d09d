"""Whole walks on a random network of DDPM's CIFAR-10 size: final states against the schedulers of diffusers.

Ten steps at diffusers' own times (900, 800, ..., 0), from the same states, by the same network, without clipping:

  ddim               DDIMScheduler, eta = 0        --sampler ddim
  ddim, eta 1        DDIMScheduler, eta = 1        --sampler '{kind: ddim, eta: 1}'
  ddpm, beta         DDPMScheduler, fixed_large    --sampler ddpm
  ddpm, posterior    DDPMScheduler, fixed_small    --sampler '{kind: ddpm, variance: posterior}'

The noise is the program's, computed again by noise.py and handed to diffusers. Two comparisons for each,
max |ours - theirs| / max |theirs| after the ten steps below 1e-3:

  walk      the table of `tweedie walk --csv`, carried out here with diffusers' network
  sample    the final states of `tweedie sample --states`

--small takes a narrower network, for quick runs. Ends with status 1 if any comparison misses.
"""

import csv
import io
import json
import pathlib
import sys
import tempfile
from unittest import mock

import numpy
import torch
from diffusers import DDIMScheduler, DDPMScheduler, UNet2DModel

from common import CHAIN, Program, alpha_bar, arguments, relative, report, save_ddpm, sigma_at
from noise import normals

TOLERANCE = 1e-3
STEPS = 10
IMAGES = 2
SMALL = dict(block_out_channels=(32, 64, 64, 64), layers_per_block=1)

WALKS = {
    "ddim": ("{kind: ddim}", DDIMScheduler, {}),
    "ddim, eta 1": ("{kind: ddim, eta: 1}", DDIMScheduler, {"eta": 1.0}),
    "ddpm, beta": ("{kind: ddpm, variance: beta}", DDPMScheduler, {"variance_type": "fixed_large"}),
    "ddpm, posterior": ("{kind: ddpm, variance: posterior}", DDPMScheduler, {"variance_type": "fixed_small"}),
}


def noise(k, shape):
    """The noise of the k-th step, for the images 0, 1, ...."""
    return torch.stack([normals(image, k + 1, 0, shape[1:]) for image in range(shape[0])])


def by_diffusers(unet, kind, options, start):
    """The final states of a scheduler of diffusers, from `start` in the frame of its first time."""
    eta = {key: value for key, value in options.items() if key == "eta"}
    fixed = {key: value for key, value in options.items() if key != "eta"}
    scheduler = kind(**CHAIN, clip_sample=False, **fixed)
    scheduler.set_timesteps(STEPS)
    x = start
    for k, t in enumerate(scheduler.timesteps):
        epsilon = unet(x, t).sample
        with mock.patch(f"{kind.__module__}.randn_tensor", lambda shape, k=k, **_: noise(k, shape)):
            x = scheduler.step(epsilon, t, x, **eta).prev_sample
    return scheduler.timesteps.tolist(), x


def by_table(unet, table, times, start):
    """x + tau s(x, sigma) + sqrt(2 tau T) n for each row, with the score of diffusers' network."""
    x = start.double()
    for k, (row, t) in enumerate(zip(table, times, strict=True)):
        a = alpha_bar()[t]
        score = -unet((a.sqrt() * x).float(), t).sample.double() / row["sigma"]
        x = x + row["tau"] * score + (2 * row["tau"] * row["temperature"]) ** 0.5 * noise(k, x.shape)
    return x


def table(program, checkpoint, plan):
    rows = csv.DictReader(io.StringIO(program.run("walk", checkpoint, *plan, "--csv")))
    return [{key: float(row[key]) for key in ("sigma", "tau", "temperature")} for row in rows]


def sample(program, checkpoint, plan, start, folder):
    """The final states of `tweedie sample`, unclipped."""
    numpy.save(folder / "init.npy", start.numpy())
    given = ["--init", folder / "init.npy", "--seeds", f"0-{IMAGES - 1}", "--states"]
    program.run("sample", checkpoint, *plan, *given, "--out", folder / "images")
    return torch.stack([torch.from_numpy(numpy.load(folder / f"images/{seed:06}.npy")) for seed in range(IMAGES)])


def compare(name, checkpoint, unet, program, folder):
    sampler, kind, options = WALKS[name]
    folder.mkdir(parents=True, exist_ok=True)
    first = torch.randn(IMAGES, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    times, expected = by_diffusers(unet, kind, options, first)
    schedule = f"{{kind: list, sigmas: {json.dumps([sigma_at(t) for t in times])}}}"
    plan = ["--sampler", sampler, "--schedule", schedule, "--steps", STEPS]
    start = (first.double() / alpha_bar()[times[0]].sqrt()).float()
    found = by_table(unet, table(program, checkpoint, plan), times, start)
    walked = report(f"{name}: walk", relative(found, expected), TOLERANCE)
    final = sample(program, checkpoint, plan, start, folder)
    return report(f"{name}: sample", relative(final, expected), TOLERANCE) and walked


@torch.no_grad()
def main():
    parser = arguments(__doc__)
    parser.add_argument("--small", action="store_true", help="a narrower network")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or pathlib.Path(temporary)
        checkpoint = folder / "ddpm-random"
        save_ddpm(checkpoint, seed=6, **(SMALL if args.small else {}))
        unet, program = UNet2DModel.from_pretrained(checkpoint).eval(), Program(args)
        results = [compare(name, checkpoint, unet, program, folder / f"walk-{i}") for i, name in enumerate(WALKS)]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
