"""How long Inception takes: pytorch-fid, torch-fidelity and the program, same weights, images, batch, threads, in turns.

    speed.py [--images 200] [--batch 50] [--rounds 3]

Images are 32x32 PNG files of noise, weights those of features.py. Of the program, what its start takes (weights, libtorch)
is measured with as many images as one batch has, and taken off, and so it is with the packages (reading weights is not
measured there at all). Resizes are pytorch-fid's beside pytorch-fid, and TensorFlow's beside torch-fidelity.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import time

import pytorch_fid.inception
import torch
from PIL import Image
from pytorch_fid.fid_score import compute_statistics_of_path
from torch_fidelity.datasets import ImagesPathDataset
from torch_fidelity.utils import get_featuresdict_from_dataset

import common
import features


def files(folder, count):
    folder.mkdir()
    for i, image in enumerate(features.pixels(50, (count, 3, 32, 32))):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{i:05d}.png")
    return folder


def model(file):
    """pytorch-fid's class, with weights that are kept in a file for the program."""
    def weights(*_, **__):
        import torchvision

        whole = torchvision.models.inception_v3(num_classes=1008, aux_logits=False, weights=None, init_weights=False)
        state = features.fill(whole.state_dict())
        torch.save(state, file)
        return state

    pytorch_fid.inception.load_state_dict_from_url = weights
    return pytorch_fid.inception.InceptionV3([3]).eval()


def by_fidelity():
    """torch-fidelity's class, with the formula's weights: how fast it is does not depend on them."""
    fidelity = features.fidelity
    load = torch.nn.Module.load_state_dict
    fidelity.load_state_dict_from_url = lambda *_, **__: {}
    fidelity.FeatureExtractorInceptionV3.load_state_dict = lambda model, _: load(model, features.fill(model.state_dict()))
    return fidelity.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"]).eval()


def seconds(run):
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main():
    parser = common.arguments(__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--batch", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    threads = int(os.environ.get("OMP_NUM_THREADS", os.cpu_count()))
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        file = folder / "inception.pth"
        theirs, fidelity = model(file), by_fidelity()
        sets = [files(folder / name, count) for name, count in (("many", args.images), ("few", args.batch))]

        def ours(images, resize):
            call = [args.tweedie, "evaluate", images, "--network", f"inception:{file}", "--resize", resize, "--quiet"]
            call += ["--batch", str(args.batch), "--save-statistics", folder / "ours.npz", "--threads", str(threads)]
            subprocess.run([*map(str, call), "--device", args.device], check=True)

        def peers(images):
            with torch.no_grad():
                compute_statistics_of_path(str(images), theirs, args.batch, 2048, args.device, 0)

        def by_fidelity_of(images):
            paths = sorted(map(str, images.iterdir()))
            found = get_featuresdict_from_dataset(ImagesPathDataset(paths), fidelity, args.batch, False, False, False)
            found["2048"].double().T.cov()

        programs = {
            "tweedie (pytorch)": lambda images: ours(images, "pytorch"),
            "pytorch-fid": peers,
            "tweedie (tf1)": lambda images: ours(images, "tf1"),
            "torch-fidelity": by_fidelity_of,
        }
        print(f"{threads} threads, batches of {args.batch}, {args.images} images less {args.batch}: milliseconds an image")
        for _ in range(args.rounds):
            each = {}
            for name, run in programs.items():
                many, few = (seconds(lambda: run(images)) for images in sets)
                each[name] = (many - few) / (args.images - args.batch) * 1e3
            print(", ".join(f"{name} {ms:.1f}" for name, ms in each.items()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
