"""How long Inception takes: pytorch-fid and the program, same weights, images, batch and threads, one after the other.

    speed.py [--images 200] [--batch 50] [--rounds 3]

Images are 32x32 PNG files of noise, weights those of features.py. Of the program, what its start takes (weights, libtorch)
is measured with as many images as one batch has, and taken off; of pytorch-fid, reading weights is not measured at all.
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
        theirs = model(file)
        sets = [files(folder / name, count) for name, count in (("many", args.images), ("few", args.batch))]

        def ours(images):
            call = [args.tweedie, "evaluate", images, "--network", f"inception:{file}", "--resize", "pytorch", "--quiet"]
            call += ["--batch", str(args.batch), "--save-statistics", folder / "ours.npz", "--threads", str(threads)]
            subprocess.run([*map(str, call), "--device", args.device], check=True)

        def peers(images):
            with torch.no_grad():
                compute_statistics_of_path(str(images), theirs, args.batch, 2048, args.device, 0)

        for _ in range(args.rounds):
            (many, few), (peer, peer_few) = ([seconds(lambda: run(images)) for images in sets] for run in (ours, peers))
            apart = args.images - args.batch
            print(f"{threads} threads, per image: tweedie {(many - few) / apart * 1e3:.1f} ms, "
                  f"pytorch-fid {(peer - peer_few) / apart * 1e3:.1f} ms; "
                  f"{args.images} images: {many:.1f} s with start, {peer:.1f} s without")
    return 0


if __name__ == "__main__":
    sys.exit(main())
