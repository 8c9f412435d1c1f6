"""Each model alone: against a plain reading of maps, masks and probabilities of the finished run."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray

from steel import files
from steel.config import ModelConfig
from steel.data.cache import open_strips
from steel.data.folds import fold_of, group_of
from steel.decide import held_out as room
from steel.decide.blends import vote_equally
from steel.decide.bootstrap import Interval
from steel.decide.families import PLAIN
from steel.decide.grid import default_grid
from steel.decide.left_out import of_one_gate
from steel.decide.model_scores import Judged, ModelRow, Models, judge_models
from steel.decide.rule import Rule
from steel.decide.rules import Rules, apply_to_map
from steel.decide.search import search
from steel.decide.table import Table
from steel.errors import UserError
from steel.infer.store import Store, open_store
from steel.metrics import score
from steel.paths import Paths
from steel.study_metrics import StudyClassification, StudySegmentation

FOLDS = (0, 1, 2)
FIXED = Rules((Rule(128, 600, 0.0),) * 4)


def judged(paths: Paths, folds: tuple[int, ...] = FOLDS) -> list[ModelRow]:
    """All rows of a run, by its stores."""
    return [one.row for one in judge(paths, folds)]


def judge(paths: Paths, folds: tuple[int, ...] = FOLDS) -> list[Judged]:
    one = vote_equally(paths, folds)
    group = group_of(paths.folds, one.honest.image_ids.tolist())
    return judge_models(paths.solution, one.honest, one.alone, one.probs, FIXED, group)


def held_out(paths: Paths, name: str) -> tuple[NDArray[np.int64], list[NDArray], NDArray[np.bool_]]:
    """Fold (n,), held-out maps and true masks (n, 4, 256, 1600) of every strip, in the order of the cache."""
    strips = open_strips(paths.cache, "train")
    assert strips.masks is not None
    fold = fold_of(paths.folds, strips.image_ids)
    stores = [open_store(paths.oof(name, k)) for k in FOLDS]
    maps = [stores[k].map(stores[k].image_ids.index(i)) for i, k in zip(strips.image_ids, fold, strict=True)]
    return fold, maps, np.stack([strips.masks >> k & 1 == 1 for k in range(4)], axis=1)


def test_a_segmenter_alone_is_what_its_maps_say(paths: Paths) -> None:
    fold, maps, true = held_out(paths, "fpn")
    shown = [i for i in range(len(maps)) if true[i].any()]
    batches = [shown[s : s + 16] for s in range(0, len(shown), 16)]
    assert len(batches) > 1
    soft = []
    for batch in batches:
        p, t = np.stack([maps[i] for i in batch]).ravel() / 255, true[batch].ravel()
        soft.append((2 * p[t].sum() + 1) / (p.sum() + t.sum() + 1))
    row = judged(paths)[0]
    assert isinstance(row.study, StudySegmentation)
    assert row.study.soft_dice == pytest.approx(np.mean(soft), abs=1e-9)
    cut = np.stack([maps[i] for i in shown]) >= 128
    hits = (cut & true[shown]).sum()
    assert (row.study.precision, row.study.recall) == (hits / cut.sum(), hits / true[shown].sum())

    table = Table.load(paths.decide / "table.npy")
    alone = replace(table, gate=np.ones_like(table.gate))
    rules = {k: search(alone.subset(fold != k), default_grid(alone, 8, 8), (PLAIN,)) for k in FOLDS}
    open_gate = np.ones(4, np.float32)
    pred = np.stack([apply_to_map(rules[k], prob, open_gate, np.zeros(4)) for k, prob in zip(fold, maps, strict=True)])
    expected = score(*(m.sum((2, 3)) for m in (pred, true, pred & true)))
    assert row.score.as_dict() == expected.as_dict()
    assert (row.name, row.role, row.net, row.rules) == ("fpn", "segmenter", "FPN, tu-test_resnet", "plain")
    assert (row.n_defect, row.score.n_images, row.study_figure) == (len(shown), 32, None)


def write_gate(paths: Paths, prob: NDArray[np.float64]) -> None:
    """Replace the classifier's held-out probabilities by (n, 4) of our own, in the order of the cache."""
    fold = fold_of(paths.folds, open_strips(paths.cache, "train").image_ids)
    for k in FOLDS:
        path = paths.oof("gate", k) / "values.npz"
        with np.load(path) as values:
            found = dict(values)
        np.savez(path, **{**found, "gate": prob[fold == k]})


def test_a_gate_alone_acts_on_the_mean_of_all_segmenters(changed: Paths) -> None:
    present = open_strips(changed.cache, "train").areas > 0
    write_gate(changed, present.astype(float))
    segmenter, knowing = judged(changed)
    assert sum(segmenter.score.fp) > 0  # it profits by no gate
    assert sum(knowing.score.fp) == 0  # it knows what is there
    assert knowing.study == StudyClassification(1, 1, 1, 1)
    assert (knowing.name, knowing.role, knowing.net, knowing.rules) == ("gate", "gate", "test_resnet", "plain")
    write_gate(changed, np.ones_like(present, float))
    open_gate = judged(changed)[1]
    assert open_gate.score == segmenter.score
    share = float(present[present.any(1)].sum(1).mean()) / 4  # of the classes that it says are there
    assert open_gate.study.as_dict()["precision"] == pytest.approx(share)
    assert open_gate.study.as_dict()["recall"] == 1


def test_each_of_two_segmenters_is_judged_by_its_own_maps(changed: Paths) -> None:
    """And a gate by their mean: a second one that is blind halves all values."""
    tiny.copy(changed.run / "fpn", changed.run / "blind")
    for fold in FOLDS:
        tiny.change_maps(changed.oof("blind", fold), lambda _, maps: 0 * maps)
    models = {"blind": ModelConfig(net="unet_modified"), **changed.solution.models}
    blind, fpn, gate = judged(Paths(replace(changed.solution, models=models)))
    assert (blind.net, blind.study_figure) == ("unet_modified", 0.69)
    assert blind.study.as_dict() == {"soft_dice": pytest.approx(0, abs=1e-3), "iou": 0, "precision": None, "recall": 0}
    assert (blind.score.positive, sum(blind.score.fp)) == (0, 0)
    alone = judged(changed)
    assert fpn == alone[0]
    assert gate.study == alone[1].study and gate.score != alone[1].score


def test_more_processes_change_nothing(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHUNK", 5)
    machine = replace(paths.solution.machine, workers=2)
    many = judged(Paths(replace(paths.solution, machine=machine)))
    assert many == Models.load(paths.decide).rows


def test_a_segmenter_with_a_joint_head_is_a_gate_too(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(stores: list[Store]) -> list[NDArray[np.float64]]:
        return [np.full((len(store.image_ids), 4), 0.7) for store in stores]

    monkeypatch.setattr(room, "class_probs", ask)
    models = paths.solution.models
    joint = {"fpn": replace(models["fpn"], gate_weight=1.0), "gate": models["gate"]}
    rows = judged(Paths(replace(paths.solution, models=joint)))
    assert [(row.name, row.role) for row in rows] == [("fpn", "segmenter"), ("fpn", "gate"), ("gate", "gate")]
    assert rows[1].net == "FPN, tu-test_resnet"
    assert rows[1].study.as_dict()["recall"] == 1


@pytest.mark.parametrize(("n_parts", "rules"), [(1, "fixed"), (2, "plain")])
def test_a_single_fold_is_judged_by_its_parts_or_by_the_fixed_rules(
    paths: Paths, n_parts: int, rules: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "N_PARTS", n_parts)
    found = judge(paths, (1,))
    rows = [one.row for one in found]
    assert [row.rules for row in rows] == [rules, rules]
    assert (of_one_gate(found, [str(i) for i in range(len(found[0].dice))]) is None) == (rules == "fixed")
    n = int((fold_of(paths.folds, open_strips(paths.cache, "train").image_ids) == 1).sum())
    assert [row.score.n_images for row in rows] == [n] * 2


def test_rows_survive_the_disk(tmp_path: Path) -> None:
    nothing = np.zeros((9, 4), int)
    study = StudySegmentation(0.5, 0.25, math.nan, 1.0)
    a = ModelRow("a", "segmenter", "fcn", 0.5672, study, 7, "plain", score(nothing, nothing, nothing))
    bounds = {"mean": Interval(0.9, 0.8, 0.95), "positive": Interval(math.nan, math.nan, math.nan)}
    b = replace(a, role="gate", study_figure=None, study=StudyClassification(1, 0.5, 0.25, 0), intervals=bounds)
    Models([a, b], {"mean": 0.9}).save(tmp_path / "models.json")
    found = Models.load(tmp_path)
    assert repr(found.rows) == repr([a, b])  # NaN is not equal to itself
    assert math.isnan(found.rows[0].study.precision) and found.rows[0].score.class_positive[0] is not None
    assert (found.left_out, found.correlations) == ({"mean": 0.9}, None)
    json.loads((tmp_path / "models.json").read_text(), parse_constant=lambda name: pytest.fail(name))


@pytest.mark.parametrize("content", [None, "[]", "{}", '{"rows": [{}]}', '{"rows": 3}', "{"])
def test_a_file_that_does_not_tell_of_models_is_told(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "models.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(UserError, match=str(path)) as error:
        Models.load(tmp_path)
    assert "\n" not in str(error.value)


def test_a_model_alone_has_intervals_of_what_it_scores(paths: Paths) -> None:
    for row, values in judge(paths):
        assert row.intervals["mean"].value == pytest.approx(row.score.mean) == pytest.approx(values.mean())
        assert row.intervals["positive"].value == pytest.approx(row.score.positive)
        assert all(one.low < one.value < one.high for one in row.intervals.values())


def test_decide_writes_them(paths: Paths) -> None:
    """With one segmenter and one gate, the gate alone can be left out, and none is like another."""
    written = files.read_json(paths.decide / "models.json")
    assert [(row["name"], row["role"]) for row in written["rows"]] == [("fpn", "segmenter"), ("gate", "gate")]
    assert written["correlations"] is None
    gate, means = written["left_out"]["gates"]["gate"], [row["score"]["mean"] for row in written["rows"]]
    assert (written["left_out"]["segmenters"], written["left_out"]["mean"]) == ({}, means[1])
    assert gate["mean"] == means[0] and gate["gain"] == pytest.approx(means[1] - means[0])
    assert gate["low"] <= gate["gain"] <= gate["high"]
