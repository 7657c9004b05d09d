"""Networks' own classes as peers of `tweedie bench --compare --peer forwards.py`, with random weights.

    forwards.py FOLDER                 writes the checkpoints that have no folder of diffusers: ffhq_10m.pt, edm-*.pt; and ncsnpp-256/
    forwards.py MODEL THREADS MODE     the peer itself: reads "BATCH CHANNELS SIDE", answers with the seconds of one forward and
                                       the most memory it has had, in MB
"""

import pathlib
import sys

import torch
from diffusers import ScoreSdeVeScheduler, UNet2DModel

import bench
from common import redraw
from networks import NCSNPP, adm_unet, song_unet

FILES = {
    "ffhq_10m.pt": adm_unet,
    "edm-cifar10-32x32-uncond-vp.pt": lambda: song_unet("ddpm"),
    "edm-cifar10-32x32-uncond-ve.pt": lambda: song_unet("ncsn"),
}


def write(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for seed, (name, module) in enumerate(FILES.items()):
        # EDM's programs have the network within its preconditioning.
        prefix = "model." if name.startswith("edm") else ""
        state = redraw(module(), seed).state_dict()
        torch.save({prefix + key: tensor for key, tensor in state.items()}, folder / name)
    redraw(UNet2DModel(**NCSNPP), seed=3).save_pretrained(folder / "ncsnpp-256")
    scheduler = ScoreSdeVeScheduler(num_train_timesteps=2000, snr=0.15, sigma_min=0.01, sigma_max=348)
    scheduler.save_pretrained(folder / "ncsnpp-256")


def read(path):
    if path.is_dir():
        return UNet2DModel.from_pretrained(path).eval()
    module = FILES[path.name]()
    state = torch.load(path, weights_only=True)
    module.load_state_dict({key.removeprefix("model."): tensor for key, tensor in state.items()})
    return module.eval()


if __name__ == "__main__":
    if len(sys.argv) == 2:
        write(pathlib.Path(sys.argv[1]))
    else:
        bench.serve(read(pathlib.Path(sys.argv[1])), *sys.argv[2:])
