"""DPS, DiffPIR and DDRM by deepinv, state by state: ../golden/restorations.json, with --write.

The denoiser is that of a mixture, in closed form; start and noise are the program's own. Nothing of deepinv's arithmetic is
written anew. What is replaced is its random numbers, and f32 by f64, to which it rounds what it gives to denoisers. States
are what it asks the denoiser about, and its last answer, in the frame x + sigma n and for pixels of -1 ... 1.

Without --write the file is compared with what deepinv makes today; `cargo test` compares it with our methods.
"""

import argparse
import json
import pathlib
import sys
import types
import warnings

import deepinv
import torch
from deepinv.sampling import diffusion, noisy_datafidelity

from noise import normals

GOLDEN = pathlib.Path(__file__).parent.parent / "golden" / "restorations.json"
SHAPE = (1, 5, 6)
SEEDS = (11, 12)
WEIGHTS, VARIANCES = (0.5, 0.3, 0.2), (0.01, 0.02, 0.04)
MEANS = torch.stack([0.25 * normals(seed, 0, 0, SHAPE).double() for seed in (1, 2, 3)])
ETA = 0.25
MASK = (normals(4, 0, 0, SHAPE[1:]) > 0).double()
# What the first kernel passes exceeds ETA at all frequencies; what the second does, at some.
KERNELS = {
    "blur": [[0.0, 0.125, 0.0], [0.0625, 0.75, 0.0], [0.0, 0.0, 0.0625]],
    "wide-blur": [[0.0625, 0.125, 0.0625], [0.125, 0.375, 0.125], [0.0, 0.0625, 0.0625]],
}


def denoised(x, sigma):
    """D(x, sigma) of the mixture."""
    flat, means = x.flatten(1), MEANS.flatten(1)
    total = torch.tensor(VARIANCES) + sigma**2
    distance = (flat[:, None] - means).square().sum(2)
    logs = torch.tensor(WEIGHTS).log() - distance / (2 * total) - total.log() * flat.shape[1] / 2
    each = (flat[:, None] * torch.tensor(VARIANCES)[:, None] + means * sigma**2) / total[:, None]
    answer = (logs.softmax(1)[:, :, None] * each).sum(1).view_as(x)
    assert answer.abs().max() < 1, "where deepinv clips, states tell less"
    return answer


class Watched(torch.nn.Module):
    """The denoiser as deepinv calls it, which writes down what it is asked; `unit` where pixels lie in 0 ... 1."""

    def __init__(self, unit):
        super().__init__()
        self.unit, self.levels, self.states = unit, [], []

    def forward(self, x, sigma, *_, **__):
        x, sigma = (2 * x - 1, 2 * sigma) if self.unit else (x, sigma)
        self.levels.append(float(sigma))
        self.states.append(x.detach().clone())
        answer = denoised(x, sigma)
        return (answer + 1) / 2 if self.unit else answer


def drawn(step):
    """What the program draws for the images of SEEDS."""
    return torch.stack([normals(seed, step, 0, SHAPE) for seed in SEEDS]).double()


class Torch(types.ModuleType):
    """The module torch, for which f32 is f64, and whose random numbers are the program's, as `of` turns them."""

    def __init__(self, of=lambda n: n, first=0):
        super().__init__("torch")
        self.of, self.step = of, first

    def __getattr__(self, name):
        return getattr(torch, "float64" if name == "float32" else name)

    def randn_like(self, _):
        self.step += 1
        return self.of(drawn(self.step - 1))


def physics(name, eta):
    noise = deepinv.physics.GaussianNoise(eta)
    if name == "inpaint":
        return deepinv.physics.Inpainting(img_size=SHAPE, mask=MASK[None], noise_model=noise)
    kernel = torch.tensor(KERNELS[name])[None, None]
    return deepinv.physics.BlurFFT(img_size=SHAPE, filter=kernel, noise_model=noise)


def measurement(name):
    """Of two images near the mixture, with noise, for pixels of -1 ... 1."""
    a = physics(name, ETA)
    seen = a.A(torch.ones(1, *SHAPE)) != 0
    return (a.A(MEANS[:2] + 0.15 * drawn(100)) + ETA * drawn(101)) * seen


def unit(name, y):
    """The same measurement for pixels of 0 ... 1."""
    return (y + physics(name, ETA).A(torch.ones(1, *SHAPE))) / 2


def case(method, name, y, watched, end, **more):
    states = [*watched.states, *end]
    numbers = lambda values: [float(f"{v:.13g}") for v in torch.as_tensor(values).flatten().tolist()]
    table = MASK if name == "inpaint" else torch.tensor(KERNELS[name])
    return {
        "method": method,
        "operator": name,
        "table": table.tolist(),
        **more,
        "levels": [float(level) for level in watched.levels],
        "y": numbers(y),
        "states": [numbers(state) for state in states],
    }


def dps(name, weight=1.0, steps=9):
    y, watched = measurement(name), Watched(unit=True)
    model = deepinv.sampling.DPS(watched, weight=weight, num_steps=steps)
    noises = iter(range(1, steps))
    model.solver.randn_like = lambda _: drawn(next(noises))
    noisy_datafidelity.torch = Torch()
    t = torch.ones(())
    z = model.sde.scale_t(t) * model.sde.sigma_t(t) * drawn(0)
    end = model(unit(name, y), physics(name, ETA / 2), x_init=z)
    return case("dps", name, y, watched, [2 * end - 1], weight=weight)


def diffpir(name, lambda_=5.0, zeta=0.3, steps=7):
    y, watched = measurement(name), Watched(unit=True)
    diffusion.torch = Torch()
    model = deepinv.sampling.DiffPIR(watched, deepinv.optim.data_fidelity.L2(), max_iter=steps, zeta=zeta, lambda_=lambda_)
    model(unit(name, y), physics(name, ETA / 2))
    # Its result is the last state, with the noise of the last level; the answer about it is not used.
    return case("diffpir", name, y, watched, [], **{"lambda": lambda_, "zeta": zeta})


def ddrm(name, fresh=0.8, trust=0.9):
    y, watched, a = measurement(name), Watched(unit=False), physics(name, ETA)
    # It divides what it draws by the root of 2, as real and imaginary parts want it, and divides real numbers as well.
    of = (lambda n: n) if name == "inpaint" else (lambda n: a.V_adjoint(n) * 2**0.5)
    diffusion.torch = Torch(of)
    sigmas = [5.0, 2.5, 1.25, 0.75, 0.375, 0.28125, 0.125, 0.0625]
    end = deepinv.sampling.DDRM(watched, sigmas=sigmas, eta=fresh, etab=trust, eps=0.0)(y.clone(), a)
    return case("ddrm", name, y, watched, [end], fresh=fresh, trust=trust)


def cases():
    for method in (dps, diffpir, ddrm):
        yield method("inpaint")
        yield method("blur")
    yield ddrm("wide-blur")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    warnings.simplefilter("ignore")
    torch.set_default_dtype(torch.float64)
    made = list(cases())
    mixture = {"weights": WEIGHTS, "variances": VARIANCES}
    if parser.parse_args().write:
        lines = ",\n".join(json.dumps(one) for one in made)
        head = json.dumps({"deepinv": deepinv.__version__, "eta": ETA, "seeds": SEEDS, "mixture": mixture})
        GOLDEN.write_text(f'{head[:-1]}, "cases": [\n{lines}\n]}}\n')
    known = json.loads(GOLDEN.read_text())["cases"]
    apart = 0.0
    for one, then in zip(made, known, strict=True):
        gap = (torch.tensor(one["states"]) - torch.tensor(then["states"])).abs().max()
        apart = max(apart, float(gap / torch.tensor(then["states"]).abs().max()))
    print(f"{len(made)} cases, largest difference from the file {apart:.1e}")
    return int(apart > 1e-9)


if __name__ == "__main__":
    sys.exit(main())
