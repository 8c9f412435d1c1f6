"""What limits the score: how much is lost by the gate, how much by the masks, and on masks of which size."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES
from steel.decide.decision import Decision
from steel.decide.rules import Rules
from steel.decide.table import Table
from steel.metrics import dice
from steel.report.outcomes import Outcome, judge
from steel.report.section import Numbers
from steel.report.text import number

N_AREA_BINS = 3


@dataclass(frozen=True)
class Potential:
    """Mean Dice over all images: as it is, and as it would be if one half of the work were perfect.

    Attributes:
        as_it_is: the score under the rules.
        perfect_gate: with the pixels above the rules' threshold shown exactly where there is a true mask, however few.
        perfect_masks: with the true mask shown wherever something is shown and there is one.
    """

    as_it_is: float
    perfect_gate: float
    perfect_masks: float


@dataclass(frozen=True)
class AreaBin:
    """True masks of one class and of similar size.

    Attributes:
        class_id: 1..4.
        smallest_px, largest_px: area of the smallest and of the largest of them.
        n_masks: their number.
        positive: their mean Dice.
        fn: how many of them were missed: nothing was shown.
    """

    class_id: int
    smallest_px: int
    largest_px: int
    n_masks: int
    positive: float
    fn: int


@dataclass(frozen=True)
class Limits:
    """What limits a score: potentials of all classes together and of each (4), and the bins of area."""

    whole: Potential
    classes: tuple[Potential, ...]
    areas: tuple[AreaBin, ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values for JSON."""
        return asdict(self)


def limits(table: Table, decision: Decision, kind: str) -> Limits:
    """Potentials and area bins of one way of deciding, a key of `outcomes.WAYS`; exact, from the table alone."""
    outcome = judge(table, decision)[kind]
    values = dice(outcome.pred_px, table.true_px, outcome.overlap_px)  # (n, 4)
    positive, shown = table.true_px > 0, outcome.pred_px > 0
    above = judge(table, _without_gates(decision))[kind]
    gated = np.where(positive, dice(above.pred_px, table.true_px, above.overlap_px), 1.0)
    drawn = np.where(positive & shown, 1.0, values)
    means = np.stack([v.mean(0) for v in (values, gated, drawn)])  # (3, 4)
    return Limits(
        whole=Potential(*means.mean(1).tolist()),
        classes=tuple(Potential(*column) for column in means.T.tolist()),
        areas=area_bins(table.true_px, outcome, values),
    )


def area_bins(true_px: NDArray[np.int32], outcome: Outcome, values: NDArray[np.float64]) -> tuple[AreaBin, ...]:
    """The true masks of each class in terciles of their area, smallest first; equal areas fall in the same one.

    Args:
        true_px: (n, 4) area of the true masks.
        outcome: what is shown.
        values: (n, 4) Dice.
    """
    found = []
    for k in range(N_CLASSES):
        rows = np.flatnonzero(true_px[:, k])
        area_px = true_px[rows, k]
        if not len(rows):
            continue
        edges = np.quantile(area_px, np.arange(1, N_AREA_BINS) / N_AREA_BINS)  # as the folds are stratified
        tercile = np.searchsorted(edges, area_px)
        for i in np.unique(tercile):
            part = rows[tercile == i]
            size_px = true_px[part, k]
            missed = int((outcome.pred_px[part, k] == 0).sum())
            mean = float(values[part, k].mean())
            found.append(AreaBin(k + 1, int(size_px.min()), int(size_px.max()), len(part), mean, missed))
    return tuple(found)


def told(found: Limits) -> str:
    """The one line on what limits the score: the gate or the masks, and the class where most is lost by it."""
    gain = {
        what: [getattr(p, name) - p.as_it_is for p in (found.whole, *found.classes)]
        for what, name in (("a perfect gate", "perfect_gate"), ("perfect masks", "perfect_masks"))
    }
    (most, gains), (least, others) = sorted(gain.items(), key=lambda item: item[1][0], reverse=True)
    k = int(np.argmax(gains[1:]))
    return (
        f"What limits it: {most} would add {gains[0]:+.4f}, {least} {others[0]:+.4f}; "
        f"most of it in class {k + 1} ({gains[1 + k]:+.4f} of its own mean)."
    )


def tables(found: Limits) -> list[Numbers]:
    """The potentials, and the bins of area if there are any."""
    rows = []
    for name, p in zip(("all", *(f"class {c}" for c in CLASSES)), (found.whole, *found.classes), strict=True):
        gate, masks = p.perfect_gate - p.as_it_is, p.perfect_masks - p.as_it_is
        cells = [f"{p.as_it_is:.5f}", f"{p.perfect_gate:.5f}", f"{gate:+.5f}", f"{p.perfect_masks:.5f}"]
        rows.append([name, *cells, f"{masks:+.5f}"])
    potentials = Numbers(
        "What limits the score",
        ["", "mean Dice", "perfect gate", "gain", "perfect masks", "gain"],
        rows,
        "A perfect gate shows the pixels above the rules' threshold exactly where there is a true mask; perfect masks "
        "are the true ones wherever something is shown.",
    )
    return [potentials, *([_area_table(found.areas)] if found.areas else [])]


def _area_table(areas: Sequence[AreaBin]) -> Numbers:
    rows = [
        [f"class {b.class_id}", _range(b.smallest_px, b.largest_px), str(b.n_masks), number(b.positive), str(b.fn)]
        for b in areas
    ]
    head = ["", "area, px", "masks", "mean Dice", "FN"]
    return Numbers("True masks by area", head, rows, "Thirds of the masks of each class, from the smallest.")


def _without_gates(decision: Decision) -> Decision:
    """The same pixel thresholds, and nothing that hides a mask."""
    return replace(
        decision,
        tuned=_open(decision.tuned),
        fixed=_open(decision.fixed),
        lofo={fold: _open(rules) for fold, rules in decision.lofo.items()},
    )


def _open(rules: Rules) -> Rules:
    return Rules(tuple(rule.opened() for rule in rules.classes))


def _range(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"
