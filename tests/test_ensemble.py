"""The mean over models and the largest-class step, against sums in Python and by eye."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from steel.decide.ensemble import largest_class, mean_map, winner
from steel.errors import UserError

SHAPE = (4, 3, 5)
LEVELS = st.integers(0, 255)
maps_of_one_shape = st.lists(hnp.arrays(np.uint8, SHAPE, elements=LEVELS), min_size=1, max_size=5)


def flat(*values: int) -> np.ndarray:
    """A map that holds these values, one per class, everywhere."""
    return np.broadcast_to(np.array(values, np.uint8)[:, None, None], SHAPE).copy()


def columns(maps: list[np.ndarray]) -> list[list[int]]:
    """The values of each pixel over the maps."""
    return [[int(v) for v in column] for column in np.stack([m.ravel() for m in maps], 1)]


def half_up(mean: Fraction) -> int:
    return int(mean + Fraction(1, 2))  # the part after the point is cut off


@given(maps_of_one_shape)
def test_equal_weights_are_the_exact_mean_rounded_half_up(maps: list[np.ndarray]) -> None:
    expected = [half_up(Fraction(sum(column), len(maps))) for column in columns(maps)]
    assert mean_map(maps).ravel().tolist() == expected
    assert mean_map(maps, [0.3] * len(maps)).tobytes() == mean_map(maps).tobytes()


@given(maps_of_one_shape, st.data())
def test_whole_weights_are_the_exact_mean_rounded_half_up(maps: list[np.ndarray], data: st.DataObject) -> None:
    weights = data.draw(st.lists(st.integers(0, 9), min_size=len(maps), max_size=len(maps)).filter(any))
    sums = [sum(w * v for w, v in zip(weights, column, strict=True)) for column in columns(maps)]
    assert mean_map(maps, weights).ravel().tolist() == [half_up(Fraction(s, sum(weights))) for s in sums]


def test_means_by_eye() -> None:
    a, b = flat(0, 1, 100, 255), flat(1, 2, 200, 255)
    assert mean_map([a, b])[:, 0, 0].tolist() == [1, 2, 150, 255]  # .5 and 1.5 go up
    assert mean_map([a, b], [3, 1])[:, 0, 0].tolist() == [0, 1, 125, 255]
    assert mean_map([a, b], [0, 0.1]).tobytes() == b.tobytes()


def test_many_models_do_not_overflow() -> None:
    assert (mean_map([flat(255, 254, 1, 0)] * 300) == flat(255, 254, 1, 0)).all()


def test_mean_leaves_its_input_alone() -> None:
    one = flat(1, 2, 3, 4)
    mean_map([one])[:] = 9
    mean_map([one, one], [1, 2])[:] = 9
    assert (one == flat(1, 2, 3, 4)).all()


@pytest.mark.parametrize("weights", [[1], [1, -1], [0, 0], [1, float("nan")], [1, float("inf")]])
def test_bad_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(UserError, match="weights"):
        mean_map([flat(1, 2, 3, 4)] * 2, weights)


def test_bad_maps_are_refused() -> None:
    bad: list[list[np.ndarray]] = [[], [np.zeros(SHAPE)], [np.zeros(SHAPE, np.uint8), np.zeros((4, 3, 4), np.uint8)]]
    for maps in bad:
        with pytest.raises(UserError, match="maps of one shape"):
            mean_map(maps)


@given(hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 3)))  # few levels: many ties
def test_largest_class_equals_argmax(prob: np.ndarray) -> None:
    first = prob.argmax(0)  # the first of equals
    expected = np.where(np.arange(4)[:, None, None] == first, prob, 0)
    assert (largest_class(prob) == expected).all()
    value, index = winner(prob)
    assert (value == prob.max(0)).all() and (index == first).all()


def test_ties_go_to_the_lower_class() -> None:
    assert largest_class(flat(7, 9, 9, 8))[:, 0, 0].tolist() == [0, 9, 0, 0]
    assert largest_class(flat(5, 5, 5, 5))[:, 0, 0].tolist() == [5, 0, 0, 0]
