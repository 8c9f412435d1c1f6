"""The rules that turn a probability map into masks; the same on the table (to search) and on a map (to submit)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES, N_PIXELS, USUAL_MIN_AREA_PX
from steel.decide.ensemble import largest_class
from steel.decide.table import Table
from steel.errors import UserError

NEVER_PX = N_PIXELS + 1  # a minimum area that no mask reaches: show nothing


@dataclass(frozen=True)
class Rule:
    """When and what to show of one class.

    Attributes:
        threshold: 1..255; a pixel belongs to the mask if its value is at least this.
        min_area_px: the mask is shown only if it has at least so many pixels; 0..409,601 (which none has).
        min_gate: 0..1; the mask is shown only if the classifiers' probability is at least this.
    """

    threshold: int
    min_area_px: int
    min_gate: float

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _check_int("threshold", self.threshold, 1, 255)
        _check_int("min_area_px", self.min_area_px, 0, NEVER_PX)
        gate = self.min_gate
        if isinstance(gate, bool) or not isinstance(gate, (int, float)) or not 0 <= gate <= 1:
            raise UserError(f"rule: min_gate is {gate!r}, allowed: a number 0..1")

    def shows(self, area_px: NDArray, gate: NDArray) -> NDArray[np.bool_]:
        """Whether masks of these areas (n,) at these gate probabilities (n,) are shown: the one place that says so."""
        # The gate is stored in float32: .7 in float64 would be above the stored .7.
        return (area_px >= self.min_area_px) & (np.asarray(gate, np.float32) >= np.float32(self.min_gate))


@dataclass(frozen=True)
class Rules:
    """One rule per class, in the order of the classes."""

    classes: tuple[Rule, ...]

    def __post_init__(self) -> None:
        """Refuse another number of classes."""
        if len(self.classes) != N_CLASSES:
            raise UserError(f"rules: {len(self.classes)} classes, allowed: {N_CLASSES}")

    def to_json(self) -> dict[str, dict[str, float]]:
        """Plain values for JSON: class "1".."4" to its rule's fields."""
        return {str(c): asdict(rule) for c, rule in zip(CLASSES, self.classes, strict=True)}

    @staticmethod
    def from_json(data: object, where: str = "rules") -> "Rules":
        """Read what `to_json` gave; `where` names the file in messages."""
        expected = [str(c) for c in CLASSES]
        if not isinstance(data, Mapping) or sorted(data) != expected:
            got = sorted(data) if isinstance(data, Mapping) else type(data).__name__
            raise UserError(f"{where}: classes {got}, allowed: exactly {expected}")
        return Rules(tuple(_read_rule(data[c], f"{where}: class {c}") for c in expected))


def fixed_rules(threshold: float = 0.5, min_area_px: Sequence[int] = USUAL_MIN_AREA_PX, min_gate: float = 0.5) -> Rules:
    """The usual rules before any search; `threshold` is a probability in (0, 1]."""
    if not 0 < threshold <= 1:
        raise UserError(f"rules: threshold is {threshold!r}, allowed: a probability above 0, at most 1")
    level = math.ceil(round(threshold * 255, 6))  # the first level at or above it; .6 * 255 is 153, not 153.00000001
    return Rules(tuple(Rule(level, area, min_gate) for area in min_area_px))


def apply_to_table(rules: Rules, table: Table) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pixels shown and their overlap with the truth, each (n, 4) int32: what `steel.metrics` scores."""
    pred_px = np.zeros((len(table), N_CLASSES), np.int32)
    overlap_px = np.zeros_like(pred_px)
    for k, rule in enumerate(rules.classes):
        area_px = table.area_px[:, k, rule.threshold]
        shown = rule.shows(area_px, table.gate[:, k])
        pred_px[:, k] = np.where(shown, area_px, 0)
        overlap_px[:, k] = np.where(shown, table.overlap_px[:, k, rule.threshold], 0)
    return pred_px, overlap_px


def apply_to_map(rules: Rules, prob: NDArray[np.uint8], gate: NDArray[np.float32]) -> NDArray[np.bool_]:
    """The masks of one image.

    Args:
        rules: one per class.
        prob: (4, 256, 1600) uint8, the ensemble's map before `largest_class`.
        gate: (4,) float32, the probability that the class is there; 1 where no model gives one.

    Returns:
        (4, 256, 1600) bool; no pixel is in two of them.
    """
    owned = largest_class(prob)
    masks = np.zeros(prob.shape, np.bool_)
    for k, rule in enumerate(rules.classes):
        mask = owned[k] >= rule.threshold
        if rule.shows(np.asarray(np.count_nonzero(mask)), gate[k]):
            masks[k] = mask
    return masks


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(f"rule: {name} is {value!r}, allowed: a whole number {low}..{high}")


def _read_rule(data: object, where: str) -> Rule:
    names = [f.name for f in fields(Rule)]
    if not isinstance(data, Mapping) or sorted(data) != sorted(names):
        got = sorted(data) if isinstance(data, Mapping) else type(data).__name__
        raise UserError(f"{where}: fields {got}, allowed: exactly {names}")
    try:
        return Rule(**data)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
