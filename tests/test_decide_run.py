"""From stores of probabilities to the table and the rules: against a plain reading of maps and masks."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny
from make_table import mean_of
from test_families import for_hysteresis

from steel import files, stage
from steel.data.cache import open_strips
from steel.data.folds import fold_of, group_of, write_folds
from steel.decide import family_gains, held_out, run
from steel.decide.blends import Ensemble
from steel.decide.components import COMPONENT_LEVELS, COMPONENTS_PX, without_small
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend, largest_class
from steel.decide.families import PLAIN, family_of
from steel.decide.grid import default_grid
from steel.decide.model_scores import Alone
from steel.decide.rule import Rule
from steel.decide.rules import Rules
from steel.decide.search import lofo, search
from steel.decide.surfaces import Surfaces
from steel.decide.table import LAYOUT, Table
from steel.errors import UserError
from steel.infer.store import open_store
from steel.paths import Paths
from steel.study_metrics import SUMS

FOLDS = (0, 1, 2)


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


@pytest.fixture
def rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Paths, Ensemble]]:
    """What `decide` finds to work on: votes that ship, and others that folds 0 and 3 choose, with a table of each."""
    tiny.write_config(tmp_path)
    planted = for_hysteresis()
    is_true = planted.true_px[..., None] > 0
    better = replace(planted, area_px=np.where(is_true, planted.area_px, 0).astype(np.int32))
    equally = replace(planted, overlap_px=planted.overlap_px // 2)
    even = Blend.equal(1, 1)
    ships = replace(even, kinds=("root",) * 4)
    blends = {fold: even if fold in (0, 3) else ships for fold in range(5)}
    alone = [Alone(np.zeros(1, SUMS), [])] * len(planted)
    tables, probs = {even: equally, ships: better}, [np.ones((len(planted), 4))]
    ensemble = Ensemble(ships, blends, tables, evidence={"found": 1}, alone=alone, probs=probs)
    monkeypatch.setattr(run, "vote_equally", lambda *_: ensemble)
    with tiny.within(tmp_path):
        paths, ids = Paths(tiny.solution()), equally.image_ids.tolist()
        write_folds(paths.folds, ids, equally.fold.astype(np.int64), ids)
        run.make(paths, FOLDS)
        yield paths, ensemble


def test_every_rotation_is_searched_on_the_table_of_its_own_votes(rotated: tuple[Paths, Ensemble]) -> None:
    paths, ensemble = rotated
    equally, better = ensemble.tables.values()
    table, ships, decision = run.load(paths.decide)
    assert all((getattr(ships, name) == getattr(better, name)).all() for name in LAYOUT)
    for fold, blend in ensemble.rotations.items():
        own = ensemble.tables[blend]
        rows = table.fold == fold
        assert (table.area_px[rows] == own.area_px[rows]).all()
        assert decision.blend_of(fold) == blend
        grid = default_grid(better, 8, 8)
        assert decision.lofo[fold] == search(own.subset(own.fold != fold), grid)
        assert decision.plain[fold] == search(own.subset(own.fold != fold), grid, (PLAIN,))
    assert decision.tuned == search(better, default_grid(better, 8, 8)) != search(equally, default_grid(equally, 8, 8))
    drawn, expected = Surfaces.load(paths.decide / run.SURFACES), Surfaces.of(better, default_grid(better, 8, 8))
    assert (drawn.score == expected.score).all()


def test_the_gain_of_the_votes_is_over_equal_ones(rotated: tuple[Paths, Ensemble]) -> None:
    """Equal votes find half of each mask, and need hysteresis to tell it from what clean strips show."""
    paths, ensemble = rotated
    table, _, decision = run.load(paths.decide)
    votes = files.read_json(paths.decide / run.VOTES)
    equally = lofo(ensemble.tables[Blend.equal(1, 1)], default_grid(table, 8, 8))
    of_equal = mean_of(equally, ensemble.tables[Blend.equal(1, 1)])
    assert votes["found"] == 1
    assert votes["equal_mean"] == pytest.approx(of_equal)
    assert of_equal < votes["mean"] - 0.05
    assert votes["mean"] == pytest.approx(mean_of(decision.lofo, table))
    assert votes["gap"]["value"] == pytest.approx(votes["mean"] - of_equal)


def test_the_plain_rules_are_plain_where_others_are_adopted(rotated: tuple[Paths, Ensemble]) -> None:
    paths, _ = rotated
    decision = Decision.load(paths.decide / run.RULES)
    for fold in (0, 3):
        assert {family_of(rule) for rule in decision.lofo[fold].classes} == {"hysteresis"}
    assert {family_of(rule) for rules in decision.plain.values() for rule in rules.classes} == {PLAIN}


def test_the_gains_of_families_are_those_of_the_rotations(rotated: tuple[Paths, Ensemble]) -> None:
    """Folds 0 and 3 need hysteresis in all four classes; the others find all by plain rules."""
    paths, _ = rotated
    found = family_gains.load(paths.decide)
    table, _, decision = run.load(paths.decide)
    assert found is not None
    assert found["plain"]["mean"] == pytest.approx(mean_of(decision.plain, table))
    gain = found["hysteresis"]
    assert gain["gain"] == pytest.approx(mean_of(decision.lofo, table) - mean_of(decision.plain, table))
    assert (gain["adopted_in"], gain["n_rotations"]) == (8, 20)


def test_stores_of_other_strips_are_refused(copied: Paths) -> None:
    target, other = copied.oof("gate", 0), copied.oof("gate", 1)
    (target / "values.npz").write_bytes((other / "values.npz").read_bytes())
    with pytest.raises(UserError, match=r"runs/tiny/gate/fold0/oof holds predictions of other strips \(.* more\)"):
        table_of(copied, [0, 1])


@pytest.mark.parametrize("spoil", ["order", "others"])
def test_maps_of_other_strips_are_refused(spoil: str, copied: Paths) -> None:
    folder = copied.oof("fpn", 1)
    with np.load(folder / "values.npz") as found:
        values = dict(found)
    ids = values["image_ids"][::-1] if spoil == "order" else np.array([f"{i}.jpg" for i in range(len(values["sums"]))])
    np.savez(folder / "values.npz", **{**values, "image_ids": ids})
    with pytest.raises(UserError, match=r"runs/tiny/fpn/fold1/oof holds predictions of other strips \("):
        table_of(copied, [0, 1])


def test_gates_of_a_table_follow_the_votes(copied: Paths) -> None:
    """In the order of the table's strips, whatever that of the folds."""
    tiny.copy(copied.run / "gate", copied.run / "second")
    models = {**copied.solution.models, "second": copied.solution.models["gate"]}
    strips = open_strips(copied.cache, "train")
    fold = fold_of(copied.folds, strips.image_ids)
    places = np.arange(len(fold))
    for name, gate in (("gate", places / 64), ("second", 1 - places / 64)):
        for k in FOLDS:
            path = copied.oof(name, k) / "values.npz"
            with np.load(path) as found:
                values = dict(found)
            np.savez(path, **{**values, "gate": gate[fold == k][:, None].repeat(4, 1)})
    votes = replace(Blend.equal(1, 2), gate_counts=((1, 0), (0, 1), (1, 1), (3, 1)))
    paths = Paths(replace(copied.solution, models=models))
    built = held_out.build_tables(paths, (2, 0, 1), [votes], _true_px)
    (table,), seen = built.tables, built.found
    a = places / 64
    assert np.allclose(table.gate, np.stack([a, 1 - a, 0 * a + 0.5, (3 * a + 1 - a) / 4], 1), atol=1e-7)
    assert seen == table.true_px.sum(1).tolist() == strips.areas.sum(1).tolist()


def _true_px(_: object, mask_bits: np.ndarray) -> int:
    return int(np.count_nonzero(mask_bits))


def test_parts_of_a_single_fold_keep_copies_together(copied: Paths) -> None:
    rows = copied.folds.read_text().splitlines()
    head, body = rows[0], [row.split(",") for row in rows[1:]]
    assert head == "image_id,fold,group"
    own = [row for row in body if row[1] == "1"]
    for i, row in enumerate(own):
        row[2] = own[i // 2 * 2][0]  # each with its neighbour
    tiny.write(copied.folds, head, *(",".join(row) for row in body))
    table = table_of(copied, [1])
    group = group_of(copied.folds, table.image_ids.tolist())
    assert sorted(set(table.fold.tolist())) == [0, 1, 2, 3, 4]
    assert all(len({f for f, g in zip(table.fold, group, strict=True) if g == one}) == 1 for one in group)


def test_without_a_classifier_every_gate_is_open(copied: Paths) -> None:
    models = {"fpn": copied.solution.models["fpn"]}
    table = table_of(Paths(replace(copied.solution, models=models)), [0, 1, 2])
    assert (table.gate == 1).all()
    assert default_grid(table, 8, 8).gates == (0.0,)


def test_two_segmenters_are_averaged(copied: Paths) -> None:
    """The same maps twice, once as they are and once inverted, make 128 everywhere."""
    tiny.copy(copied.run / "fpn", copied.run / "mirror")
    for fold in range(3):
        tiny.change_maps(copied.oof("mirror", fold), lambda _, maps: 255 - maps)
    models = {**copied.solution.models, "mirror": copied.solution.models["fpn"]}
    table = table_of(Paths(replace(copied.solution, models=models)), [0, 1, 2])
    assert (table.area_px[:, 0, 128] == 256 * 1600).all()  # ties go to the lower class
    assert (table.area_px[:, :, 129] == 0).all()
