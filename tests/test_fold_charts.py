"""The section of the folds: points, bounds, shares and duplicates, by eye."""

from pathlib import Path
from typing import Any

import drawn
import pandas as pd
import pytest

from steel.data.cache import AREAS
from steel.data.folds import write_folds
from steel.paths import Paths
from steel.report.charts import folds as fold_charts
from steel.report.section import Numbers


def score(mean: float, positive: float | None, class_2: float | None) -> dict[str, Any]:
    """Of 10 strips with 3 masks of class 1, and 1 of class 2 where that has a score."""
    return {
        "n_images": 10,
        "mean": mean,
        "positive": positive,
        "class_mean": [mean, 0.9, 1.0, 1.0],
        "class_positive": [positive, class_2, None, None],
        "n_positive": [3, int(class_2 is not None), 0, 0],
        "fp": [1, 0, 0, 1],
        "fn": [0, 1, 0, 0],
    }


def numbers(with_intervals: bool = True) -> dict[str, Any]:
    """Of two folds, the second without a mask of class 2."""
    bounds = {"value": 0.9, "low": 0.8, "high": 0.95}
    unknown = {"value": None, "low": None, "high": None}
    intervals = {"mean": bounds, "class_mean": [bounds] * 4, "positive": bounds}
    intervals["class_positive"] = [bounds, bounds, unknown, unknown]
    return {
        "headline": {"kind": "lofo", "folds": [0, 1]},
        "by_fold": {"lofo": {"0": score(0.8, 0.5, 0.25), "1": score(0.9, 0.7, None)}},
        "all": {"lofo": score(0.85, 0.6, 0.25)},
        "intervals": intervals if with_intervals else None,
    }


@pytest.fixture
def split() -> pd.DataFrame:
    """Five strips: two duplicates with 30 px of class 1 each, one alone with 60; 5 px of class 4; a clean one."""
    areas = [(30, 0, 0, 0), (30, 0, 0, 0), (60, 0, 0, 0), (0, 0, 0, 5), (0, 0, 0, 0)]
    found = pd.DataFrame(areas, columns=AREAS)
    found["image_id"], found["group"], found["fold"] = list("abcde"), list("aacde"), [0, 0, 1, 1, 1]
    return found


@pytest.mark.parametrize("with_intervals", [True, False])
def test_it_can_be_drawn(with_intervals: bool, split: pd.DataFrame, tmp_path: Path) -> None:
    drawn.check(fold_charts.section(numbers(with_intervals), split), tmp_path)


def test_a_point_for_each_fold_and_class(split: pd.DataFrame) -> None:
    figure = drawn.named(fold_charts.section(numbers(), split))["folds-positive"]
    points = {(row["fold"], row["class"]): (row["dice"], row["masks"]) for row in drawn.rows(figure, 2)}
    assert points == {
        ("0", "all"): (0.5, 4),
        ("0", "1"): (0.5, 3),
        ("0", "2"): (0.25, 1),
        ("1", "all"): (0.7, 3),
        ("1", "1"): (0.7, 3),
    }
    assert {row["strips"] for row in drawn.rows(figure, 2)} == {10}
    assert drawn.layers(figure)[3]["encoding"]["text"]["field"] == "fold"
    whole = drawn.rows(figure)
    assert whole == drawn.rows(figure, 1)
    assert [(row["class"], row["dice"], row["low"], row["high"]) for row in whole] == [
        ("all", 0.6, 0.8, 0.95),
        ("1", 0.6, 0.8, 0.95),
        ("2", 0.25, 0.8, 0.95),
    ]
    assert "all 0.6000, class 1 0.6000, class 2 0.2500." in figure.description


def test_of_a_single_fold_it_is_said_what_its_parts_are(split: pd.DataFrame) -> None:
    one = numbers() | {"headline": {"kind": "lofo", "folds": [1]}}
    assert [len(fold_charts.section(found, split).lead) for found in (numbers(), one)] == [1, 2]


def test_the_spread_over_the_folds(split: pd.DataFrame) -> None:
    table = drawn.tables(fold_charts.section(numbers(), split))[0]
    assert [row[:8] for row in table.rows] == [
        ["0", "10", "2", "1", "0.80000", "0.5000", "0.8000", "0.5000"],
        ["1", "10", "2", "1", "0.90000", "0.7000", "0.9000", "0.7000"],
        ["mean", "", "", "", "0.85000", "0.6000", "0.8500", "0.6000"],
        ["standard deviation", "", "", "", "0.07071", "0.1414", "0.0707", "0.1414"],
    ]
    assert [row[8] for row in table.rows] == ["0.9000", "0.9000", "0.9000", "0.0000"]
    assert [row[9] for row in table.rows] == ["0.2500", "–", "–", "–"]  # not known in every fold


def test_shares_of_the_split(split: pd.DataFrame) -> None:
    section = fold_charts.section(numbers(), split)
    masks, area = (
        {(row["fold"], row["class"]): (row["n"], row["share"]) for row in drawn.rows(drawn.named(section)[name])}
        for name in ("folds-masks", "folds-area")
    )
    assert masks == {("0", "1"): (2, 66.67), ("1", "1"): (1, 33.33), ("0", "4"): (0, 0), ("1", "4"): (1, 100)}
    assert area == {("0", "1"): (60, 50), ("1", "1"): (60, 50), ("0", "4"): (0, 0), ("1", "4"): (5, 100)}
    assert drawn.rows(drawn.named(section)["folds-masks"], 1) == [{"share": 50}]
    told = "class 1 33.3 to 66.7 %, class 4 0.0 to 100.0 %; an equal share is 50.0 %."
    assert drawn.named(section)["folds-masks"].description.endswith(told)
    assert drawn.tables(section)[1].rows == [
        ["0", "2", "0", "2", "0", "0", "0", "60", "0", "0", "0"],
        ["1", "3", "1", "1", "0", "0", "1", "60", "0", "0", "5"],
        ["all", "5", "1", "3", "0", "0", "1", "120", "0", "0", "5"],
    ]


def test_duplicates_and_torn_ones(split: pd.DataFrame) -> None:
    assert counts(fold_charts.duplicates(split)) == ["1", "2", "2", "0"]
    split["group"] = list("abccc")
    assert counts(fold_charts.duplicates(split)) == ["1", "3", "3", "0"]
    split["group"] = list("aabbb")
    assert counts(fold_charts.duplicates(split)) == ["2", "5", "3", "0"]
    split["group"] = list("aaaae")
    assert counts(fold_charts.duplicates(split)) == ["1", "4", "4", "1"]
    split["group"] = list("abcde")
    assert counts(fold_charts.duplicates(split)) == ["0", "0", "–", "0"]


def counts(table: Numbers) -> list[str]:
    return [row[1] for row in table.rows]


def test_the_split_with_its_areas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, split: pd.DataFrame) -> None:
    import toy

    monkeypatch.chdir(tmp_path)
    paths = Paths(toy.solution({}))
    paths.cache.mkdir(parents=True)
    split[["image_id", *AREAS]].iloc[::-1].to_csv(paths.cache / "train.csv", index=False)
    write_folds(paths.folds, list("abcde"), split.fold.to_numpy(), list("aacde"))
    found = fold_charts.read_split(paths)
    pd.testing.assert_frame_equal(found[split.columns], split, check_dtype=False)
