"""Shared by the benchmarks: the machine in one line, two callables timed in turn, and the table."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Comparison:
    """Times of our path and of a plain reference, taken in turn in one process; seconds per call.

    Attributes:
        n: timed calls of each.
        ours_s, reference_s: median times.
        ours_iqr_s, reference_iqr_s: distance between the quartiles.
        ratio: median over the n neighbouring pairs of reference / ours: how many times faster ours is.
    """

    n: int
    ours_s: float
    ours_iqr_s: float
    reference_s: float
    reference_iqr_s: float
    ratio: float


def machine() -> str:
    """Processor, cores this process may use, system and Python, in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{_processor()}, {cores} cores, {platform.system()}, Python {platform.python_version()}"


def compare(
    ours: Callable[[], object],
    reference: Callable[[], object],
    n: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Time both n times, in turn and in alternating order, after one untimed call of each; n >= 2."""
    ours()
    reference()
    ours_s: list[float] = []
    reference_s: list[float] = []
    for i in range(n):
        pair = [(ours, ours_s), (reference, reference_s)]
        for function, times in pair if i % 2 == 0 else reversed(pair):
            times.append(_seconds(function, clock))
    return Comparison(
        n=n,
        ours_s=statistics.median(ours_s),
        ours_iqr_s=_iqr(ours_s),
        reference_s=statistics.median(reference_s),
        reference_iqr_s=_iqr(reference_s),
        ratio=statistics.median(b / a for a, b in zip(ours_s, reference_s, strict=True)),
    )


def training_step(
    model: dict[str, Any], threads: int | None, batch: int, shape: tuple[int, int], **machine: Any
) -> Callable[[], float]:
    """A step of the kit's trainer on one random batch of `shape` (height, width): gives its loss.

    `model`: keys of a ModelConfig; `threads`: of torch, None for one per core; `machine`: further keys of it.
    """
    import numpy as np
    import pandas as pd
    import torch

    from steel.config import MachineConfig, ModelConfig, Phase
    from steel.data.cache import AREAS, Strips
    from steel.fit.trainer import Trainer

    strips = Strips(pd.DataFrame(0, index=range(batch), columns=AREAS), np.zeros((batch, *shape), np.uint8), None)
    config = ModelConfig(phases=[Phase(epochs=1, width=shape[1], batch=batch)], **model)
    trainer = Trainer(config, MachineConfig(threads=threads, **machine), strips, np.arange(batch), seed=0)
    trainer.net.train()
    image = torch.randint(0, 256, (batch, *shape), dtype=torch.uint8).to(trainer.device)
    bits = (torch.rand(batch, *shape) < 0.05).to(torch.uint8).to(trainer.device)

    def step() -> float:
        loss = trainer._backward(image, bits)
        trainer._step(1e-3)
        return float(loss)

    return step


def table(rows: Sequence[Sequence[str]]) -> str:
    """Markdown table of rows of texts, the first row its head; the first column left, the others right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["| " + " | ".join(_pad(text, widths[i], i) for i, text in enumerate(row)) + " |" for row in rows]
    rule = "|" + "|".join("-" * (w + 2) if i == 0 else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([lines[0], rule, *lines[1:]])


def _pad(text: str, width: int, column: int) -> str:
    return text.ljust(width) if column == 0 else text.rjust(width)


def _seconds(function: Callable[[], object], clock: Callable[[], float]) -> float:
    start = clock()
    function()
    return clock() - start


def _iqr(times: list[float]) -> float:
    low, _, high = statistics.quantiles(times, n=4)
    return high - low


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
