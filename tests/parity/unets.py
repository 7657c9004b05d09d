"""UNet2DModel in every shape that its configuration allows: D(x, sigma) of the program against diffusers' own network.

    python unets.py            # random configurations: how many open and agree to 1e-4, how many are refused, which differ
    python unets.py --write    # the small cases of ../golden/zoo/unets, which ../zoo.rs reads

A configuration is drawn by a seed; its network has random weights in every tensor. The status is 1 if any answer differs.
"""

import argparse
import collections
import json
import pathlib
import random
import subprocess
import tempfile

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
SMALL = dict(block_out_channels=(8, 12), norm_num_groups=4, layers_per_block=1, sample_size=8, attention_head_dim=4)
PLAIN = dict(down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"))
CASES = {
    "attention-down": dict(up_block_types=("UpBlock2D", "UpBlock2D")),
    "attention-groups": dict(attn_norm_num_groups=2),
    "centred": dict(center_input_sample=True),
    "embedding": dict(time_embedding_dim=20, freq_shift=1, flip_sin_to_cos=False),
    "gelu": dict(act_fn="gelu"),
    "middle-factor": dict(mid_block_scale_factor=2.0),
    "mish-shift": dict(act_fn="mish", resnet_time_scale_shift="scale_shift"),
    "no-middle": dict(mid_block_type=None),
    "no-middle-attention": dict(add_attention=False),
    "oblong": dict(sample_size=(8, 16)),
    "relu": dict(act_fn="relu"),
    "resnet-blocks": dict(
        down_block_types=("ResnetDownsampleBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "ResnetUpsampleBlock2D"),
        upsample_type="resnet",
    ),
    "resnet-types": dict(
        down_block_types=("AttnDownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "AttnUpBlock2D"),
        downsample_type="resnet",
        upsample_type="resnet",
    ),
    "scale-shift": dict(resnet_time_scale_shift="scale_shift"),
    "scale-shift-groups": dict(resnet_time_scale_shift="scale_shift", attn_norm_num_groups=4),
}


def build(settings, seed):
    torch.manual_seed(seed)
    network = UNet2DModel(**{**SMALL, **PLAIN, **settings}).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    return network


def save(network, folder, dtype=None):
    folder.mkdir(parents=True, exist_ok=True)
    network.save_config(folder)
    DDPMScheduler(clip_sample=False).save_config(folder)
    state = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    save_file(state, folder / "diffusion_pytorch_model.safetensors")


def answer(network, time=400):
    """z and D(z, sigma) at the level of a time, in the frame x + sigma n."""
    size = network.config.sample_size
    size = [size, size] if isinstance(size, int) else list(size)
    alpha = DDPMScheduler().alphas_cumprod[time]
    sigma = ((1 - alpha) / alpha) ** 0.5
    z = torch.rand(2, network.config.in_channels, *size) * 2 - 1 + sigma * torch.randn(2, network.config.in_channels, *size)
    with torch.no_grad():
        return float(sigma), z.numpy(), (z - sigma * network(z * alpha**0.5, time).sample).numpy()


def write(folder):
    for seed, (name, settings) in enumerate(CASES.items()):
        network = build(settings, seed)
        save(network, folder / name)
        sigma, z, denoised = answer(network)
        np.save(folder / name / "z.npy", z)
        np.save(folder / name / "denoised.npy", denoised)
        (folder / name / "case.json").write_text(json.dumps({"sigma": sigma}))


def drawn(seed):
    """A configuration at random."""
    choose = random.Random(seed)
    levels = choose.choice([1, 2, 3])
    down = [choose.choice(["DownBlock2D", "AttnDownBlock2D", "ResnetDownsampleBlock2D"]) for _ in range(levels)]
    up = [choose.choice(["UpBlock2D", "AttnUpBlock2D", "ResnetUpsampleBlock2D"]) for _ in range(levels)]
    return dict(
        block_out_channels=tuple(choose.choice([8, 12, 16]) for _ in range(levels)),
        down_block_types=tuple(down),
        up_block_types=tuple(up),
        layers_per_block=choose.choice([1, 2]),
        sample_size=choose.choice([8, 16, (8, 16)]),
        norm_num_groups=choose.choice([2, 4]),
        attention_head_dim=choose.choice([4, 8, None]) if levels == 1 else choose.choice([4, None]),
        act_fn=choose.choice(["silu", "silu", "swish", "mish", "gelu", "relu"]),
        downsample_type=choose.choice(["conv", "resnet"]),
        upsample_type=choose.choice(["conv", "resnet"]),
        downsample_padding=choose.choice([0, 1]),
        resnet_time_scale_shift=choose.choice(["default", "default", "scale_shift"]),
        mid_block_scale_factor=choose.choice([1, 1, 1.4142]),
        mid_block_type=choose.choice(["UNetMidBlock2D", "UNetMidBlock2D", "UNetMidBlock2D", None]),
        add_attention=choose.choice([True, True, False]),
        attn_norm_num_groups=choose.choice([None, None, 2]),
        norm_eps=choose.choice([1e-5, 1e-6]),
        freq_shift=choose.choice([0, 1]),
        flip_sin_to_cos=choose.choice([True, False]),
        time_embedding_dim=choose.choice([None, None, 24]),
        center_input_sample=choose.choice([False, False, True]),
        num_class_embeds=choose.choice([None, None, 5]),
        time_embedding_type=choose.choice(["positional"] * 8 + ["learned"]),
        num_train_timesteps=1000,
        in_channels=choose.choice([1, 3]),
    )


def compare(program, count):
    tally = collections.Counter()
    for seed in range(count):
        settings = drawn(seed)
        settings["out_channels"] = settings["in_channels"]
        try:
            network = build(settings, seed)
            if network.config.num_class_embeds:
                plain = network.forward
                network.forward = lambda z, t: plain(z, t, class_labels=torch.tensor([1, 1]))
            sigma, z, denoised = answer(network)
        except Exception as error:  # a configuration that diffusers itself cannot build or run
            tally["not diffusers' own"] += 1
            continue
        with tempfile.TemporaryDirectory() as place:
            place = pathlib.Path(place)
            save(network, place / "net")
            np.save(place / "z.npy", z)
            flags = ["--class", "1"] if network.config.num_class_embeds else []
            command = [program, "denoise", place / "net", place / "z.npy", place / "d.npy", "--sigma", str(sigma), "-q", *flags]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode:
                tally["refused"] += 1
                print(seed, run.stderr.strip().rsplit("/net", 1)[-1][:150])
                continue
            error = abs(np.load(place / "d.npy") - denoised).max() / abs(denoised).max()
            tally["right" if error < 1e-4 else "WRONG"] += 1
            if error >= 1e-4:
                print(seed, f"differs by {error:.1e}", settings)
    print(dict(tally))
    raise SystemExit(tally["WRONG"] > 0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--tweedie", default=ROOT / "target/release/tweedie")
    given = parser.parse_args()
    if given.write:
        write(ROOT / "tests/golden/zoo/unets")
    else:
        compare(given.tweedie, given.count)
