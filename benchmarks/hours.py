"""Hours that a solution's trainings take on this device, worked out from measured steps; alone, and spread over eight.

    python benchmarks/hours.py configs/gold.yaml

A few steps of every model in every phase are timed on random strips (on a CPU with a small batch, scaled up), and their
floating-point operations counted by torch. Reading strips is left out: workers do it meanwhile. So is the look at
held-out strips, a forward pass of them every `validate_every` epochs.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from harness import machine, table, training_step
from torch.utils.flop_counter import FlopCounterMode

from steel import cli
from steel.competition import HEIGHT, N_TRAIN
from steel.config import ModelConfig, Phase, Solution

N_DEFECT = 6666  # of the competition's training strips
CPU_BATCH = 2
N_DEVICES = 8


@dataclass(frozen=True)
class Cost:
    """What one phase of one training costs.

    Attributes:
        n_steps: steps.
        step_s: seconds of one, the median of those timed.
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


def measure(solution: Solution, model: ModelConfig, phase: Phase, steps: int) -> Cost:
    """Time some steps of a phase, after one to warm up."""
    batch = phase.batch if torch.cuda.is_available() else min(phase.batch, CPU_BATCH)
    keys = asdict(model) | {"weights": None, "average_epochs": 0, "best_epochs": 0}
    keys["downscale"] = phase.downscale or model.downscale
    del keys["phases"]
    step = training_step(keys, solution.machine.threads, batch, (HEIGHT, phase.width))
    step()
    times = [_timed(step) for _ in range(steps)]
    with FlopCounterMode(display=False) as counter:
        step()
    scale = phase.batch / batch
    tflop = counter.get_total_flops() / 1e12
    return Cost(n_steps(solution, model, phase), statistics.median(times) * scale, tflop * scale)


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
    parser.add_argument("config", type=Path)
    parser.add_argument("--steps", type=int, default=3, help="timed steps of each model and phase")
    args = parser.parse_args()
    solution, _ = cli.parse("status", "", [str(args.config)])
    n_folds = len(solution.folds)
    rows = [["model", "phase", "batch", "steps", "s per step", "TFLOP per step", f"hours, {n_folds} folds"]]
    per_training: list[float] = []
    pflop = 0.0
    for name, model in solution.models.items():
        costs = [measure(solution, model, phase, args.steps) for phase in model.phases]
        for phase, cost in zip(model.phases, costs, strict=True):
            what = f"{phase.epochs} epochs at {phase.width}"
            cells = [f"{cost.n_steps}", f"{cost.step_s:.2f}", f"{cost.step_tflop:.2f}", f"{n_folds * cost.hours:.1f}"]
            rows.append([name, what, str(phase.batch), *cells])
            pflop += n_folds * cost.n_steps * cost.step_tflop / 1e3
        per_training += [sum(cost.hours for cost in costs)] * n_folds
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "this CPU"
    print(machine(), f"torch {torch.__version__}, {device}", table(rows), sep="\n")
    print(f"{len(per_training)} trainings: {sum(per_training):.1f} hours on one, ", end="")
    print(f"{spread(per_training, N_DEVICES):.1f} on {N_DEVICES}; {pflop:.0f} PFLOP in all")


if __name__ == "__main__":
    main()
