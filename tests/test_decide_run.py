"""From stores of probabilities to the table and the rules: against a plain reading of maps and masks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny

from steel import stage
from steel.data.cache import open_strips
from steel.data.folds import fold_of
from steel.decide import held_out, run
from steel.decide.components import COMPONENT_LEVELS, COMPONENTS_PX, without_small
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend, largest_class
from steel.decide.grid import default_grid
from steel.decide.rule import Rule
from steel.decide.rules import Rules
from steel.decide.search import search
from steel.decide.table import LAYOUT, Table
from steel.errors import UserError
from steel.infer.store import open_store
from steel.paths import Paths


@pytest.fixture
def paths(finished: Path) -> Iterator[Paths]:
    """The finished run, to look at: as the working directory."""
    with tiny.within(finished):
        yield Paths(tiny.solution())


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Iterator[Paths]:
    """A copy of the finished run, to change: as the working directory."""
    tiny.copy(finished, tmp_path)
    with tiny.within(tmp_path):
        yield Paths(tiny.solution())


def table_of(paths: Paths, folds: list[int]) -> Table:
    """The table under equal votes."""
    even = Blend.equal(len(paths.solution.segmenters), len(paths.solution.gates))
    (table,) = held_out.build_tables(paths, folds, [even]).tables
    return table


def test_the_table_is_what_maps_and_masks_say(paths: Paths) -> None:
    table = Table.load(paths.decide / "table.npy")
    strips = open_strips(paths.cache, "train")
    fold = fold_of(paths.folds, strips.image_ids)
    assert table.image_ids.tolist() == strips.image_ids
    assert table.fold.tolist() == fold.tolist()
    assert table.true_px.tolist() == strips.areas.tolist()
    assert strips.masks is not None
    assert (COMPONENTS_PX[1], COMPONENT_LEVELS[4]) == (300, 128)
    for row in (0, 5, 31):
        store, gates = (open_store(paths.oof(name, fold[row])) for name in ("fpn", "gate"))
        place = store.image_ids.index(strips.image_ids[row])
        prob = largest_class(store.map(place))
        for k in range(4):
            true = strips.masks[row] >> k & 1 == 1
            for t in (1, 100, 128, 255):
                pred = prob[k] >= t
                assert table.area_px[row, k, t] == pred.sum()
                assert table.overlap_px[row, k, t] == (pred & true).sum()
            reaching = without_small(prob[k], 128, 300) >= 128
            assert table.large_area_px[row, k, 1, 4] == reaching.sum()
            assert table.large_overlap_px[row, k, 1, 4] == (reaching & true).sum()
        assert store.sums is not None
        lost_px = store.sums[place] - store.map(place).sum((1, 2), dtype=np.int64) / 255
        assert table.tail_px[row].tolist() == np.maximum(lost_px, 0).tolist() and table.tail_px[row].any()
        assert gates.gate is not None
        assert table.gate[row].tolist() == gates.gate[place].astype(np.float32).tolist()


def test_more_processes_change_nothing(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "CHUNK", 2)
    machine = replace(paths.solution.machine, workers=2)
    table = table_of(Paths(replace(paths.solution, machine=machine)), [0, 1])
    whole = Table.load(paths.decide / "table.npy")
    expected = whole.subset(whole.fold < 2)
    assert all((getattr(table, name) == getattr(expected, name)).all() for name in LAYOUT)


def test_the_rules_of_a_fold_come_from_the_other_folds(paths: Paths) -> None:
    table, decision = Table.load(paths.decide / "table.npy"), Decision.load(paths.decide / "rules.json")
    grid = default_grid(table, 8, 8)
    assert decision.tuned == search(table, grid)
    assert {k: search(table.subset(table.fold != k), grid) for k in range(3)} == decision.lofo
    assert (decision.segmenters, decision.gates, decision.folds) == (["fpn"], ["gate"], [0, 1, 2])
    assert decision.fixed == Rules(tuple(Rule(128, area, 0.5) for area in (600, 600, 1000, 2000)))


def test_a_decision_survives_the_disk(tmp_path: Path) -> None:
    rules = Rules(tuple(Rule(100 + k, 10 * k, 0.25 * k) for k in range(4)))
    uneven = replace(Blend.equal(2, 0), counts=((1, 2), (0, 1), (1, 1), (1, 0)))
    decision = Decision(["a", "b"], [], [1], uneven, rules, rules, {}, {}, {3: Blend.equal(2, 0)})
    decision.save(tmp_path / "rules.json")
    assert Decision.load(tmp_path / "rules.json") == decision


@pytest.mark.parametrize("text", ["{}", "[]", '{"tuned": 1}', '{"lofo": {"x": {}}}', '{"lofo": 3}', "{"])
def test_a_broken_rules_file_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "rules.json"
    path.write_text(text)
    with pytest.raises(UserError, match=str(path)) as error:
        Decision.load(path)
    assert "\n" not in str(error.value)


def test_an_edited_rule_is_noticed(copied: Paths) -> None:
    rules = copied.decide / "rules.json"
    assert str(stage.look(run.spec(copied, (0, 1, 2)))) == "done"
    text = rules.read_text()
    rules.write_text(text.replace('"min_gate": 0.5', '"min_gate": 0.6', 1))
    assert rules.stat().st_size == len(text)
    assert str(stage.look(run.spec(copied, (0, 1, 2)))) == f"stale ({rules} is gone or was changed)"


def test_stores_of_other_strips_are_refused(copied: Paths) -> None:
    target, other = copied.oof("gate", 0), copied.oof("gate", 1)
    (target / "values.npz").write_bytes((other / "values.npz").read_bytes())
    with pytest.raises(UserError, match=r"runs/tiny/gate/fold0/oof holds predictions of other strips \(.* more\)"):
        table_of(copied, [0, 1])


def test_without_a_classifier_every_gate_is_open(copied: Paths) -> None:
    models = {"fpn": copied.solution.models["fpn"]}
    table = table_of(Paths(replace(copied.solution, models=models)), [0, 1, 2])
    assert (table.gate == 1).all()
    assert default_grid(table, 8, 8).gates == (0.0,)


def test_two_segmenters_are_averaged(copied: Paths) -> None:
    """The same maps twice, once as they are and once inverted, make 128 everywhere."""
    tiny.copy(copied.run / "fpn", copied.run / "mirror")
    for fold in range(3):
        maps = open_store(copied.oof("mirror", fold)).maps
        assert maps is not None
        import zarr

        writable = zarr.open_array(str(copied.oof("mirror", fold) / "maps.zarr"), mode="r+")
        writable[:] = 255 - np.asarray(maps[:])
    models = {**copied.solution.models, "mirror": copied.solution.models["fpn"]}
    table = table_of(Paths(replace(copied.solution, models=models)), [0, 1, 2])
    assert (table.area_px[:, 0, 128] == 256 * 1600).all()  # ties go to the lower class
    assert (table.area_px[:, :, 129] == 0).all()
