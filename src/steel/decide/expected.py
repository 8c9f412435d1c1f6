"""Rules by expected score: of calibrated probabilities, the mask of best expected Dice, and whether to show it.

Every number that decides is made of whole numbers, or by + - * / on single float64 values: the same bits for one image
or many, on every machine.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from steel.decide.evidence import N_LEVELS, Evidence
from steel.decide.exact import exp, log
from steel.decide.rule import NEVER_PX
from steel.errors import UserError

ONE = 65_535  # the whole number that stands for probability 1
SMALLEST_GATE = 1 / 1024  # gates nearer to 0 or 1 count as this: their logit must not outweigh everything
CHUNK = 256  # images at a time: what is computed of them stays in the core's cache


@dataclass(frozen=True)
class Calibration:
    """What the values of one class's maps and its gate have meant on held-out images; `calibrate.fit` learns it.

    Attributes:
        pixel: 256 whole numbers, not falling, 65,535 = 1: the probability that a pixel of this value lies under the
            true mask, given that the image has one; that of value 0 is without the tail's part.
        tail: expected mask pixels, given a mask, for each pixel of `Evidence.tail_px`.
        bias, gate, area: logit of the probability that the image has a mask, see `defect_logit`.
    """

    pixel: tuple[int, ...]
    tail: float
    bias: float
    gate: float
    area: float

    def __post_init__(self) -> None:
        """Refuse what is no calibration."""
        p = self.pixel
        if not isinstance(p, tuple) or len(p) != N_LEVELS or not all(type(one) is int for one in p):
            raise UserError(f"calibration: pixel is {p!r:.60}, allowed: 256 whole numbers")
        if not 0 <= p[0] <= p[-1] <= ONE or list(p) != sorted(p):
            raise UserError(f"calibration: pixel is {p!r:.60}, allowed: from 0 to {ONE}, never falling")
        for name in ("tail", "bias", "gate", "area"):
            value = getattr(self, name)
            if not _is_number(value) or (name == "tail" and value < 0):
                allowed = "a number >= 0" if name == "tail" else "a finite number"
                raise UserError(f"calibration: {name} is {value!r}, allowed: {allowed}")


@dataclass(frozen=True)
class Expectation:
    """What a calibration expects of n images.

    Attributes:
        dice: (n, 255) expected Dice, given a defect, of showing the pixels of value >= t = 1..255, see `expected_dice`.
        least: (n,) the expected Dice above which a mask is worth showing, see `least_dice`.
    """

    dice: NDArray[np.float64]
    least: NDArray[np.float64]

    @staticmethod
    def of(calibration: Calibration, evidence: Evidence) -> "Expectation":
        """Of the images of some evidence."""
        return Expectation(expected_dice(calibration, evidence), least_dice(calibration, evidence))

    def subset(self, rows: NDArray) -> "Expectation":
        """Of some images: `rows` is a boolean mask (n,) or an array of row numbers."""
        return Expectation(self.dice[rows], self.least[rows])

    def best(self) -> NDArray[np.int64]:
        """The t of largest expected Dice of each image, (n,) 1..255; of equal ones the lowest."""
        return self.dice.argmax(1) + 1

    def worth(self, level: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether a mask at the image's level (n,) 1..255 is worth showing, (n,)."""
        return np.take_along_axis(self.dice, level[:, None] - 1, axis=1)[:, 0] > self.least


def expected_dice(calibration: Calibration, evidence: Evidence) -> NDArray[np.float64]:
    """Expected Dice, given a defect, of showing the pixels of value >= t, (n, 255) for t = 1..255; 0 without any.

    The pixels of the true mask Y are taken as independent draws of the calibrated probabilities p. With a pixels shown,
    X of them under the mask, the Dice is 2 X / (a + |Y|). Expanded to the second order around the means S of X and m of
    |Y|, with the variance s of |Y| and, as X is a part of Y, the variance V of X for their covariance, its mean is

        2 (S / (a + m) - V / (a + m)^2 + S s / (a + m)^3).

    Source: Dai and Li, RankSEG: a consistent ranking-based framework for segmentation, JMLR 24 (2023): for every area
    the pixels of largest p are the best mask. Their blind approximation takes the whole |Y| in place of |Y| without the
    pixel in question; V mends that: from some 100 pixels on the mean is right to .003, from 300 on to .0001.
    """
    n = len(evidence.area_px)
    dice = np.empty((n, N_LEVELS - 1))
    p = np.array(calibration.pixel, np.int64)
    for rows in (slice(low, low + CHUNK) for low in range(0, n, CHUNK)):
        area_px = evidence.area_px[rows]
        count = _count(area_px)
        mean, variance = _at_least(count * p) / ONE, _at_least(count * (p * (ONE - p))) / ONE**2  # (chunk, 256)
        tail = (calibration.tail * evidence.tail_px[rows])[:, None]  # of many small p: variance and mean are one
        total = area_px[:, 1:] + (mean[:, :1] + tail)
        share = 1 / np.maximum(total, 1)  # below 1 no pixel is shown: S and V are 0, and so is the Dice
        dice[rows] = (
            2 * share * (mean[:, 1:] + share * (share * mean[:, 1:] * (variance[:, :1] + tail) - variance[:, 1:]))
        )
    return dice


def defect_logit(calibration: Calibration, evidence: Evidence) -> NDArray[np.float64]:
    """Logit of the probability that the image has a mask, (n,): bias + gate * logit(gate) + area * log(1 + area).

    The area is the expected one of what the map shows: of the values from 1 on, and of the tail.
    """
    return (
        calibration.bias
        + calibration.gate * gate_logit(evidence.gate)
        + calibration.area * log(1 + seen_px(np.array(calibration.pixel, np.int64), calibration.tail, evidence))
    )


def least_dice(calibration: Calibration, evidence: Evidence) -> NDArray[np.float64]:
    """The expected Dice, given a defect, above which a mask is worth showing: P(no defect) / P(defect), (n,).

    A mask scores nothing without a defect, and no mask scores 1 then: showing one is expected to score P(defect) * its
    Dice, given a defect; showing none, P(no defect).
    """
    return exp(-defect_logit(calibration, evidence))


def gate_logit(gate: NDArray[np.float32]) -> NDArray[np.float64]:
    """log(gate / (1 - gate)), (n,), -6.93..6.93."""
    inside = np.clip(gate.astype(np.float64), SMALLEST_GATE, 1 - SMALLEST_GATE)
    return log(inside / (1 - inside))


def seen_px(pixel: NDArray[np.int64], tail: float, evidence: Evidence) -> NDArray[np.float64]:
    """Expected area under the mask, given one, of the values from 1 on and of the tail, (n,); see `Calibration`."""
    # Areas times the steps of p are the counts times p, added up: in whole numbers the same.
    steps = np.diff(pixel[1:], prepend=0)
    return (evidence.area_px[:, 1:] @ steps) / ONE + tail * evidence.tail_px


@dataclass(frozen=True)
class ExpectedRule:
    """Shows the mask of best expected Dice, or of a fixed threshold, and asks the expected score whether to.

    Attributes:
        calibration: of the class.
        threshold: 1..255; or 0: each image's own, whose Dice, given a defect, is expected to be largest (RankDice; of
            equal ones the lowest).
        by_score: show the mask if P(defect) * expected Dice, given a defect, is above P(no defect), which is what
            showing nothing is expected to score. If False, by the two minima.
        min_area_px: 0..409,601, min_gate: 0..1; the mask is shown if area and gate are at least this. Off if by_score.
    """

    calibration: Calibration
    threshold: int
    by_score: bool
    min_area_px: int = 0
    min_gate: float = 0.0

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        for name, high in (("threshold", N_LEVELS - 1), ("min_area_px", NEVER_PX)):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value <= high:
                raise UserError(f"rule: {name} is {value!r}, allowed: a whole number 0..{high}")
        if not _is_number(self.min_gate) or not 0 <= self.min_gate <= 1:
            raise UserError(f"rule: min_gate is {self.min_gate!r}, allowed: a number 0..1")
        if not isinstance(self.by_score, bool):
            raise UserError(f"rule: by_score is {self.by_score!r}, allowed: true, false")
        if self.by_score and (self.min_area_px or self.min_gate):
            raise UserError(
                f"rule: min_area_px {self.min_area_px} and min_gate {self.min_gate} with by_score; allowed: 0"
            )

    @property
    def component_px(self) -> int:
        """See `AnyRule`."""
        return 0

    def level(self, evidence: Evidence) -> NDArray[np.int64]:
        """See `AnyRule`."""
        return self.level_by(Expectation.of(self.calibration, evidence), evidence)

    def level_by(self, expected: Expectation, evidence: Evidence) -> NDArray[np.int64]:
        """The same where it is known already what the calibration expects."""
        level = np.full(len(expected.least), self.threshold) if self.threshold else expected.best()
        if self.by_score:
            shown = expected.worth(level)
        else:
            # The gate is stored in float32: .7 in float64 would be above the stored .7.
            open_gate = np.asarray(evidence.gate, np.float32) >= np.float32(self.min_gate)
            shown = open_gate & (evidence.area_at(level) >= self.min_area_px)
        return np.where(shown, level, N_LEVELS)

    def opened(self) -> "ExpectedRule":
        """See `AnyRule`."""
        return replace(self, by_score=False, min_area_px=0, min_gate=0.0)


def _count(px: NDArray[np.int32]) -> NDArray[np.int64]:
    """Counts of ">= t" (n, 256) to counts of "= t"."""
    count = px.astype(np.int64)
    count[:, :-1] -= px[:, 1:]
    return count


def _at_least(count: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts of "= t" (n, 256) to counts of ">= t"."""
    return count[:, ::-1].cumsum(1)[:, ::-1]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
