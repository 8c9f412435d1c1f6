"""Hours that a solution's trainings take on this device, worked out from measured steps; alone, and spread over eight.

    python benchmarks/hours.py configs/gold.yaml

    python benchmarks/hours.py configs/gold.yaml --rate 20        for a device that sustains 20 TFLOP/s
    python benchmarks/hours.py configs/gold.yaml --rate 85 --rate-of efficientnet=18

A few steps of every model in every phase are timed on random strips (on a CPU with a small batch, scaled up), or with
`--rate` worked out from their number of floating-point operations, which torch counts. Reading strips is left out:
workers do it meanwhile. So is the look at held-out strips, a forward pass of them every `validate_every` epochs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from harness import machine, table, training_step
from torch.utils.flop_counter import FlopCounterMode

from steel import cli
from steel.competition import HEIGHT, N_TRAIN
from steel.config import ModelConfig, Phase, Solution
from steel.nets.build import build

N_DEFECT = 6666  # of the competition's training strips
CPU_BATCH = 2
N_DEVICES = 8


@dataclass(frozen=True)
class Cost:
    """What one phase of one training costs.

    Attributes:
        n_steps: steps.
        step_s: seconds of one.
        step_tflop: floating-point operations of one, 1e12.
    """

    n_steps: int
    step_s: float
    step_tflop: float

    @property
    def hours(self) -> float:
        """Hours of the phase."""
        return self.n_steps * self.step_s / 3600


def n_steps(solution: Solution, model: ModelConfig, phase: Phase) -> int:
    """Steps of a phase on the competition's full data."""
    held_out = solution.split.holdout or 1 / solution.split.n_folds
    rows = (N_DEFECT if model.rows == "defects" else N_TRAIN) * (1 - held_out)
    if model.best_epochs:
        rows *= 1 - model.inner_share
    n = phase.samples or int(rows)
    return phase.epochs * (n // min(phase.batch, n))


def timed(solution: Solution, model: ModelConfig, phase: Phase, steps: int) -> float:
    """Seconds of a step of a phase: the median of some, after one to warm up."""
    batch = phase.batch if torch.cuda.is_available() else min(phase.batch, CPU_BATCH)
    keys = asdict(model) | {"weights": None, "average_epochs": 0, "best_epochs": 0}
    keys["downscale"] = phase.downscale or model.downscale
    del keys["phases"]
    step = training_step(keys, solution.machine.threads, batch, (HEIGHT, phase.width))
    step()
    return statistics.median(_timed(step) for _ in range(steps)) * phase.batch / batch


def counted(model: ModelConfig, phase: Phase) -> float:
    """Floating-point operations of a step of a phase, 1e12: three times those of its forward pass.

    torch counts them on its meta device. Its count of the backward pass is wrong for grouped convolutions; it takes
    twice the forward pass: one product more for the gradient of the input, and one for that of the weights.
    """
    net = build(replace(model, weights=None), pretrained=False).to("meta").train()
    net.downscale = phase.downscale or model.downscale
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(phase.batch, 1, HEIGHT, phase.width, dtype=torch.uint8, device="meta"))
    return 3 * counter.get_total_flops() / 1e12


def part_rate(text: str) -> tuple[str, float]:
    """PART=TFLOPS of the command line."""
    part, _, rate = text.partition("=")
    if not part:
        raise ValueError(text)
    return part, float(rate)


def rate_of(rate: float, of_parts: list[tuple[str, float]], model: ModelConfig) -> float:
    """TFLOP/s in a model's net."""
    name = model.net if model.kind == "classifier" else model.encoder
    return next((of_part for part, of_part in of_parts if part in name), rate)


def _timed(step: Callable[[], float]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def spread(hours: list[float], n: int) -> float:
    """Hours until the last of some trainings ends on `n` devices, the longest begun first."""
    devices = [0.0] * n
    for one in sorted(hours, reverse=True):
        devices[devices.index(min(devices))] += one
    return max(devices)


def main() -> None:
    """Print a row per model and phase, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, nargs="?", default=Path("configs/demo.yaml"), help="[configs/demo.yaml]")
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each model and phase")
    parser.add_argument("--rate", type=float, help="TFLOP/s that a device sustains, instead of timing")
    about = "but so many in nets with PART in the name of their encoder, or of a classifier"
    parser.add_argument("--rate-of", type=part_rate, action="append", default=[], metavar="PART=TFLOPS", help=about)
    args = parser.parse_args()
    solution, _ = cli.parse("status", "", [str(args.config)])
    n_folds = len(solution.folds)
    rows = [["model", "phase", "batch", "steps", "s per step", "TFLOP per step", f"hours, {n_folds} folds"]]
    per_training: list[float] = []
    pflop = 0.0
    for name, model in solution.models.items():
        costs = []
        for phase in model.phases:
            tflop = counted(model, phase)
            if args.rate:
                step_s = tflop / rate_of(args.rate, args.rate_of, model)
            else:
                step_s = timed(solution, model, phase, args.steps)
            cost = Cost(n_steps(solution, model, phase), step_s, tflop)
            costs.append(cost)
            what = f"{phase.epochs} epochs at {phase.width}"
            cells = [f"{cost.n_steps}", f"{cost.step_s:.2f}", f"{cost.step_tflop:.2f}", f"{n_folds * cost.hours:.1f}"]
            rows.append([name, what, str(phase.batch), *cells])
            print(*rows[-1], sep="; ", flush=True)  # at once: minutes of a GPU are dear
            pflop += n_folds * cost.n_steps * cost.step_tflop / 1e3
        per_training += [sum(cost.hours for cost in costs)] * n_folds
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else machine()
    told = ", ".join([f"at {args.rate} TFLOP/s", *(f"{part} {rate}" for part, rate in args.rate_of)])
    print(told if args.rate else device, table(rows), sep="\n")
    print(f"{len(per_training)} trainings: {sum(per_training):.1f} hours on one, ", end="")
    print(f"{spread(per_training, N_DEVICES):.1f} on {N_DEVICES}; {pflop:.0f} PFLOP in all")


if __name__ == "__main__":
    main()
