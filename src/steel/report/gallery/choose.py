"""The report's gallery: which classes on which strips are worth a look."""

import heapq
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.decide.evidence import N_LEVELS
from steel.decide.table import Table
from steel.metrics import dice
from steel.report.outcomes import Outcome

# In the order in which they are shown.
KINDS = {
    "label?": "likely a wrong label: gate and map agree on the contrary",
    "worst": "true masks that are shown, of least Dice",
    "false positive": "shown where there is no true mask, the largest",
    "false negative": "true masks of which nothing is shown, the largest",
    "best": "true masks of greatest Dice",
}
N_EACH = 24
SMALL = 0.1  # quantile of the true areas of a class: a small mask
PART = 0.1  # of a true mask: a map that sees so much of it sees it
EVEN = 0.5

Grants = Callable[[int, int], float]  # of a row and a class index with a true mask, what `granted` gives


@dataclass(frozen=True)
class Entry:
    """One class on one strip.

    Attributes:
        row: of the table.
        k: class index, 0..3.
        kinds: names of KINDS, at least one.
        dice: 0..1.
        true_px, shown_px: areas of the true mask and of the one that is shown.
    """

    row: int
    k: int
    kinds: tuple[str, ...]
    dice: float
    true_px: int
    shown_px: int


def choose(table: Table, outcome: Outcome, grants: Grants, n_each: int = N_EACH) -> list[Entry]:
    """At most `n_each` entries of each class and kind, the kinds in order, within a kind the classes in turn.

    An entry is there once, with all its kinds. Of the true masks that are shown, half at most are worst, half best.

    Args:
        table: of the held-out strips.
        outcome: what is shown of them.
        grants: what the maps grant the true masks.
        n_each: 1 or more.
    """
    kinds_of: dict[tuple[int, int], list[str]] = {}
    ranks = [_ranks(table, outcome, k, grants) for k in range(N_CLASSES)]
    for kind in KINDS:
        turns = [(i, k, row) for k in range(N_CLASSES) for i, row in enumerate(islice(ranks[k][kind], n_each))]
        for _, k, row in sorted(turns):
            kinds_of.setdefault((row, k), []).append(kind)
    values = dice(outcome.pred_px, table.true_px, outcome.overlap_px)
    return [
        Entry(row, k, tuple(kinds), float(values[row, k]), int(table.true_px[row, k]), int(outcome.pred_px[row, k]))
        for (row, k), kinds in kinds_of.items()
    ]


def suspects(table: Table, shown_px: NDArray[np.int32], k: int, grants: Grants) -> Iterator[int]:
    """Rows whose label of class index k is likely wrong, the likeliest first; `shown_px` (n,): of that class.

    Confident learning, for the question whether the class is there. Held-out witnesses give the probability that it is:
    the gate, if any model gives one; the map, by the value that as many pixels reach as a small mask of the class has;
    and where a true mask is, the map once more, by what it grants that mask, which may be smaller still, or lose its
    pixels to another class. The contrary of a label is as likely as the witness says that grants it least: none of them
    accuses alone. A label is suspected if what is shown contradicts it, and the contrary is more than even, and no less
    likely than gate and map find it in the mean where it is the label.

    Source: Northcutt, Jiang and Chuang, Confident learning, JAIR 70 (2021): thresholds that are the mean
    self-confidence of each label, so that a timid or a bold model accuses no more than another.
    """
    present = table.true_px[:, k] > 0
    contrary, usual = _contrary(table, k)

    def is_suspect(row: int, value: float) -> bool:
        return bool(present[row] != (shown_px[row] > 0) and value > EVEN and value >= usual[row])

    # `grants` reads a map: it is asked last, and as late as the order allows.
    heap = [(-value, row, not present[row]) for row, value in enumerate(contrary) if is_suspect(row, value)]
    heapq.heapify(heap)
    while heap:
        value, row, is_known = heapq.heappop(heap)
        if is_known:
            yield row
        elif is_suspect(row, own := min(-value, 1 - grants(row, k))):
            heapq.heappush(heap, (-own, row, True))


def granted(prob: NDArray[np.uint8], true: NDArray[np.bool_]) -> float:
    """The probability that PART of a true mask's pixels, at least one, reach in a map (H, W) of its class."""
    values = prob[true]
    least = math.ceil(PART * len(values))
    return float(np.partition(values, -least)[-least]) / (N_LEVELS - 1)


def _contrary(table: Table, k: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How likely gate and map find the contrary of each label of class index k, and in the mean where it is the label.

    Both (n,); where all labels are the same, there is nothing to be confused with: 0.
    """
    present = table.true_px[:, k] > 0
    if present.all() or not present.any():
        return np.zeros(len(table)), np.zeros(len(table))
    small_px = np.quantile(table.true_px[present, k], SMALL)
    seen = (table.area_px[:, k, 1:] >= small_px).sum(1) / (N_LEVELS - 1)
    gate = table.gate[:, k].astype(np.float64)
    witnesses = np.stack([seen, gate] if (gate < 1).any() else [seen])  # (1 or 2, n)
    there, absent = witnesses.min(0), (1 - witnesses).min(0)
    return np.where(present, absent, there), np.where(present, absent[~present].mean(), there[present].mean())


def _ranks(table: Table, outcome: Outcome, k: int, grants: Grants) -> dict[str, Iterable[int]]:
    """Rows of each kind of class index k, the foremost first."""
    true_px, shown_px = table.true_px[:, k], outcome.pred_px[:, k]
    shown = _ranked((true_px > 0) & (shown_px > 0), dice(shown_px, true_px, outcome.overlap_px[:, k]))
    half = len(shown) // 2
    return {
        "label?": suspects(table, shown_px, k, grants),
        "worst": shown[:half],
        "false positive": _ranked((true_px == 0) & (shown_px > 0), -shown_px),
        "false negative": _ranked((true_px > 0) & (shown_px == 0), -true_px),
        "best": shown[half:][::-1],
    }


def _ranked(chosen: NDArray[np.bool_], key: NDArray) -> list[int]:
    """The chosen rows by ascending key; of equal ones the first."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(key[rows], kind="stable")].tolist()
