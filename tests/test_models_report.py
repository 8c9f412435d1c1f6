"""The report's section on the models: what `decide` has found, in two tables."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from steel import files, stage
from steel.decide.model_scores import ModelRow
from steel.metrics import score
from steel.paths import Paths
from steel.report import run as report_run
from steel.report.models import tables
from steel.report.text import number, text_table
from steel.study_metrics import StudyClassification, StudySegmentation

FOLDS = (0, 1, 2)


@pytest.mark.parametrize("upstream", ["runs/tiny/fpn/fold1/oof", "runs/tiny/gate/fold0/oof", "data/tiny/cache"])
def test_the_report_is_redone_when_stores_or_masks_change(changed: Paths, upstream: str) -> None:
    """Though the table that `decide` makes of them be the same."""
    assert str(stage.look(report_run.spec(changed, FOLDS))) == "done"
    record = Path(upstream) / "stage.json"
    found = files.read_json(record)
    found["outputs"] = dict.fromkeys(found["outputs"], "other")
    files.write_json(record, found)
    assert stage.look(report_run.spec(changed, FOLDS)).kind == "stale"


SEGMENTER = ModelRow(
    "a",
    "segmenter",
    "fcn",
    0.5672,
    StudySegmentation(0.5, 0.25, float("nan"), 1.0),
    7,
    "plain",
    score(*[np.zeros((9, 4), int)] * 3),
)


def test_the_tables_by_eye() -> None:
    gate = replace(SEGMENTER, role="gate", net="x", study_figure=None, study=StudyClassification(0.1, 0.2, 0.3, 0.4))
    first, second = tables([SEGMENTER, gate])
    assert "on the 7 held-out strips with a defect" in first.note and second.note == ""
    assert first.note.endswith("on all 9 held-out strips: plain rules, leaving one fold out.")
    assert first.head[2:7] == ["study's figure", "soft Dice", "mean IoU", "pixel precision", "pixel recall"]
    assert first.rows == [["a", "fcn", "0.5672", "0.5000", "0.2500", "–", "1.0000", "1.00000", "–"]]
    assert second.head == ["model", "net", "accuracy", "precision", "recall", "F1", "mean Dice", "positive-only"]
    assert second.rows[0][2:6] == ["0.1000", "0.2000", "0.3000", "0.4000"]
    (fixed,) = tables([replace(SEGMENTER, rules="fixed")])
    assert fixed.note.endswith("fixed rules, as there is no other fold to tune them on.")
    assert tables([]) == []


def test_text_tables_line_up() -> None:
    assert text_table(["a", "long"], [["wide one", number(0.5)], ["", number(None)]]).splitlines() == [
        "| a        | long   |",
        "| -------- | ------ |",
        "| wide one | 0.5000 |",
        "|          | –      |",
    ]


def test_the_report_holds_them(paths: Paths) -> None:
    written = json.loads((paths.report / "cv.json").read_text())["models"]
    assert [(row["name"], row["role"]) for row in written] == [("fpn", "segmenter"), ("gate", "gate")]
    text = (paths.report / "cv.md").read_text()
    assert (
        text.index("## Score") < text.index("## Classes") < text.index("## Models, each alone") < text.index("## Folds")
    )
    assert f"{written[0]['study']['soft_dice']:.4f}" in text
