"""Networks of published size with random weights: D(x, sigma) of the program against the networks' own packages.

Each network is built by the class with which its authors or a maintained package run it, is given random weights, is
saved as its authors publish it, and is asked for D(x, sigma) at x = clean + sigma n, in f32 on the CPU. The program
opens the same file. max |ours - theirs| / max |theirs| must stay below 1e-4.

  ddpm-cifar10       google/ddpm-cifar10-32: a folder of diffusers, by diffusers
  ddpm-cifar10-old   the same as a .bin with the attention's older names
  ncsnpp-256         google/ncsnpp-*-256: a folder of diffusers, by diffusers; pixels of 0 ... 1
  adm-ffhq-256       ffhq_10m.pt: a state dict of guided-diffusion, by azula
  edm-cifar10-vp     edm-cifar10-32x32-uncond-vp: the state dict of EDM's network, by deepinv
  score-sde-ve       ve/cifar10_ncsnpp_continuous: score_sde_pytorch's own NCSN++, from a checkout of that repository whose
                     folder the environment variable SCORE_SDE tells; left out where there is none

Ends with status 1 if any network misses.
"""

import importlib
import os
import pathlib
import sys
import tempfile

import torch
import torch.utils.cpp_extension
from diffusers import ScoreSdeVeScheduler, UNet2DModel

from common import Program, arguments, from_epsilon, noisy, redraw, relative, report, save_ddpm, sigma_at

TOLERANCE = 1e-4

NCSNPP = dict(
    sample_size=256,
    in_channels=3,
    out_channels=3,
    layers_per_block=2,
    block_out_channels=(128, 128, 256, 256, 256, 256, 256),
    down_block_types=("SkipDownBlock2D",) * 4 + ("AttnSkipDownBlock2D",) + ("SkipDownBlock2D",) * 2,
    up_block_types=("SkipUpBlock2D",) * 2 + ("AttnSkipUpBlock2D",) + ("SkipUpBlock2D",) * 4,
    time_embedding_type="fourier",
    flip_sin_to_cos=True,
    freq_shift=0,
    center_input_sample=True,
    downsample_padding=1,
    mid_block_scale_factor=2**0.5,
    act_fn="silu",
    attention_head_dim=None,
    norm_num_groups=None,
    norm_eps=1e-6,
)

OLD_NAMES = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}


def ddpm(folder):
    save_ddpm(folder, seed=1)
    return folder, by_diffusers(folder)


def ddpm_old(folder):
    save_ddpm(folder, seed=2)
    weights = folder / "diffusion_pytorch_model.safetensors"
    state = UNet2DModel.from_pretrained(folder).state_dict()
    for new, old in OLD_NAMES.items():
        state = {name.replace(new, old): tensor for name, tensor in state.items()}
    torch.save(state, weights.with_suffix(".bin"))
    weights.unlink()
    return folder, by_diffusers(folder)


def by_diffusers(folder):
    """Cases of a network that predicts noise, as diffusers reads it back."""
    safe = (folder / "diffusion_pytorch_model.safetensors").exists()
    unet = UNet2DModel.from_pretrained(folder, use_safetensors=safe).eval()
    return by_time(lambda x, t: unet(x, t).sample, (2, 3, 32, 32))


def by_time(epsilon, shape, times=(200, 700)):
    for t in times:
        z = noisy(shape, sigma_at(t), seed=t)
        yield f"t = {t}", sigma_at(t), z, from_epsilon(epsilon, z, t)


def save_ncsnpp(folder):
    """A folder of diffusers in the layout of google/ncsnpp-*-256, with random weights."""
    redraw(UNet2DModel(**NCSNPP), seed=3).save_pretrained(folder)
    ScoreSdeVeScheduler(num_train_timesteps=2000, snr=0.15, sigma_min=0.01, sigma_max=348).save_pretrained(folder)


def ncsnpp(folder):
    save_ncsnpp(folder)
    unet = UNet2DModel.from_pretrained(folder).eval()
    return folder, by_score(lambda z, sigma: unet(z, sigma).sample, (1, 3, 256, 256))


def by_score(score, shape):
    """D = x + sigma^2 score: these classes divide by sigma themselves, and are told sigma; pixels are 0 ... 1."""
    for sigma in (0.5, 20.0):
        z = noisy(shape, sigma, seed=round(10 * sigma), black=0.0)
        yield f"sigma = {sigma}", sigma, z, z + sigma**2 * score(z, torch.full(shape[:1], sigma))


def score_sde_unet():
    """score_sde_pytorch's NCSN++ for CIFAR-10 (VE, continuous). Its CUDA kernels are not built: on the CPU it needs none."""
    checkout = os.environ.get("SCORE_SDE")
    if not checkout:
        sys.exit("SCORE_SDE: say where a checkout of score_sde_pytorch is")
    sys.path.insert(0, checkout)
    torch.utils.cpp_extension.load = lambda *_, **__: None
    config = importlib.import_module("configs.ve.cifar10_ncsnpp_continuous").get_config()
    return importlib.import_module("models.ncsnpp").NCSNpp(config)


def score_sde(folder):
    unet = redraw(score_sde_unet(), seed=6)
    file = folder / "ve-cifar10-ncsnpp-continuous.pth"
    torch.save(unet.state_dict(), file)
    # The class was written for pixels of 0 ... 1, which it centres itself only if its data are not.
    return file, by_score(lambda z, sigma: unet(z, sigma), (2, 3, 32, 32))


def adm_unet():
    from azula.plugins.adm import make_model

    return make_model(
        image_size=256,
        num_channels=128,
        num_res_blocks=1,
        channel_mult=(1, 1, 2, 2, 4, 4),
        attention_resolutions=(16,),
        num_head_channels=64,
        resblock_updown=True,
        use_scale_shift_norm=True,
    ).backbone


def adm(folder):
    unet = adm_unet()
    torch.save(redraw(unet, seed=4).state_dict(), folder / "ffhq_10m.pt")
    # Six channels: the noise, and the variance that D does not need.
    return folder / "ffhq_10m.pt", by_time(lambda x, t: unet(x, t)[:, :3], (1, 3, 256, 256))


def song_unet(kind="ddpm"):
    """EDM's DDPM++ (ddpm) or NCSN++ (ncsn) for CIFAR-10."""
    from deepinv.models import NCSNpp

    return NCSNpp(kind, img_resolution=32, channel_mult=(2, 2, 2), pixel_std=0.5, pretrained=None)


def edm(folder):
    song = song_unet()
    state = {f"model.{name}": tensor for name, tensor in redraw(song, seed=5).state_dict().items()}
    torch.save(state, folder / "edm-cifar10-32x32-uncond-vp.pt")
    return folder / "edm-cifar10-32x32-uncond-vp.pt", by_edm(song)


def by_edm(song):
    for sigma in (0.5, 10.0):
        z = noisy((2, 3, 32, 32), sigma, seed=round(10 * sigma))
        yield f"sigma = {sigma}", sigma, z, song(z, torch.tensor(sigma), input_in_minus_one_one=True)


NETWORKS = {
    "ddpm-cifar10": ddpm,
    "ddpm-cifar10-old": ddpm_old,
    "ncsnpp-256": ncsnpp,
    "adm-ffhq-256": adm,
    "edm-cifar10-vp": edm,
} | ({"score-sde-ve": score_sde} if os.environ.get("SCORE_SDE") else {})


@torch.no_grad()
def compare(name, folder, program):
    """Whether the program agrees at every sigma; without a program, whether the networks' own answers are usable."""
    torch.manual_seed(0)
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, cases = NETWORKS[name](folder)
    good = True
    for case, sigma, z, expected in cases:
        if not (expected.isfinite().all() and (expected - z).abs().max() > 0.01 * sigma):
            sys.exit(f"{name}: the network's own answer is trivial or not finite")
        if program is None:
            largest, moved = expected.abs().max(), (expected - z).abs().max()
            print(f"{name}, {case}: max |D| = {largest:.4g}, max |D - x| = {moved:.4g}")
            continue
        error = relative(program.denoise(checkpoint, sigma, z, folder), expected)
        good &= report(f"{name}, {case}", error, TOLERANCE)
    return good


def main():
    parser = arguments(__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which networks (default: all)")
    parser.add_argument("--expected-only", action="store_true", help="compute the expected values, call no program")
    args = parser.parse_args()
    unknown = set(args.names) - set(NETWORKS)
    if unknown:
        parser.error(f"no such network: {', '.join(sorted(unknown))}")
    program = None if args.expected_only else Program(args)
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or pathlib.Path(temporary)
        results = [compare(name, folder / name, program) for name in args.names or NETWORKS]
    sys.exit(not all(results))


if __name__ == "__main__":
    main()
