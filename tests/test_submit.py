"""The submission: what the rules show of the test maps, complete, checked, with a manifest of where it comes from."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny

from steel import files, rle
from steel.competition import N_CLASSES
from steel.data.cache import open_strips
from steel.decide import run
from steel.decide.decision import Decision
from steel.decide.ensemble import largest_class
from steel.decide.rule import Rule
from steel.decide.rules import Rules
from steel.decide.search import apply_rotated
from steel.errors import UserError
from steel.infer.store import open_store
from steel.kaggle import submit
from steel.paths import Paths

FOLDS = (0, 1, 2)


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Iterator[Paths]:
    """A copy of the finished run, to change: as the working directory."""
    tiny.copy(finished, tmp_path)
    with tiny.within(tmp_path):
        yield Paths(tiny.solution())


def set_rules(paths: Paths, rule: Rule) -> None:
    decision = Decision.load(paths.decide / "rules.json")
    replace(decision, tuned=Rules((rule,) * N_CLASSES)).save(paths.decide / "rules.json")


def test_masks_are_what_the_rules_show_of_the_maps(copied: Paths) -> None:
    rule = Rule(60, 2000, 0.3)
    set_rules(copied, rule)
    submit.make(copied, FOLDS)
    rows = pd.read_csv(copied.submission / "submission.csv", keep_default_na=False).EncodedPixels.tolist()
    maps, gates = open_store(copied.test("fpn")), open_store(copied.test("gate"))
    assert gates.gate is not None
    shown = 0
    for i, _ in enumerate(open_strips(copied.cache, "test").image_ids):
        prob = largest_class(maps.map(i))
        for k in range(N_CLASSES):
            mask = prob[k] >= rule.threshold
            if mask.sum() < rule.min_area_px or gates.gate[i, k] < rule.min_gate:
                mask = np.zeros_like(mask)
            assert (rle.decode(rows[4 * i + k]) == mask).all()
            shown += mask.any()
    assert 0 < shown < len(rows)


def test_the_manifest_tells_where_it_comes_from(finished: Path) -> None:
    folder = finished / "submissions/tiny"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["solution"] == "tiny"
    assert manifest["submission"] == files.sha256(folder / "submission.csv")
    assert manifest["rules"] == files.sha256(finished / "runs/tiny/decide/rules.json")
    assert manifest["cv"] == json.loads((finished / "runs/tiny/report/cv.json").read_text())["headline"]
    assert sorted(manifest["models"]) == [f"{name} fold {k}" for name in ("fpn", "gate") for k in FOLDS]
    assert len(set(manifest["models"].values())) == 6
    assert {"version", "commit", "code", "config", "data", "folds"} <= set(manifest)


def test_drift_is_measured_against_the_masks_that_saw_nothing(copied: Paths) -> None:
    """A rotation votes otherwise; under the votes that ship, no held-out strip would show anything."""
    table, _, decision = run.load(copied.decide)
    replace(table, area_px=np.zeros_like(table.area_px)).save(copied.decide / run.SHIPS)
    other = replace(decision.blend, kinds=("root",) * N_CLASSES)
    replace(decision, blends={0: other}).save(copied.decide / run.RULES)
    submit.make(copied, FOLDS)
    classes = json.loads((copied.submission / "manifest.json").read_text())["drift"]["classes"]
    shown = apply_rotated(decision.lofo, table)[0] > 0
    assert [one["share"]["held_out"] for one in classes] == pytest.approx(shown.mean(0))
    assert shown.any()


def test_predictions_of_other_strips_are_refused(copied: Paths) -> None:
    before = tiny.contents(copied.submission)
    path = copied.test("gate") / "values.npz"
    with np.load(path) as found:
        values = dict(found)
    np.savez(path, **{**values, "image_ids": values["image_ids"][::-1]})
    with pytest.raises(UserError, match="runs/tiny/gate/test holds predictions of other strips: run `steel predict"):
        submit.make(copied, FOLDS)
    assert tiny.contents(copied.submission) == before


def test_a_submission_that_fails_the_check_gets_no_name(copied: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    before = tiny.contents(copied.submission)
    monkeypatch.setattr(submit, "encode_strip", lambda _: ["1 5", "5 1", "", ""])  # px 5 is in two classes
    with pytest.raises(UserError, match=r"the masks of classes 1 and 2 of image .* share px 5"):
        submit.make(copied, FOLDS)
    assert tiny.contents(copied.submission) == before


def test_a_lost_manifest_is_made_again(copied: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    (copied.submission / "manifest.json").unlink()
    tiny.run("submit")
    assert "submit: stale (submissions/tiny/manifest.json is gone or was changed)" in capsys.readouterr().out
    assert (copied.submission / "manifest.json").exists()


def test_it_says_how_many_strips_show_a_defect(copied: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    submit.make(copied, FOLDS)
    rows = pd.read_csv("submissions/tiny/submission.csv", keep_default_na=False)
    shown = rows[rows.EncodedPixels != ""].ImageId_ClassId.str.rsplit("_", n=1).str[0].nunique()
    assert f"submit: 6 strips, {shown or 'none'} with a defect shown\n" in capsys.readouterr().out
    set_rules(copied, Rule(255, 409_601, 1.0))
    submit.make(copied, FOLDS)
    assert "submit: 6 strips, none with a defect shown\n" in capsys.readouterr().out
