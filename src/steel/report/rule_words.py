"""What a rule asks, in words; and whether a strip has it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel.decide.components import without_small
from steel.decide.evidence import N_LEVELS, AnyRule, Evidence
from steel.decide.expected import Expectation, ExpectedRule
from steel.decide.families import PLAIN, family_of
from steel.decide.rule import NEVER_PX, Rule, gate_weight


def of_rule(rule: AnyRule) -> list[str]:
    """What a rule asks: threshold, minimum area, gate, and what more."""
    assert isinstance(rule, Rule | ExpectedRule)
    threshold = as_prob(rule.threshold) if rule.threshold else "each strip's own"
    area = "never" if rule.min_area_px >= NEVER_PX else str(rule.min_area_px)
    more = "" if family_of(rule) == PLAIN else f"{family_of(rule)}: {_beyond_plain(rule)}"
    return [threshold, area, f"{rule.min_gate:.3f}", more]


def as_prob(level: int) -> str:
    """A level 0..255 as the probability that it stands for."""
    return f"{level / (N_LEVELS - 1):.3f}"


@dataclass(frozen=True)
class Condition:
    """One thing that a rule asks of a strip, both numbers in words, and whether the strip has it."""

    words: str
    met: bool


def conditions(
    rule: AnyRule, values: NDArray[np.uint8], gate: np.float32, tail_px: np.float64
) -> tuple[Condition, ...]:
    """What a rule asks of one strip: a mask is shown if all are met.

    Args:
        rule: of one class.
        values: (H, W) uint8, the map of the class after `largest_class`.
        gate: probability that the class is there.
        tail_px: see `Table`.
    """
    assert isinstance(rule, Rule | ExpectedRule)
    if max(rule.min_area_px, rule.trigger_px if isinstance(rule, Rule) else 0) >= NEVER_PX:
        return (Condition("its rule shows nothing on any strip", False),)
    if rule.component_px:
        values = without_small(values, rule.threshold, rule.component_px)
    evidence = Evidence.of_map(values, gate, tail_px)
    found = _of_expected(rule, evidence) if isinstance(rule, ExpectedRule) else _of_searched(rule, evidence)
    open_gate = _least("gate", float(gate), float(np.float32(rule.min_gate)), 3)
    return (open_gate, *found) if rule.min_gate else found


def _beyond_plain(rule: Rule | ExpectedRule) -> str:
    """What a rule asks beside threshold, minimum area and gate."""
    if isinstance(rule, ExpectedRule):
        parts = {
            "the threshold of best expected Dice": not rule.threshold,
            "shown where P(defect) x expected Dice > P(no defect)": rule.by_score,
        }
    else:
        parts = {
            f"{rule.trigger_px} px reach {as_prob(rule.trigger)}": rule.trigger_px > 0,
            f"min area / gate ** {rule.gate_power:g}": rule.gate_power > 0,
            "values times gate": rule.product,
            f"components of {rule.component_px} px": rule.component_px > 0,
        }
    return ", ".join(text for text, holds in parts.items() if holds)


def _of_searched(rule: Rule, evidence: Evidence) -> tuple[Condition, ...]:
    """The conditions beside the gate: area, and pixels at the trigger."""
    area_px, trigger_px = (int(evidence.area_at(level)[0]) for level in rule.levels(evidence.gate))
    value = "prob x gate" if rule.product else "prob"
    within = f" in components of {rule.component_px} px" if rule.component_px else ""
    at, trigger = (f" px{within} at {value} {as_prob(level)}" for level in (rule.threshold, rule.trigger))
    if rule.gate_power and rule.min_area_px:
        weighted = area_px * float(gate_weight(evidence.gate, rule.gate_power)[0])
        area = _least(f"area {area_px} px x gate ** {rule.gate_power:g} =", weighted, rule.min_area_px, 0, at)
    else:
        area = _least("area", area_px, max(rule.min_area_px, 1), 0, at)
    if not rule.trigger_px:
        return (area,)
    triggered = _least("trigger", trigger_px, rule.trigger_px, 0, trigger)
    return (area, triggered) if rule.min_area_px else (triggered,)  # what reaches the trigger is part of the area


def _of_expected(rule: ExpectedRule, evidence: Evidence) -> tuple[Condition, ...]:
    """The condition beside the gate: expected score or area."""
    expected = Expectation.of(rule.calibration, evidence)
    level = np.full(1, rule.threshold) if rule.threshold else expected.best()
    at = f" at prob {as_prob(int(level[0]))}{'' if rule.threshold else ' (its own threshold)'}"
    if not rule.by_score:
        return (_least("area", int(evidence.area_at(level)[0]), max(rule.min_area_px, 1), 0, f" px{at}"),)
    dice, defect = float(expected.dice[0, level[0] - 1]), 1 / (1 + float(expected.least[0]))
    met = bool(expected.worth(level)[0])
    score, none = _told_apart(defect * dice, 1 - defect, 3)
    sign = ">" if met else "<="
    return (
        Condition(f"P(defect) {defect:.3f} x expected Dice {dice:.3f} = {score} {sign} P(no defect) {none}{at}", met),
    )


def _least(what: str, has: float, needs: float, digits: int, where: str = "") -> Condition:
    """That a strip has at least what is needed."""
    own, least = _told_apart(has, needs, digits)
    return Condition(f"{what} {own} {'>=' if has >= needs else '<'} {least}{where}", has >= needs)


def _told_apart(a: float, b: float, digits: int) -> tuple[str, str]:
    """Two numbers with so many decimals, or more if they would look alike."""
    for n in range(digits, 18):
        texts = f"{a:.{n}f}", f"{b:.{n}f}"
        if a == b or texts[0] != texts[1]:
            break
    return texts
