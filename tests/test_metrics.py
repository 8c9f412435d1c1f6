"""The competition's Dice: by eye, and against a per-mask reference."""

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from steel import metrics


def slow_dice(pred: NDArray, true: NDArray) -> float:
    """The evaluation page, word for word."""
    if pred.sum() + true.sum() == 0:
        return 1.0
    return 2 * (pred & true).sum() / (pred.sum() + true.sum())


def test_dice_by_eye() -> None:
    pred, true, overlap = np.array([0, 0, 5, 4, 3]), np.array([0, 7, 0, 4, 1]), np.array([0, 0, 0, 4, 1])
    np.testing.assert_array_equal(metrics.dice(pred, true, overlap), [1, 0, 0, 1, 0.5])


def test_score_by_eye() -> None:
    pred = np.array([[3, 0, 0, 2], [0, 0, 0, 0]])
    true = np.array([[1, 5, 0, 0], [0, 0, 4, 0]])
    overlap = np.array([[1, 0, 0, 0], [0, 0, 0, 0]])  # Dice: .5 0 1 0 / 1 1 0 1
    score = metrics.score(pred, true, overlap)
    assert score.n_images == 2
    assert score.mean == 4.5 / 8
    assert score.class_mean == (0.75, 0.5, 0.5, 0.5)
    assert score.positive == 0.5 / 3
    assert score.class_positive[:3] == (0.5, 0.0, 0.0) and math.isnan(score.class_positive[3])
    assert score.n_positive == (1, 1, 1, 0)
    assert score.fp == (0, 0, 0, 1)
    assert score.fn == (0, 1, 1, 0)
    assert score.as_dict()["fn"] == (0, 1, 1, 0)


def test_all_empty_prediction_scores_the_share_of_empty_masks() -> None:
    true = np.array([[9, 0, 0, 0], [0, 0, 0, 0]])
    zeros = np.zeros_like(true)
    assert metrics.score(zeros, true, zeros).mean == 7 / 8


def test_areas_do_not_overflow() -> None:
    areas = np.full(1, 409_600, np.int32)
    assert metrics.dice(areas, areas, areas).tolist() == [1.0]


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_score_equals_the_per_mask_reference(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    pred, true = (rng.random((n, 4, 2, 3)) < rng.choice([0, 0.4], (n, 4, 1, 1)) for _ in range(2))
    areas = [masks.sum((2, 3)) for masks in (pred, true, pred & true)]
    values = np.array([[slow_dice(pred[i, k], true[i, k]) for k in range(4)] for i in range(n)])
    score = metrics.score(*areas)
    np.testing.assert_allclose(score.mean, values.mean())
    np.testing.assert_allclose(score.class_mean, values.mean(0))
    there = true.any((2, 3))
    np.testing.assert_allclose(score.positive, values[there].mean() if there.any() else np.nan)
    assert score.fp == tuple((pred.any((2, 3)) & ~there).sum(0))
    assert score.fn == tuple((~pred.any((2, 3)) & there).sum(0))
