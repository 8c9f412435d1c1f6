"""The rules of all classes, applied to the table (to search) and to a map (to submit): the same on both."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES, USUAL_MIN_AREA_PX
from steel.decide.components import COMPONENT_LEVELS, without_small
from steel.decide.ensemble import largest_class
from steel.decide.evidence import N_LEVELS, AnyRule, Evidence, at_level
from steel.decide.expected import Calibration, ExpectedRule
from steel.decide.rule import Rule
from steel.decide.table import Table
from steel.errors import UserError

K = TypeVar("K", Rule, ExpectedRule, Calibration)


@dataclass(frozen=True)
class Rules:
    """One rule per class, in the order of the classes."""

    classes: tuple[AnyRule, ...]

    def __post_init__(self) -> None:
        """Refuse another number of classes."""
        if len(self.classes) != N_CLASSES:
            raise UserError(f"rules: {len(self.classes)} classes, allowed: {N_CLASSES}")

    def to_json(self) -> dict[str, dict[str, Any]]:
        """Plain values for JSON: class "1".."4" to its rule's fields."""
        rules: tuple[Any, ...] = self.classes  # dataclasses, whatever their kind
        return {str(c): asdict(rule) for c, rule in zip(CLASSES, rules, strict=True)}

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


def apply_rule(rule: AnyRule, table: Table, k: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pixels shown of class index k (0..3) and their overlap with the truth, each (n,) int32."""
    if rule.component_px and rule.threshold not in COMPONENT_LEVELS:
        levels = ", ".join(map(str, COMPONENT_LEVELS))
        raise UserError(f"rule: threshold is {rule.threshold} with component_px, allowed on a table: {levels}")
    evidence, overlap_px = table.evidence(k, rule.component_px), table.overlaps(k, rule.component_px)
    level = rule.level(evidence)
    return evidence.area_at(level), at_level(overlap_px, level)


def apply_to_table(rules: Rules, table: Table) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pixels shown and their overlap with the truth, each (n, 4) int32: what `steel.metrics` scores."""
    found = [apply_rule(rule, table, k) for k, rule in enumerate(rules.classes)]
    return np.stack([pred_px for pred_px, _ in found], 1), np.stack([overlap_px for _, overlap_px in found], 1)


def apply_to_map(
    rules: Rules, prob: NDArray[np.uint8], gate: NDArray[np.float32], tail_px: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """The masks of one image.

    Args:
        rules: one per class.
        prob: (4, 256, 1600) uint8, the ensemble's map before `largest_class`.
        gate: (4,) float32, the probability that the class is there; 1 where no model gives one.
        tail_px: (4,) float64, see `Table`.

    Returns:
        (4, 256, 1600) bool; no pixel is in two of them.
    """
    owned = largest_class(prob)
    masks = np.zeros(prob.shape, np.bool_)
    for k, rule in enumerate(rules.classes):
        values = without_small(owned[k], rule.threshold, rule.component_px) if rule.component_px else owned[k]
        level = int(rule.level(Evidence.of_map(values, gate[k], tail_px[k]))[0])
        if level < N_LEVELS:
            masks[k] = values >= level
    return masks


def _read_rule(data: object, where: str) -> AnyRule:
    """A rule from plain values: with a calibration it is one by expected score."""
    if not isinstance(data, Mapping) or "calibration" not in data:
        return _read(Rule, data, where)
    found = data["calibration"]
    if isinstance(found, Mapping) and isinstance(found.get("pixel"), list):  # JSON knows no tuple
        found = {**found, "pixel": tuple(found["pixel"])}
    calibration = _read(Calibration, found, f"{where}: calibration")
    return _read(ExpectedRule, {**data, "calibration": calibration}, where)


def _read(kind: type[K], data: object, where: str) -> K:
    """A rule or calibration from plain values; files written before a field came lack it: it is off."""
    known = {f.name: f.default is MISSING for f in fields(kind)}
    needed = {name for name, is_needed in known.items() if is_needed}
    if not isinstance(data, Mapping) or not needed <= set(data) <= set(known):
        got = sorted(data) if isinstance(data, Mapping) else type(data).__name__
        raise UserError(f"{where}: fields {got}, allowed: {list(known)}, of which the first {len(needed)} are needed")
    try:
        return kind(**data)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None
