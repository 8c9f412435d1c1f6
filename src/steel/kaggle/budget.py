"""The hour that a kernel has: how long its models take, measured as they run, and how much of them still fits."""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TypeVar

T = TypeVar("T")

RECENT = 20  # calls of a model that tell its speed
ENOUGH = 3  # the first is slow, while memory is found and kernels are chosen


@dataclass(frozen=True)
class Work:
    """Passes of nets over a batch: of each model, its nets times the views.

    Attributes:
        always: of the models that are asked about every strip.
        open: of those that are asked about strips that the gate leaves open.
    """

    always: Mapping[str, int]
    open: Mapping[str, int]


class Budget:
    """The time of a run, and where it goes.

    Args:
        limit_s: of the whole run; what is left after it is not done.
        clock: seconds since any moment.
    """

    def __init__(self, limit_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.limit_s, self.clock = limit_s, clock
        self._start = self._begun = clock()
        self._in_models_s = 0.0
        self._pass_s: dict[str, deque[float]] = {}

    @property
    def spent_s(self) -> float:
        """Time since the start."""
        return self.clock() - self._start

    @property
    def is_over(self) -> bool:
        """Whether there is no time left."""
        return self.spent_s >= self.limit_s

    def begin(self) -> None:
        """The batches begin: what was spent before them, as on loading weights, is not spent on each."""
        self._begun, self._in_models_s = self.clock(), 0.0

    def timed(self, name: str, n_passes: int, call: Callable[[], T]) -> T:
        """Do a call of a model, on one batch; what it gives."""
        start = self.clock()
        result = call()
        seconds = self.clock() - start
        self._in_models_s += seconds
        self._pass_s.setdefault(name, deque(maxlen=RECENT)).append(seconds / n_passes)
        return result

    def needed_s(self, work: Work, n_done: float, n_left: float, n_open: float) -> float:
        """Time that the rest would take: what comes beside the models goes on as it was.

        Args:
            work: of a batch.
            n_done: batches that were read.
            n_left: batches to be read.
            n_open: batches that the segmenters will be asked about.
        """
        beside_s = (self.clock() - self._begun - self._in_models_s) / n_done * n_left
        return beside_s + n_left * self._batch_s(work.always) + n_open * self._batch_s(work.open)

    def choose(self, ways: Sequence[Work], way: int, n_done: float, n_left: float, n_open: float) -> int:
        """The first of several ways to work, from a present one on, that fits into the time; the last if none does.

        Nothing changes before every model that was called was called three times, or a quarter of the time is gone.
        """
        is_early = self.spent_s < self.limit_s / 4
        if is_early and any(len(pass_s) < ENOUGH for pass_s in self._pass_s.values()):
            return way
        left_s = self.limit_s - self.spent_s
        while way + 1 < len(ways) and self.needed_s(ways[way], n_done, n_left, n_open) > left_s:
            way += 1
        return way

    def _batch_s(self, passes: Mapping[str, int]) -> float:
        return sum(n * median(self._pass_s[name]) for name, n in passes.items() if name in self._pass_s)
