"""Class weights against values worked out by hand."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steel.data.balance import WEIGHTS, positive_weights
from steel.errors import UserError

COUNTS = st.lists(st.integers(0, 500), min_size=4, max_size=4)


def test_inverse_by_hand() -> None:
    assert positive_weights("inverse", 100, [10, 50, 80, 0]) == pytest.approx([9, 1, 0.25, 1])


def test_inverse_is_kept_within_bounds() -> None:
    assert positive_weights("inverse", 100, [1, 100, 4, 5]) == pytest.approx([20, 0.05, 20, 19])


def test_effective_by_hand() -> None:
    """Effective numbers of 1, 2, 3 images: 1, 1 + .999, 1 + .999 + .998001."""
    rarity = [1, 1 / 1.999, 1 / 2.997001]
    mean = sum(rarity) / 3
    expected = [*(value / mean for value in rarity), 1]
    assert positive_weights("effective", 10, [1, 2, 3, 0]) == pytest.approx(expected)


def test_effective_numbers_of_common_classes_are_equal() -> None:
    assert positive_weights("effective", 10**6, [30_000, 40_000, 50_000, 60_000]) == pytest.approx([1, 1, 1, 1])


@pytest.mark.parametrize("name", WEIGHTS)
@given(counts=COUNTS)
def test_rarer_classes_weigh_more(name: str, counts: list[int]) -> None:
    weights = positive_weights(name, 500, counts)
    assert all(0 < weight < 1000 for weight in weights)
    found = [weight for n, weight in sorted(zip(counts, weights, strict=True)) if n]
    assert found == sorted(found, reverse=True)
    assert [weight for n, weight in zip(counts, weights, strict=True) if not n] == [1.0] * counts.count(0)


@given(counts=COUNTS)
def test_effective_has_mean_one(counts: list[int]) -> None:
    assert sum(positive_weights("effective", 500, counts)) == pytest.approx(4)


def test_numbers_are_taken_as_they_are() -> None:
    assert positive_weights([0.5, 1, 30, 2], 100, [10, 10, 10, 10]) == [0.5, 1.0, 30.0, 2.0]
    assert positive_weights((1, 1, 1, 1), 0, [0, 0, 0, 0]) == [1.0] * 4


@pytest.mark.parametrize(
    "bad", [[1, 2, 3], [1, 2, 3, 4, 5], [], [1, 2, 3, 0], [1, 2, -3, 4], [1, math.nan, 1, 1], [1, 1, math.inf, 1]]
)
def test_bad_numbers(bad: list[float]) -> None:
    with pytest.raises(UserError, match=r"pos_weight: \[.*\] is not allowed; allowed: inverse, effective, or 4"):
        positive_weights(bad, 100, [10, 10, 10, 10])


def test_bad_name() -> None:
    with pytest.raises(UserError, match="pos_weight: unknown name 'inverted'; allowed: inverse, effective"):
        positive_weights("inverted", 100, [10, 10, 10, 10])
