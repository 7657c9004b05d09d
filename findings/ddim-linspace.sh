#!/bin/sh
# DDIMScheduler with timestep_spacing="linspace" steps to levels at which it never evaluates.
#
# diffusers 0.42.1, torch 2.15.0, numpy 2.4.6, Python 3, CPU.
#
# set_timesteps(10) gives linspace 999, 888, 777, ..., 0, whose distance is N/(K - 1) = 111. Each step, however, ends at the
# time t - N // K, 100 below: with a network that predicts the noise of one known image exactly, the state after the first
# step has the signal and noise of t = 899, and the network is then told 888. Spacings "leading" and "trailing" have N/K
# between their times, so there the two agree. A walk over the same ten times that ends each step where the next begins
# therefore ends elsewhere; neither raises an error.
#
# Seen (spacing, first time, time of the state after one step by its noise level, next time):
#   leading 900 800 800
#   trailing 999 899 899
#   linspace 999 899 888
set -e
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 diffusers==0.42.1
"$place/venv/bin/python" - >"$place/seen" <<'PY'
import torch
from diffusers import DDIMScheduler

for spacing in ("leading", "trailing", "linspace"):
    scheduler = DDIMScheduler(timestep_spacing=spacing, clip_sample=False)
    scheduler.set_timesteps(10)
    first, second = (int(t) for t in scheduler.timesteps[:2])
    bars = scheduler.alphas_cumprod.double()
    image, noise = torch.tensor(0.3, dtype=torch.float64), torch.tensor(-1.1, dtype=torch.float64)
    state = bars[first].sqrt() * image + (1 - bars[first]).sqrt() * noise
    state = scheduler.step(noise, first, state).prev_sample
    levels = bars.sqrt() * image + (1 - bars).sqrt() * noise
    print(spacing, first, int((levels - state).abs().argmin()), second)
PY
cat "$place/seen"
printf 'leading 900 800 800\ntrailing 999 899 899\nlinspace 999 899 888\n' | diff - "$place/seen"
