"""The table of speed on a GPU, as one command: what is wanted beside what is measured.

    gpu.py [--tweedie PATH] [--budget SECONDS] [--markdown FILE] [--only eager|job|compiled ...] [NAME ...]

  eager     whole forwards, turn by turn with the networks' own classes under bf16 autocast, channels-last; the share of the
            largest matrix product measured; the share of the loop
  job       `tweedie sample` of EDM's network for CIFAR-10: 50,000 images, from what two numbers of images take
  compiled  the forwards again beside torch.compile, max-autotune (which has CUDA graphs), in the order of importance, while
            time is left

Weights are random, written as the authors publish them (forwards.py). Nothing is taken from one run to the next: what did not fit
into the budget is told so, and `--only compiled NAME` measures it alone. `--device cpu --small` shows that the script works, and
measures nothing of interest. Arithmetic needs no package: `--check` proves it.
"""

import argparse
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
SHARE = {"ddpm-cifar10": 0.35, "edm-vp": 0.35, "edm-ve": 0.35, "ncsnpp-256": 0.5, "adm-ffhq": 0.5}
"""Of the matrix peak, at the larger batch."""
RATIO = {("eager", False): 2.0, ("eager", True): 4.0, ("compiled", False): 1.2, ("compiled", True): 1.1}
"""The peer's time by ours: by what the peer is, and whether the batch is 1."""
LOOP = 0.02
IMAGES, EVALUATIONS, SECONDS = 50_000, 35, 200.0
PLAN = ["--schedule", "{kind: karras, max: 80, min: 0.002}", "--steps", 18, "--sampler", "heun"]
"""EDM's own, as in experiments/published/edm-cifar10.yaml."""
LEAST = 45.0
"""Seconds that a comparison needs to be worth beginning."""


def line_through(small, large, count):
    """Seconds for `count` images, and for each of them, from (images, seconds) of a small and a large run."""
    each = (large[1] - small[1]) / (large[0] - small[0])
    return large[1] + each * (count - large[0]), each


def floor(batch, milliseconds):
    """Seconds of the network alone for the whole job."""
    return IMAGES * EVALUATIONS * milliseconds / 1e3 / batch


def judged(value, wanted, least=True):
    return "held" if (value >= wanted if least else value <= wanted) else "MISSED"


def forward_rows(kind, name, row):
    """What a row of `tweedie bench --compare` says, as (what, wanted, measured, verdict)."""
    batch, wanted = row["batch"], RATIO[kind, row["batch"] == 1]
    peer = "eager autocast, channels-last" if kind == "eager" else "torch.compile, max-autotune"
    ours, memory = row["peer_ms"] / row["ratio"], row["peak_memory_mb"]
    told = f"{row['ratio']:.2f} ({row['peer_ms']:.2f} ms by {ours:.2f} ms"
    told += f"; {row['peer_memory_mb']:.0f} and {memory:.0f} MB)" if memory is not None else ")"
    rows = [(f"{name}, batch {batch}, beside {peer}", f"{wanted:g}", told, judged(row["ratio"], wanted))]
    if kind == "compiled":
        return rows
    if batch > 1:
        share, least = row["share_of_peak"], SHARE[name]
        told = f"{share:.0%} ({row['teraflops']:.0f} TFLOP/s)"
        rows.append((f"{name}, batch {batch}, share of the matrix peak", f"{least:.0%}", told, judged(share, least)))
    loop = row["rest_ms"] / (row["rest_ms"] + row["network_ms"])
    rows.append((f"{name}, batch {batch}, the loop's share", f"at most {LOOP:.0%}", f"{loop:.1%}", judged(loop, LOOP, least=False)))
    return rows


def job_row(small, large, best, milliseconds):
    """The whole job, from (images, seconds) of two runs, and the network's milliseconds at its best batch."""
    seconds, each = line_through(small, large, IMAGES)
    told = (f"{seconds:.0f} s, extrapolated from {small[0]} images in {small[1]:.1f} s and {large[0]} in {large[1]:.1f} s "
            f"({each * 1e3:.2f} ms each); the network alone, at batch {best}: {floor(best, milliseconds):.0f} s")
    what = f"edm-vp, {IMAGES:,} images of {EVALUATIONS} evaluations, to PNG files"
    return what, f"below {SECONDS:.0f} s", told, judged(seconds, SECONDS, least=False)


def markdown(rows):
    head = ["| what | wanted | measured | |", "| --- | --- | --- | --- |"]
    return "\n".join(head + ["| " + " | ".join(row) + " |" for row in rows])


def check():
    """Proves the arithmetic."""
    seconds, each = line_through((1000, 5.0), (3000, 13.0), 50_000)
    assert abs(each - 0.004) < 1e-12 and abs(seconds - 201.0) < 1e-9
    assert abs(floor(500, 20.0) - 70.0) < 1e-9
    row = dict(batch=256, ratio=2.5, peer_ms=25.0, network_ms=9.9, rest_ms=0.1, share_of_peak=0.36, teraflops=280.0,
               peak_memory_mb=900.0, peer_memory_mb=1800.0)
    rows = forward_rows("eager", "ddpm-cifar10", row)
    assert [r[3] for r in rows] == ["held"] * 3 and rows[0][2] == "2.50 (25.00 ms by 10.00 ms; 1800 and 900 MB)", rows
    assert rows[1][2] == "36% (280 TFLOP/s)" and rows[2][2] == "1.0%"
    assert [r[3] for r in forward_rows("eager", "adm-ffhq", row)] == ["held", "MISSED", "held"]
    alone = forward_rows("compiled", "ddpm-cifar10", {**row, "batch": 1, "ratio": 1.09, "peak_memory_mb": None})
    assert len(alone) == 1 and alone[0][3] == "MISSED" and alone[0][2].endswith("22.94 ms)"), alone
    late = forward_rows("eager", "ddpm-cifar10", {**row, "batch": 1, "rest_ms": 0.3, "ratio": 4.0})
    assert [r[3] for r in late] == ["held", "MISSED"], late
    assert job_row((1000, 5.0), (3000, 13.0), 500, 20.0)[3] == "MISSED"
    assert job_row((1000, 5.0), (3000, 12.0), 500, 20.0)[3] == "held"
    assert markdown([("a", "b", "c", "d")]).splitlines()[-1] == "| a | b | c | d |"


class Run:
    """Calls of the program, until the time is up."""

    def __init__(self, args, folder):
        self.args, self.folder, self.rows, self.notes = args, folder, [], []
        self.end = time.monotonic() + args.budget
        from forwards import NETWORKS

        self.files = {name: file for name, (file, _, _) in NETWORKS.items()}
        self.batches = {name: (cuda if args.device.startswith("cuda") else cpu[:1]) for name, (_, cpu, cuda) in NETWORKS.items()}
        self.names = args.names or list(NETWORKS)

    def left(self):
        return self.end - time.monotonic()

    def checkpoint(self, name):
        from forwards import write

        path = self.folder / self.files[name]
        if not path.exists():
            write(path)
        return path

    def call(self, *words):
        """The program's record; None, with a note, where it fails or the time is up. Its peers end with it."""
        common = ["--device", self.args.device, "--precision", self.args.precision, "--json"]
        call = [*map(str, (self.args.tweedie, *words, *common))]
        process = subprocess.Popen(call, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
        try:
            out, complaint = process.communicate(timeout=max(self.left(), 1.0))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return self.note(call, "not finished: the time is up")
        if process.returncode != 0:
            return self.note(call, (complaint.strip().splitlines() or ["no word"])[-1])
        return json.loads(out)

    def note(self, call, why):
        said = " ".join(pathlib.Path(word).name if "/" in word else word for word in call[1:])
        self.notes.append(f"`tweedie {said}`: {why}")

    def add(self, rows):
        for row in rows:
            print("| " + " | ".join(row) + " |", flush=True)
        self.rows += rows

    def compare(self, kind, name, batches):
        words = ["bench", self.checkpoint(name), "--batches", ",".join(map(str, batches)), "--rounds", self.args.rounds]
        words += ["--steps", 2 if self.args.small else 6]
        words += ["--compare", "--python", sys.executable, "--peer", HERE / "forwards.py"] + ["--compiled"] * (kind == "compiled")
        found = self.call(*words)
        if found is None:
            return
        self.notes += [f"{name}: launched layer by layer: {why}" for why in found["refusals"]]
        self.notes += [f"{name}: matrix peak {found['peak_teraflops']:.1f} TFLOP/s"] * (kind == "eager")
        for row in found["rows"]:
            self.add(forward_rows(kind, name, row))

    def eager(self):
        for name in self.names:
            self.compare("eager", name, self.batches[name])

    def compiled(self):
        """Large batches first; a network is compiled for each of them anew."""
        for name, batch in dict.fromkeys((name, self.batches[name][k]) for k in (-1, 0) for name in self.names):
            if self.left() < LEAST:
                self.notes.append(f"{name}, batch {batch}, beside torch.compile: not reached: --only compiled {name}")
            else:
                self.compare("compiled", name, [batch])

    def job(self):
        batches, counts = ([1], (1, 2)) if self.args.small else ([128, 256, 512, 1024], (2048, 6144))
        path = self.checkpoint("edm-vp")
        found = self.call("bench", path, "--batches", ",".join(map(str, batches)), "--steps", 2)
        if found is None:
            return
        best = found["best_batch"]
        network = next(row["network_ms"] for row in found["rows"] if row["batch"] == best)
        runs = []
        for count in counts:
            out = self.folder / f"job-{count}"
            record = self.call("sample", path, *PLAN, "--seeds", f"0-{count - 1}", "--batch", best, "--out", out)
            if record is None:
                return
            if record["evaluations"] != EVALUATIONS or len(list(out.glob("[0-9]*.png"))) != count:
                sys.exit(f"{count} images of {EVALUATIONS} evaluations were wanted: {record}")
            runs.append((count, record["seconds"]))
        self.add([job_row(*runs, best, network)])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="which networks of forwards.py (default: all)")
    parser.add_argument("--tweedie", default=HERE.parents[1] / "target/release/tweedie", help="the program")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--only", action="append", choices=["eager", "job", "compiled"], help="a part of it; may be given again")
    parser.add_argument("--budget", type=float, default=560.0, help="seconds for all of it (default: 560)")
    parser.add_argument("--rounds", type=int, default=9, help="turns (default: 9)")
    parser.add_argument("--markdown", type=pathlib.Path, help="write the table here as well")
    parser.add_argument("--small", action="store_true", help="few steps and images: to try the script, on the CPU too")
    parser.add_argument("--check", action="store_true", help="prove the arithmetic, and end")
    args = parser.parse_args()
    check()
    if args.check:
        return
    with tempfile.TemporaryDirectory() as folder:
        run = Run(args, pathlib.Path(folder))
        print(markdown([]), flush=True)
        for part in args.only or ["eager", "job", "compiled"]:
            getattr(run, part)()
    for note in run.notes:
        print(f"- {note}")
    if args.markdown:
        args.markdown.write_text(markdown(run.rows) + "\n\n" + "".join(f"- {note}\n" for note in run.notes))


if __name__ == "__main__":
    main()
