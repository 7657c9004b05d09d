"""Ten steps by diffusers' own schedulers on one small network, which ../schedulers.rs compares with a folder's default walk.

    python schedulers.py FOLDER [--write] [--seed SEED] [--count COUNT]

FOLDER is ../golden/zoo/schedulers: a UNet2DModel with random weights, and n.npy, the noise with which every walk begins
in the network's own frame. Each case is a folder in it with scheduler_config.json and final.npy. Without --write the
final states are compared with those that lie there, to 1e-5 of the largest; the status is 1 if any differs.

walks.json holds a hundred configurations that were drawn at random over all classes, each with its keys at random, and
walks.npy every fourth number of the state in which diffusers ends; learned.npy is the end of a walk with learned variance. Schedulers that draw noise are given the program's own
(noise.py, seed 0). A configuration that diffusers refuses, or that it walks to infinity, is drawn again.

Left out: DDIMScheduler and PNDMScheduler with timestep_spacing linspace. They evaluate at N/(K − 1) apart and step N/K: the
levels that they step to are not those at which they evaluate next. PNDMScheduler with an odd number of times a step, whose
middle it rounds up or down.
"""

import argparse
import importlib
import itertools
import json
import pathlib
import random
import warnings

import diffusers
import numpy as np
import torch
from noise import normals
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


CHAIN = dict(
    num_train_timesteps=[1000, 1000, 1000, 500],
    beta_schedule=["linear", "scaled_linear", "squaredcos_cap_v2"],
    prediction_type=["epsilon", "epsilon", "v_prediction", "sample"],
)
SPACING = dict(timestep_spacing=["leading", "trailing", "linspace"], steps_offset=[0, 0, 1])
LEVELS = dict(levels=[None, None, "use_karras_sigmas", "use_exponential_sigmas", "use_beta_sigmas"])
RANGE = dict(final_sigmas_type=["zero", "sigma_min"])
DYNAMIC = dict(thresholding=[False, False, True], sample_max_value=[1.0, 3.0])
ZERO = dict(rescale_betas_zero_snr=[False, False, True])
CLIP = dict(clip_sample=[True, False], clip_sample_range=[1.0, 2.0])
FLOW = dict(use_flow_sigmas=[False, False, False, True], flow_shift=[1.0, 3.0])
DPM = dict(
    solver_order=[1, 2, 3],
    algorithm_type=["dpmsolver++", "dpmsolver++", "dpmsolver", "sde-dpmsolver++", "sde-dpmsolver"],
    solver_type=["midpoint", "heun"],
    lower_order_final=[True, False],
)
EDM = dict(sigma_schedule=["karras", "exponential"], prediction_type=["epsilon", "v_prediction"], sigma_data=[0.5, 1.0])
MATCHED = dict(shift=[1.0, 3.0], num_train_timesteps=[1000, 500])
LAWS = dict(shift_terminal=[None, 0.1], invert_sigmas=[False, False, True], **LEVELS)
CLASSES = {
    "DDIMScheduler": CHAIN | SPACING | CLIP | DYNAMIC | ZERO | dict(set_alpha_to_one=[True, False]),
    "DDPMScheduler": CHAIN | SPACING | CLIP | DYNAMIC | ZERO
    | dict(variance_type=["fixed_small", "fixed_small_log", "fixed_large"])
    | dict(beta_schedule=["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"]),
    "PNDMScheduler": CHAIN | SPACING | dict(skip_prk_steps=[True, False], set_alpha_to_one=[True, False]),
    "EulerDiscreteScheduler": CHAIN | SPACING | LEVELS | RANGE | ZERO
    | dict(timestep_type=["discrete", "discrete", "continuous"], sigma_min=[None, None, 0.05], sigma_max=[None, 20.0]),
    "EulerAncestralDiscreteScheduler": CHAIN | SPACING | ZERO,
    "HeunDiscreteScheduler": CHAIN | SPACING | LEVELS | CLIP
    | dict(beta_schedule=["linear", "scaled_linear", "squaredcos_cap_v2", "exp"]),
    "LMSDiscreteScheduler": CHAIN | SPACING | LEVELS,
    "KDPM2DiscreteScheduler": CHAIN | SPACING | LEVELS,
    "KDPM2AncestralDiscreteScheduler": CHAIN | SPACING | LEVELS,
    "DPMSolverSDEScheduler": CHAIN | SPACING | LEVELS,
    "DPMSolverMultistepScheduler": CHAIN | SPACING | LEVELS | RANGE | DYNAMIC | ZERO | FLOW | DPM
    | dict(euler_at_final=[False, False, True], lambda_min_clipped=[-float("inf"), -5.1])
    | dict(levels=[*LEVELS["levels"], "use_lu_lambdas"]),
    "DPMSolverSinglestepScheduler": CHAIN | LEVELS | RANGE | DYNAMIC | FLOW | DPM,
    "DEISMultistepScheduler": CHAIN | SPACING | LEVELS | DYNAMIC | FLOW
    | dict(solver_order=[1, 2, 3], lower_order_final=[True, False]),
    "UniPCMultistepScheduler": CHAIN | SPACING | LEVELS | RANGE | DYNAMIC | ZERO | FLOW
    | dict(solver_order=[1, 2, 3], solver_type=["bh1", "bh2"], predict_x0=[True, True, False])
    | dict(lower_order_final=[True, True, False], disable_corrector=[[], [], [0, 2]]),
    "SASolverScheduler": CHAIN | SPACING | LEVELS | DYNAMIC | FLOW
    | dict(predictor_order=[1, 2, 3], corrector_order=[1, 2, 3], lower_order_final=[True, False])
    | dict(algorithm_type=["data_prediction", "data_prediction", "noise_prediction"]),
    "LCMScheduler": CHAIN | CLIP | DYNAMIC | dict(original_inference_steps=[50, 25], timestep_scaling=[10.0, 1.0]),
    "TCDScheduler": CHAIN | dict(original_inference_steps=[50, 25]),
    "UnCLIPScheduler": CLIP | dict(num_train_timesteps=[1000, 500], prediction_type=["epsilon", "sample"]),
    "EDMEulerScheduler": EDM | RANGE,
    "EDMDPMSolverMultistepScheduler": EDM | RANGE | DYNAMIC | DPM | dict(euler_at_final=[False, True]),
    "FlowMatchEulerDiscreteScheduler": MATCHED | LAWS | dict(stochastic_sampling=[False, False, True]),
    "FlowMatchHeunDiscreteScheduler": MATCHED,
    "FlowMatchLCMScheduler": MATCHED | {key: values for key, values in LAWS.items() if key != "invert_sigmas"},
}
# States of these are x + sigma n, as the program's are; those of the others are scaled to the network's own frame.
EXPLODING = ["Euler", "Heun", "LMS", "KDPM2", "DPMSolverSDE", "EDM"]


def drawn(name, options, chance):
    """Settings of one scheduler, each from its list."""
    settings = {key: chance.choice(values) for key, values in options.items()}
    levels = settings.pop("levels", None)
    if levels:
        settings[levels] = True
    if settings.get("use_flow_sigmas"):
        settings["prediction_type"] = chance.choice(["flow_prediction", "flow_prediction", "epsilon", "sample"])
        if name.startswith("UniPC"):
            settings["shift_terminal"] = chance.choice([None, 0.1])
        elif levels:
            settings[levels] = False
    if settings.get("invert_sigmas") and settings.get("stochastic_sampling"):
        settings["stochastic_sampling"] = False
    if name in ("DDIMScheduler", "PNDMScheduler") and settings["timestep_spacing"] == "linspace":
        settings["timestep_spacing"] = "leading"
    return settings


def places(name, scheduler):
    """Step and draw of the program for each noise that the scheduler asks for."""
    if name == "SASolverScheduler":
        return ((step, 0) for step in itertools.count(2))
    if name == "DPMSolverSinglestepScheduler":
        starts = itertools.accumulate(order == 1 for order in scheduler.order_list)
        return ((start, order - 1) for start, order in zip(starts, scheduler.order_list))
    return ((step, 0) for step in itertools.count(1))


def noisy(name, scheduler, shape):
    """Hands the program's noise to a scheduler."""
    asked = places(name, scheduler)
    module = importlib.import_module(type(scheduler).__module__)
    if hasattr(module, "randn_tensor"):
        module.randn_tensor = lambda *_, **__: normals(0, *next(asked), shape)
    if name == "DPMSolverSDEScheduler":
        steps = itertools.count(2)

        def path(sigma, to):
            """Increments of one Brownian path, of unit variance: over half of a step, then over all of it."""
            step, half = divmod(next(steps), 2)
            first = normals(0, step, 0, shape)
            if half == 0:
                path.middle = to
                return first
            shared = (sigma - path.middle) / (sigma - to)
            return shared.sqrt() * first + (1 - shared).sqrt() * normals(0, step, 1, shape)

        scheduler.noise_sampler = path


def begin_random(name, scheduler, noise):
    if name.startswith("EDM"):
        return noise * scheduler.config.sigma_max
    if name.startswith(tuple(EXPLODING)):
        sigma = scheduler.sigmas[0]
        continuous = scheduler.config.get("timestep_type") == "continuous"
        v = scheduler.config.prediction_type == "v_prediction"
        return noise * (sigma if continuous and v else (sigma**2 + 1) ** 0.5)
    return noise.clone()


def random_walk(network, name, settings, steps, noise):
    scheduler = getattr(diffusers, name)(**settings)
    scheduler.set_timesteps(steps)
    noisy(name, scheduler, noise.shape[1:])
    flags = dict(use_clipped_model_output=True) if name == "DDIMScheduler" else {}
    state = begin_random(name, scheduler, noise)
    with torch.no_grad():
        for k, time in enumerate(scheduler.timesteps):
            scaled = scheduler.scale_model_input(state, time) if hasattr(scheduler, "scale_model_input") else state
            if name == "UnCLIPScheduler":
                later = scheduler.timesteps[k + 1 :]
                flags = dict(prev_timestep=int(later[0]) if len(later) else None)
            state = scheduler.step(network(scaled, time).sample, time, state, **flags).prev_sample
    return scheduler, state.numpy()


def configurations(network, noise, seed, count):
    """Configuration, steps, frame and end of every random walk."""
    chance = random.Random(seed)
    names = itertools.cycle(CLASSES)
    # Classes with more settings are drawn more often.
    often = ["DPMSolverMultistepScheduler", "UniPCMultistepScheduler", "EulerDiscreteScheduler", "SASolverScheduler"]
    names = [name for name, _ in zip(names, range(count - 16))] + often * 4
    for name in names:
        while True:
            settings, steps = drawn(name, CLASSES[name], chance), chance.choice([10, 10, 10, 20])
            try:
                if name == "PNDMScheduler" and settings["num_train_timesteps"] // steps % 2:
                    continue
                scheduler, state = random_walk(network, name, settings, steps, noise)
            except (ValueError, UnboundLocalError, AssertionError, IndexError, NotImplementedError, RuntimeError):
                continue
            if np.isfinite(state).all() and abs(state).max() < 1e6:
                break
        config = json.loads(scheduler.to_json_string())
        frame = "exploding" if name.startswith(tuple(EXPLODING)) else "own"
        yield dict(steps=steps, frame=frame, config=config), state.ravel()[::4]


def learned(noise):
    """Ten steps of DDPM with learned_range, where the network answers sin z, and cos 2z for the variance."""
    scheduler = diffusers.DDPMScheduler(variance_type="learned_range", clip_sample=False)
    scheduler.set_timesteps(STEPS)
    noisy("DDPMScheduler", scheduler, noise.shape[1:])
    state = noise.clone()
    for time in scheduler.timesteps:
        answer = torch.cat([state.sin(), (2 * state).cos()], dim=1)
        state = scheduler.step(answer, time, state).prev_sample
    return state.numpy().ravel()[::4]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--seed", type=int, default=21)
    parser.add_argument("--count", type=int, default=100)
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    diffusers.logging.set_verbosity_error()
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
    walks, states = zip(*configurations(network, noise, given.seed, given.count))
    if given.write:
        (given.folder / "walks.json").write_text("[" + ",\n".join(json.dumps(each) for each in walks) + "]\n")
        np.save(given.folder / "walks.npy", np.stack(states))
        np.save(given.folder / "learned.npy", learned(noise))
    known = np.load(given.folder / "walks.npy")
    missed += not np.allclose(learned(noise), np.load(given.folder / "learned.npy"), rtol=1e-5, atol=1e-5)
    for each, state, before in zip(walks, states, known, strict=True):
        error = float(abs(state - before).max() / abs(before).max())
        missed += error > 1e-5
        print(f"{each['config']['_class_name']:34} {error:.1e}")
    raise SystemExit(missed > 0)


if __name__ == "__main__":
    main()
