"""Logarithm and power against Python's."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel.decide.exact import exp, log


@given(st.floats(1e-300, 1e300))
def test_log_equals_pythons(x: float) -> None:
    assert log(np.array([x]))[0] == pytest.approx(math.log(x), rel=2e-15, abs=2e-16)


@given(st.floats(-700, 700))
def test_exp_equals_pythons(x: float) -> None:
    assert exp(np.array([x]))[0] == pytest.approx(math.exp(x), rel=2e-15 + 3e-16 * abs(x))


def test_beyond_all_bounds_nothing_breaks() -> None:
    assert exp(np.array([-1e308, 1e308])) == pytest.approx([math.exp(-700), math.exp(700)])


def test_log_by_eye() -> None:
    assert log(np.array([1.0, 2.0, 0.5])) == pytest.approx([0, math.log(2), -math.log(2)], abs=1e-15)
