"""The peer of `tweedie bench --compare`: diffusers' UNet2DModel in a process of its own, timed when it is asked.

Arguments: the folder with the network, threads, eager or compile. It says "ready", then answers each line "BATCH CHANNELS
SIDE" with the seconds of one forward."""

import sys
import time

import torch
from diffusers import UNet2DModel

folder, threads, mode = sys.argv[1:]
torch.set_num_threads(int(threads))
model = UNet2DModel.from_pretrained(folder).eval()
if mode == "compile":
    import torch._inductor.config

    torch._inductor.config.freezing = True
    model = torch.compile(model)
print("ready", torch.__version__, flush=True)
for line in sys.stdin:
    batch, channels, side = map(int, line.split())
    x, label = torch.randn(batch, channels, side, side), torch.full((batch,), 500.0)
    with torch.no_grad():
        start = time.perf_counter()
        model(x, label)
        print(time.perf_counter() - start, flush=True)
