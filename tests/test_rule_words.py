"""What rules ask in words, and that the conditions of one strip decide as the rule does."""

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from steel.decide.expected import Calibration, ExpectedRule
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules, apply_to_map
from steel.report.rule_words import Condition, conditions, of_rule

NEVER = Rule(255, NEVER_PX, 0.0)
# A pixel of value 102 or more is one of the mask; odds of a defect: (1 + expected area) / 31 at a gate of .5.
CALIBRATION = Calibration((0,) * 102 + (65_535,) * 154, 1.0, -math.log(31), 1.0, 1.0)


def strip_of(*blocks: tuple[int, int]) -> NDArray[np.uint8]:
    """A map (12, 45) of squares, apart from each other: side in px, value."""
    values = np.zeros((12, 45), np.uint8)
    for i, (side, value) in enumerate(blocks):
        values[1 : 1 + side, 15 * i + 1 : 15 * i + 1 + side] = value
    return values


VALUES = strip_of((10, 204), (5, 153), (2, 102))  # 100, 25 and 4 px


@pytest.mark.parametrize(
    ("rule", "gate", "expected"),
    [
        (Rule(102, 130, 0.0), 1.0, {"area 129 < 130 px at prob 0.400": False}),
        (Rule(153, 125, 0.5), 0.5, {"gate 0.500 >= 0.500": True, "area 125 >= 125 px at prob 0.600": True}),
        (Rule(204, 0, 0.9), 0.89, {"gate 0.890 < 0.900": False, "area 100 >= 1 px at prob 0.800": True}),
        (Rule(205, 0, 0.0), 1.0, {"area 0 < 1 px at prob 0.804": False}),
        (Rule(102, 0, 0.7001), 0.7, {"gate 0.7000 < 0.7001": False, "area 129 >= 1 px at prob 0.400": True}),
        (NEVER, 1.0, {"its rule shows nothing on any strip": False}),
        (Rule(102, 0, 0.0, trigger_px=NEVER_PX), 1.0, {"its rule shows nothing on any strip": False}),
        (
            Rule(102, 0, 0.0, trigger=204, trigger_px=101),
            1.0,
            {"trigger 100 < 101 px at prob 0.800": False},
        ),
        (
            Rule(102, 9, 0.0, trigger=153, trigger_px=125),
            1.0,
            {"area 129 >= 9 px at prob 0.400": True, "trigger 125 >= 125 px at prob 0.600": True},
        ),
        (Rule(102, 33, 0.0, gate_power=2.0), 0.5, {"area 129 px x gate ** 2 = 32 < 33 px at prob 0.400": False}),
        (Rule(102, 32, 0.0, gate_power=2.0), 0.5, {"area 129 px x gate ** 2 = 32.2 >= 32.0 px at prob 0.400": True}),
        (Rule(102, 0, 0.0, gate_power=2.0), 0.0, {"area 129 >= 1 px at prob 0.400": True}),
        (Rule(102, 101, 0.0, product=True), 0.5, {"area 100 < 101 px at prob x gate 0.400": False}),
        (Rule(102, 126, 0.0, component_px=5), 1.0, {"area 125 < 126 px in components of 5 px at prob 0.400": False}),
        # Thresholds 1 to 102 show the same: the lowest of them.
        (ExpectedRule(CALIBRATION, 0, False, 130), 1.0, {"area 129 < 130 px at prob 0.004 (its own threshold)": False}),
        # Odds of a defect (1 + 129) / 31; with 100 of the 129 px shown, the Dice is 200 / 229.
        (
            ExpectedRule(CALIBRATION, 204, True),
            0.5,
            {"P(defect) 0.807 x expected Dice 0.873 = 0.705 > P(no defect) 0.193 at prob 0.800": True},
        ),
        (
            ExpectedRule(CALIBRATION, 204, True),
            0.1,  # odds 130 / 31 / 9
            {"P(defect) 0.318 x expected Dice 0.873 = 0.278 <= P(no defect) 0.682 at prob 0.800": False},
        ),
    ],
)
def test_conditions_in_words(rule: Rule | ExpectedRule, gate: float, expected: dict[str, bool]) -> None:
    found = conditions(rule, VALUES, np.float32(gate), np.float64(0))
    assert found == tuple(Condition(words, met) for words, met in expected.items())


def test_a_class_is_shown_if_all_conditions_are_met() -> None:
    areas, gates = (0, 100, 126), (0.0, 0.5)
    rules: list[Rule | ExpectedRule] = [NEVER, *(ExpectedRule(CALIBRATION, t, True) for t in (0, 90, 204, 240))]
    for area, gate in itertools.product(areas, gates):
        rules += [Rule(t, area, gate) for t in (102, 204, 240)]
        rules += [Rule(102, 0, gate, trigger=t, trigger_px=area) for t in (153, 204, 240)]
        rules += [Rule(102, area, gate, gate_power=power) for power in (0.5, 2.0)]
        rules += [Rule(102, area, gate, product=True), Rule(102, area, gate, component_px=20)]
        rules += [ExpectedRule(CALIBRATION, t, False, area, gate) for t in (0, 102)]
    prob = np.stack([VALUES, *np.zeros((3, *VALUES.shape), np.uint8)])
    outcomes = []
    for rule, gate in itertools.product(rules, (0.0, 0.5, 0.7)):
        found = conditions(rule, VALUES, np.float32(gate), np.float64(50))
        strip_gate, tail_px = np.full(4, gate, np.float32), np.full(4, 50.0)
        shown = apply_to_map(Rules((rule, NEVER, NEVER, NEVER)), prob, strip_gate, tail_px)[0].any()
        assert all(one.met for one in found) == shown, (rule, gate, found)
        outcomes.append(shown)
    assert 0.2 < np.mean(outcomes) < 0.8


def test_a_rule_in_words() -> None:
    assert of_rule(Rule(128, 600, 0.25)) == ["0.502", "600", "0.250", ""]
    assert of_rule(NEVER)[1] == "never"
    assert of_rule(Rule(51, 0, 0.0, trigger=204, trigger_px=9))[3] == "hysteresis: 9 px reach 0.800"
    assert of_rule(ExpectedRule(CALIBRATION, 0, True)) == [
        "each strip's own",
        "0",
        "0.000",
        "rank_expected: the threshold of best expected Dice, shown where P(defect) x expected Dice > P(no defect)",
    ]
