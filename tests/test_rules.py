"""Rules: the same on the table and on the maps, and refused when out of range."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steel.decide.rules import NEVER_PX, Rule, Rules, apply_to_map, apply_to_table, fixed_rules
from steel.decide.table import Table, measure
from steel.errors import UserError

SHAPE = (6, 10)
# Gates and their limits from the same few values, so that "equal" happens; .7 and .1 are no float32.
GATES = st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0])
RULES = st.builds(Rule, st.integers(1, 255), st.one_of(st.integers(0, 61), st.just(NEVER_PX)), GATES)


def table_of(prob: np.ndarray, mask_bits: np.ndarray, gate: np.ndarray) -> Table:
    """A table of one image."""
    area, overlap, true_px = measure(prob, mask_bits)
    return Table(np.array(["a.jpg"]), np.zeros(1, np.int16), true_px[None], area[None], overlap[None], gate[None])


@settings(max_examples=200, deadline=None)
@given(
    hnp.arrays(np.uint8, (4, *SHAPE), elements=st.integers(0, 255)),
    hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 15)),
    st.tuples(GATES, GATES, GATES, GATES),
    st.tuples(RULES, RULES, RULES, RULES),
)
def test_table_and_map_agree(prob: np.ndarray, mask_bits: np.ndarray, gates: tuple, classes: tuple) -> None:
    rules, gate = Rules(classes), np.array(gates, np.float32)
    masks = apply_to_map(rules, prob, gate)
    true = np.stack([mask_bits >> k & 1 == 1 for k in range(4)])
    pred_px, overlap_px = apply_to_table(rules, table_of(prob, mask_bits, gate))
    assert masks.dtype == np.bool_
    assert pred_px.tolist() == [masks.sum((1, 2)).tolist()]
    assert overlap_px.tolist() == [(masks & true).sum((1, 2)).tolist()]
    assert masks.sum(0).max() <= 1


def test_rules_by_eye() -> None:
    prob = np.zeros((4, *SHAPE), np.uint8)
    for k in range(4):
        prob[k, k, :5] = 200  # five pixels of each class
    at = Rule(threshold=200, min_area_px=5, min_gate=0.7)
    rules = Rules((at, Rule(201, 0, 0.0), Rule(200, 6, 0.0), Rule(1, 5, 0.71)))
    masks = apply_to_map(rules, prob, np.full(4, 0.7, np.float32))
    assert masks.sum((1, 2)).tolist() == [5, 0, 0, 0]  # just enough; too faint; too small; gate too low


def test_fixed_rules() -> None:
    rules = fixed_rules()
    assert [r.min_area_px for r in rules.classes] == [600, 600, 1000, 2000]
    assert {(r.threshold, r.min_gate) for r in rules.classes} == {(128, 0.5)}  # 127 / 255 = .498 is below .5
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
    ],
)
def test_values_out_of_range_are_refused(field: str, value: object) -> None:
    data = fixed_rules().to_json()
    data["3"][field] = value  # type: ignore[assignment]
    with pytest.raises(UserError, match=rf"^rules\.json: class 3: rule: {field} is .*allowed"):
        Rules.from_json(data, "rules.json")


def test_wrong_structure_is_refused() -> None:
    good = fixed_rules().to_json()
    wrong: list[object] = [[], None, {}, {**good, "5": good["4"]}, {c: good[c] for c in "123"}]
    for bad in wrong:
        with pytest.raises(UserError, match=r"^rules: classes .*allowed"):
            Rules.from_json(bad)
    for rule in (None, {}, {**good["1"], "trigger": 3}, {"threshold": 128}):
        with pytest.raises(UserError, match=r"class 1: fields .*allowed"):
            Rules.from_json({**good, "1": rule})
