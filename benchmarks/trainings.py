"""Several trainings on the cores of one machine: at once with a share of the cores each, against one after another.

    python benchmarks/trainings.py --n 5

Ours is what `steel train` does on a CPU: as many trainings at once as there are cores, one thread each. The reference
gives every training all cores, and trains in turn; what is timed is the same number of steps of every training.
Threads that wait spin by default, which is faster on an idle machine and many times slower on a shared one; `steel`
lets them sleep. Both ways are printed for the reference. All sides take turns, in processes of their own: threads left
spinning by one would slow down the next.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from functools import cache
from typing import Any

from harness import machine, table, training_step

from steel.workers import Workers, cores

SHAPE = (256, 512)
BATCH = 8
# Side: whether all trainings run at once, and what a thread does that waits (OMP_WAIT_POLICY).
SIDES = {
    "at once (ours)": (True, "PASSIVE"),
    "in turn, asleep": (False, "PASSIVE"),
    "in turn, spinning": (False, "ACTIVE"),
}
NETS: dict[str, dict[str, Any]] = {
    "the demo's FPN": {
        "net": "FPN",
        "encoder": "tu-mobilenetv4_conv_small_050",
        "options": {"decoder_pyramid_channels": 64, "decoder_segmentation_channels": 32},
        "downscale": 2,
    },
    "resnet18-Unet": {"net": "Unet", "encoder": "resnet18"},
}


@cache
def stepper(name: str, threads: int) -> Callable[[], float]:
    """Worker: the step of a training, made once."""
    return training_step(NETS[name], threads, BATCH, SHAPE)


def train(name: str, threads: int, steps: int) -> float:
    """Worker: some steps of a training; the last loss."""
    step = stepper(name, threads)
    return [step() for _ in range(steps)][-1]


def seconds(name: str, at_once: int, waiting: str, steps: int) -> float:
    """Time that some steps of one training per core take, `at_once` of them at a time, in processes of their own."""
    os.environ["OMP_WAIT_POLICY"] = waiting  # the processes inherit it
    with Workers(at_once) as pool:

        def call(n_steps: int) -> None:
            jobs = [pool.submit(train, name, cores() // at_once, n_steps) for _ in range(cores())]
            for job in jobs:
                job.result()

        call(1)
        start = time.perf_counter()
        call(steps)
        return time.perf_counter() - start


def main() -> None:
    """Print a table of seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=5, help="rounds (>= 2)")
    parser.add_argument("--steps", type=int, default=10, help="steps of each training in a round")
    parser.add_argument("--net", choices=NETS, action="append", help="only this net")
    args = parser.parse_args()
    print(machine(), f"{cores()} trainings, {args.steps} steps of {BATCH} x {SHAPE[0]} x {SHAPE[1]} each", sep="\n")
    rows = [["s per round", "rounds", "median", "IQR", "ours is faster by"]]
    for name in args.net or NETS:
        times: dict[str, list[float]] = {side: [] for side in SIDES}
        for _ in range(args.n):
            for side, (all_at_once, waiting) in SIDES.items():
                times[side].append(seconds(name, cores() if all_at_once else 1, waiting, args.steps))
        for side, found in times.items():
            low, median, high = statistics.quantiles(found, n=4)
            ratio = statistics.median(b / a for a, b in zip(times["at once (ours)"], found, strict=True))
            rows.append([f"{name}, {side}", str(args.n), f"{median:.2f}", f"{high - low:.2f}", f"{ratio:.2f}"])
    print(table(rows))


if __name__ == "__main__":
    main()
