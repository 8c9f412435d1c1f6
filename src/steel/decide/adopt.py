"""The choice of one class's rule: a plateau of each family's surface, and the family by an inner leave-one-fold-out."""

from collections.abc import Iterable, Sequence
from functools import reduce

import numpy as np
from numpy.typing import NDArray

from steel import tables
from steel.decide.families import FAMILIES, PLAIN, Column, Family, Grid
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import apply_rule
from steel.decide.table import Table
from steel.metrics import dice

TIE = 1e-12  # scores nearer than this are equal: far above rounding, far below one image in a million
NOTHING = Rule(threshold=128, min_area_px=NEVER_PX, min_gate=0.0)


def smooth(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of every point's neighbourhood: a box of 1/32 of each axis to either side, cut off at the edges.

    For 255 x 64 x 64 that is 7 thresholds, 2 areas and 2 gates to either side; an axis shorter than 32 is left alone.
    """
    for axis, n in enumerate(scores.shape):
        radius = n // 32
        if radius == 0:
            continue
        sums = np.zeros([m + (a == axis) for a, m in enumerate(scores.shape)])  # from nothing to all, one entry more
        scores.cumsum(axis, out=sums[(slice(None),) * axis + (slice(1, None),)])
        first, end = np.maximum(np.arange(n) - radius, 0), np.minimum(np.arange(n) + radius + 1, n)
        size = (end - first).reshape([-1 if a == axis else 1 for a in range(scores.ndim)])
        scores = (sums.take(end, axis) - sums.take(first, axis)) / size
    return scores


def choose(gains: NDArray[np.float64]) -> tuple[int, ...] | None:
    """The point on the highest plateau of a surface of gains over showing nothing, not on its highest spike.

    The best smoothed point wins. Ties go to the tied point nearest to the centre of all tied ones (as a share of each
    axis), so that the rule keeps its distance from every edge. None if no smoothed point gains anything.

    Bootstrap resamples of the images are left out on purpose. Smoothing is linear in them: the mean of the smoothed
    surface over ever more resamples is the smoothed surface. Two choices that are not linear were tried on simulated
    classes (2, 7 and 40 % masks; 150, 600 and 2,500 images; 16 draws of each) and scored on the whole population: the
    highest mean less one standard error, and the middle of the choices of eight resamples. Neither gained two standard
    errors anywhere; the second lost more than two with 150 images.
    """
    smoothed = smooth(gains)
    if smoothed.max() <= TIE:
        return None
    tied = np.argwhere(smoothed >= smoothed.max() - TIE)
    offset = (tied - tied.mean(0)) / smoothed.shape
    return tuple(int(i) for i in tied[np.argmin((offset**2).sum(1))])


def gains_of(table: Table, k: int, rule: Rule) -> NDArray[np.float64]:
    """What a rule adds to each image's Dice of showing nothing of class index k, (n,), -1..1."""
    pred_px, overlap_px = apply_rule(rule, table, k)
    true_px = table.true_px[:, k]
    return dice(pred_px, true_px, overlap_px) - (true_px == 0)


def is_sure(gains: NDArray[np.float64]) -> bool:
    """Whether the mean of these gains (n,) is above its standard error.

    The rule of one standard error (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3): a few
    lucky masks on few images are no reason for anything.
    """
    return bool(gains.mean() > gains.std() / np.sqrt(len(gains)))


def pays(table: Table, k: int, rule: Rule) -> bool:
    """Whether a rule of class index k surely gains something over showing nothing, on the table's images."""
    return is_sure(gains_of(table, k, rule))


class ClassSearch:
    """The search for one class on any of the table's folds: what it has summed and found is kept.

    Attributes:
        k: class index 0..3.
        families: by name; the plain one first, then those that may be adopted.
    """

    def __init__(self, table: Table, k: int, grid: Grid, names: Sequence[str] = tuple(FAMILIES)) -> None:
        self.k = k
        self.families: dict[str, Family] = {n: tables.choose(FAMILIES, n, "families") for n in (PLAIN, *names)}
        self._table, self._grid = table, grid
        self._columns = {int(fold): Column.of(table, k, table.fold == fold) for fold in np.unique(table.fold)}
        self._sums: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._rules: dict[tuple[str, frozenset[int]], Rule] = {}
        self._gains: dict[Rule, NDArray[np.float64]] = {}

    def adopt(self, folds: frozenset[int]) -> tuple[str, Rule]:
        """The family for some folds and its rule, by these folds alone.

        Each fold in turn is left out, and every family searched on the others. A family is adopted over the plain rule
        if its gain over it, on the images left out, is above its standard error; of several, the one with the largest.
        With a single fold there is nothing to leave out: the rule is plain.
        """
        has_gate = any((self._columns[fold].gate != 1).any() for fold in folds)
        rivals = [n for n, f in self.families.items() if n != PLAIN and (has_gate or not f.needs_gate)]
        gains = {name: self._left_out(name, folds) for name in rivals if len(folds) > 1}
        sure = [name for name in gains if is_sure(gains[name])]
        name = max(sure, key=lambda n: gains[n].mean(), default=PLAIN)
        rule = self.best(name, folds)
        return PLAIN if rule == NOTHING else name, rule

    def best(self, name: str, folds: frozenset[int]) -> Rule:
        """The best rule of a family on some folds (see `choose`), or NOTHING where that does not pay."""
        if (name, folds) not in self._rules:
            # Sums are added up over the folds, never subtracted from those of all: no trace of the others is left.
            total = reduce(np.add, (self._sum(name, fold) for fold in sorted(folds)))
            rows = self._rows(folds)
            point = choose(total / len(rows))
            rule = NOTHING if point is None else self.families[name].rule(self._grid, point)
            self._rules[name, folds] = rule if is_sure(self._gain(rule)[rows]) else NOTHING
        return self._rules[name, folds]

    def _left_out(self, name: str, folds: frozenset[int]) -> NDArray[np.float64]:
        """Gains of a family over the plain rule on every image of the folds, by rules from the others of these."""
        gains = []
        for fold in sorted(folds):
            rule, plain = (self.best(which, folds - {fold}) for which in (name, PLAIN))
            gains.append((self._gain(rule) - self._gain(plain))[self._rows({fold})])
        return np.concatenate(gains)

    def _sum(self, name: str, fold: int) -> NDArray[np.float64]:
        if (name, fold) not in self._sums:
            self._sums[name, fold] = self.families[name].sums(self._columns[fold], self._grid)
        return self._sums[name, fold]

    def _gain(self, rule: Rule) -> NDArray[np.float64]:
        """`gains_of` the rule on all images of the table, (n,)."""
        if rule not in self._gains:
            self._gains[rule] = gains_of(self._table, self.k, rule)
        return self._gains[rule]

    def _rows(self, folds: Iterable[int]) -> NDArray[np.intp]:
        return np.flatnonzero(np.isin(self._table.fold, list(folds)))
