"""SSIM by scikit-image and LPIPS by the authors' package, of images and weights that a formula gives.

    metrics.py            compare with ../golden/metrics.json
    metrics.py --write    write it, and ../golden/lpips-alex.pth as torch.save has it

`cargo test` computes the same images and weights, and compares its own figures with the file.
"""

import argparse
import json
import math
import pathlib
import sys
from importlib.metadata import version

import lpips
import numpy
import skimage
import torch
from skimage.metrics import structural_similarity

from common import uniform

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden/metrics.json"

SIZES = [(3, 24, 31), (1, 16, 11)]
"""Of the images for SSIM: [channels, height, width]."""

SIDES = {"alex": (64, 47), "vgg": (40, 32)}
"""Height and width of the images for LPIPS."""


def pair(channels, height, width):
    """Waves in 0 ... 1, and the same darker and with noise, [channels, height, width]."""
    c, i, j = numpy.meshgrid(*map(numpy.arange, (channels, height, width)), indexing="ij")
    truth = 0.5 + 0.4 * numpy.sin(0.3 * (c + 1) * i + 0.2 * j) * numpy.cos(0.25 * j)
    return 0.8 * truth + 0.2 * uniform(1, truth.size).reshape(truth.shape), truth


def similarity(channels, height, width):
    """[Gaussian window, uniform window]."""
    x, truth = pair(channels, height, width)
    common = dict(data_range=1.0, channel_axis=0)
    gaussian = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False)
    return [structural_similarity(x, truth, **common, **more) for more in (gaussian, {})]


def fill(model):
    """Weights of unit gain and biases of up to 0.05 in the backbone; linear weights in 0 ... 1."""
    backbone = [model.net.slice1, model.net.slice2, model.net.slice3, model.net.slice4, model.net.slice5]
    layers = [layer for piece in backbone for layer in piece if isinstance(layer, torch.nn.Conv2d)]
    for k, layer in enumerate(layers):
        gain = 2 * math.sqrt(6 / layer.weight[0].numel())
        set_to(layer.weight, gain * (uniform(100 + k, layer.weight.numel()) - 0.5))
        set_to(layer.bias, 0.1 * (uniform(200 + k, layer.bias.numel()) - 0.5))
    for k in range(5):
        weight = getattr(model, f"lin{k}").model[1].weight
        set_to(weight, uniform(300 + k, weight.numel()))


def set_to(parameter, values):
    """Rounds to f32, as a file would."""
    values = torch.from_numpy(values.astype(numpy.float32)).reshape(parameter.shape)
    parameter.data.copy_(values)


def network(net):
    """The package's LPIPS v0.1 with the formula's weights."""
    model = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
    fill(model)
    return model.eval()


def distances(net):
    """LPIPS of colour, and of grey as three equal channels, in f64."""
    model = network(net).double()
    images = [2 * torch.from_numpy(x)[None] - 1 for x in pair(3, *SIDES[net])]
    with torch.no_grad():
        return [model(*pair).item() for pair in (images, [x[:, :1].repeat(1, 3, 1, 1) for x in images])]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the golden file")
    write = parser.parse_args().write
    found = {
        "by": {"scikit-image": skimage.__version__, "lpips": version("lpips"), "torch": torch.__version__},
        "ssim": [{"size": size, "gaussian": values[0], "uniform": values[1]}
                 for size in SIZES for values in [similarity(*size)]],
        "lpips": {net: {"size": SIDES[net], "colour": values[0], "grey": values[1]}
                  for net in SIDES for values in [distances(net)]},
    }
    if write:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        linear = {name: x for name, x in network("alex").state_dict().items() if name.startswith("lin") and "s." not in name}
        torch.save(linear, GOLDEN.parent / "lpips-alex.pth")
        return
    golden = json.loads(GOLDEN.read_text())
    flat = lambda x: [(r["gaussian"], r["uniform"]) for r in x["ssim"]] + [
        (r["colour"], r["grey"]) for r in x["lpips"].values()]
    worst = max(abs(a / b - 1) for p, q in zip(flat(found), flat(golden)) for a, b in zip(p, q))
    print(f"largest relative difference {worst:.1e}")
    sys.exit(int(worst > 1e-9))


if __name__ == "__main__":
    main()
