"""Two scores of the same strips, paired: by how much the second is better than the first, and how surely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES
from steel.decide.bootstrap import N_RESAMPLES, Interval, interval, resample
from steel.report.section import Numbers
from steel.report.uncertainty import PERCENT


@dataclass(frozen=True)
class Difference:
    """One number of both.

    Attributes:
        a, b: the number; NaN where it does not exist.
        gap: B - A, paired, with its interval.
        b_better: share of the resamples in which B is better, 0..1.
    """

    a: float
    b: float
    gap: Interval
    b_better: float


@dataclass(frozen=True)
class Paired:
    """Both on the same strips.

    Attributes:
        n_masks: true masks of each class on them (4).
        whole: the competition's score.
        classes: the same of each class (4).
        positive: mean Dice of the true masks.
        public: the mean at the public test set's class shares.
    """

    n_masks: tuple[int, ...]
    whole: Difference
    classes: tuple[Difference, ...]
    positive: Difference
    public: Difference

    def rows(self) -> list[tuple[str, int, Difference]]:
        """All of it by name, with the number of true masks that it rests on."""
        n = sum(self.n_masks)
        classes = [(f"class {c}", m, one) for c, m, one in zip(CLASSES, self.n_masks, self.classes, strict=True)]
        return [
            ("mean Dice", n, self.whole),
            *classes,
            ("positive-only", n, self.positive),
            ("expected LB", n, self.public),
        ]


def pair(
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    positive: NDArray[np.bool_],
    group: Sequence[str],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Paired:
    """Pair two arrays (n, 4) of Dice; the rest as `bootstrap.resample` takes it."""
    found = [resample(values, positive, group, n_resamples, seed) for values in (a, b)]
    by_class = zip(*(one.class_mean.T for one in found), strict=True)
    return Paired(
        n_masks=tuple(positive.sum(0).tolist()),
        whole=_difference(found[0].mean, found[1].mean),
        classes=tuple(_difference(*of_one) for of_one in by_class),
        positive=_difference(found[0].positive, found[1].positive),
        public=_difference(found[0].public, found[1].public),
    )


def table(found: Paired, caption: str, first: str, second: str, gap: str) -> Numbers:
    """The numbers of both and their gaps, under the names of the two and of the gap."""
    rows = [[name, str(n), *_cells(one)] for name, n, one in found.rows()]
    return Numbers(caption, ["", "masks", first, second, gap, PERCENT, f"{second} better in"], rows)


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
    """Of draws (1 + B,) of the same resamples."""
    gap = b - a
    drawn = gap[1:][~np.isnan(gap[1:])]
    return Difference(
        float(a[0]), float(b[0]), interval(gap), float((drawn > 0).mean()) if len(drawn) else float("nan")
    )


def _cells(found: Difference) -> list[str]:
    cells = [f"{found.a:.5f}", f"{found.b:.5f}", f"{found.gap.value:+.5f}"]
    cells += [f"{found.gap.low:+.5f} to {found.gap.high:+.5f}", f"{100 * found.b_better:.1f} %"]
    return ["–" if "nan" in cell else cell for cell in cells]
