"""A training step, the same net and batch: this kit's trainer against plain fp32.

    python benchmarks/step.py --batch 4 --steps 5 --rounds 2

Ours is the trainer itself: channels last, fused AdamW, the arithmetic that `amp: auto` picks on this device, freed
memory kept; and it clips gradients, scales its input and averages the weights, which the reference does
without. The reference is the architecture of segmentation_models_pytorch as it comes, fp32 and contiguous, with
torch.optim.AdamW as it comes. The settings of memory hold for a whole process: each side runs in processes of its own,
in turn. A row with bf16 is printed beside.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Literal

import torch
from harness import machine, table

from steel.config import MachineConfig, ModelConfig, Phase

NETS = {"resnet18-Unet": ("Unet", "resnet18"), "efficientnet-b0-FPN": ("FPN", "efficientnet-b0")}
SHAPE = (256, 512)
SIDES = ("ours", "reference", "ours in bf16")
N_STRIPS = 8  # of the ones that the trainer wants to see


def ours(net: str, encoder: str, batch: int, amp: Literal["auto", "bf16"]) -> Callable[[], object]:
    """A step of the trainer."""
    import numpy as np
    import pandas as pd

    from steel.data.cache import AREAS, Strips
    from steel.fit.train import Trainer

    strips = Strips(pd.DataFrame(0, index=range(N_STRIPS), columns=AREAS), np.zeros((N_STRIPS, *SHAPE), np.uint8), None)
    phases = [Phase(epochs=1, width=SHAPE[1], batch=batch)]
    model = ModelConfig(net=net, encoder=encoder, amp=amp, phases=phases)
    trainer = Trainer(model, MachineConfig(), strips, np.arange(N_STRIPS), seed=0)
    trainer.net.train()
    image = torch.randint(0, 256, (batch, *SHAPE), dtype=torch.uint8)
    bits = (torch.rand(batch, *SHAPE) < 0.05).to(torch.uint8)

    def step() -> float:
        loss = trainer._backward(image, bits)
        trainer._step(1e-3)
        return float(loss.detach())

    return step


def reference(net: str, encoder: str, batch: int) -> Callable[[], object]:
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


def run_side(side: str, name: str, batch: int, steps: int) -> list[float]:
    """Seconds of each step, after two untimed ones; in this process."""
    net, encoder = NETS[name]
    torch.manual_seed(0)
    if side == "reference":
        step = reference(net, encoder, batch)
    else:
        step = ours(net, encoder, batch, "auto" if side == "ours" else "bf16")
    times = []
    for _ in range(steps + 2):
        start = time.perf_counter()
        step()
        times.append(time.perf_counter() - start)
    return times[2:]


def run_apart(side: str, name: str, batch: int, steps: int) -> list[float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--side", side, "--net", name, "--batch", str(batch), "--steps", str(steps)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Print a table of milliseconds per step."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=5, help="timed steps in each process")
    parser.add_argument("--rounds", type=int, default=2, help="processes of each side")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--net", choices=NETS, action="append", help="only this net")
    args = parser.parse_args()
    if args.side:
        print(json.dumps(run_side(args.side, args.net[0], args.batch, args.steps)))
        return
    rows = [["ms per step", "processes x steps", "median", "IQR", "faster than the reference"]]
    for name in args.net or NETS:
        times: dict[str, list[list[float]]] = {side: [] for side in SIDES}
        for i in range(args.rounds):
            for side in SIDES if i % 2 == 0 else reversed(SIDES):
                times[side].append(run_apart(side, name, args.batch, args.steps))
        rows += [row(name, side, times) for side in SIDES]
    from steel.device import amp_dtype, open_device

    device = open_device(MachineConfig())
    picked = str(amp_dtype("auto", device)).removeprefix("torch.")
    print(
        machine(), f"torch {torch.__version__} on {device}, 1 x {SHAPE[0]} x {SHAPE[1]}, batch {args.batch}", sep="\n"
    )
    print(f"amp: auto picks {picked} here", table(rows), sep="\n")


def row(name: str, side: str, times: dict[str, list[list[float]]]) -> list[str]:
    """All steps of one side; the ratio is the median over the rounds."""
    flat = [t for part in times[side] for t in part]
    low, _, high = statistics.quantiles(flat, n=4)
    pairs = zip(times[side], times["reference"], strict=True)
    ratio = statistics.median(statistics.median(b) / statistics.median(a) for a, b in pairs)
    spread = f"{1e3 * (high - low):.0f}"
    median = f"{1e3 * statistics.median(flat):.0f}"
    return [f"{name}, {side}", f"{len(times[side])} x {len(times[side][0])}", median, spread, f"{ratio:.2f}"]


if __name__ == "__main__":
    main()
