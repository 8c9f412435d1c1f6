"""Rules: the same on the table and on the maps as pixel by pixel, and refused when out of range."""

import json
from dataclasses import replace
from fractions import Fraction

import make_table
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steel.decide.ensemble import largest_class
from steel.decide.rule import NEVER_PX, Rule, own_level
from steel.decide.rules import Rules, apply_to_map, apply_to_table, fixed_rules
from steel.errors import UserError

SHAPE = (6, 10)
NO_TAIL = np.zeros(4)
# Gates and their limits from the same few values, so that "equal" happens; .7 and .1 are no float32.
GATES = st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0])
AREAS = st.one_of(st.integers(0, 61), st.just(NEVER_PX))


@st.composite
def any_rule(draw: st.DrawFn) -> Rule:
    """All fields at once; each of the newer ones is off half of the time."""
    rule = Rule(draw(st.integers(1, 255)), draw(AREAS), draw(GATES))
    if draw(st.booleans()):
        rule = replace(rule, trigger=draw(st.integers(rule.threshold, 255)), trigger_px=draw(AREAS))
    if draw(st.booleans()):
        rule = replace(rule, gate_power=draw(st.integers(0, 16)) / 2)
    return replace(rule, product=draw(st.booleans()))


RULES = any_rule()


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.uint8, (4, *SHAPE), elements=st.integers(0, 255)),
    hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 15)),
    st.tuples(GATES, GATES, GATES, GATES),
    st.tuples(RULES, RULES, RULES, RULES),
)
def test_table_and_map_agree(prob: np.ndarray, mask_bits: np.ndarray, gates: tuple, classes: tuple) -> None:
    rules, gate = Rules(classes), np.array(gates, np.float32)
    masks = apply_to_map(rules, prob, gate, NO_TAIL)
    true = np.stack([mask_bits >> k & 1 == 1 for k in range(4)])
    pred_px, overlap_px = apply_to_table(rules, make_table.of_map(prob, mask_bits, gate))
    assert masks.dtype == np.bool_
    assert pred_px.tolist() == [masks.sum((1, 2)).tolist()]
    assert overlap_px.tolist() == [(masks & true).sum((1, 2)).tolist()]
    assert masks.sum(0).max() <= 1


def by_pixel(rule: Rule, values: list[int], gate: np.float32) -> list[bool]:
    """The rule as its docstring says it, in fractions: without rounding of any kind."""
    exact = Fraction(float(gate))
    reached = [Fraction(v) * exact if rule.product else Fraction(v) for v in values]
    mask = [v >= rule.threshold for v in reached]
    # Both sides squared, since a power may be a half.
    large = sum(mask) ** 2 * exact ** int(2 * rule.gate_power) >= rule.min_area_px**2
    triggered = sum(v >= rule.trigger for v in reached) >= rule.trigger_px
    shown = large and triggered and gate >= np.float32(rule.min_gate)
    return [bool(m and shown) for m in mask]


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.uint8, (4, *SHAPE), elements=st.integers(0, 255)),
    st.tuples(GATES, GATES, GATES, GATES),
    st.tuples(RULES, RULES, RULES, RULES),
)
def test_map_equals_counting_pixels_in_fractions(prob: np.ndarray, gates: tuple, classes: tuple) -> None:
    gate = np.array(gates, np.float32)
    masks = apply_to_map(Rules(classes), prob, gate, NO_TAIL)
    owned = largest_class(prob)
    for k, rule in enumerate(classes):
        assert masks[k].ravel().tolist() == by_pixel(rule, owned[k].ravel().tolist(), gate[k])


@given(st.integers(1, 255), st.floats(0, 1, width=32))
def test_own_level_equals_trying_all_levels(threshold: int, gate: float) -> None:
    reached = [v for v in range(256) if Fraction(v) * Fraction(gate) >= threshold]
    assert own_level(threshold, gate) == (reached[0] if reached else 256)


def test_own_level_at_whole_quotients() -> None:
    assert own_level([60, 60, 60, 60, 255], np.array([0.5, 0.25, 0.2, 0, 1], np.float32)).tolist() == [
        120,
        240,
        256,  # float32's .2 is .2000000030: 300 by far
        256,
        255,
    ]


def test_rules_by_eye() -> None:
    prob = np.zeros((4, *SHAPE), np.uint8)
    for k in range(4):
        prob[k, k, :5] = 200  # five pixels of each class
    at = Rule(threshold=200, min_area_px=5, min_gate=0.7)
    rules = Rules((at, Rule(201, 0, 0.0), Rule(200, 6, 0.0), Rule(1, 5, 0.71)))
    masks = apply_to_map(rules, prob, np.full(4, 0.7, np.float32), NO_TAIL)
    assert masks.sum((1, 2)).tolist() == [5, 0, 0, 0]  # just enough; too faint; too small; gate too low


@pytest.mark.parametrize(
    ("rule", "shown_px"),
    [
        (Rule(100, 0, 0.0, trigger=200, trigger_px=4), 10),  # the 6 px of 100 are shown since 4 reach 200
        (Rule(100, 0, 0.0, trigger=200, trigger_px=5), 0),
        (Rule(100, 0, 0.0, trigger=201, trigger_px=1), 0),
        (Rule(100, 0, 0.0, trigger=255, trigger_px=0), 10),  # off
        (Rule(100, 2, 0.0, gate_power=1.0), 10),  # 2 / (1/4) = 8 px are needed
        (Rule(100, 3, 0.0, gate_power=1.0), 0),  # 12 px
        (Rule(25, 0, 0.0, product=True), 10),  # 100 / 4 = 25
        (Rule(26, 0, 0.0, product=True), 4),  # 104 is needed
        (Rule(51, 0, 0.0, product=True), 0),  # 204 is needed
        (Rule(64, 0, 0.0, product=True), 0),  # 256 is needed: no pixel can
        (Rule(25, 0, 0.0, trigger=50, trigger_px=4, product=True), 10),
        (Rule(25, 0, 0.0, trigger=51, trigger_px=4, product=True), 0),
    ],
)
def test_the_newer_fields_by_eye(rule: Rule, shown_px: int) -> None:
    """Ten pixels, of which four have 200 and six 100; a gate of 1/4."""
    prob = np.zeros((4, *SHAPE), np.uint8)
    prob[2, 0], prob[2, 0, :4] = 100, 200
    gate = np.full(4, 0.25, np.float32)
    masks = apply_to_map(Rules((rule,) * 4), prob, gate, NO_TAIL)
    assert masks.sum((1, 2)).tolist() == [0, 0, shown_px, 0]


@pytest.mark.parametrize(("power", "largest_min_px"), [(0, 10), (0.5, 5), (1, 2), (1.5, 1), (2, 0), (8, 0)])
def test_the_soft_gate_by_eye(power: float, largest_min_px: int) -> None:
    """Ten pixels at a gate of 1/4 count as 10 / 4 ** power: 10, 5, 2.5, 1.25, .6, .0002."""
    rules = [Rule(100, px, 0.0, gate_power=power) for px in (largest_min_px, largest_min_px + 1)]
    area_px = np.array([10])
    assert [bool(rule.shows(area_px, area_px, np.float32(0.25))[0]) for rule in rules] == [True, False]


def test_fixed_rules() -> None:
    rules = fixed_rules()
    assert rules.classes == tuple(Rule(128, area, 0.5) for area in (600, 600, 1000, 2000))  # 127 / 255 = .498 is below
    assert fixed_rules(threshold=0.6).classes[0].threshold == 153  # 153 / 255 = .6
    assert fixed_rules(threshold=1.0).classes[0].threshold == 255
    for threshold in (0, -1, 1.1, float("nan")):
        with pytest.raises(UserError, match="threshold"):
            fixed_rules(threshold=threshold)
    with pytest.raises(UserError, match="3 classes"):
        fixed_rules(min_area_px=(1, 2, 3))


@given(st.tuples(RULES, RULES, RULES, RULES))
def test_json_round_trip(classes: tuple) -> None:
    rules = Rules(classes)
    assert Rules.from_json(json.loads(json.dumps(rules.to_json()))) == rules


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *[("threshold", v) for v in (0, 256, 128.0, True, "128", None)],
        *[("min_area_px", v) for v in (-1, NEVER_PX + 1, 0.5)],
        *[("min_gate", v) for v in (-0.1, 1.1, float("nan"), "0.5", False)],
        *[("trigger", v) for v in (127, 256, 200.0, True, None)],  # the threshold is 128
        *[("trigger_px", v) for v in (-1, NEVER_PX + 1, 0.5, None)],
        *[("gate_power", v) for v in (-0.5, 0.3, 8.5, float("nan"), float("inf"), "1", True, None)],
        *[("product", v) for v in (0, 1, "true", None)],
    ],
)
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    data = fixed_rules().to_json()
    data["3"][field] = value
    with pytest.raises(UserError, match=rf"^rules\.json: class 3: rule: {field} is .*allowed"):
        Rules.from_json(data, "rules.json")


def test_wrong_structure_is_refused() -> None:
    good = fixed_rules().to_json()
    wrong: list[object] = [[], None, {}, {**good, "5": good["4"]}, {c: good[c] for c in "123"}]
    for bad in wrong:
        with pytest.raises(UserError, match=r"^rules: classes .*allowed"):
            Rules.from_json(bad)
    for rule in (None, {}, {**good["1"], "colour": 3}, {"threshold": 128}, {"threshold": 128, "trigger": 200}):
        with pytest.raises(UserError, match=r"class 1: fields .*allowed"):
            Rules.from_json({**good, "1": rule})


def test_a_file_from_before_the_newer_fields_is_read() -> None:
    old = {c: {"threshold": 100, "min_area_px": 7, "min_gate": 0.5} for c in "1234"}
    rules = Rules.from_json(old)
    assert rules == Rules((Rule(100, 7, 0.5),) * 4)
    assert rules.classes[0] == Rule(100, 7, 0.5, trigger_px=0, gate_power=0.0, product=False, component_px=0)
