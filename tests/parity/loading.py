"""Time and memory to load a checkpoint of ffhq_10m's size, PyTorch and the program in turn.

A state dict of guided-diffusion with random weights (374 MB, f32) is written once. After an uncounted round, N of

  torch     torch.load(path, mmap=True, weights_only=True) and load_state_dict(assign=False) into azula's network
  tweedie   `tweedie inspect FILE --json`

each in a process of its own, with the file in the page cache. "torch, the two calls" leaves out the imports and the
building of the network; "torch, process" is all from start to end. "tweedie, process" is likewise the whole of it, its
start and the checksum of the weights included; "tweedie, load_seconds" is what it says of loading, where it does. CPU
seconds are user and system time, which other work on the machine disturbs less. Peak memory is the largest resident set
of the process, libraries included. Nothing is judged: medians are printed, and their share of torch's two calls.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

# What is heavy is imported by the processes that need it: a child's largest resident set begins with its parent's.

ROOT = pathlib.Path(__file__).resolve().parents[2]


def network():
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


def write(path):
    import torch

    torch.manual_seed(0)
    torch.save({name: torch.randn(tensor.shape) for name, tensor in network().state_dict().items()}, path)


def load(path):
    """Prints the seconds of the two calls."""
    import torch

    unet = network()
    start, cpu = time.perf_counter(), time.process_time()
    state = torch.load(path, mmap=True, weights_only=True)
    unet.load_state_dict(state, assign=False)
    print(json.dumps({"load_seconds": time.perf_counter() - start, "load_cpu": time.process_time() - cpu}))


def measured(call):
    """What one process used, and what it printed, which must be JSON."""
    start = time.perf_counter()
    process = subprocess.Popen(call, stdout=subprocess.PIPE)
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        sys.exit(f"{' '.join(call)} ended with {process.returncode}")
    used = {"seconds": seconds, "cpu": usage.ru_utime + usage.ru_stime, "memory": usage.ru_maxrss * 1024 / 1e6}
    return {**json.loads(printed), **used}


def measure(calls, rounds):
    """The records of each name, one of a round."""
    found = {name: [] for name in calls}
    for k in range(rounds + 1):
        for name, call in calls.items():
            record = measured(call)
            if k > 0:
                found[name].append(record)
    return found


ROWS = (
    ("torch, the two calls", "s", "torch", "load_seconds", "load_seconds"),
    ("tweedie, load_seconds", "s", "tweedie", "load_seconds", "load_seconds"),
    ("tweedie, process", "s", "tweedie", "seconds", "load_seconds"),
    ("torch, process", "s", "torch", "seconds", "load_seconds"),
    ("torch, the two calls, CPU", "s", "torch", "load_cpu", "load_cpu"),
    ("tweedie, process, CPU", "s", "tweedie", "cpu", "load_cpu"),
    ("torch, process, CPU", "s", "torch", "cpu", "load_cpu"),
    ("torch, peak memory", "MB", "torch", "memory", "memory"),
    ("tweedie, peak memory", "MB", "tweedie", "memory", "memory"),
)
"""Of each line its name, its unit, whose it is, which entry of the records, and which of torch's it is a share of."""


def show(found):
    print(f"{'':<28} {'median':>9}      {'least ... most':<20} share")
    for name, unit, whose, entry, reference in ROWS:
        if any(entry not in record for record in found[whose]):
            continue
        values = [record[entry] for record in found[whose]]
        share = statistics.median(values) / statistics.median(record[reference] for record in found["torch"])
        extent = f"{min(values):.3f} ... {max(values):.3f}"
        print(f"{name:<28} {statistics.median(values):9.3f} {unit:<4} {extent:<20} {share:6.2f}")


def compare(args):
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or pathlib.Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = str(folder / "ffhq_10m.pt")
        python = [sys.executable, __file__]
        subprocess.run([*python, "--write", path], check=True)
        calls = {
            "torch": [*python, "--load", path],
            "tweedie": [str(args.tweedie), "inspect", path, "--json"],
        }
        show(measure(calls, args.rounds))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tweedie", default=ROOT / "target/release/tweedie", help="the program")
    parser.add_argument("--folder", type=pathlib.Path, help="keep the checkpoint here (default: a temporary folder)")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="how many (default: 5)")
    parser.add_argument("--write", metavar="FILE", help=argparse.SUPPRESS)
    parser.add_argument("--load", metavar="FILE", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write(args.write)
    elif args.load:
        load(args.load)
    else:
        compare(args)


if __name__ == "__main__":
    main()
