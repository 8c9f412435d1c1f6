"""The section of the trainings: curves by fold, resumes, and what an epoch costs."""

from pathlib import Path
from typing import Any

import drawn
import pytest

from steel.report.charts import curves as curve_charts


def row(epoch: int, loss: float, train_s: float, **more: Any) -> dict[str, Any]:
    return {"epoch": epoch, "loss": loss, "lr": 0.01 / epoch, "steps": 5, "train_s": train_s, **more}


def looked(mean: float, positive: float | None, seconds: float) -> dict[str, Any]:
    return {"score": {"mean": mean, "positive": positive}, "seconds": seconds}


LOGS = {
    ("FPN_b0", 0): [row(1, 0.9, 10.0, peak_mb=900.0), row(2, 0.5, 12.0, peak_mb=1900.0, resumed=True)],
    ("FPN_b0", 1): [row(1, 0.8, 11.0, peak_mb=1000.0), row(2, 0.4, 30.0, peak_mb=1100.0, **looked(0.91, 0.6, 35.5))],
    ("gate", 0): [row(1, 0.7, 3.0), row(2, 0.6, 5.0, **looked(0.8, None, 6.0))],  # as before memory was told
}


def test_it_can_be_drawn(tmp_path: Path) -> None:
    section = curve_charts.section(LOGS, ["FPN_b0"])
    drawn.check(section, tmp_path)
    assert list(drawn.named(section)) == [
        *(f"training-1-fpn-b0-{what}" for what in ("loss", "score", "lr")),
        *(f"training-2-gate-{what}" for what in ("loss", "lr")),  # its recall does not exist
    ]


def test_a_line_per_fold_and_a_rule_where_it_was_resumed() -> None:
    figures = drawn.named(curve_charts.section(LOGS, ["FPN_b0"]))
    loss, score, lr = (figures[f"training-1-fpn-b0-{what}"] for what in ("loss", "score", "lr"))
    assert [(r["fold"], r["epoch"], r["value"]) for r in drawn.rows(loss, 1)] == [
        ("0", 1, 0.9),
        ("0", 2, 0.5),
        ("1", 1, 0.8),
        ("1", 2, 0.4),
    ]
    assert [r["value"] for r in drawn.rows(lr, 1)] == [0.01, 0.005, 0.01, 0.005]
    assert drawn.rows(score, 1) == [{"fold": "1", "epoch": 2, "value": 0.6, "mean": 0.91}]
    for figure in (loss, score, lr):
        assert drawn.rows(figure) == [{"fold": "0", "epoch": 2}]
        assert figure.spec["layer"][1]["encoding"]["x"]["scale"]["domain"] == [1, 2]
        assert figure.description.endswith("; fold 0 was resumed before epoch 2.")
    assert "in the end 0.5000, 0.4000" in loss.description
    assert score.title == "FPN_b0: positive-only Dice, held out, at threshold 0.5"
    assert lr.title == "FPN_b0: learning rate"
    from_zero = [drawn.layers(figure)[1]["encoding"]["y"]["scale"]["zero"] for figure in (loss, score, lr)]
    assert from_zero == [False, False, True]


def test_a_classifier_is_judged_by_its_recall() -> None:
    logs = {("gate", 0): [row(1, 0.7, 3.0, **looked(0.8, 0.123456, 6.0))]}
    figure = drawn.named(curve_charts.section(logs, ["fpn"]))["training-1-gate-score"]
    assert figure.title.startswith("gate: recall") and "in the end 0.1235." in figure.description
    assert drawn.rows(figure, 1) == [{"fold": "0", "epoch": 1, "value": 0.12346, "mean": 0.8}]
    assert drawn.layers(figure)[1]["encoding"]["tooltip"][-1]["title"] == "accuracy"


@pytest.mark.parametrize(
    ("n_epochs", "ticks"),
    [(1, [1]), (2, [1, 2]), (10, list(range(1, 11))), (11, [1, 2, 4, 6, 8, 10]), (38, [1, *range(4, 37, 4)])],
)
def test_epochs_on_the_axis_are_whole(n_epochs: int, ticks: list[int]) -> None:
    logs = {("fpn", 0): [row(epoch, 0.5, 1.0) for epoch in range(1, n_epochs + 1)]}
    figure = drawn.named(curve_charts.section(logs, []))["training-1-fpn-loss"]
    x = drawn.layers(figure)[1]["encoding"]["x"]
    assert x["axis"]["values"] == ticks and x["scale"]["domain"] == [1, max(n_epochs, 2)]


def test_what_an_epoch_costs() -> None:
    (table,) = drawn.tables(curve_charts.section(LOGS, ["FPN_b0"]))
    assert table.rows == [
        ["FPN_b0", "2", "4", "11.5", "30.0", "35.5", "1,050", "1,900", "1"],
        ["gate", "1", "2", "4.0", "5.0", "6.0", "–", "–", "0"],
    ]


def test_without_a_log() -> None:
    section = curve_charts.section({}, [])
    assert section.blocks == [] and section.lead == ["No training has left a log."]


def test_names_that_differ_in_signs_alone_have_charts_of_their_own() -> None:
    one = [row(1, 0.9, 1.0)]
    figures = drawn.named(curve_charts.section({("a_b", 0): one, ("a-b", 0): one, ("__", 0): one}, ["a_b"]))
    assert len(figures) == 6 and "training-3-model-loss" in figures
