"""Each model alone: against a plain reading of maps, masks and probabilities of the finished run."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray

from steel import files, stage
from steel.config import ModelConfig
from steel.data.cache import open_strips
from steel.data.folds import fold_of
from steel.decide import held_out as room
from steel.decide.decision import Decision
from steel.decide.families import PLAIN
from steel.decide.grid import default_grid
from steel.decide.rules import apply_to_map
from steel.decide.search import search
from steel.decide.table import Table
from steel.errors import UserError
from steel.infer.store import Store, open_store
from steel.metrics import score
from steel.paths import Paths
from steel.report import models
from steel.report import run as report_run
from steel.report.models import ModelRow, as_markdown, judge_models
from steel.report.text import number, text_table
from steel.study_metrics import StudyClassification, StudySegmentation

FOLDS = (0, 1, 2)


@pytest.fixture
def paths(finished: Path) -> Iterator[Paths]:
    """The finished run, to look at: as the working directory."""
    with tiny.within(finished):
        yield Paths(tiny.solution())


@pytest.fixture
def changed(copied: Path) -> Paths:
    """A copy of the finished run, to change: as the working directory."""
    assert copied.is_dir()
    return Paths(tiny.solution())


def decision_of(paths: Paths) -> Decision:
    return Decision.load(paths.decide / "rules.json")


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
    row = judge_models(paths, decision_of(paths), FOLDS)[0]
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
    decision, present = decision_of(changed), open_strips(changed.cache, "train").areas > 0
    write_gate(changed, present.astype(float))
    table = Table.load(changed.decide / "table.npy")
    replace(table, gate=present.astype(np.float32)).save(changed.decide / "table.npy")  # no segmenter may profit by it
    segmenter, knowing = judge_models(changed, decision, FOLDS)
    assert sum(segmenter.score.fp) > 0
    assert sum(knowing.score.fp) == 0  # it knows what is there
    assert knowing.study == StudyClassification(1, 1, 1, 1)
    assert (knowing.name, knowing.role, knowing.net, knowing.rules) == ("gate", "gate", "test_resnet", "plain")
    write_gate(changed, np.ones_like(present, float))
    open_gate = judge_models(changed, decision, FOLDS)[1]
    assert open_gate.score == segmenter.score
    share = float(present[present.any(1)].sum(1).mean()) / 4  # of the classes that it says are there
    assert open_gate.study.as_dict()["precision"] == pytest.approx(share)
    assert open_gate.study.as_dict()["recall"] == 1


def test_each_of_two_segmenters_is_judged_by_its_own_maps(changed: Paths) -> None:
    tiny.copy(changed.run / "fpn", changed.run / "blind")
    for fold in FOLDS:
        tiny.change_maps(changed.oof("blind", fold), lambda _, maps: 0 * maps)
    known = changed.solution.models
    solution = replace(changed.solution, models={"blind": ModelConfig(net="unet_modified"), **known})
    paths, decision = Paths(solution), replace(decision_of(changed), segmenters=["blind", "fpn"])
    blind, fpn, gate = judge_models(paths, decision, FOLDS)
    assert (blind.net, blind.study_figure) == ("unet_modified", 0.69)
    assert blind.study.as_dict() == {"soft_dice": pytest.approx(0, abs=1e-3), "iou": 0, "precision": None, "recall": 0}
    assert (blind.score.positive, sum(blind.score.fp)) == (0, 0)
    assert [fpn, gate] == judge_models(changed, decision_of(changed), FOLDS)


def test_more_processes_change_nothing(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "CHUNK", 5)
    machine = replace(paths.solution.machine, workers=2)
    many = judge_models(Paths(replace(paths.solution, machine=machine)), decision_of(paths), FOLDS)
    written = json.loads((paths.report / "cv.json").read_text())["models"]
    assert json.loads(json.dumps([row.as_dict() for row in many], allow_nan=False)) == written


def test_a_segmenter_with_a_joint_head_is_a_gate_too(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(stores: list[Store]) -> list[NDArray[np.float64]]:
        assert len(stores) == 1
        return [np.full((len(store.image_ids), 4), 0.7) for store in stores]

    monkeypatch.setattr(models, "class_probs", ask)
    rows = judge_models(paths, replace(decision_of(paths), gates=["gate", "fpn"]), FOLDS)
    assert [(row.name, row.role) for row in rows] == [("fpn", "segmenter"), ("gate", "gate"), ("fpn", "gate")]
    assert rows[2].net == "FPN, tu-test_resnet"
    assert rows[2].study.as_dict()["recall"] == 1


@pytest.mark.parametrize(("n_parts", "rules"), [(1, "fixed"), (2, "plain")])
def test_a_single_fold_is_judged_by_its_parts_or_by_the_fixed_rules(changed: Paths, n_parts: int, rules: str) -> None:
    table = Table.load(changed.decide / "table.npy")
    split = fold_of(changed.folds, open_strips(changed.cache, "train").image_ids)
    table = table.subset(split == 1)
    table = replace(table, fold=(np.arange(len(table)) % n_parts).astype(np.int16))
    table.save(changed.decide / "table.npy")
    decision = replace(decision_of(changed), folds=[1], lofo={})
    rows = judge_models(changed, decision, [1])
    assert [row.rules for row in rows] == [rules, rules]
    assert [row.score.n_images for row in rows] == [len(table)] * 2
    said = "fixed rules, as there is no other fold to tune them on." in as_markdown(rows)[1]
    assert said is (rules == "fixed")


def test_a_table_of_other_strips_is_refused(paths: Paths) -> None:
    with pytest.raises(UserError, match=r"table\.npy holds other strips than fold \[0, 2\]: run `steel decide"):
        judge_models(paths, decision_of(paths), [0, 2])


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


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]


def test_the_tables_by_eye() -> None:
    gate = replace(SEGMENTER, role="gate", net="x", study_figure=None, study=StudyClassification(0.1, 0.2, 0.3, 0.4))
    title, said, _, first, _, second = as_markdown([SEGMENTER, gate])
    assert title == "## Models, each alone"
    assert "on the 7 held-out strips with a defect" in said
    assert "on all 9 held-out strips: plain rules, leaving one fold out." in said
    assert cells(first)[0][2:7] == ["study's figure", "soft Dice", "mean IoU", "pixel precision", "pixel recall"]
    assert cells(first)[2] == ["a", "fcn", "0.5672", "0.5000", "0.2500", "–", "1.0000", "1.00000", "–"]
    assert cells(second)[0] == ["model", "net", "accuracy", "precision", "recall", "F1", "mean Dice", "positive-only"]
    assert cells(second)[2][2:6] == ["0.1000", "0.2000", "0.3000", "0.4000"]
    assert len(as_markdown([SEGMENTER])) == 4
    assert as_markdown([]) == []


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
    assert text.index("## Classes") < text.index("## Models, each alone") < text.index("## Folds")
    assert f"{written[0]['study']['soft_dice']:.4f}" in text
