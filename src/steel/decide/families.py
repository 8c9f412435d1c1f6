"""Families of rules: what each of their points gains on some images, and the rule at a point."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel.decide.components import COMPONENT_LEVELS, COMPONENTS_PX
from steel.decide.evidence import N_LEVELS, AnyRule
from steel.decide.expected import Calibration, Expectation, ExpectedRule
from steel.decide.grid import Column, Grid, sums_of
from steel.decide.rule import Rule, gate_weight, own_level

# Families with one parameter more are searched on coarser axes, as wide as the neighbourhood of the plain rule.
LEVELS = np.arange(4, N_LEVELS, 4)  # 63 thresholds
TRIGGER_STEPS = range(1, 8)  # triggers lie so many eighths of the way from the threshold to 255
POWERS = (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)


def _plain(column: Column, grid: Grid) -> NDArray[np.float64]:
    """(255, n_area, n_gate): all thresholds from 1 on; 0 is no rule, and must not be a neighbour of one."""
    return sums_of(column.gain[1:N_LEVELS], column.area_px[1:N_LEVELS], column.gate, grid)


def _plain_rule(grid: Grid, point: tuple[int, ...]) -> Rule:
    t, a, g = point
    return Rule(t + 1, grid.areas_px[a], grid.gates[g])


def _hysteresis(column: Column, grid: Grid) -> NDArray[np.float64]:
    """(7, 63, n_area, n_gate): step of the trigger, threshold, least area at the trigger, gate."""
    gain = column.gain[LEVELS]
    parts = [sums_of(gain, column.area_px[_trigger(s)], column.gate, grid.coarse) for s in TRIGGER_STEPS]
    return np.stack(parts)


def _hysteresis_rule(grid: Grid, point: tuple[int, ...]) -> Rule:
    s, t, a, g = point
    trigger = _trigger(TRIGGER_STEPS[s])[t]
    return Rule(int(LEVELS[t]), 0, grid.coarse.gates[g], trigger=int(trigger), trigger_px=grid.areas_px[a])


def _trigger(step: int) -> NDArray[np.int64]:
    """The trigger of each of LEVELS, (63,)."""
    return LEVELS + (255 - LEVELS) * step // 8


def _soft_gate(column: Column, grid: Grid) -> NDArray[np.float64]:
    """(6, 63, n_area, n_gate): power, threshold, minimum area at a gate of 1, gate."""
    gain, area_px = column.gain[LEVELS], column.area_px[LEVELS]
    # A minimum is whole: what reaches it also does when cut off to a whole number.
    weighted = ((area_px * gate_weight(column.gate, power)).astype(np.int32) for power in POWERS)
    return np.stack([sums_of(gain, area, column.gate, grid.coarse) for area in weighted])


def _soft_gate_rule(grid: Grid, point: tuple[int, ...]) -> Rule:
    p, t, a, g = point
    return Rule(int(LEVELS[t]), grid.areas_px[a], grid.coarse.gates[g], gate_power=POWERS[p])


def _product(column: Column, grid: Grid) -> NDArray[np.float64]:
    """(63, n_area, n_gate): threshold of the product, minimum area, gate."""
    level = own_level(LEVELS[:, None], column.gate)  # (63, n)
    gain, area_px = np.take_along_axis(column.gain, level, 0), np.take_along_axis(column.area_px, level, 0)
    return sums_of(gain, area_px, column.gate, grid.coarse)


def _product_rule(grid: Grid, point: tuple[int, ...]) -> Rule:
    t, a, g = point
    return Rule(int(LEVELS[t]), grid.areas_px[a], grid.coarse.gates[g], product=True)


def _component(column: Column, grid: Grid) -> NDArray[np.float64]:
    """(3, 12, n_area, n_gate): least size of a component, threshold, minimum area of what is left, gate."""
    pairs = zip(column.large_gain, column.large_area_px, strict=True)
    return np.stack([sums_of(gain, area_px, column.gate, grid.coarse) for gain, area_px in pairs])


def _component_rule(grid: Grid, point: tuple[int, ...]) -> Rule:
    s, t, a, g = point
    return Rule(COMPONENT_LEVELS[t], grid.areas_px[a], grid.coarse.gates[g], component_px=COMPONENTS_PX[s])


def _rank_dice(column: Column, expected: Expectation, grid: Grid) -> NDArray[np.float64]:
    """(1, n_area, n_gate): minimum area at the image's own threshold, gate."""
    own = expected.best()[None]  # (1, n)
    gain, area_px = np.take_along_axis(column.gain, own, 0), np.take_along_axis(column.area_px, own, 0)
    return sums_of(gain, area_px, column.gate, grid)


def _rank_dice_rule(calibration: Calibration, grid: Grid, point: tuple[int, ...]) -> ExpectedRule:
    _, a, g = point
    return ExpectedRule(calibration, 0, False, grid.areas_px[a], grid.gates[g])


def _expected(column: Column, expected: Expectation, _: Grid) -> NDArray[np.float64]:
    """(63,): threshold."""
    shown = expected.dice.T[LEVELS - 1] > expected.least
    return (column.gain[LEVELS] * shown).sum(1)


def _expected_rule(calibration: Calibration, _: Grid, point: tuple[int, ...]) -> ExpectedRule:
    return ExpectedRule(calibration, int(LEVELS[point[0]]), by_score=True)


def _rank_expected(column: Column, expected: Expectation, _: Grid) -> NDArray[np.float64]:
    """(1,): nothing is searched."""
    own = expected.best()
    return (np.take_along_axis(column.gain, own[None], 0) * expected.worth(own)).sum(1)


def _rank_expected_rule(calibration: Calibration, _grid: Grid, _point: tuple[int, ...]) -> ExpectedRule:
    return ExpectedRule(calibration, 0, by_score=True)


@dataclass(frozen=True)
class Family:
    """A kind of rule.

    Attributes:
        sums: summed gains (see `sums_of`) of a column's images at all its points, of any shape.
        rule: the rule at a point, an index into those sums.
        needs_gate: without a classifier it is no different from the plain rule.
        asks: what is particular to it, in words.
    """

    sums: Callable[[Column, Grid], NDArray[np.float64]]
    rule: Callable[[Grid, tuple[int, ...]], Rule]
    needs_gate: bool
    asks: str


@dataclass(frozen=True)
class CalibratedFamily:
    """A kind of rule by a calibration, which the folds that choose must learn: sums of two of them do not add up.

    Attributes:
        sums: summed gains of a column's images at all its points, by what the calibration expects of them.
        rule: the rule at a point.
        asks: what is particular to it, in words.
    """

    sums: Callable[[Column, Expectation, Grid], NDArray[np.float64]]
    rule: Callable[[Calibration, Grid, tuple[int, ...]], ExpectedRule]
    asks: str


PLAIN = "plain"
FAMILIES: dict[str, Family | CalibratedFamily] = {
    PLAIN: Family(_plain, _plain_rule, False, "threshold, minimum area and gate"),
    "hysteresis": Family(_hysteresis, _hysteresis_rule, False, "enough pixels reach a higher threshold"),
    "soft_gate": Family(_soft_gate, _soft_gate_rule, True, "the minimum area grows as the gate closes"),
    "product": Family(_product, _product_rule, True, "values are multiplied by the gate"),
    "component": Family(_component, _component_rule, False, "small components are removed"),
    "rank_dice": CalibratedFamily(_rank_dice, _rank_dice_rule, "each strip has its own best threshold"),
    "expected": CalibratedFamily(_expected, _expected_rule, "shown if expected to beat showing nothing"),
    "rank_expected": CalibratedFamily(_rank_expected, _rank_expected_rule, "both, rank dice and expected"),
}


def family_of(rule: AnyRule) -> str:
    """Name of the family that a rule belongs to; the first that fits."""
    if isinstance(rule, ExpectedRule):
        return "expected" if rule.threshold else "rank_expected" if rule.by_score else "rank_dice"
    assert isinstance(rule, Rule)
    fits = {
        "hysteresis": rule.trigger_px > 0,
        "soft_gate": rule.gate_power > 0,
        "product": rule.product,
        "component": rule.component_px > 0,
    }
    return next((name for name, does in fits.items() if does), PLAIN)
