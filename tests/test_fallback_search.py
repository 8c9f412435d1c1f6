"""Fallbacks: which models go first, by what they are worth; each with rules and votes of its own."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import tiny
from make_table import mean_of

from steel import files, stage
from steel.decide import fallback, fallback_search, run
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.fallback import Fallback
from steel.decide.grid import default_grid
from steel.decide.held_out import build_tables
from steel.decide.rule import Rule
from steel.decide.rules import Rules
from steel.decide.search import lofo, search
from steel.errors import UserError
from steel.infer.store import open_store
from steel.paths import Paths

RULES = Rules((Rule(128, 600, 0.5),) * 4)
FOLDS = (0, 1, 2)


@pytest.fixture
def own(finished: Path, tmp_path: Path) -> Iterator[Paths]:
    """A copy of the finished run, to change: as the working directory."""
    tiny.copy(finished, tmp_path)
    with tiny.within(tmp_path):
        yield Paths(tiny.solution())


def test_half_the_views_down_to_one(own: Paths) -> None:
    for views, expected in (
        (["hflip", "identity", "vflip", "hvflip"], [["hflip", "identity"], ["hflip"]]),
        (["vflip", "identity", "hflip"], [["vflip"]]),
        (["identity"], []),
    ):
        solution = replace(own.solution, predict=replace(own.solution.predict, tta=views))
        found = fallback_search.fewer_views(Paths(solution))
        assert [one.solution.predict.tta for one in found] == expected
        assert [one.oof("fpn", 2) for one in found] == [
            Path(f"runs/tiny/fpn/fold2/oof-views{len(views)}") for views in expected
        ]


def test_fewer_views_then_fewer_folds(own: Paths, capsys: pytest.CaptureFixture[str]) -> None:
    """Two views and one model of each kind: the first view alone, then a single net of the three."""
    fallback_search.ensure(own, FOLDS)
    found = fallback.load(own.fallbacks / fallback_search.FILE)
    assert [(one.views, one.decision.folds) for one in found] == [(["identity"], [0, 1, 2]), (["identity"], [0])]
    one_view = own.with_views(1)
    (table,) = build_tables(one_view, FOLDS, [Blend.equal(1, 1)]).tables
    grid = default_grid(table, 8, 8)
    for one in found:
        assert (one.decision.segmenters, one.decision.gates, one.decision.blend) == (
            ["fpn"],
            ["gate"],
            Blend.equal(1, 1),
        )
        assert one.decision.tuned == search(table, grid)
    assert [one.mean for one in found] == [mean_of(lofo(table, grid), table), None]
    whole, alone = (open_store(paths.oof("gate", 1)).gate for paths in (own, one_view))
    assert whole is not None and alone is not None
    assert whole.shape == alone.shape and (whole != alone).any()
    assert "fallbacks: fpn, gate; 1 view; 1 fold; CV not measurable\n" in capsys.readouterr().out
    before = tiny.contents(Path("runs"))
    fallback_search.ensure(own, FOLDS)
    assert tiny.contents(Path("runs")) == before
    assert "fallbacks: up to date" in capsys.readouterr().out


def test_new_rules_ask_for_new_fallbacks(own: Paths) -> None:
    fallback_search.ensure(own, FOLDS)
    assert str(stage.look(fallback_search.spec(own, FOLDS))) == "done"
    decision = Decision.load(own.decide / run.RULES)
    replace(decision, tuned=RULES).save(own.decide / run.RULES)
    record = files.read_json(own.decide / stage.RECORD)
    record["outputs"][str(own.decide / run.RULES)] = files.sha256(own.decide / run.RULES)
    files.write_json(own.decide / stage.RECORD, record)
    assert "decide" in str(stage.look(fallback_search.spec(own, FOLDS)))


def of_models(segmenters: list[str], gates: list[str]) -> Decision:
    return Decision(segmenters, gates, [0, 1], Blend.equal(len(segmenters), len(gates)), RULES, RULES, {})


def test_models_go_in_the_order_in_which_they_are_missed(own: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alone, b is missed by .01, gate2 by .02, c by .03, gate by .05, a by .1: the last of each kind stay."""
    worth = {"a": 0.1, "b": 0.01, "c": 0.03, "gate": 0.05, "gate2": 0.02}
    models = {name: own.solution.models["gate" if "gate" in name else "fpn"] for name in worth}
    paths = Paths(replace(own.solution, models=models))
    decision = of_models(["a", "b", "c"], ["gate", "gate2"])
    asked: list[list[frozenset[str]]] = []

    def without(_paths: Paths, _folds: object, _decision: Decision, gone: list[frozenset[str]]) -> dict:
        asked.append(list(gone))
        return {one: one for one in gone}

    monkeypatch.setattr(fallback_search, "_without", without)
    monkeypatch.setattr(fallback_search, "_grid", lambda *_: None)
    monkeypatch.setattr(fallback_search, "lofo", lambda *_: {})
    monkeypatch.setattr(fallback_search, "_mean", lambda _rules, table: 1 - sum(worth[name] for name in table))
    found = fallback_search._drops(paths, FOLDS, decision)
    expected = [frozenset("b"), frozenset({"b", "gate2"}), frozenset({"b", "gate2", "c"})]
    assert [gone for gone, _ in found] == expected
    assert [cast(frozenset, table) for _, table in found] == expected
    assert asked == [[frozenset([name]) for name in worth], expected[1:]]


def test_votes_of_those_that_are_left() -> None:
    blend = Blend(
        ("mean", "logit", "root", "square"),
        ((1, 0, 2), (3, 0, 0), (0, 1, 1), (2, 2, 2)),
        ((1, 3), (0, 1), (2, 2), (1, 0)),
    )
    without = blend.without([0], [1])
    assert without.counts == ((0, 0, 2), (0, 1, 1), (0, 1, 1), (0, 2, 2))  # where only it voted, the others do
    assert without.gate_counts == ((1, 0), (1, 0), (2, 0), (1, 0))
    left = without.of([1, 2], [0])
    assert (left.kinds, left.counts) == (blend.kinds, ((0, 2), (1, 1), (1, 1), (2, 2)))
    assert left.gate_counts == ((1,), (1,), (2,), (1,))
    assert blend.without([], []) == blend == blend.of([0, 1, 2], [0, 1])
    assert Blend.equal(2, 0).without([1], []).gate_counts == ((),) * 4


def test_a_tuned_fallback_has_the_votes_and_names_of_its_models(own: Paths) -> None:
    decision = replace(of_models(["a", "b", "c"], ["a", "gate"]), lofo={0: RULES}, blends={0: Blend.equal(3, 2)})
    table, _, _ = run.load(own.decide)
    found = fallback_search._tuned(own, table, decision, frozenset({"a"}))
    assert found.views == ["identity", "hflip"]
    assert (found.decision.segmenters, found.decision.gates) == (["b", "c"], ["gate"])
    assert found.decision.blend == Blend.equal(2, 1)
    assert found.decision.tuned == search(table, default_grid(table, 8, 8))
    assert (found.decision.lofo, found.decision.blends) == ({}, {})


def test_they_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "fallbacks.json"
    found = [Fallback(["hflip"], of_models(["a"], []), 0.875), Fallback(["hflip"], of_models(["a", "b"], ["g"]), 0.5)]
    fallback.save(path, found)
    assert fallback.load(path) == found
    assert fallback.told(found[1]) == "a, b, g; 1 view; 2 folds"


@pytest.mark.parametrize("text", ["[1]", '[{"views": ["identity"], "mean": 1}]', '[{"views": 1, "mean": 1}]'])
def test_broken_ones_are_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "fallbacks.json"
    path.write_text(text)
    with pytest.raises(UserError, match="holds no fallbacks"):
        fallback.load(path)


def test_none_without_anything_to_leave_out(own: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """One view, one model of each kind, one fold."""
    single = Paths(replace(own.solution, predict=replace(own.solution.predict, tta=["identity"])))
    table, ships, decision = run.load(own.decide)
    monkeypatch.setattr(run, "load", lambda *_: (table, ships, replace(decision, folds=[1])))
    fallback_search.make(single, [1])
    assert fallback.load(single.fallbacks / fallback_search.FILE) == []
    assert np.isfinite(mean_of(decision.lofo, table))
