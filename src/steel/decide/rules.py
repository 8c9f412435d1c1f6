"""The rules that turn a probability map into masks; the same on the table (to search) and on a map (to submit)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steel.competition import CLASSES, N_CLASSES, N_PIXELS, USUAL_MIN_AREA_PX
from steel.decide.ensemble import largest_class
from steel.decide.table import N_LEVELS, Table
from steel.errors import UserError

NEVER_PX = N_PIXELS + 1  # a minimum area that no mask reaches: show nothing
MAX_POWER = 8


@dataclass(frozen=True)
class Rule:
    """When and what to show of one class; the last four are off by default.

    Attributes:
        threshold: 1..255; a pixel belongs to the mask if its value is at least this.
        min_area_px: the mask is shown only if it has at least so many pixels; 0..409,601 (which none has).
        min_gate: 0..1; the mask is shown only if the gate, the probability that the class is there, is at least this.
        trigger: threshold..255, trigger_px: 0..409,601; hysteresis (Canny, 1986): the mask is shown only if at least
            trigger_px pixels have a value of at least the trigger.
        gate_power: 0, .5, 1 .. 8; soft gate: min_area_px / gate ** gate_power pixels are needed, see `shows`.
        product: values are multiplied by the gate before they meet threshold and trigger, see `own_level`.
    """

    threshold: int
    min_area_px: int
    min_gate: float
    trigger: int = 255
    trigger_px: int = 0
    gate_power: float = 0.0
    product: bool = False

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        _check_int("threshold", self.threshold, 1, 255)
        _check_int("min_area_px", self.min_area_px, 0, NEVER_PX)
        if not _is_number(self.min_gate) or not 0 <= self.min_gate <= 1:
            raise UserError(f"rule: min_gate is {self.min_gate!r}, allowed: a number 0..1")
        _check_int("trigger", self.trigger, self.threshold, 255)
        _check_int("trigger_px", self.trigger_px, 0, NEVER_PX)
        power = self.gate_power
        if not _is_number(power) or not 0 <= power <= MAX_POWER or 2 * power % 1:
            raise UserError(f"rule: gate_power is {power!r}, allowed: 0, 0.5, 1 .. {MAX_POWER}")
        if not isinstance(self.product, bool):
            raise UserError(f"rule: product is {self.product!r}, allowed: true, false")

    def levels(self, gate: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The values that mask and trigger ask of a pixel of each image, (n,) 1..256, for gates (n,)."""
        if self.product:
            return own_level(self.threshold, gate), own_level(self.trigger, gate)
        shape = np.shape(gate)
        return np.full(shape, self.threshold), np.full(shape, self.trigger)

    def shows(self, area_px: ArrayLike, trigger_area_px: ArrayLike, gate: ArrayLike) -> NDArray[np.bool_]:
        """Whether masks are shown: the one place that says so.

        The soft gate asks for area_px * weight >= min_area_px, with the weight of `gate_weight`: exact in integers at
        power 0, else in float64; at a gate of 0 only a minimum of 0 is reached.

        Args:
            area_px: (n,) pixels at the first of `levels`.
            trigger_area_px: (n,) pixels at the second.
            gate: (n,) probabilities.
        """
        # The gate is stored in float32: .7 in float64 would be above the stored .7.
        open_gate = np.asarray(gate, np.float32) >= np.float32(self.min_gate)
        large = np.asarray(area_px) * gate_weight(gate, self.gate_power) >= self.min_area_px
        return open_gate & large & (np.asarray(trigger_area_px) >= self.trigger_px)


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


def own_level(threshold: ArrayLike, gate: ArrayLike) -> NDArray[np.int64]:
    """The least value of a pixel whose product with the gate is at least the threshold: ceil(threshold / gate), 1..256.

    256, which no pixel has, stands for all beyond 255. Exact: a threshold has 8 bits and the gate, in float32, 24, so
    that a quotient that is no whole number is at least 2 ** -32 (relative) away from one, and float64 keeps it there.

    Args:
        threshold: whole numbers 1..255, any shape.
        gate: probabilities of a shape that fits.
    """
    with np.errstate(divide="ignore"):  # gate 0: infinity, as it should be
        quotient = np.asarray(threshold, np.float64) / np.asarray(gate, np.float32).astype(np.float64)
    return np.minimum(np.ceil(quotient), N_LEVELS).astype(np.int64)


def gate_weight(gate: ArrayLike, power: float) -> NDArray[np.float64]:
    """gate ** power in float64, for powers in halves; the same bits on every machine, which `pow` does not promise."""
    exact = np.asarray(gate, np.float32).astype(np.float64)
    weight = np.sqrt(exact) if 2 * power % 2 else np.ones_like(exact)
    for _ in range(int(power)):
        weight = weight * exact
    return weight


def fixed_rules(threshold: float = 0.5, min_area_px: Sequence[int] = USUAL_MIN_AREA_PX, min_gate: float = 0.5) -> Rules:
    """The usual rules before any search; `threshold` is a probability in (0, 1]."""
    if not 0 < threshold <= 1:
        raise UserError(f"rules: threshold is {threshold!r}, allowed: a probability above 0, at most 1")
    level = math.ceil(round(threshold * 255, 6))  # the first level at or above it; .6 * 255 is 153, not 153.00000001
    return Rules(tuple(Rule(level, area, min_gate) for area in min_area_px))


def apply_rule(rule: Rule, table: Table, k: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pixels shown of class index k (0..3) and their overlap with the truth, each (n,) int32."""
    gate = table.gate[:, k]
    level, trigger = rule.levels(gate)
    area_px = _at(table.area_px, k, level)
    shown = rule.shows(area_px, _at(table.area_px, k, trigger), gate)
    return np.where(shown, area_px, 0), np.where(shown, _at(table.overlap_px, k, level), 0)


def apply_to_table(rules: Rules, table: Table) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pixels shown and their overlap with the truth, each (n, 4) int32: what `steel.metrics` scores."""
    found = [apply_rule(rule, table, k) for k, rule in enumerate(rules.classes)]
    return np.stack([pred_px for pred_px, _ in found], 1), np.stack([overlap_px for _, overlap_px in found], 1)


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
        level, trigger = rule.levels(gate[k])
        mask = owned[k] >= int(level)  # a number of Python's: the comparison stays in uint8, and knows 256
        trigger_px = np.count_nonzero(owned[k] >= int(trigger)) if rule.trigger_px else 0
        if rule.shows(np.count_nonzero(mask), trigger_px, gate[k]):
            masks[k] = mask
    return masks


def _at(px: NDArray[np.int32], k: int, level: NDArray[np.int64]) -> NDArray[np.int32]:
    """Counts (n,) of class index k in a table's column (n, 4, 256), each at a level of its own (n,); at 256 none."""
    found = px[np.arange(len(px)), k, np.minimum(level, N_LEVELS - 1)]
    return np.where(level < N_LEVELS, found, 0)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_int(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise UserError(f"rule: {name} is {value!r}, allowed: a whole number {low}..{high}")


def _read_rule(data: object, where: str) -> Rule:
    """A rule from plain values; files written before a field came lack it: it is off."""
    known = {f.name: f.default is MISSING for f in fields(Rule)}
    needed = {name for name, is_needed in known.items() if is_needed}
    if not isinstance(data, Mapping) or not needed <= set(data) <= set(known):
        got = sorted(data) if isinstance(data, Mapping) else type(data).__name__
        raise UserError(f"{where}: fields {got}, allowed: {list(known)}, of which the first {len(needed)} are needed")
    try:
        return Rule(**data)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
