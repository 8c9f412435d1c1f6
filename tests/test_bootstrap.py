"""Resampling against a plain loop, and how often the intervals hold the truth."""

from pathlib import Path

import make_table
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steel.data.folds import read_folds
from steel.decide import bootstrap
from steel.decide.bootstrap import (
    Interval,
    Resamples,
    interval,
    intervals,
    intervals_of_models,
    mean_intervals,
    resample,
    resampled_sums,
)
from steel.decide.table import Table
from steel.errors import UserError
from steel.files import read_json
from steel.metrics import dice, score
from steel.report.outcomes import Outcome, public_mean


def pixels(n: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predicted, true and common pixels, (n, 4) each; half of the masks are there and half of them are found."""
    rng = np.random.default_rng(seed)
    pred, true = (rng.integers(1, 99, (n, 4), np.int32) * rng.integers(0, 2, (n, 4), np.int32) for _ in range(2))
    true[0], true[1] = 0, 50
    return pred, true, np.minimum(pred, true) // 2


def one(true: np.ndarray) -> Table:
    """A table of which only the true areas are looked at."""
    n, zeros = len(true), np.zeros((len(true), 4, 256), np.int32)
    ids, fold, gate = np.arange(n).astype(str), np.zeros(n, np.int16), np.ones((n, 4), np.float32)
    return make_table.of_areas(ids, fold, true, zeros, zeros, gate)


@pytest.mark.parametrize("seed", [0, 1])
def test_resamples_equal_a_plain_loop(seed: int) -> None:
    pred, true, overlap = pixels(9, seed)
    group = list("aabcdeeef")
    found = resample(dice(pred, true, overlap), true > 0, group, n_resamples=200, seed=seed)
    names = sorted(set(group))
    lost = 0
    for b, drawn in enumerate(np.random.default_rng(seed).integers(6, size=(200, 6)), 1):
        rows = np.array([i for j in drawn for i, name in enumerate(group) if name == names[j]])
        whole = score(pred[rows], true[rows], overlap[rows])
        assert found.mean[b] == pytest.approx(whole.mean)
        assert found.positive[b] == pytest.approx(whole.positive, nan_ok=True)
        assert found.class_mean[b] == pytest.approx(whole.class_mean)
        assert found.class_positive[b] == pytest.approx(whole.class_positive, nan_ok=True)
        with_mask = (true[rows] > 0).sum(0)
        if (with_mask == 0).any() or (with_mask == len(rows)).any():
            lost += 1
            assert np.isnan(found.public[b])
        else:
            public = public_mean(one(true[rows]), Outcome(pred[rows], overlap[rows]))
            assert found.public[b] == pytest.approx(public)
    assert 0 < lost < 100
    assert found.mean[0] == pytest.approx(score(pred, true, overlap).mean)
    assert found.public[0] == pytest.approx(public_mean(one(true), Outcome(pred, overlap)))


def test_a_class_that_no_strip_has_counts_as_found_at_the_public_shares() -> None:
    pred, true, overlap = pixels(12, 3)
    true[:, 1] = overlap[:, 1] = 0
    found = resample(dice(pred, true, overlap), true > 0, list("abcdefghijkl"), n_resamples=50)
    assert found.public[0] == pytest.approx(public_mean(one(true), Outcome(pred, overlap)))
    assert np.isfinite(found.public).sum() > 40
    assert np.isnan(found.class_positive[:, 1]).all()
    nothing = interval(found.class_positive[:, 1])
    assert nothing.as_json() == {"value": None, "low": None, "high": None}


def test_several_models_meet_the_resamples_of_each_alone() -> None:
    a, b = (dice(*pixels(9, seed)) for seed in (0, 1))
    positive, group = pixels(9, 0)[1] > 0, list("aabcdeeef")
    alone = [resample(values, positive, group) for values in (a, b)]
    for found, one in zip(intervals_of_models([a, b], positive, group), alone, strict=True):
        assert list(found) == ["mean", "positive"]
        for key, draws in (("mean", one.mean), ("positive", one.positive)):
            assert vars(found[key]) == pytest.approx(vars(interval(draws)))
    (gain,) = mean_intervals((a - b).mean(1, keepdims=True), group)
    assert vars(gain) == pytest.approx(vars(interval(alone[0].mean - alone[1].mean)))


def test_memory_is_bounded_without_changing_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    values, group = np.random.default_rng(0).random((7, 2)), list("abcdefg")
    whole = resampled_sums(values, group, 25, 4)
    monkeypatch.setattr(bootstrap, "COUNTS", 15)
    assert resampled_sums(values, group, 25, 4) == pytest.approx(whole)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 999), st.integers(2, 12))
def test_the_order_of_the_images_does_not_matter(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    values, group, order = rng.random((n, 3)), rng.integers(0, n, n).astype(str), rng.permutation(n)
    ours = resampled_sums(values, group.tolist(), 20, seed)
    assert resampled_sums(values[order], group[order].tolist(), 20, seed) == pytest.approx(ours)
    assert resampled_sums(values, group.tolist(), 20, seed + 1)[0] == pytest.approx(values.sum(0))


def test_an_interval_by_eye() -> None:
    hundred = np.arange(101.0)  # the first is the value itself, 1..100 were drawn
    assert interval(hundred, 0.5) == Interval(0, 25.75, 75.25)
    assert interval(np.append(hundred, [np.nan] * 50), 0.5) == Interval(0, 25.75, 75.25)
    assert interval(hundred).low < interval(hundred, 0.9).low


def test_one_group_says_nothing_of_others() -> None:
    pred, true, overlap = pixels(5, 0)
    found = resample(dice(pred, true, overlap), true > 0, ["a"] * 5, n_resamples=10)
    assert found.mean == pytest.approx(found.mean[0])


def test_width_as_the_standard_error_says() -> None:
    """Of many independent images the interval is the mean +- 1.96 standard errors."""
    rng = np.random.default_rng(0)
    values = rng.random((2000, 4)) < 0.8
    found = intervals(resample(values.astype(float), rng.random((2000, 4)) < 0.3, np.arange(2000).astype(str).tolist()))
    whole, classes = found["mean"], found["class_mean"]
    assert isinstance(whole, Interval) and isinstance(classes, list)
    for one, n in [(whole, 8000), *((each, 2000) for each in classes)]:
        expected = 1.96 * (one.value * (1 - one.value) / n) ** 0.5
        assert (one.high - one.low) / 2 == pytest.approx(expected, rel=0.1)


def coverage(grouped: bool) -> float:
    """How often the interval holds a known mean of .7, on 60 groups of 4 equal images."""
    held, rng = 0, np.random.default_rng(0)
    for _ in range(300):
        values = np.repeat(rng.random((60, 4)) < 0.7, 4, axis=0).astype(float)
        names = np.repeat(np.arange(60), 4) if grouped else np.arange(240)
        found = interval(resample(values, values > 0, names.astype(str).tolist(), 300).mean)
        held += found.low <= 0.7 <= found.high
    return held / 300


def test_coverage_of_a_known_mean() -> None:
    assert 0.91 < coverage(grouped=True) < 0.98
    assert coverage(grouped=False) < 0.8  # half the width it should have: some 67 %


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((np.ones((2, 3)), np.ones((2, 3), bool), ["a", "b"]), r"values \(2, 3\), masks \(2, 3\); allowed: \(n, 4\)"),
        ((np.ones((2, 4)), np.ones((3, 4), bool), ["a", "b"]), r"masks \(3, 4\)"),
        ((np.ones((2, 4)), np.ones((2, 4), bool), ["a"]), "2 images in 1 groups; allowed: one or more, a group each"),
        ((np.ones((0, 4)), np.ones((0, 4), bool), []), "0 images"),
        ((np.ones((1, 4)), np.ones((1, 4), bool), ["a"], 0), "0 resamples; allowed: 1 or more"),
    ],
)
def test_refusals(args: tuple, message: str) -> None:
    with pytest.raises(UserError, match=f"^bootstrap: .*{message}"):
        resample(*args)


@pytest.mark.parametrize("level", [0, 1, 95, float("nan")])
def test_a_level_out_of_range_is_refused(level: float) -> None:
    with pytest.raises(UserError, match=rf"level is {level}; allowed: between 0 and 1"):
        interval(np.zeros(3), level)


def test_the_report_of_a_run_has_them(finished: Path) -> None:
    folder = finished / "runs/tiny/report"
    numbers, text = read_json(folder / "cv.json"), (folder / "cv.md").read_text()
    head, found = numbers["headline"], numbers["intervals"]
    n_groups = read_folds(finished / "folds/tiny.csv").group.nunique()
    assert set(found) == {"level", "n_resamples", "n_groups", *Resamples.__annotations__}
    assert (found["level"], found["n_resamples"], found["n_groups"]) == (0.95, 2000, n_groups)
    assert 20 < n_groups < 32  # of 32 strips; synthetic data have duplicates too
    for name, value in (("mean", head["mean"]), ("positive", head["positive"]), ("public", head["public_mean"])):
        assert found[name]["value"] == pytest.approx(value)
        assert found[name]["low"] < value < found[name]["high"]
        assert head[f"{name}_interval"] == [found[name]["low"], found[name]["high"]]
    low, high = head["mean_interval"]
    assert f"**Mean Dice {head['mean']:.5f}** (95 % interval {low:.5f} to {high:.5f}; standard deviation" in text
    low, high = head["public_interval"]
    assert f"**Expected LB {head['public_mean']:.4f}** (95 % interval {low:.4f} to {high:.4f}): the mean at" in text
    assert "Uncertainty:\n\nIntervals over 2000" in text
