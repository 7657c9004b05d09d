#!/bin/sh
# DPMSolverMultistepScheduler with solver_order=3 (dpmsolver++) is of second order.
#
# diffusers 0.42.1, torch 2.15.0, numpy 2.4.6, Python 3, CPU.
#
# For images from N(0, 1/4) the denoiser and the state at every level are known in closed form. One step is taken from exact
# states and three exact answers, on levels at equal distances h of ln sigma, so that nothing of the first, lower-order steps
# enters. The error of one step of order 2 falls as h^3, as it should; that of order 3 as h^3 too, where h^4 is expected. What
# is missing is the term of the second difference once more: it stands where the second derivative belongs, which is twice the
# divided difference. The singlestep update of the same package doubles it. Nothing is raised; more steps hide it.
#
# Seen (order, exponent of the error of one step at h = 0.02 ... 0.005; what is missing, in units of the term):
#   2 3.0 3.0
#   3 2.9 2.9
#   missing 1.0
set -e
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/pip" install -q torch==2.15.0 numpy==2.4.6 diffusers==0.42.1
"$place/venv/bin/python" - >"$place/seen" <<'PY'
import math, torch
from diffusers import DPMSolverMultistepScheduler

S = 0.5


def state(sigma):
    return math.sqrt((S**2 + sigma**2) / (1 + sigma**2))


def denoised(sigma):
    return S**2 / math.sqrt(S**2 + sigma**2)


def step(order, h):
    """The error of one step from exact states, and its term of the second difference."""
    scheduler = DPMSolverMultistepScheduler(solver_order=order)
    scheduler.set_timesteps(10)
    sigmas = [math.exp(h * (order - 1 - k)) for k in range(order + 1)]
    scheduler.sigmas = torch.tensor(sigmas, dtype=torch.float64)
    scheduler._step_index = order - 1
    told = [torch.tensor(denoised(s), dtype=torch.float64) for s in sigmas[:order]]
    now = torch.tensor(state(sigmas[order - 1]), dtype=torch.float64)
    update = {2: scheduler.multistep_dpm_solver_second_order_update, 3: scheduler.multistep_dpm_solver_third_order_update}
    error = float(update[order](told, sample=now)) - state(sigmas[-1])
    second = sum(a * float(b) for a, b in zip((1, -2, 1), told)) / 2
    term = -((math.exp(-h) - 1 + h) / h**2 - 0.5) * second / math.sqrt(1 + sigmas[-1] ** 2)
    return error, term


for order in (2, 3):
    errors = [abs(step(order, h)[0]) for h in (0.02, 0.01, 0.005)]
    print(order, *(f"{math.log2(a / b):.1f}" for a, b in zip(errors, errors[1:])))
error, term = step(3, 0.001)
print(f"missing {-error / term:.1f}")
PY
cat "$place/seen"
printf '2 3.0 3.0\n3 2.9 2.9\nmissing 1.0\n' | diff - "$place/seen"
