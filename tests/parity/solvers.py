"""Every solver that a peer has as well, state by state, on the exact denoiser of a mixture.

The peers are diffusers, k-diffusion, torchsde and torchdiffeq. They are given levels, start and noise (peers.py); the
states that they come by lie in ../golden/solvers.json, and `cargo test` compares every one with ours. This script asks

  golden    whether the peers that are installed still come by those states: below 1e-9, 1e-6 where they round to f32
  sample    where `tweedie sample --states` ends with the same denoiser, a TorchScript program: below 1e-4

in max |difference| / max |state|. --write writes the file anew. Ends with status 1 if any comparison misses.

Where a peer's last step, to sigma = 0, is not x <- D, the states end one earlier; its line tells how far that step is
from D.
"""

import importlib.metadata
import json
import pathlib
import sys
import tempfile
import warnings

import diffusers as d
import numpy
import torch
from diffusers.schedulers.deprecated.scheduling_sde_vp import ScoreSdeVpScheduler

import peers
from common import ROOT, Program, arguments, relative, report
from peers import at, between, by_k, by_torchdiffeq, by_torchsde, corrected, doubled, in_chain, steps

GOLDEN = ROOT / "tests/golden/solvers.json"
PACKAGES = ("diffusers", "k-diffusion", "torchsde", "torchdiffeq", "torch")
F64, F32, SAMPLE = 1e-9, 1e-6, 1e-4

GRID = [(80 ** (1 / 7) + k / 9 * (0.02 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for k in range(10)]
"""Ten levels of Karras et al., from 80 to 0.02: no two ratios are the same."""

TIMES = torch.linspace(1, 0.1, 10, dtype=torch.float64)
"""Ten times of a process, in steps of a tenth, which is what ScoreSdeVpScheduler takes whatever the times are."""


class Case:
    """What a peer calls its sampler, ours, and how to come by the peer's states.

    `ends` says that its last step is x <- D, `f32` that it rounds its states to f32.
    """

    def __init__(self, peer, ours, walk, levels=GRID, ends=True, f32=False):
        self.peer, self.ours, self.walk, self.levels, self.ends, self.f32 = peer, ours, walk, levels, ends, f32

    def states(self):
        """Those to compare, and the last where it is another matter."""
        states = self.walk()
        return (states, None) if self.ends else (states[:-1], states[-1])


def named(kind, options):
    shown = (f"{key}={value}" for key, value in options.items() if key not in ("clip_sample", "prediction_type"))
    return " ".join([kind.__name__.removesuffix("Scheduler"), *shown])


# ---- diffusers, with the levels replaced ----


def preserving(kind, ours, walk=steps, ready=at, given=None, ends=True, f32=False, **options):
    """One of those that keep their states in the frame that preserves the variance."""
    options = {"prediction_type": "sample", **options}
    name = named(kind, {**options, **(given or {})})
    return Case(name, ours, lambda: walk(ready(kind(**options), GRID), GRID, given=given), ends=ends, f32=f32)


def dpm_solvers():
    kind, sde = d.DPMSolverMultistepScheduler, dict(algorithm_type="sde-dpmsolver++")
    frozen = "{kind: exponential-integrator, frozen: %s, rho: 1}"
    noise = dict(algorithm_type="sde-dpmsolver", final_sigmas_type="sigma_min")
    return [
        preserving(kind, "{kind: ddim}", solver_order=1, f32=True),
        preserving(kind, "{kind: dpm-plus-plus, variant: 2m}", f32=True),
        preserving(kind, "{kind: dpm-plus-plus, variant: sde-2m}", **sde, f32=True),
        preserving(kind, frozen % "denoised", solver_order=1, **sde, f32=True),
        preserving(kind, frozen % "epsilon", solver_order=1, **noise, ends=False, f32=True),
    ]


def single_steps():
    """A call for each evaluation: the levels within a step are levels of their own."""
    kind, noise = d.DPMSolverSinglestepScheduler, dict(algorithm_type="dpmsolver", final_sigmas_type="sigma_min")

    def case(order, ours, before=None, ends=True, **options):
        options, asked = dict(solver_order=order, **options), between(GRID, order - 1)

        def ready():
            return at(kind(prediction_type="sample", **options), asked)

        return Case(named(kind, options), ours, lambda: steps(ready(), asked, order, before=before), ends=ends)

    # The paper's third order takes w of its own expansion, which is diffusers' "heun", and the end of "midpoint".
    def as_published(scheduler, k):
        scheduler.register_to_config(solver_type="heun" if k % 3 == 1 else "midpoint")

    return [
        case(2, "{kind: dpm-plus-plus, variant: 2s}"),
        case(2, "{kind: dpm, order: 2}", **noise, ends=False),
        case(3, "{kind: dpm, order: 3}", as_published, **noise, ends=False),
    ]


def unipc():
    """Where B(h) = -h the last step is 0 times infinity."""
    return [
        preserving(
            d.UniPCMultistepScheduler,
            f"{{kind: unipc, order: {order}, width: {width}}}",
            walk=corrected,
            solver_order=order,
            solver_type=width,
            ends=width == "bh2",
        )
        for width in ("bh1", "bh2")
        for order in (1, 2, 3)
    ]


LOGARITHM = "{kind: deis, order: %d, variable: time, sde: {kind: ve, min: 1e-7, max: 100}}"
"""A polynomial in ln sigma: in the time of a process that grows geometrically, from a level far below the last."""


def multistep():
    numbered = [
        case
        for n in (1, 2, 3, 4)
        for case in (
            exploding(
                d.LMSDiscreteScheduler, f"{{kind: deis, order: {n}, variable: sigma}}", given={"order": n}, ends=n == 1
            ),
            Case(
                f"IPNDM, {n} values",
                f"{{kind: ipndm, order: {n}}}",
                lambda n=n: steps(
                    peers.ipndm(d.IPNDMScheduler(), GRID), GRID, answer="v", before=peers.remembers(n - 1)
                ),
                ends=n == 1,
            ),
        )
    ]
    deis = [
        preserving(d.DEISMultistepScheduler, LOGARITHM % n, solver_order=n, lower_order_final=False, ends=False)
        for n in (1, 2, 3)
    ]
    return deis + numbered


def exploding(kind, ours, asked=GRID, every=1, given=None, answer="noise", ends=True, f32=False, **options):
    """One of those that keep their states in the frame x + sigma n."""
    frame = dict(frame=peers.exploding, answer=answer, given=given)

    def walk():
        return steps(at(kind(**options), asked), asked, every, **frame)

    return Case(named(kind, {**options, **(given or {})}), ours, walk, ends=ends, f32=f32)


def kdpm2():
    scheduler, asked = peers.kdpm2(d.KDPM2DiscreteScheduler(), GRID)
    return steps(scheduler, asked, 2, frame=peers.exploding, answer="noise")


def one_by_one():
    edm, sde = d.EDMDPMSolverMultistepScheduler, dict(algorithm_type="sde-dpmsolver++")
    return [
        exploding(d.EulerDiscreteScheduler, "{kind: ddim}", f32=True),
        exploding(d.EDMEulerScheduler, "{kind: ddim}", answer="raw", f32=True),
        exploding(d.EulerAncestralDiscreteScheduler, "{kind: ddim, eta: 1}", f32=True),
        exploding(d.EulerAncestralDiscreteScheduler, "{kind: ve-ancestral}", f32=True),
        exploding(edm, "{kind: dpm-plus-plus, variant: 2m}", answer="raw"),
        exploding(edm, "{kind: dpm-plus-plus, variant: sde-2m}", answer="raw", **sde),
        exploding(d.HeunDiscreteScheduler, "{kind: heun}", doubled(GRID), 2),
        Case("KDPM2Discrete", "{kind: dpm, order: 2}", kdpm2),
        Case("ScoreSdeVe", "{kind: ve-reverse-diffusion}", lambda: peers.score_sde_ve(d.ScoreSdeVeScheduler(), GRID)),
    ]


def chains():
    def case(kind, ours, given=None, **options):
        return preserving(kind, ours, ready=in_chain, given=given, clip_sample=False, **options)

    large, small = dict(variance_type="fixed_large"), dict(variance_type="fixed_small")
    return [
        *(case(d.DDIMScheduler, f"{{kind: ddim, eta: {eta}}}", {"eta": eta}) for eta in (0.0, 0.5, 1.0)),
        case(d.DDPMScheduler, "{kind: ddpm, variance: beta}", **large),
        case(d.DDPMScheduler, "{kind: vp-ancestral}", **large),
        case(d.DDPMScheduler, "{kind: ddpm, variance: posterior}", **small),
    ]


def flows():
    """Their sigma is t of the straight line, sigma/(1 + sigma) of ours."""

    def case(kind, order, asked):
        ours = f"{{kind: runge-kutta, order: {order}, sde: {{kind: flow-matching}}}}"

        def ready():
            return at(kind(), [sigma / (1 + sigma) for sigma in asked])

        def walk():
            return steps(ready(), asked, order, frame=peers.straight, answer="velocity")

        return Case(named(kind, {}), ours, walk, f32=True)

    return [
        case(d.FlowMatchEulerDiscreteScheduler, 1, GRID),
        case(d.FlowMatchHeunDiscreteScheduler, 2, doubled(GRID)),
    ]


# ---- diffusers, with nothing replaced ----


def untouched():
    """Ten times of DDPM's chain as the schedulers choose them, at levels in f32: ours takes theirs."""

    def case(kind, ours, walk=steps, given=None, ends=True, **options):
        def make():
            return peers.as_it_comes(kind(prediction_type="sample", **options))

        levels = make()[1]
        name = f"{named(kind, {**options, **(given or {})})}, untouched"
        return Case(name, ours, lambda: walk(make()[0], levels, given=given), levels, ends, f32=True)

    sde = dict(algorithm_type="sde-dpmsolver++")
    return [
        case(d.DDIMScheduler, "{kind: ddim}", clip_sample=False),
        case(d.DDIMScheduler, "{kind: ddim, eta: 1}", given={"eta": 1.0}, clip_sample=False),
        case(d.DDPMScheduler, "{kind: ddpm, variance: beta}", variance_type="fixed_large", clip_sample=False),
        case(d.DDPMScheduler, "{kind: ddpm, variance: posterior}", variance_type="fixed_small", clip_sample=False),
        case(d.DPMSolverMultistepScheduler, "{kind: dpm-plus-plus, variant: 2m}"),
        case(d.DPMSolverMultistepScheduler, "{kind: dpm-plus-plus, variant: sde-2m}", **sde),
        case(d.UniPCMultistepScheduler, "{kind: unipc, order: 2, width: bh2}", corrected),
        case(d.DEISMultistepScheduler, LOGARITHM % 2, lower_order_final=False, ends=False),
    ]


# ---- the others ----


def k_diffusion():
    k, draws = peers.k_diffusion(), dict(noise_sampler=peers.drawing)
    churn = dict(s_churn=4.0, s_tmin=0.1, s_tmax=30.0, s_noise=1.003)

    def case(name, ours, ends=True, noise_sampler=None, churns=False, **options):
        def walk():
            fresh = {"noise_sampler": noise_sampler()} if noise_sampler else {}
            return by_k(getattr(k, f"sample_{name}"), GRID, churns, **fresh, **options)

        shown = " ".join([f"sample_{name}", *(f"{key}={value}" for key, value in options.items())])
        return Case(f"k-diffusion {shown}", ours, walk, ends=ends)

    def single(n):
        def walk():
            return peers.dpm_solver(k.DPMSolver(peers.model), n, GRID)

        return Case(f"k-diffusion DPMSolver.dpm_solver_{n}_step", f"{{kind: dpm, order: {n}}}", walk)

    return [
        case("euler", "{kind: ddim}", churns=True),
        case("euler_ancestral", "{kind: ddim, eta: 1}", **draws),
        case("euler_ancestral", "{kind: ddim, eta: 0.5}", eta=0.5, **draws),
        case("heun", "{kind: heun}", churns=True),
        case("heun", "{kind: heun, churn: 4, churn_min: 0.1, churn_max: 30, churn_noise: 1.003}", churns=True, **churn),
        case("dpm_2", "{kind: dpm, order: 2}", churns=True),
        case("dpmpp_2m", "{kind: dpm-plus-plus, variant: 2m}"),
        case("dpmpp_2s_ancestral", "{kind: dpm-plus-plus, variant: 2s}", eta=0.0, **draws),
        case("dpmpp_2m_sde", "{kind: dpm-plus-plus, variant: sde-2m}", **draws),
        *(case("lms", f"{{kind: deis, order: {n}, variable: sigma}}", ends=n == 1, order=n) for n in (1, 2, 3, 4)),
        *(single(n) for n in (1, 2, 3)),
    ]


def in_time():
    """Steps in the time of a process, down to the last level."""
    vp, ou = (peers.Vp(), "{kind: vp}"), (peers.Ou(), "{kind: ou}")

    def case(peer, ours, process, walk):
        sde, name = process
        return Case(peer, ours % name, lambda: walk(sde), sde.level(TIMES).tolist())

    def classical(sde):
        with peers.classical_weights():
            return by_torchdiffeq("rk4", sde, TIMES)

    euler, sra1 = "{kind: euler-maruyama, rho: 1, sde: %s}", "{kind: sra1, rho: 1, sde: %s}"
    heun, flow = "{kind: stochastic-heun, rho: 1, sde: %s}", "{kind: runge-kutta, order: %d, sde: %%s}"
    return [
        case("ScoreSdeVp", euler, vp, lambda sde: peers.score_sde_vp(ScoreSdeVpScheduler(), sde, TIMES)),
        case("torchsde euler", euler, vp, lambda sde: by_torchsde("euler", sde, TIMES)),
        case("torchsde srk, VP", sra1, vp, lambda sde: by_torchsde("srk", sde, TIMES)),
        case("torchsde srk, OU", sra1, ou, lambda sde: by_torchsde("srk", sde, TIMES)),
        case("torchsde heun, OU", heun, ou, lambda sde: by_torchsde("heun", sde, TIMES, "stratonovich")),
        case("torchdiffeq euler", flow % 1, vp, lambda sde: by_torchdiffeq("euler", sde, TIMES)),
        case("torchdiffeq heun2", flow % 2, vp, lambda sde: by_torchdiffeq("heun2", sde, TIMES)),
        case("torchdiffeq rk4, classical weights", flow % 4, vp, classical),
    ]


def cases():
    families = (dpm_solvers, single_steps, unipc, multistep, one_by_one, chains, flows, untouched, k_diffusion, in_time)
    return [case for family in families for case in family()]


# ---- golden states, and the program's ----


def rounded(numbers):
    """Twelve digits, which f64 carries through these walks."""
    return [float(f"{number:.12g}") for number in numbers]


def record(case, states):
    flat = [rounded(state.flatten().tolist()) for state in states]
    return {"peer": case.peer, "sampler": case.ours, "f32": case.f32, "levels": case.levels, "states": flat}


def write(records):
    head = {
        "versions": {package: importlib.metadata.version(package) for package in PACKAGES},
        "mixture": peers.MIXTURE,
        "start": peers.start(1.0).flatten().tolist(),
        "noise": [[peers.noise(k, draw).flatten().tolist() for draw in (0, 1)] for k in range(len(GRID))],
    }
    lines = ",\n".join(json.dumps(entry) for entry in records)
    GOLDEN.write_text(f'{json.dumps(head)[:-1]}, "cases": [\n{lines}\n]}}\n')


class Denoiser(torch.nn.Module):
    """D(x, sigma) of the mixture as a network that a card calls `denoised`."""

    def __init__(self):
        super().__init__()
        parts = torch.tensor(peers.MIXTURE, dtype=torch.float64)
        for name, column in zip(("weight", "mean", "spread"), parts.T):
            self.register_buffer(name, column.clone())

    def forward(self, x, sigma):
        z, level = x.double()[..., None], sigma.double().reshape(-1, 1, 1, 1, 1) ** 2
        variance = self.spread**2 + level
        logs = torch.log(self.weight) - (z - self.mean) ** 2 / (2 * variance) - torch.log(variance) / 2
        means = (self.mean * level + z * self.spread**2) / variance
        return (torch.softmax(logs, -1) * means).sum(-1).float()


CARD = """
name: mixture
about: two normal distributions in each pixel
image: [1, 2, 4]
network: {kind: torchscript, in_channels: 1}
precondition: {kind: plain, predicts: denoised, range: [0.01, 200]}
sample: {schedule: {kind: karras}, steps: 10, sampler: {kind: ddim}}
restore: {schedule: {kind: geometric, max: 1}, steps: 5, sampler: {kind: ve-ancestral}}
"""


class Sampler:
    """`tweedie sample` with the exact denoiser."""

    def __init__(self, program, folder):
        self.program, self.folder, self.count = program, folder, 0
        torch.jit.script(Denoiser()).save(folder / "mixture.pt")
        (folder / "card.yaml").write_text(CARD)

    def final(self, case):
        self.count += 1
        numpy.save(self.folder / "init.npy", peers.start(case.levels[0]).float().numpy())
        out = self.folder / f"walk-{self.count}"
        plan = ["--sampler", case.ours, "--steps", len(case.levels)]
        levels = ["--schedule", f"{{kind: list, sigmas: {json.dumps(case.levels)}}}"]
        given = ["--card", self.folder / "card.yaml", "--init", self.folder / "init.npy", "--seeds", "0", "--states"]
        self.program.run("sample", self.folder / "mixture.pt", *plan, *levels, *given, "--out", out)
        return torch.from_numpy(numpy.load(out / "000000.npy"))


def golden(case, entry, states):
    """The largest difference of any state from the golden file."""
    before = [torch.tensor(state, dtype=torch.float64) for state in entry["states"]]
    errors = [relative(state.flatten(), known) for state, known in zip(states, before, strict=True)]
    return report(f"golden: {case.peer}", numpy.max(errors), F32 if case.f32 else F64)


def image(case, states, last):
    """A peer's last state, or D of it where its own last step is another or none; nothing where UniPC has lost it.

    UniPC's image is D of the state before its correction, and only the corrected one is among these.
    """
    if len(states) < len(case.levels):
        return peers.denoised(states[-1], case.levels[-1])
    return states[-1] if last is None else None


def sample(case, expected, sampler):
    """The largest difference of the program's image."""
    return report(f"sample: {case.peer}", relative(sampler.final(case), expected[0]), SAMPLE)


@torch.no_grad()
def main():
    parser = arguments(__doc__)
    parser.add_argument("--write", action="store_true", help="write the golden file anew")
    args = parser.parse_args()
    # Of names that will change, and of divisions by the last sigma.
    warnings.simplefilter("ignore")
    d.utils.logging.set_verbosity_error()
    walked = [(case, *case.states()) for case in cases()]
    if args.write:
        write([record(case, states) for case, states, _ in walked])
    entries = {(entry["peer"], entry["sampler"]): entry for entry in json.loads(GOLDEN.read_text())["cases"]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or pathlib.Path(temporary)
        sampler, results = Sampler(Program(args), folder), []
        for case, states, last in walked:
            results.append(golden(case, entries[case.peer, case.ours], states))
            expected = image(case, states, last)
            if expected is not None:
                results.append(sample(case, expected, sampler))
            if last is not None:
                apart = relative(last, peers.denoised(states[-1], case.levels[-1]))
                print(f"        its own last step is {apart:.1e} from D")
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
