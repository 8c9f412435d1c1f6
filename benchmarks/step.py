"""A training step, the same net and batch: this kit's trainer against plain fp32.

    python benchmarks/step.py --batch 4 --steps 4 --rounds 2

Ours is the trainer itself: channels last, fused AdamW, the arithmetic that `amp: auto` picks on this device, freed
memory kept; and it clips gradients, scales its input and averages the weights, which the reference does
without. The reference is the architecture of segmentation_models_pytorch as it comes, fp32 and contiguous, with
torch.optim.AdamW as it comes. The settings of memory hold for a whole process: each side runs in processes of its own,
in turn. CPU time, which counts all threads, is the fairer figure on a machine that others use too. Beside them stand
ours in bf16, with the encoder's blocks computed twice (machine.checkpoint_gradients) and, with --compiled, since that
takes minutes at first, through torch.compile. MB is what a process holds at most beyond what it held before.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from harness import machine, table, training_step

from steel.config import MachineConfig
from steel.device import amp_dtype, open_device

NETS = {"resnet18-Unet": ("Unet", "resnet18"), "efficientnet-b0-FPN": ("FPN", "efficientnet-b0")}
SHAPE = (256, 512)
SIDES: dict[str, dict[str, Any]] = {  # ours: keys of the machine, and the arithmetic
    "ours": {},
    "reference": {},
    "ours in bf16": {"amp": "bf16"},
    "ours, blocks twice": {"checkpoint_gradients": True},
    "ours, compiled": {"compile": True},
}
Times = tuple[float, float, float]  # wall clock and CPU time of all threads, s; most memory so far, MB


def reference(net: str, encoder: str, batch: int) -> Callable[[], float]:
    """A step as in the tutorials."""
    from steel.nets.torchvision_shim import ensure_torchvision_imports

    ensure_torchvision_imports()
    import segmentation_models_pytorch as smp

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model = getattr(smp, net)(encoder_name=encoder, encoder_weights=None, in_channels=1, classes=4).to(device).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    criterion = torch.nn.BCEWithLogitsLoss()
    image = torch.randn(batch, 1, *SHAPE, device=device)
    mask = (torch.rand(batch, 4, *SHAPE, device=device) < 0.05).float()

    def step() -> float:
        optimizer.zero_grad()
        loss = criterion(model(image), mask)
        loss.backward()
        optimizer.step()
        return float(loss.detach())

    return step


def run_side(side: str, name: str, batch: int, steps: int, threads: int | None) -> list[Times]:
    """Time each step after one untimed, in this process."""
    net, encoder = NETS[name]
    torch.manual_seed(0)
    if side == "reference":
        torch.set_num_threads(threads or os.cpu_count() or 1)
        step = reference(net, encoder, batch)
    else:
        keys = {"amp": "auto"} | SIDES[side]
        step = training_step({"net": net, "encoder": encoder, "amp": keys.pop("amp")}, threads, batch, SHAPE, **keys)
    times, before = [], peak_mb()
    for _ in range(steps + 1):
        wall, cpu = time.perf_counter(), time.process_time()
        step()
        times.append((time.perf_counter() - wall, time.process_time() - cpu, peak_mb() - before))
    return times[1:]


def peak_mb() -> float:
    """Most memory that this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def run_apart(side: str, name: str, args: argparse.Namespace) -> list[Times]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--net", name, "--batch", str(args.batch)]
    command += ["--steps", str(args.steps), *(["--threads", str(args.threads)] if args.threads else [])]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Print a table of milliseconds per step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4, help="timed steps in each process")
    parser.add_argument("--rounds", type=int, default=2, help="processes of ours and the reference; others: one")
    parser.add_argument("--compiled", action="store_true", help="ours compiled, too")
    parser.add_argument("--threads", type=int, help="threads of each side; all cores by default")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--net", choices=NETS, action="append", help="only this net")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(run_side(args.side, args.net[0], args.batch, args.steps, args.threads)))
        return
    rows = [["ms per step", "processes x steps", "median", "IQR", "faster", "CPU time", "less of it", "MB"]]
    for name in args.net or NETS:
        sides = [side for side in SIDES if args.compiled or side != "ours, compiled"]
        times: dict[str, list[list[Times]]] = {side: [] for side in sides}
        for i in range(args.rounds):
            for side in sides if i == 0 else ("reference", "ours"):
                times[side].append(run_apart(side, name, args))
        rows += [row(name, side, times) for side in sides]
    device = open_device(MachineConfig(threads=args.threads))
    picked = str(amp_dtype("auto", device)).removeprefix("torch.")
    what = f"1 x {SHAPE[0]} x {SHAPE[1]}, batch {args.batch}, {torch.get_num_threads()} threads"
    print(machine(), f"torch {torch.__version__} on {device}, {what}; amp: auto picks {picked} here", sep="\n")
    print(table(rows))


def row(name: str, side: str, times: dict[str, list[list[Times]]]) -> list[str]:
    """All steps of one side; the ratios to the reference are medians over the rounds."""
    wall = [t[0] for part in times[side] for t in part]
    low, _, high = statistics.quantiles(wall, n=4)
    median, cpu = statistics.median(wall), statistics.median(t[1] for part in times[side] for t in part)
    faster, less = (
        statistics.median(
            statistics.median(t[i] for t in b) / statistics.median(t[i] for t in a)
            for a, b in zip(times[side], times["reference"], strict=False)
        )
        for i in range(2)
    )
    count = f"{len(times[side])} x {len(times[side][0])}"
    spread = f"{1e3 * (high - low):.0f}"
    cells = [f"{1e3 * median:.0f}", spread, f"{faster:.2f}", f"{1e3 * cpu:.0f}", f"{less:.2f}"]
    return [f"{name}, {side}", count, *cells, f"{max(part[-1][2] for part in times[side]):.0f}"]


if __name__ == "__main__":
    main()
