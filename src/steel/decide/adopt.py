"""The choice of one class's rule: a plateau of each family's surface, and the family by an inner leave-one-fold-out."""

from collections.abc import Iterable, Sequence
from functools import lru_cache, reduce

import numpy as np
from numpy.typing import NDArray

from steel import tables
from steel.decide import calibrate
from steel.decide.evidence import AnyRule, at_level
from steel.decide.expected import Calibration, Expectation, ExpectedRule
from steel.decide.families import FAMILIES, PLAIN, CalibratedFamily, Family
from steel.decide.grid import Column, Grid
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import apply_rule
from steel.decide.table import Table
from steel.metrics import dice

TIE = 1e-12  # scores nearer than this are equal: far above rounding, far below one image in a million
NOTHING = Rule(threshold=128, min_area_px=NEVER_PX, min_gate=0.0)
EMPTY = "empty"  # what adoption calls it


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


def gains_of(table: Table, k: int, rule: AnyRule) -> NDArray[np.float64]:
    """What a rule adds to each image's Dice of showing nothing of class index k, (n,), -1..1."""
    return _gains(table, k, *apply_rule(rule, table, k))


def is_sure(gains: NDArray[np.float64]) -> bool:
    """Whether the mean of these gains (n,) is above its standard error; never if it comes from one image alone.

    The rule of one standard error (Breiman et al., Classification and Regression Trees, 1984, section 3.4.3): a few
    lucky masks on few images are no reason for anything.
    """
    n = len(gains)
    return n > 1 and bool(gains.mean() - gains.std(ddof=1) / np.sqrt(n) > TIE)


class ClassSearch:
    """The search for one class on any of the table's folds: what it has summed and found is kept.

    Attributes:
        k: class index 0..3.
        families: by name; the plain one first, then those that may be adopted.
    """

    def __init__(self, table: Table, k: int, grid: Grid, names: Sequence[str] = tuple(FAMILIES)) -> None:
        self.k = k
        self.families: dict[str, Family | CalibratedFamily] = {
            name: tables.choose(FAMILIES, name, "families") for name in (PLAIN, *names)
        }
        self._table, self._grid, self._evidence = table, grid, table.evidence(k)
        self._columns = {int(fold): Column.of(table, k, table.fold == fold) for fold in np.unique(table.fold)}
        self._sums: dict[tuple[str, int], NDArray[np.float64]] = {}
        self._calibrations: dict[frozenset[int], Calibration | None] = {}
        self._rules: dict[tuple[str, frozenset[int]], AnyRule] = {}
        self._gains: dict[AnyRule, NDArray[np.float64]] = {}
        # 26 MB of all training images: of the last calibration alone.
        self._expected = lru_cache(1)(lambda calibration: Expectation.of(calibration, self._evidence))

    def adopt(self, folds: frozenset[int]) -> AnyRule:
        """The rule for some folds, of the family that these folds choose.

        Each fold in turn is left out, and every family searched on the others. A family is adopted over the plain rule
        if its gain over it, on the images left out, is above its standard error; of several, the one with the largest.
        So is showing nothing, where the plain rules surely lose by what they show. With a single fold there is nothing
        to leave out: the rule is plain.
        """
        gains = self._left_out(folds) if len(folds) > 1 else {}
        sure = [name for name in gains if is_sure(gains[name]) and self._shows(name, folds)]
        name = max(sure, key=lambda n: gains[n].mean(), default=PLAIN)
        return NOTHING if name == EMPTY else self.best(name, folds)

    def best(self, name: str, folds: frozenset[int]) -> AnyRule:
        """The best rule of a family on some folds (see `choose`), or NOTHING where that does not pay."""
        if (name, folds) not in self._rules:
            rule = self._search(name, folds)
            self._rules[name, folds] = rule if is_sure(self._gain(rule)[self._rows(folds)]) else NOTHING
        return self._rules[name, folds]

    def _search(self, name: str, folds: frozenset[int]) -> AnyRule:
        """The rule at the best point of a family on some folds; NOTHING where no point gains, or nothing calibrates."""
        family, order = self.families[name], sorted(folds)
        # Sums are added up over the folds, never subtracted from those of all: no trace of the others is left.
        if isinstance(family, Family):
            point = self._choose([self._sum(name, family, fold) for fold in order], folds)
            return NOTHING if point is None else family.rule(self._grid, point)
        calibration = self._calibrate(folds)
        if calibration is None:
            return NOTHING
        expected = {fold: self._expected(calibration).subset(self._table.fold == fold) for fold in order}
        point = self._choose([family.sums(self._columns[f], expected[f], self._grid) for f in order], folds)
        return NOTHING if point is None else family.rule(calibration, self._grid, point)

    def _choose(self, sums: Sequence[NDArray[np.float64]], folds: frozenset[int]) -> tuple[int, ...] | None:
        return choose(reduce(np.add, sums) / len(self._rows(folds)))

    def _left_out(self, folds: frozenset[int]) -> dict[str, NDArray[np.float64]]:
        """Gains of all others over the plain rule on every image of the folds, by rules from the others of these."""
        has_gate = any((self._columns[fold].gate != 1).any() for fold in folds)
        idle = {n for n, f in self.families.items() if isinstance(f, Family) and f.needs_gate and not has_gate}
        rivals = [name for name in self.families if name not in (PLAIN, *idle)]
        gains: dict[str, list[NDArray[np.float64]]] = {name: [] for name in (EMPTY, *rivals)}
        for fold in sorted(folds):
            rows, others = self._rows({fold}), folds - {fold}
            plain = self._gain(self.best(PLAIN, others))
            gains[EMPTY].append(-plain[rows])
            for name in rivals:  # those that are calibrated come together: what is expected is known from the first
                gains[name].append((self._gain(self.best(name, others)) - plain)[rows])
        return {name: np.concatenate(parts) for name, parts in gains.items()}

    def _shows(self, name: str, folds: frozenset[int]) -> bool:
        """Whether a family would still show anything: what gained on the images left out may not pay on all."""
        return name == EMPTY or self.best(name, folds) != NOTHING

    def _sum(self, name: str, family: Family, fold: int) -> NDArray[np.float64]:
        if (name, fold) not in self._sums:
            self._sums[name, fold] = family.sums(self._columns[fold], self._grid)
        return self._sums[name, fold]

    def _calibrate(self, folds: frozenset[int]) -> Calibration | None:
        if folds not in self._calibrations:
            rows = self._rows(folds)
            found = self._table.evidence(self.k, rows=rows), self._table.true_px[rows, self.k]
            self._calibrations[folds] = calibrate.fit(*found, self._table.overlaps(self.k, rows=rows))
        return self._calibrations[folds]

    def _gain(self, rule: AnyRule) -> NDArray[np.float64]:
        """`gains_of` the rule on all images of the table, (n,)."""
        if rule not in self._gains:
            if isinstance(rule, ExpectedRule):
                level = rule.level_by(self._expected(rule.calibration), self._evidence)
                shown = self._evidence.area_at(level), at_level(self._table.overlaps(self.k), level)
                self._gains[rule] = _gains(self._table, self.k, *shown)
            else:
                self._gains[rule] = gains_of(self._table, self.k, rule)
        return self._gains[rule]

    def _rows(self, folds: Iterable[int]) -> NDArray[np.intp]:
        return np.flatnonzero(np.isin(self._table.fold, list(folds)))


def _gains(table: Table, k: int, pred_px: NDArray[np.int32], overlap_px: NDArray[np.int32]) -> NDArray[np.float64]:
    true_px = table.true_px[:, k]
    return dice(pred_px, true_px, overlap_px) - (true_px == 0)
