"""The peer of `tweedie bench --compare`: diffusers' UNet2DModel in a process of its own, timed when it is asked.

Arguments: the folder with the network, threads, eager or compile (or gradient, gradient-compile), cpu or cuda, f32 or bf16. It
says "ready", then answers each line "BATCH CHANNELS SIDE TIMES" with the seconds of one of so many forwards, or steps of DPS, and the
most memory that it has had so far, in MB: of the process on
the CPU, of tensors on CUDA. bf16 is autocast, with channels side by side in memory."""

import resource
import sys
import time

import torch


def dps(model, x, label):
    """What DPS's program asks of its network: D by a prediction of noise, a misfit where the left half is seen, its gradient."""
    x = x.detach().requires_grad_()
    out = model(x, label)
    epsilon = getattr(out, "sample", out)[:, : x.shape[1]]
    abar = 0.08
    denoised = (x - (1 - abar) ** 0.5 * epsilon) / abar**0.5
    misfit = torch.linalg.norm(denoised[..., : x.shape[3] // 2])
    return torch.autograd.grad(misfit, x)[0]


def serve(model, threads, mode, device="cpu", precision="f32"):
    torch.set_num_threads(int(threads))
    cuda, half = device.startswith("cuda"), precision == "bf16"
    torch.backends.cudnn.benchmark = True
    model = model.to(device, memory_format=torch.channels_last if half else torch.contiguous_format)
    if mode.endswith("compile"):
        from torch._inductor import config

        config.freezing = not mode.startswith("gradient")
        model = torch.compile(model, dynamic=False, mode="max-autotune" if cuda else None)
    wait = torch.cuda.synchronize if cuda else lambda: None
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        batch, channels, side, times = map(int, line.split())
        x = torch.randn(batch, channels, side, side, device=device)
        if half:
            x = x.to(memory_format=torch.channels_last)
        label = torch.full((batch,), 500.0, device=device)
        gradient = mode.startswith("gradient")
        with torch.set_grad_enabled(gradient), torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            wait()
            start = time.perf_counter()
            for _ in range(times):
                dps(model, x, label) if gradient else model(x, label)
            wait()
            seconds = (time.perf_counter() - start) / times
        memory = torch.cuda.max_memory_allocated() / 2**20 if cuda else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(seconds, memory, flush=True)


if __name__ == "__main__":
    from diffusers import UNet2DModel

    serve(UNet2DModel.from_pretrained(sys.argv[1]).eval(), *sys.argv[2:])
