"""Drift: whether what is shown on the test strips looks like what was shown on the held-out ones."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES
from steel.decide.decision import Decision
from steel.decide.table import Table
from steel.report.outcomes import best_known, judge

MIN_Z, MIN_RATIO = 3.0, 1.5


@dataclass(frozen=True)
class Part:
    """A number of the held-out strips beside that of the test strips.

    Attributes:
        held_out, test: the number; None where nothing is shown that it could be taken of.
        z: their distance in standard errors, positive if that of the test strips is larger.
        warn: whether they part, see `drift`.
    """

    held_out: float | None
    test: float | None
    z: float
    warn: bool


@dataclass(frozen=True)
class ClassDrift:
    """What is shown of one class.

    Attributes:
        share: of the strips, that on which it is shown, 0..1.
        area_px: geometric mean of the area where it is shown.
    """

    share: Part
    area_px: Part


@dataclass(frozen=True)
class Drift:
    """What is shown of each class (4), held out `kind` (a key of `outcomes.WAYS`) against test."""

    kind: str
    classes: tuple[ClassDrift, ...]

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values for JSON, and the warnings."""
        return {**asdict(self), "warnings": self.warnings()}

    def warnings(self) -> list[str]:
        """A line for every number that parts."""
        lines = []
        for c, found in zip(CLASSES, self.classes, strict=True):
            if found.share.warn:
                texts = [f"{100 * (share or 0):.1f} %" for share in (found.share.test, found.share.held_out)]
                lines.append(f"class {c} is shown on {texts[0]} of the test strips, but on {texts[1]} of the held-out")
            if found.area_px.warn:
                texts = [f"{area or 0:.0f} px" for area in (found.area_px.test, found.area_px.held_out)]
                lines.append(f"class {c} is typically shown on {texts[0]} of a test strip, on {texts[1]} held out")
        return lines


def of_submission(table: Table, decision: Decision, test_px: NDArray[np.int64]) -> Drift:
    """Drift of the areas (n, 4) px that the rules show on the test strips, against the honest held-out masks.

    Two things differ: the test strips have other images, and their maps are the mean over the folds' models, where a
    held-out map is that of one. Rules tuned on the one kind may not suit the other.
    """
    outcomes = judge(table, decision)
    kind = best_known(outcomes)
    return drift(outcomes[kind].pred_px, test_px, kind)


def drift(held_out_px: NDArray, test_px: NDArray, kind: str) -> Drift:
    """Compare areas shown, px: (n, 4) held out and (m, 4) on the test strips.

    Two numbers part if they are more than 3 standard errors apart and one is more than 1.5 times the other. Either
    alone cries wolf: on 12,568 and 5,506 strips 3 errors are 2.4 percentage points at class 3's 41 %, which moves no
    score, and on 40 test strips a class of 2 % is often not shown at all. With eight numbers, 3 errors let chance warn
    in one submission of fifty. For shares this is the z-test of two proportions; areas are compared by their
    logarithms, since they span three decades and an arithmetic mean hangs on a few large ones.
    """
    classes = []
    for held_out, test in zip(held_out_px.T, test_px.T, strict=True):
        share = _part(held_out > 0, test > 0, logs=False)
        classes.append(ClassDrift(share, _part(np.log(held_out[held_out > 0]), np.log(test[test > 0]), logs=True)))
    return Drift(kind, tuple(classes))


def _part(held_out: NDArray, test: NDArray, logs: bool) -> Part:
    """Compare the means of two samples (n,) and (m,); of logarithms the numbers are geometric means."""
    if not len(held_out) or not len(test):
        one, other = (float(np.exp(sample.mean())) if len(sample) else None for sample in (held_out, test))
        return Part(one, other, z=0.0, warn=False)
    a, b = float(held_out.mean()), float(test.mean())
    # The spread of both together, as they would have it if they were alike: a few alike masks look less sure than they
    # seem. For shares this is p (1 - p).
    variance = float(np.concatenate([held_out, test]).astype(np.float64).var())
    error = np.sqrt(variance * (1 / len(held_out) + 1 / len(test)))
    z = float((b - a) / error) if error > 0 else 0.0
    if logs:
        a, b = float(np.exp(a)), float(np.exp(b))
    return Part(a, b, z, bool(abs(z) > MIN_Z and max(a, b) > MIN_RATIO * min(a, b)))
