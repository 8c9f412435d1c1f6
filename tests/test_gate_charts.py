"""Precision, recall and calibration: by brute force, and against scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from steel.report.charts import gates as gate_charts

RANKED = st.lists(st.tuples(st.booleans(), st.integers(0, 9)), min_size=1, max_size=300).filter(
    lambda pairs: any(is_there for is_there, _ in pairs)
)


@settings(max_examples=60, deadline=None)
@given(RANKED)
def test_every_point_of_the_curve_by_brute_force(pairs: list[tuple[bool, int]]) -> None:
    positive, score = np.array([p for p, _ in pairs]), np.array([s for _, s in pairs])
    precision, recall, at, average = gate_charts.precision_recall(positive, score)
    for p, r, least in zip(precision, recall, at, strict=True):
        passed = score >= least
        assert p == pytest.approx(positive[passed].mean()) and r == pytest.approx(passed[positive].mean())
    assert recall[-1] == 1 and (np.diff(recall) >= 0).all()
    assert average == pytest.approx(average_precision_score(positive, score))


def test_a_long_curve_is_thinned() -> None:
    rng = np.random.default_rng(0)
    positive = rng.random(20_000) < 0.3
    precision, recall, _, _ = gate_charts.precision_recall(positive, positive + rng.normal(size=20_000))
    assert len(precision) == gate_charts.N_POINTS and np.diff(recall).max() < 0.011


@settings(max_examples=60, deadline=None)
@given(RANKED)
def test_bins_hold_all_and_never_part_what_is_equal(pairs: list[tuple[bool, int]]) -> None:
    positive, prob = np.array([p for p, _ in pairs]), np.array([s / 9 for _, s in pairs], np.float32)
    bins = gate_charts.reliability(positive, prob)
    means, shares, counts = (np.array(column) for column in zip(*bins, strict=True))
    assert counts.sum() == len(pairs) and len(bins) <= gate_charts.N_BINS
    assert (means * counts).sum() == pytest.approx(prob.astype(float).sum(), rel=1e-6)
    assert (shares * counts).sum() == pytest.approx(positive.sum())
    assert (np.diff(means) > 0).all()
    if len(set(prob.tolist())) == 1:
        assert len(bins) == 1


def test_bins_of_a_hundred() -> None:
    bins = gate_charts.reliability(np.arange(100) >= 50, np.linspace(0, 0.99, 100))
    assert [n for _, _, n in bins] == [10] * 10
    assert [share for _, share, _ in bins] == [0] * 5 + [1] * 5
    assert bins[3][0] == pytest.approx(0.345)
