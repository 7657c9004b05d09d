"""Inception, its resizes, and distances of sets of features, by the packages that people use.

    features.py            compare with ../golden/features.json
    features.py --write    write it

Weights, images and features come from one formula, which `cargo test` has as well.
"""

import argparse
import contextlib
import io
import json
import math
import pathlib
import sys
from importlib.metadata import version

import numpy
import torch

import pytorch_fid.inception
import torch_fidelity.feature_extractor_inceptionv3 as fidelity
from cleanfid.fid import frechet_distance, kernel_distance
from cleanfid.resize import build_resizer
from efficientnet_lite_pytorch import EfficientNet
from prdc import compute_prdc
from torch_fidelity.interpolate_compat_tensorflow import interpolate_bilinear_2d_like_tensorflow1x
from torch_fidelity.metric_isc import isc_features_to_metric
from torch_fidelity.metric_kid import kid_features_to_metric
from torch_fidelity.metric_prc import prc_features_to_metric

from common import uniform

GOLDEN = pathlib.Path(__file__).resolve().parents[1] / "golden/features.json"

PACKAGES = ("pytorch-fid", "torch-fidelity", "clean-fid", "prdc", "pillow", "efficientnet-lite-pytorch")

IMAGES = (2, 3, 32, 32)
SIZES = [(3, 20, 27), (3, 400, 310)]
"""Of the images to resize: one grows, one shrinks."""


def pixels(seed, shape):
    """Bytes."""
    return torch.from_numpy(numpy.floor(256 * uniform(seed, math.prod(shape))).astype(numpy.uint8)).reshape(shape)


def value(name, seed, shape):
    """A parameter: convolutions of unit gain, normalisations near 1 and 0."""
    u = uniform(seed, math.prod(shape))
    if len(shape) > 1:
        u = (u - 0.5) * math.sqrt(24 / math.prod(shape[1:]))
    elif name.endswith(("weight", "running_var")):
        u = 0.75 + 0.5 * u
    else:
        u = 0.2 * (u - 0.5)
    return torch.from_numpy(u.astype(numpy.float32)).reshape(shape)


def fill(state):
    """The k-th name in alphabetical order has the numbers of seed 1000 + k."""
    names = sorted(name for name in state if not name.endswith("num_batches_tracked"))
    filled = {name: value(name, 1000 + k, tuple(state[name].shape)) for k, name in enumerate(names)}
    return {name: filled.get(name, torch.zeros((), dtype=torch.long)) for name in state}


def by_pytorch_fid(images):
    """What its class makes of images: taps of 64, 192, 768, 2048 means."""
    def weights(*_, **__):
        import torchvision

        whole = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
        return fill(whole.state_dict())

    pytorch_fid.inception.load_state_dict_from_url = weights
    model = pytorch_fid.inception.InceptionV3([0, 1, 2, 3]).eval()
    with torch.no_grad():
        return [tap.mean((2, 3)) for tap in model(images / 255)]


def by_torch_fidelity(images):
    """Its taps, logits without and with bias, and the first 7 channels of Mixed_6d.branch1x1 as ADM's evaluator has them."""
    names = ["64", "192", "768", "2048", "logits_unbiased", "logits"]
    load = torch.nn.Module.load_state_dict
    fidelity.load_state_dict_from_url = lambda *_, **__: {}
    fidelity.FeatureExtractorInceptionV3.load_state_dict = lambda model, _: load(model, fill(model.state_dict()))
    model = fidelity.FeatureExtractorInceptionV3("inception-v3-compat", names)
    spatial = []
    model.Mixed_6d.branch1x1.register_forward_hook(lambda _, __, out: spatial.append(out))
    with torch.no_grad():
        taps = model(images)
    return [*taps, spatial[0][:, :7].permute(0, 2, 3, 1).flatten(1)]


def by_efficientnet(images):
    """Features and logits."""
    model = EfficientNet.from_name("efficientnet-lite0").eval()
    model.load_state_dict(fill(model.state_dict()))
    with torch.no_grad():
        features = model.extract_features((images.float() - 127) / 128).mean((2, 3))
        return [features, model._fc(features)]


def resized(image):
    """299x299, in 0 ... 255."""
    x = image[None].float()
    clean = build_resizer("clean")(image.permute(1, 2, 0).numpy())
    return {
        "pytorch": torch.nn.functional.interpolate(x / 255, size=(299, 299), mode="bilinear") * 255,
        "tf1": interpolate_bilinear_2d_like_tensorflow1x(x, (299, 299), align_corners=False),
        "clean": torch.from_numpy(clean).permute(2, 0, 1)[None],
    }


def some(x):
    """Thirteen numbers of many, and their mean."""
    flat = x.double().flatten()
    return [flat[(k * 7919 + 13) % flat.numel()].item() for k in range(13)] + [flat.mean().item()]


def prepared():
    """What DDIM's CelebA and LSUN transforms (Pillow) make of bytes; TensorFlow's are not here to ask."""
    from PIL import Image
    from torchvision.transforms import CenterCrop, Resize

    image = lambda seed, height, width: Image.fromarray(pixels(seed, (height, width, 3)).numpy())
    celeba = Resize(64)(image(60, 218, 178).crop((25, 57, 153, 185)))
    ncsnv2 = Resize(64)(CenterCrop(140)(image(60, 218, 178)))
    lsun = CenterCrop(64)(Resize(64)(image(61, 101, 150)))
    return {name: some(torch.from_numpy(numpy.array(x)).permute(2, 0, 1)) for name, x in (("celeba", celeba), ("ncsnv2", ncsnv2), ("lsun", lsun))}


def sets():
    """Two sets of features, [300, 16] and [250, 16], of which the second is narrower and further on."""
    x = (uniform(1, 4800) + uniform(2, 4800) - 1).reshape(300, 16)
    y = (uniform(3, 4000) + uniform(4, 4000) - 1).reshape(250, 16)
    mix = (uniform(5, 256) - 0.5).reshape(16, 16)
    return x @ mix, 0.8 * y @ mix + 0.1


def distances():
    x, y = sets()
    quiet = contextlib.redirect_stdout(io.StringIO())
    moments = [(a.mean(0), numpy.cov(a, rowvar=False)) for a in (x, y)]
    few = [(a.mean(0), numpy.cov(a, rowvar=False)) for a in (x[:10], y)]
    tx, ty = torch.from_numpy(x), torch.from_numpy(y)
    with quiet:
        prdc = compute_prdc(real_features=y, fake_features=x, nearest_k=5)
        precision = prc_features_to_metric(tx, ty, prc_neighborhood=3, prc_batch_size=10000, save_cpu_ram=False)
        kid = kid_features_to_metric(tx[:250], ty, kid_subsets=1, kid_subset_size=250, verbose=False)
    logits = torch.from_numpy(6 * uniform(6, 2000)).reshape(200, 10)
    score = isc_features_to_metric(logits, splits=4, shuffle=False)
    return {
        "frechet": frechet_distance(*moments[0], *moments[1]),
        "frechet_of_ten": frechet_distance(*few[0], *few[1]),
        "kid": kid["kernel_inception_distance_mean"],
        "kid_clean": kernel_distance(x[:250], y, num_subsets=1, max_subset_size=250),
        "precision": precision["precision"],
        "recall": precision["recall"],
        "prdc": {name: float(figure) for name, figure in prdc.items()},
        "inception_score": [score["inception_score_mean"], score["inception_score_std"]],
    }


class Program(torch.nn.Module):
    """In the place of NVIDIA's Inception, with its arguments: means of 299x299 pixels in 0 ... 255."""

    def forward(self, img, return_features: bool = False, use_fp16: bool = False, no_output_bias: bool = False):
        assert return_features and img.shape[2] == 299
        return img.mean((2, 3))


def made():
    images = pixels(7, IMAGES)
    return {
        "versions": {name: version(name) for name in PACKAGES},
        "resize": [{"size": list(s), **{k: some(x) for k, x in resized(pixels(8, s)).items()}} for s in SIZES],
        "recipes": prepared(),
        "pytorch-fid": [some(tap) for tap in by_pytorch_fid(images)],
        "torch-fidelity": [some(tap) for tap in by_torch_fidelity(images)],
        "efficientnet-lite0": [some(x) for x in by_efficientnet(pixels(7, (2, 3, 224, 224)))],
        "distances": distances(),
    }


def worst(a, b):
    """The largest relative difference between two trees of numbers."""
    if isinstance(a, dict):
        return max((worst(a[key], b[key]) for key in a if key != "versions"), default=0)
    if isinstance(a, list):
        return max((worst(*pair) for pair in zip(a, b, strict=True)), default=0)
    return abs(a - b) / max(abs(a), abs(b), 1e-9)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the file instead of comparing with it")
    found = made()
    if parser.parse_args().write:
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n")
        torch.jit.script(Program()).save(str(GOLDEN.with_name("inception-program.pt")))
        return 0
    difference = worst(found, json.loads(GOLDEN.read_text()))
    print(f"largest relative difference {difference:.1e}")
    # f32 through 94 convolutions, on another machine.
    return int(difference > 1e-4)


if __name__ == "__main__":
    sys.exit(main())
