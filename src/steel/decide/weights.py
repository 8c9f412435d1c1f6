"""Search of the ensemble's weights, class by class: equal ones unless others surely gain where they chose nothing."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from math import gcd

import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES
from steel.decide.adopt import choose, is_sure, smooth
from steel.decide.ensemble import TRANSFORMS, Blend
from steel.decide.grid import Grid, sums_of
from steel.decide.sample import Bag, Part, Sample, Shown
from steel.errors import UserError
from steel.progress import track
from steel.workers import Workers

MAX_COUNTS = 12  # votes in a bag
LEAST_GAIN = 1e-5  # of a class's mean Dice: a step that brings less is not taken

# Plain rules on coarse axes, beside 62 thresholds: enough to tell blends apart. The rules that ship are searched later.
AREAS_PX = (0, 100, 150, 225, 350, 500, 750, 1100, 1700, 2500, 3800, 5700, 8500)
GATES = tuple(i / 10 for i in range(10))

Folds = frozenset[int]


@dataclass(frozen=True)
class Adoption:
    """What the search found in one class, and whether it is used.

    Attributes:
        found: the best blend on the folds that choose.
        gain: what blends found so add to the class's mean Dice on images that did not choose them, over equal weights.
        error: its standard error, paired by image.
        is_adopted: the gain is above its standard error; else weights are equal.
    """

    found: Bag
    gain: float
    error: float
    is_adopted: bool

    @property
    def used(self) -> Bag:
        """What is found if it is adopted, else the equal one."""
        return self.found if self.is_adopted else equal(len(self.found.counts))

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return {**self.found._asdict(), "gain": self.gain, "error": self.error, "is_adopted": self.is_adopted}


@dataclass(frozen=True)
class Found:
    """The blends of a solution.

    Attributes:
        ships: chosen on all folds.
        rotations: fold to the blend chosen on all others.
        masks, gates: (4,) per class, the evidence for the weights of segmenters and of classifiers in `ships`.
    """

    ships: Blend
    rotations: dict[int, Blend]
    masks: tuple[Adoption, ...]
    gates: tuple[Adoption, ...]

    def evidence(self) -> dict[str, dict[str, dict[str, object]]]:
        """Masks and gates as plain values for JSON, by class "1".."4"."""
        return {
            name: {str(c): one.as_json() for c, one in zip(CLASSES, adoptions, strict=True)}
            for name, adoptions in (("masks", self.masks), ("gates", self.gates))
        }


def search_blends(sample: Sample, workers: int = 1) -> Found:
    """Search the weights of segmenters and classifiers on all folds, and for each fold on the others.

    Of the segmenters with the equal mean of the classifiers, and the other way round: neither search depends on what
    the other found.

    Args:
        sample: of all held-out strips.
        workers: processes; a class is searched by one.
    """
    if len(sample.folds) < 2:
        raise UserError(f"weights: the sample has the folds {sorted(sample.folds)}, allowed: at least two")
    chosen_by = [sample.folds, *(sample.folds - {fold} for fold in sorted(sample.folds))]
    parts = [{fold: sample.parts[k, fold] for fold in sample.folds} for k in range(N_CLASSES)]
    tasks = [(parts[k], sample.n_models, sample.n_gates, chosen_by) for k in range(N_CLASSES)]
    size = [sum(part.values.size for part in of_class.values()) for of_class in parts]
    order = sorted(range(N_CLASSES), key=lambda k: -size[k])  # the longest search first
    if workers < 2:
        found = [_search_class(*tasks[k]) for k in track(order, "decide: weights", "classes")]
    else:
        with Workers(min(workers, N_CLASSES)) as pool:
            results = pool.map(_search_class, *zip(*(tasks[k] for k in order), strict=True))
            found = list(track(results, "decide: weights", "classes", N_CLASSES))
    classes = [found[order.index(k)] for k in range(N_CLASSES)]
    blends = [_blend([one[i] for one in classes]) for i in range(len(chosen_by))]
    masks, gates = zip(*(one[0] for one in classes), strict=True)
    return Found(blends[0], dict(zip(sorted(sample.folds), blends[1:], strict=True)), masks, gates)


def equal(n_models: int) -> Bag:
    """The plain mean of all."""
    return Bag("mean", (1,) * n_models)


def _blend(adoptions: list[tuple[Adoption, Adoption]]) -> Blend:
    """One blend of what is used in each class."""
    kinds, counts = zip(*(masks.used for masks, _ in adoptions), strict=True)
    return Blend(kinds, counts, tuple(gates.used.counts for _, gates in adoptions))


def _search_class(
    parts: Mapping[int, Part], n_models: int, n_gates: int, chosen_by: Iterable[Folds]
) -> list[tuple[Adoption, Adoption]]:
    """Worker: what some sets of folds choose in one class, for its masks and its gate."""
    grid = Grid(AREAS_PX, GATES if n_gates else (0.0,))
    even = {fold: part.gate((1,) * n_gates) for fold, part in parts.items()}
    masks = BagSearch(
        {fold: part.n_images for fold, part in parts.items()},
        lambda bag, fold: (parts[fold].show(bag), even[fold]),
        n_models,
        tuple(TRANSFORMS),
        grid,
    )
    shown = {fold: part.show(equal(n_models)) for fold, part in parts.items()}
    gates = BagSearch(
        {fold: part.n_images for fold, part in parts.items()},
        lambda bag, fold: (shown[fold], parts[fold].gate(bag.counts)),
        n_gates,
        ("mean",),
        grid,
    )
    return [(masks.adopt(folds), gates.adopt(folds)) for folds in chosen_by]


class BagSearch:
    """The search for one class's bag on any of the folds: what it has summed and found is kept.

    Attributes:
        n_images: fold to the number of its images.
        show: what a bag shows of a fold's images that have points, and their gates.
        n_models: that may vote; kinds: of the mean.
        grid: minimum areas and gates of the plain rules that a bag is judged by.
    """

    def __init__(
        self,
        n_images: Mapping[int, int],
        show: Callable[[Bag, int], tuple[Shown, NDArray[np.float32]]],
        n_models: int,
        kinds: tuple[str, ...],
        grid: Grid,
    ) -> None:
        self.n_images, self.show, self.n_models, self.kinds, self.grid = n_images, show, n_models, kinds, grid
        self._sums: dict[tuple[Bag, int], NDArray[np.float64]] = {}
        self._scores: dict[tuple[Bag, Folds], float] = {}
        self._best: dict[Folds, Bag] = {}

    def adopt(self, folds: Folds) -> Adoption:
        """The bag for some folds, by these folds alone.

        Each fold in turn is left out and bag and rule are searched on the others. What the search finds is adopted if
        the gain over equal weights, on the images left out, is above its standard error. One model has nothing to
        weigh, and with a single fold there is nothing to leave out: weights are equal.
        """
        even = equal(self.n_models)
        if self.n_models < 2 or len(folds) < 2:
            return Adoption(even, 0.0, 0.0, False)
        gains = []
        for fold in sorted(folds):
            others = folds - {fold}
            gains.append(self.left_out(self.best(others), others, fold) - self.left_out(even, others, fold))
        gain = np.concatenate(gains)
        error = float(gain.std() / np.sqrt(len(gain)))
        return Adoption(self.best(folds), float(gain.mean()), error, is_sure(gain))

    def best(self, folds: Folds) -> Bag:
        """The best bag on some folds: from the better of an equal and a greedy one, uphill as long as it pays."""
        if folds not in self._best:
            even = equal(self.n_models)
            for kind in self.kinds:
                even = self._better(even, self._bag(kind, even.counts), folds)
            found = self._better(even, self._greedy(even.kind, folds), folds)
            while (next_one := self._better(found, self._highest(self._around(found), folds), folds)) != found:
                found = next_one
            self._best[folds] = found
        return self._best[folds]

    def score(self, bag: Bag, folds: Folds) -> float:
        """What the bag gains over showing nothing under its best plain rule, smoothed, per image of the folds."""
        if (bag, folds) not in self._scores:
            highest = float(smooth(self._gains(bag, folds)).max())
            self._scores[bag, folds] = max(0.0, round(highest, 9))  # what differs by the rounding of sums is equal
        return self._scores[bag, folds]

    def left_out(self, bag: Bag, folds: Folds, fold: int) -> NDArray[np.float64]:
        """Gains (n,) over showing nothing, in another fold, of a bag under the rule that some folds choose for it."""
        gains = np.zeros(self.n_images[fold])  # those without points come last: nothing to gain
        point = choose(self._gains(bag, folds))
        if point is not None:
            t, a, g = point
            shown, gate = self.show(bag, fold)
            passes = (shown.area_px[t] >= self.grid.areas_px[a]) & (gate >= np.float32(self.grid.gates[g]))
            gains[: len(passes)] = shown.gain[t] * passes
        return gains

    def _greedy(self, kind: str, folds: Folds) -> Bag:
        """Forward selection with replacement, from the empty bag; the best bag on the way.

        Source: Caruana et al., Ensemble selection from libraries of models, ICML 2004.
        """
        counts = [0] * self.n_models
        path = []
        for _ in range(MAX_COUNTS):
            grown = {i: self._bag(kind, _add(counts, {i: 1})) for i in range(self.n_models)}
            best = max(grown, key=lambda i: self.score(grown[i], folds))
            counts[best] += 1
            path.append(grown[best])
        return self._highest(path, folds)

    def _around(self, bag: Bag) -> list[Bag]:
        """The bags one step away: a vote more, one less, one moved from a model to another, another kind of mean."""
        counts, every = bag.counts, range(self.n_models)
        steps = [{i: -1} for i in every] + [{i: -1, j: 1} for i in every for j in every if i != j]
        if sum(counts) < MAX_COUNTS:
            steps += [{i: 1} for i in every]
        moved = [_add(counts, step) for step in steps]
        bags = [self._bag(bag.kind, found) for found in moved if min(found) >= 0 and sum(found) > 0]
        return [*bags, *(self._bag(kind, counts) for kind in self.kinds)]

    def _bag(self, kind: str, counts: Iterable[int]) -> Bag:
        """The bag in its lowest terms: one of a single model has no kind."""
        whole = tuple(counts)
        divisor = gcd(*whole)
        kind = kind if np.count_nonzero(whole) > 1 else "mean"
        return Bag(kind, tuple(n // divisor for n in whole))

    def _highest(self, bags: Iterable[Bag], folds: Folds) -> Bag:
        """The first of those with the highest score."""
        return max(bags, key=lambda bag: self.score(bag, folds))

    def _better(self, bag: Bag, rival: Bag, folds: Folds) -> Bag:
        """The rival if it gains enough over the bag."""
        return rival if self.score(rival, folds) >= self.score(bag, folds) + LEAST_GAIN else bag

    def _gains(self, bag: Bag, folds: Folds) -> NDArray[np.float64]:
        """Mean gains of the folds' images under every rule, (62, n_area, n_gate)."""
        # Sums are added up over the folds, never subtracted from those of all: no trace of the others is left.
        total = reduce(np.add, (self._sum(bag, fold) for fold in sorted(folds)))
        return total / sum(self.n_images[fold] for fold in folds)

    def _sum(self, bag: Bag, fold: int) -> NDArray[np.float64]:
        if (bag, fold) not in self._sums:
            shown, gate = self.show(bag, fold)
            self._sums[bag, fold] = sums_of(shown.gain, shown.area_px, gate, self.grid)
        return self._sums[bag, fold]


def _add(counts: Iterable[int], step: Mapping[int, int]) -> list[int]:
    return [n + step.get(i, 0) for i, n in enumerate(counts)]
