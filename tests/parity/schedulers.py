"""Ten steps by diffusers' own schedulers on one small network, which ../schedulers.rs compares with a folder's default walk.

    python schedulers.py FOLDER [--write]

FOLDER is ../golden/zoo/schedulers: a UNet2DModel with random weights, and n.npy, the noise with which every walk begins
in the network's own frame. Each case is a folder in it with scheduler_config.json and final.npy. Without --write the
final states are compared with those that lie there, to 1e-5 of the largest; the status is 1 if any differs.

Left out: DDIMScheduler with timestep_spacing linspace. It evaluates at N/(K − 1) apart and steps N/K: the levels that it
steps to are not those at which it evaluates next.
"""

import argparse
import json
import pathlib

import diffusers
import numpy as np
import torch
from safetensors.torch import load_file

CASES = {
    "ddim": ("DDIMScheduler", dict(clip_sample=False)),
    "ddim-clip": ("DDIMScheduler", dict(clip_sample=True)),
    "ddim-offset": ("DDIMScheduler", dict(clip_sample=False, steps_offset=1, beta_schedule="scaled_linear")),
    "ddim-trailing": ("DDIMScheduler", dict(clip_sample=False, timestep_spacing="trailing")),
    "dpm": ("DPMSolverMultistepScheduler", {}),
    "dpm-leading": ("DPMSolverMultistepScheduler", dict(timestep_spacing="leading")),
    "dpm-trailing": ("DPMSolverMultistepScheduler", dict(timestep_spacing="trailing")),
    "edm-dpm": ("EDMDPMSolverMultistepScheduler", {}),
    "edm-euler": ("EDMEulerScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-leading": ("EulerDiscreteScheduler", dict(timestep_spacing="leading")),
    "euler-trailing": ("EulerDiscreteScheduler", dict(timestep_spacing="trailing")),
    "flow": ("FlowMatchEulerDiscreteScheduler", {}),
    "flow-shift": ("FlowMatchEulerDiscreteScheduler", dict(shift=3.0)),
    "heun": ("HeunDiscreteScheduler", {}),
}
STEPS = 10


def begin(scheduler, noise):
    """The first state: N(0, 1) in the frame of the network's input, whatever the scheduler's own frame is."""
    name = type(scheduler).__name__
    if name.startswith("EDM"):
        return noise * scheduler.config.sigma_max
    if name in ("EulerDiscreteScheduler", "HeunDiscreteScheduler"):
        return noise * (scheduler.sigmas[0] ** 2 + 1) ** 0.5
    return noise.clone()


def walk(network, name, settings, noise):
    # Clipping is compared where ε follows from the clipped image, as in every sampler of the program.
    flags = dict(use_clipped_model_output=True) if settings.get("clip_sample") else {}
    scheduler = getattr(diffusers, name)(**settings)
    scheduler.set_timesteps(STEPS)
    state = begin(scheduler, noise)
    with torch.no_grad():
        for time in scheduler.timesteps:
            scaled = scheduler.scale_model_input(state, time) if hasattr(scheduler, "scale_model_input") else state
            state = scheduler.step(network(scaled, time).sample, time, state, **flags).prev_sample
    return scheduler, state.numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--write", action="store_true")
    given = parser.parse_args()
    network = diffusers.UNet2DModel.from_config(json.loads((given.folder / "config.json").read_text()))
    network.load_state_dict(load_file(given.folder / "diffusion_pytorch_model.safetensors"))
    network.eval()
    noise = torch.from_numpy(np.load(given.folder / "n.npy"))
    missed = 0
    for case, (name, settings) in CASES.items():
        scheduler, state = walk(network, name, settings, noise)
        folder = given.folder / case
        if given.write:
            folder.mkdir(exist_ok=True)
            scheduler.save_config(folder)
            np.save(folder / "final.npy", state)
        known = np.load(folder / "final.npy")
        error = float(abs(state - known).max() / abs(known).max())
        missed += error > 1e-5
        print(f"{case:14} {error:.1e}")
    raise SystemExit(missed > 0)


if __name__ == "__main__":
    main()
