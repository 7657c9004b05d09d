"""The peers' own samplers, made to walk down given levels from given states with the exact denoiser of a mixture.

Nothing of the peers' arithmetic is written anew: their step functions are called, with their levels and their noise
replaced. Every function gives the states after each step, in the frame x + sigma n whatever the peer's own frame is.
"""

import importlib
import importlib.util
import math
import sys
import types
from unittest import mock

import torch
import torchdiffeq
import torchsde
from torchdiffeq._impl import fixed_grid, rk_common

from noise import normals

MIXTURE = [[0.3, -2.0, 0.4], [0.7, 1.5, 0.6]]
"""Weight, mean and standard deviation of each component, the same in every pixel."""

SHAPE = (1, 2, 4)
"""The states are one image of eight pixels."""


def denoised(x, sigma):
    """D(x, sigma) = E[clean | x], in f64 whatever x is."""
    x, sigma = x.double(), float(sigma)
    logs, means = [], []
    for weight, mean, deviation in MIXTURE:
        variance = deviation**2 + sigma**2
        logs.append(math.log(weight) - (x - mean) ** 2 / (2 * variance) - math.log(variance) / 2)
        means.append((mean * sigma**2 + x * deviation**2) / variance)
    return (torch.softmax(torch.stack(logs), 0) * torch.stack(means)).sum(0)


def noise(k, draw=0):
    """What the program draws in its k-th step for the image of seed 0."""
    return normals(0, k + 1, draw, SHAPE)[None].double()


def start(level):
    """Where a walk from this level begins."""
    return level * normals(0, 0, 0, SHAPE)[None].double()


# ---- frames, and what a network answers in them ----


def exploding(_):
    """The scale of x in the frame x + sigma n."""
    return 1.0


def preserving(sigma):
    """Where the variance is preserved: alpha = 1/sqrt(1 + sigma^2)."""
    return 1 / math.sqrt(1 + sigma**2)


def straight(sigma):
    """On the straight line to noise: alpha = 1 - t = 1/(1 + sigma)."""
    return 1 / (1 + sigma)


ANSWERS = {
    "denoised": lambda x, d, sigma: d,
    "noise": lambda x, d, sigma: (x - d) / sigma,
    "score": lambda x, d, sigma: (d - x) / sigma**2,
    # alpha n - s x0, with s = alpha sigma.
    "v": lambda x, d, sigma: preserving(sigma) * ((x - d) / sigma - sigma * d),
    # n - x0.
    "velocity": lambda x, d, sigma: (x - d) / sigma - d,
    # F of EDM, where D = c_skip x + c_out F and sigma_data = 0.5.
    "raw": lambda x, d, sigma: (d - 0.25 * x / (sigma**2 + 0.25)) * math.sqrt(sigma**2 + 0.25) / (0.5 * sigma),
}

# ---- diffusers ----


def at(scheduler, sigmas):
    """The scheduler with these for its levels, in f64, and then 0; one time for each."""
    scheduler.set_timesteps(len(sigmas))
    scheduler.sigmas = torch.tensor([*sigmas, 0.0], dtype=torch.float64)
    scheduler.timesteps = torch.arange(len(sigmas), 0, -1).double()
    scheduler.set_begin_index(0)
    return scheduler


def in_chain(scheduler, levels):
    """The same for one that knows alpha bar by whole times: a chain of as many times as levels."""
    scheduler.register_to_config(num_train_timesteps=len(levels))
    scheduler.set_timesteps(len(levels))
    scheduler.alphas_cumprod = 1 / (1 + torch.tensor(levels[::-1], dtype=torch.float64) ** 2)
    return scheduler


def as_it_comes(scheduler):
    """Ten steps of its own, nothing replaced, and their levels."""
    scheduler.set_timesteps(10)
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None and len(sigmas) == 11:
        return scheduler, sigmas[:10].tolist()
    abar = scheduler.alphas_cumprod[scheduler.timesteps.long()].double()
    return scheduler, ((1 - abar) / abar).sqrt().tolist()


def outputs(scheduler, asked, frame=preserving, answer="denoised", before=None, given=None):
    """x after each call of `step`, where `asked` are the levels at which it is called."""
    x = start(asked[0]) * frame(asked[0])
    for k, (t, sigma, after) in enumerate(zip(scheduler.timesteps, asked, [*asked[1:], 0.0], strict=True)):
        if before:
            before(scheduler, k)
        z = x / frame(sigma)
        if hasattr(scheduler, "scale_model_input"):
            scheduler.scale_model_input(x, t)
        with mock.patch(f"{type(scheduler).__module__}.randn_tensor", lambda *_, k=k, **__: noise(k), create=True):
            said = ANSWERS[answer](z, denoised(z, sigma), sigma)
            x = scheduler.step(said, t, x, return_dict=False, **(given or {}))[0]
        yield x.double() / frame(after)


def steps(scheduler, asked, every=1, **rest):
    """The states at our levels, to which every first, second or third call leads; the last call is a step by itself."""
    states = list(outputs(scheduler, asked, **rest))
    return [*states[every - 1 : -1 : every], states[-1]]


def corrected(scheduler, asked, **rest):
    """UniPC changes a state once it has been asked about: the states as they stand then, and the last."""
    states = []
    for level, last in zip(asked, outputs(scheduler, asked, **rest)):
        states.append(scheduler.last_sample.double() / preserving(level))
    return [*states, last]


def doubled(levels):
    """s0 s1 s1 s2 s2 ...: where Heun's method asks."""
    return [levels[0], *(level for level in levels[1:] for _ in range(2))]


def between(levels, count):
    """With `count` more levels within each step, in equal steps of ln sigma."""
    inner = [a * (b / a) ** (i / (count + 1)) for a, b in zip(levels, levels[1:]) for i in range(count + 1)]
    return [*inner, levels[-1]]


def kdpm2(scheduler, levels):
    """KDPM2Discrete, which keeps the levels within the steps apart (by its own lines), and where it asks."""
    sigmas = torch.tensor([*levels, 0.0], dtype=torch.float64)
    means = sigmas.log().lerp(sigmas.roll(1).log(), 0.5).exp()
    scheduler = at(scheduler, doubled(levels))
    scheduler.sigmas_interpol = torch.cat([means[:1], means[1:].repeat_interleave(2), means[-1:]])
    return scheduler, between(levels, 1)


def ipndm(scheduler, levels):
    """IPNDM keeps s and alpha of the frame that preserves the variance as `betas` and `alphas`."""
    scheduler.set_timesteps(len(levels))
    scales = torch.tensor([preserving(level) for level in [*levels, 0.0]], dtype=torch.float64)
    scheduler.alphas, scheduler.betas = scales, scales * torch.tensor([*levels, 0.0], dtype=torch.float64)
    scheduler.set_begin_index(0)
    return scheduler


def remembers(count):
    """Cuts IPNDM's memory, which is what makes a lower order of it."""

    def before(scheduler, _):
        scheduler.ets = scheduler.ets[-count:] if count else []

    return before


def score_sde_ve(scheduler, levels):
    """Score SDE's predictor for the variance-exploding SDE, with its levels replaced; the last step adds no noise."""
    scheduler.discrete_sigmas = torch.tensor(levels[::-1], dtype=torch.float64)
    scheduler.timesteps = torch.linspace(1, 0, len(levels))
    x, states = start(levels[0]), []
    for k, sigma in enumerate(levels):
        # In the middle between two times: step_pred rounds down.
        t = (len(levels) - 1 - k + 0.5) / (len(levels) - 1)
        score = ANSWERS["score"](x, denoised(x, sigma), sigma)
        with mock.patch(f"{type(scheduler).__module__}.randn_tensor", lambda *_, k=k, **__: noise(k)):
            x, mean = scheduler.step_pred(score, t, x, return_dict=False)
        states.append(x)
    return [*states[:-1], mean]


def score_sde_vp(scheduler, sde, times):
    """Score SDE's Euler and Maruyama for the variance-preserving SDE; its step is 1/(number of times)."""
    scheduler.timesteps = times
    x, states = start(sde.level(times[0])) * sde.alpha(times[0]), []
    for k, (t, after) in enumerate(zip(times, times[1:])):
        sigma, z = sde.level(t), x / sde.alpha(t)
        with mock.patch(f"{type(scheduler).__module__}.randn_tensor", lambda *_, k=k, **__: noise(k)):
            x, _ = scheduler.step_pred(ANSWERS["noise"](z, denoised(z, sigma), sigma), x, t)
        states.append(x / sde.alpha(after))
    return states


# ---- k-diffusion ----


def k_diffusion():
    """k_diffusion.sampling alone: the package itself imports all that its training needs."""
    package = types.ModuleType("k_diffusion")
    package.__path__ = importlib.util.find_spec("k_diffusion").submodule_search_locations
    with mock.patch.dict(sys.modules, {"k_diffusion": package}):
        return importlib.import_module("k_diffusion.sampling")


def model(x, sigma, **_):
    """D as k-diffusion calls it, a level for each image."""
    return denoised(x, sigma[0])


def by_k(sampler, levels, churns=False, **options):
    """The states of one of its functions: what each step sees, and the end."""
    seen = []

    def drawn(x):
        seen.append(x)
        return noise(len(seen) - 1)

    if not churns:
        options["callback"] = lambda at: seen.append(at["x"])
    # Those that churn draw at each step, before which x is the state; what their callbacks see has the noise in it.
    with mock.patch("torch.randn_like", drawn):
        sigmas = torch.tensor([*levels, 0.0], dtype=torch.float64)
        last = sampler(model, start(levels[0]), sigmas, disable=True, **options)
    return [*seen[1:], last]


def drawing():
    """Its noise_sampler: draws of step after step."""
    steps = iter(range(1000))
    return lambda *_: noise(next(steps))


def dpm_solver(solver, order, levels):
    """DPMSolver's single steps, one after the other."""
    step = getattr(solver, f"dpm_solver_{order}_step")
    x, states = start(levels[0]), []
    times = [solver.t(torch.tensor(level, dtype=torch.float64)) for level in levels]
    for t, after in zip(times, times[1:]):
        x, _ = step(x, t, after)
        states.append(x)
    return states


# ---- solvers of differential equations ----


class Vp:
    """Score SDE's process with beta from 0.1 to 20, z = alpha x + s n."""

    def beta(self, t):
        return 0.1 + 19.9 * t

    def total(self, t):
        return 0.1 * t + 19.9 * t**2 / 2

    def alpha(self, t):
        return torch.exp(-self.total(t) / 2)

    def level(self, t):
        return torch.sqrt(torch.expm1(self.total(t)))


class Ou(Vp):
    """The same at a constant rate: dz = -z dt + sqrt(2) dw."""

    def beta(self, t):
        return 2 + 0 * t

    def total(self, t):
        return 2 * t


class Backwards(torch.nn.Module):
    """dz = (beta z/2 + (1 + rho^2)/2 beta grad log p) du + rho sqrt(beta) dw with t = end - u, as torchsde wants it."""

    noise_type = "additive"

    def __init__(self, sde, end, rho, sde_type="ito"):
        super().__init__()
        self.sde, self.end, self.rho, self.sde_type = sde, end, rho, sde_type

    def f(self, u, z):
        t = self.end - u
        alpha, sigma = self.sde.alpha(t), self.sde.level(t)
        x = z / alpha
        score = ANSWERS["score"](x, denoised(x, sigma), sigma) / alpha
        return self.sde.beta(t) * (z / 2 + (1 + self.rho**2) / 2 * score)

    def g(self, u, z):
        return self.rho * torch.sqrt(self.sde.beta(self.end - u)).expand(len(z), 1, 1)


class Brownian(torchsde.BrownianInterval):
    """A path whose increments are the program's draws: I1 = sqrt(h) n0, I10 = h/2 (I1 + sqrt(h) n1/sqrt(3))."""

    def __init__(self, times):
        count = math.prod(SHAPE)
        super().__init__(0.0, float(times[0]), (count, 1), torch.float64, levy_area_approximation="space-time")
        self.known = {float(times[0] - t): k for k, t in enumerate(times)}

    def __call__(self, ta, tb, return_U=False, return_A=False):
        k, h = self.known[float(ta)], tb - ta
        whole, rest = (h**0.5 * noise(k, draw).reshape(-1, 1) for draw in (0, 1))
        return (whole, h / 2 * (whole + rest / math.sqrt(3))) if return_U else whole


def in_frame(sde, times, states):
    """Without the first, which is the start."""
    return [(z / sde.alpha(t)).reshape(1, *SHAPE) for t, z in zip(times[1:], states[1:])]


def by_torchsde(method, sde, times, sde_type="ito"):
    """One step from each time to the next."""
    problem, path = Backwards(sde, times[0], 1.0, sde_type), Brownian(times)
    states = [(start(sde.level(times[0])) * sde.alpha(times[0])).reshape(-1, 1)]
    for t, after in zip(times, times[1:]):
        span = torch.stack([times[0] - t, times[0] - after])
        states.append(torchsde.sdeint(problem, states[-1], span, bm=path, method=method, dt=1.0)[-1])
    return in_frame(sde, times, states)


def by_torchdiffeq(method, sde, times):
    """The flow on a fixed grid."""
    flow = Backwards(sde, times[0], 0.0)
    begin = (start(sde.level(times[0])) * sde.alpha(times[0])).reshape(-1, 1)
    return in_frame(sde, times, torchdiffeq.odeint(flow.f, begin, times[0] - times, method=method))


def classical_weights():
    """Its `rk4` takes the 3/8 rule; the classical weights lie beside it and are put in its place."""
    return mock.patch.object(fixed_grid, "rk4_alt_step_func", rk_common.rk4_step_func)
