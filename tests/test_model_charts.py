"""The section of the models: alone, left out, alike, and their votes."""

from pathlib import Path
from typing import Any

import drawn
import pytest

from steel.report.charts import models as model_charts


def row(name: str, role: str, mean: float, positive: float | None) -> dict[str, Any]:
    score = {"n_images": 50, "mean": mean, "positive": positive, "class_positive": [0.5, None, 0.6, 0.7]}
    score |= {"fp": [1, 0, 2, 0], "fn": [0, 1, 0, 3]}
    bounds = {key: around(value, 0.01) for key, value in (("mean", mean), ("positive", positive))}
    return {"name": name, "role": role, "net": "FPN, b0", "rules": "plain", "score": score, "intervals": bounds}


def around(value: float | None, error: float) -> dict[str, float | None]:
    """An interval."""
    low, high = (None, None) if value is None else (value - error, value + error)
    return {"value": value, "low": low, "high": high}


def lost(mean: float, gain: float, error: float) -> dict[str, float | None]:
    """Without a model."""
    return {**around(gain, error), "mean": mean, "gain": gain}


# The model "joint" has a head for classes: it is both.
ROWS = [
    row("fpn", "segmenter", 0.93, 0.65),
    row("joint", "segmenter", 0.92, 0.6),
    row("joint", "gate", 0.94, 0.68),
    row("gate", "gate", 0.95, None),
]
VOTES: dict[str, Any] = {
    "masks": {
        c: {"kind": "logit", "counts": [3, 1], "gain": 0.002, "error": 0.001, "is_adopted": c == "2"} for c in "1234"
    },
    "gates": {
        c: {"kind": "mean", "counts": [0, 2], "gain": -0.002, "error": 0.001, "is_adopted": False} for c in "1234"
    },
    "correlations": {"segmenters": {"all": [[1.0, 0.3], [0.3, 1.0]]}, "gates": {"all": [[1.0, None], [None, 1.0]]}},
}
EXTRA: dict[str, Any] = {
    "left_out": {
        "how": "estimated on few pixels",
        "segmenters": {"fpn": lost(0.91, 0.02, 0.01), "joint": lost(0.935, -0.005, 0.004)},
        "gates": {"joint": lost(0.931, -0.001, 0.002), "gate": lost(0.93, 0.0, 0.001)},
    },
    "correlations": {
        "segmenters": {"all": [[1.0, 0.61234], [0.61234, 1.0]], "1": [[1.0, -0.5], [-0.5, 1.0]], "2": None},
        "gates": {"all": [[1.0, 0.9], [0.9, 1.0]]},
    },
}
ALONE = {"models-mean", "models-positive"}
VOTED = {"models-votes-segmenters", "models-votes-gates"}
ALIKE = {"models-correlation-segmenters", "models-correlation-gates"}


@pytest.mark.parametrize(
    ("votes", "extra", "expected"),
    [
        (VOTES, EXTRA, {*ALONE, *VOTED, *ALIKE, "models-left-out"}),
        (VOTES, None, {*ALONE, *VOTED, *ALIKE}),
        (None, EXTRA, {*ALONE, *ALIKE, "models-left-out"}),
        (None, {"left_out": None, "correlations": None}, ALONE),
        (None, None, ALONE),
    ],
)
def test_it_can_be_drawn(
    votes: dict[str, Any] | None, extra: dict[str, Any] | None, expected: set[str], tmp_path: Path
) -> None:
    section = model_charts.section(ROWS, votes, extra)
    assert set(drawn.named(section)) == expected
    if votes and extra:  # the others are parts of this
        drawn.check(section, tmp_path)


def test_of_one_model_there_is_little_to_say(tmp_path: Path) -> None:
    votes = {**VOTES, "correlations": {"segmenters": {"all": [[1.0]]}, "gates": {}}}
    section = model_charts.section(ROWS[:1], votes, {"left_out": {"segmenters": {}, "gates": {}}, "correlations": {}})
    assert set(drawn.named(section)) == ALONE
    drawn.check(section, tmp_path)
    assert not model_charts.section([], None, None).blocks


ONLY = "Not left out: fpn as segmenter, the only one; nothing would be shown."
OF_ONE_GATE = {"how": "exact", "segmenters": {}, "gates": {"gate": lost(0.93, 0.02, 0.01)}}
COSTS = (
    "Costs more than it gives: joint as segmenter, -0.00500 (95 % interval -0.00900 to -0.00100). Costs more than it "
    "gives: joint as gate, -0.00100 (95 % interval -0.00300 to +0.00100; it may be luck). Too little to be told from "
    "nothing: what gate as gate adds to the others."
)


@pytest.mark.parametrize(
    ("rows", "rules", "left_out", "told"),
    [
        (ROWS[:1], "plain", None, [ONLY]),
        (ROWS, "fixed", None, ["No model is left out: that takes rules from other folds, and there is a single one."]),
        (ROWS, "plain", None, []),
        ([ROWS[0], ROWS[3]], "plain", OF_ONE_GATE, [f"No model that was left out costs more than it gives. {ONLY}"]),
        (ROWS, "plain", EXTRA["left_out"], [COSTS]),
    ],
)
def test_what_a_model_costs_and_why_one_is_not_left_out(
    rows: list[dict[str, Any]], rules: str, left_out: dict[str, Any] | None, told: list[str]
) -> None:
    section = model_charts.section([row | {"rules": rules} for row in rows], None, {"left_out": left_out})
    assert list(section.lead[2:]) == told
    assert ("models-left-out" in drawn.named(section)) == bool(left_out)


def test_each_alone() -> None:
    section = model_charts.section(ROWS, None, None)
    rows = drawn.rows(drawn.named(section)["models-positive"])
    assert [(r["name"], r["role"], r["value"]) for r in rows] == [
        ("fpn", "segmenter", 0.65),
        ("joint, segmenter", "segmenter", 0.6),
        ("joint, gate", "gate", 0.68),
    ]
    assert (rows[0]["low"], rows[0]["high"]) == (pytest.approx(0.64), pytest.approx(0.66))
    lines = drawn.layers(drawn.named(section)["models-positive"])[0]
    assert [lines["encoding"][end]["field"] for end in ("x", "x2")] == ["low", "high"]
    assert lines["transform"] == [{"filter": "datum.low != null"}]  # null would be drawn as 0
    assert "fpn as segmenter 0.9300, joint as segmenter 0.9200" in drawn.named(section)["models-mean"].description
    (table,) = drawn.tables(section)
    scores = ["0.95000", "0.9400 to 0.9600", "–", "0.5000", "–", "0.6000", "0.7000"]
    assert table.rows[3] == ["gate", "gate", "FPN, b0", *scores, "3", "4"]


def test_each_left_out() -> None:
    section = model_charts.section(ROWS, None, EXTRA)
    rows = drawn.rows(drawn.named(section)["models-left-out"], 1)
    assert [(r["model"], r["role"], r["value"]) for r in rows] == [
        ("fpn", "segmenter", 0.02),
        ("joint", "segmenter", -0.005),
        ("joint", "gate", -0.001),
        ("gate", "gate", 0.0),
    ]
    assert (rows[0]["low"], rows[0]["high"]) == (pytest.approx(0.01), pytest.approx(0.03))
    assert drawn.rows(drawn.named(section)["models-left-out"], 2) == rows
    table = drawn.tables(section)[1]
    assert table.caption == "Each left out, estimated on few pixels"
    assert table.rows[1] == ["joint", "segmenter", "0.93500", "-0.00500", "-0.00900 to -0.00100"]


def test_correlations_of_all_classes_and_of_each() -> None:
    """What `decide` writes of the models goes before what it writes of the votes."""
    both = drawn.named(model_charts.section(ROWS, VOTES, EXTRA))["models-correlation-segmenters"]
    assert drawn.rows(both) == [
        {"a": "fpn", "b": "fpn", "all": 1, "1": 1},
        {"a": "fpn", "b": "joint", "all": 0.6123, "1": -0.5},
        {"a": "joint", "b": "fpn", "all": 0.6123, "1": -0.5},
        {"a": "joint", "b": "joint", "all": 1, "1": 1},
    ]
    rects, text = drawn.layers(both)
    assert rects["encoding"]["color"]["scale"]["domain"] == [0.6123, 1]
    middle = float(text["encoding"]["color"]["condition"]["test"].removeprefix("datum.all > "))
    assert middle == pytest.approx(0.80615)  # of the colours
    same = {"correlations": {"segmenters": {"all": [[1.0, 1.0], [1.0, 1.0]]}}}
    alike = drawn.named(model_charts.section(ROWS, None, same))["models-correlation-segmenters"]
    assert drawn.layers(alike)[0]["encoding"]["color"]["scale"]["domain"] == [0.999, 1]
    old = drawn.named(model_charts.section(ROWS, VOTES, None))
    assert [r["all"] for r in drawn.rows(old["models-correlation-segmenters"])] == [1, 0.3, 0.3, 1]
    assert old["models-correlation-gates"].description.endswith("not defined.")


def test_votes_and_whether_they_are_used() -> None:
    section = model_charts.section(ROWS, VOTES, None)
    rows = drawn.rows(drawn.named(section)["models-votes-segmenters"])
    assert [(r["class"], r["model"], r["share"]) for r in rows[:3]] == [
        ("1", "fpn", 75),
        ("1", "joint", 25),
        ("2", "fpn", 75),
    ]
    assert {r["class"] for r in rows if r["used"] == "yes"} == {"2"}
    assert "used in class 2;" in drawn.named(section)["models-votes-segmenters"].description
    assert "used in no class;" in drawn.named(section)["models-votes-gates"].description
    assert drawn.tables(section)[1].rows[1] == ["2", "logit", "3", "1", "+0.00200", "0.00100", "yes"]
