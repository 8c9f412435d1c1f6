"""Strips that need no maps: never one on which the rules would show something, and no other rule keeps a strip back."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from steel.competition import HEIGHT, N_PIXELS, WIDTH
from steel.decide.closed import cannot_show, closed
from steel.decide.evidence import AnyRule
from steel.decide.expected import Calibration, ExpectedRule
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.rules import Rules, apply_to_map

HALF = Calibration(tuple(v * 257 for v in range(256)), tail=0.5, bias=-2.0, gate=1.0, area=0.3)
GATES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
AREAS = (0, 600, N_PIXELS // 2, N_PIXELS, NEVER_PX)

gates = st.sampled_from(GATES)
areas = st.sampled_from(AREAS)
levels = st.sampled_from((1, 128, 255))
rules: st.SearchStrategy[AnyRule] = st.one_of(
    st.builds(Rule, levels, areas, gates),
    st.builds(Rule, levels, areas, gates, trigger=st.just(255), trigger_px=areas),
    st.builds(Rule, levels, areas, gates, gate_power=st.sampled_from((0.5, 1.0, 4.0))),
    st.builds(Rule, levels, areas, gates, product=st.just(True)),
    st.builds(Rule, levels, areas, gates, component_px=st.sampled_from((100, N_PIXELS))),
    st.builds(ExpectedRule, st.just(HALF), st.sampled_from((0, 128)), st.just(False), areas, gates),
    st.builds(ExpectedRule, st.just(HALF), st.sampled_from((0, 128)), st.just(True)),
)


def gate(*values: float) -> NDArray[np.float32]:
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("rule", "shut", "open_"),
    [
        (Rule(128, 600, 0.5), 0.4999, 0.5),
        (Rule(128, 0, 0.7), 0.6999, 0.7),  # .7 in float32 is below that in float64
        (Rule(128, 600, 0.0, trigger=200, trigger_px=NEVER_PX), 1.0, None),
        (Rule(128, NEVER_PX, 0.0), 1.0, None),
        (Rule(128, N_PIXELS // 2, 0.0, gate_power=1.0), 0.4999, 0.5),  # half of the pixels, all of them weighed by .5
        (Rule(128, N_PIXELS // 4, 0.0, gate_power=2.0), 0.4999, 0.5),
        (Rule(128, 0, 0.0, product=True), 0.5, 0.51),  # 128 / .5 = 256, which no pixel has
        (ExpectedRule(HALF, 128, False, 600, 0.5), 0.4999, 0.5),
        (ExpectedRule(HALF, 0, False, NEVER_PX, 0.0), 1.0, None),
        (ExpectedRule(HALF, 0, True), None, 0.0),  # no gate is so low that no map could outweigh it
    ],
)
def test_by_hand(rule: AnyRule, shut: float | None, open_: float | None) -> None:
    assert shut is None or cannot_show(rule, gate(shut)).tolist() == [True]
    assert open_ is None or cannot_show(rule, gate(open_)).tolist() == [False]


def test_a_strip_is_closed_if_all_its_classes_are() -> None:
    four = Rules(tuple(Rule(128, 0, min_gate) for min_gate in (0.2, 0.4, 0.6, 0.8)))
    found = closed(four, np.array([[0.1, 0.1, 0.1, 0.1], [0.1, 0.1, 0.7, 0.1], [0.19, 0.39, 0.59, 0.79]], np.float32))
    assert found.tolist() == [True, False, True]


def maps_of(seed: int) -> NDArray[np.uint8]:
    """Maps (4, 256, 1600): one class 255 everywhere, a block, or noise."""
    rng = np.random.default_rng(seed)
    prob = np.zeros((4, HEIGHT, WIDTH), np.uint8)
    k = rng.integers(4)
    if seed % 3 == 0:
        prob[k] = 255
    elif seed % 3 == 1:
        prob[k, 10:60, 100 : 100 + rng.integers(1, 1500)] = rng.integers(1, 256)
    else:
        prob[:] = rng.integers(0, 256, prob.shape, np.uint8)
    return prob


@settings(max_examples=60, deadline=None)
@given(st.tuples(rules, rules, rules, rules), st.tuples(gates, gates, gates, gates), st.integers(0, 1000))
def test_what_is_closed_shows_nothing(four: tuple[AnyRule, ...], probs: tuple[float, ...], seed: int) -> None:
    tail_px = np.array([0.0, 100.0, 800.0, 1e4])
    masks = apply_to_map(Rules(four), maps_of(seed), gate(*probs), tail_px)
    for k, rule in enumerate(four):
        assert not (masks[k].any() and cannot_show(rule, gate(probs[k]))[0])


@settings(max_examples=60, deadline=None)
@given(rules.filter(lambda rule: not getattr(rule, "by_score", False)), gates)
def test_what_is_not_closed_some_map_shows(rule: AnyRule, prob: float) -> None:
    full = np.zeros((4, HEIGHT, WIDTH), np.uint8)
    full[2] = 255
    shown = apply_to_map(Rules((rule,) * 4), full, gate(prob, prob, prob, prob), np.zeros(4))[2].any()
    assert shown == (not cannot_show(rule, gate(prob))[0])
