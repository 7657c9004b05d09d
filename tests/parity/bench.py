"""The peer of `tweedie bench --compare`: diffusers' UNet2DModel in a process of its own, timed when it is asked.

Arguments: the folder with the network, threads, eager or compile. It says "ready", then answers each line "BATCH CHANNELS
SIDE" with the seconds of one forward and the most memory that the process has had so far, in MB."""

import resource
import sys
import time

import torch


def serve(model, threads, mode):
    torch.set_num_threads(int(threads))
    if mode == "compile":
        from torch._inductor import config

        config.freezing = True
        model = torch.compile(model, dynamic=False)
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        batch, channels, side = map(int, line.split())
        x, label = torch.randn(batch, channels, side, side), torch.full((batch,), 500.0)
        with torch.no_grad():
            start = time.perf_counter()
            model(x, label)
            seconds = time.perf_counter() - start
        print(seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, flush=True)


if __name__ == "__main__":
    from diffusers import UNet2DModel

    serve(UNet2DModel.from_pretrained(sys.argv[1]).eval(), *sys.argv[2:])
