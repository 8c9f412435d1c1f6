"""The report's gallery: which classes on which strips are worth a look."""

from dataclasses import dataclass

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
EVEN = 0.5


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


def choose(table: Table, outcome: Outcome, n_each: int = N_EACH) -> list[Entry]:
    """At most `n_each` entries of each class and kind, the kinds in order, within a kind the classes in turn.

    An entry is there once, with all its kinds. Of the true masks that are shown, half at most are worst, half best.
    """
    ranks = [_ranks(table, outcome, k) for k in range(N_CLASSES)]
    kinds_of: dict[tuple[int, int], list[str]] = {}
    for kind in KINDS:
        turns = [(i, k, row) for k in range(N_CLASSES) for i, row in enumerate(ranks[k][kind][:n_each].tolist())]
        for _, k, row in sorted(turns):
            kinds_of.setdefault((row, k), []).append(kind)
    values = dice(outcome.pred_px, table.true_px, outcome.overlap_px)
    return [
        Entry(row, k, tuple(kinds), float(values[row, k]), int(table.true_px[row, k]), int(outcome.pred_px[row, k]))
        for (row, k), kinds in kinds_of.items()
    ]


def suspects(table: Table, shown_px: NDArray[np.int32], k: int) -> NDArray[np.intp]:
    """Rows whose label of class index k is likely wrong, the likeliest first; `shown_px` (n,): of that class.

    Confident learning, for the question whether the class is there. Two held-out witnesses give the probability that it
    is: the gate, if any model gives one, and the map, by the value that as many pixels reach as a small mask of the
    class has. What both grant the contrary of a label is the less that one of them does: neither a gate nor a map
    alone accuses. A label is suspected if what is shown contradicts it, and this is more than even and no less than its
    mean over the strips that do bear the contrary label; the more, the likelier.

    Source: Northcutt, Jiang and Chuang, Confident learning, JAIR 70 (2021): thresholds that are the mean
    self-confidence of each label, so that a timid or a bold model accuses no more than another.
    """
    present = table.true_px[:, k] > 0
    if present.all() or not present.any():  # nothing to be confused with
        return np.zeros(0, np.intp)
    small_px = np.quantile(table.true_px[present, k], SMALL)
    seen = (table.area_px[:, k, 1:] >= small_px).sum(1) / (N_LEVELS - 1)
    gate = table.gate[:, k].astype(np.float64)
    witnesses = np.stack([seen, gate] if (gate < 1).any() else [seen])  # (1 or 2, n)
    there, absent = witnesses.min(0), (1 - witnesses).min(0)
    contrary = np.where(present, absent, there)
    usual = np.where(present, absent[~present].mean(), there[present].mean())
    return _ranked((present != (shown_px > 0)) & (contrary > EVEN) & (contrary >= usual), -contrary)


def _ranks(table: Table, outcome: Outcome, k: int) -> dict[str, NDArray[np.intp]]:
    """Rows of each kind of class index k, the foremost first."""
    true_px, shown_px = table.true_px[:, k], outcome.pred_px[:, k]
    shown = _ranked((true_px > 0) & (shown_px > 0), dice(shown_px, true_px, outcome.overlap_px[:, k]))
    half = len(shown) // 2
    return {
        "label?": suspects(table, shown_px, k),
        "worst": shown[:half],
        "false positive": _ranked((true_px == 0) & (shown_px > 0), -shown_px),
        "false negative": _ranked((true_px > 0) & (shown_px == 0), -true_px),
        "best": shown[half:][::-1],
    }


def _ranked(chosen: NDArray[np.bool_], key: NDArray) -> NDArray[np.intp]:
    """The chosen rows by ascending key; of equal ones the first."""
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(key[rows], kind="stable")]
