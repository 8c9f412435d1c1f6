"""Votes from the stores to the submission: what is searched, what is adopted, and who saw what."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import tiny
from make_table import mean_of
from numpy.typing import NDArray

from steel.config import Solution
from steel.data.cache import open_strips
from steel.data.folds import fold_of
from steel.decide import held_out, run
from steel.decide.blends import Ensemble, search_votes, vote_equally
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend, mean_gate
from steel.decide.family_gains import FAMILY_GAINS
from steel.decide.grid import default_grid
from steel.decide.held_out import build_tables, class_probs, outputs_of
from steel.decide.model_scores import MODELS, Models
from steel.decide.search import lofo
from steel.decide.table import LAYOUT, Table
from steel.errors import UserError
from steel.infer.store import open_store
from steel.kaggle import submit
from steel.paths import Paths

FOLDS = (0, 1, 2)


def searched() -> Paths:
    """The tiny solution with a second segmenter `blind`, and a search for their votes."""
    solution = tiny.solution()
    both = replace(solution, models={**solution.models, "blind": solution.models["fpn"]})
    return Paths(replace(both, decide=replace(both.decide, ensemble="search")))


def _blind(_place: int, maps: NDArray[np.uint8]) -> NDArray[np.uint8]:
    found = np.zeros_like(maps)
    found[2] = 255 - maps[2]
    return found


@pytest.fixture(scope="module")
def with_blind(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished run with a second segmenter, which sees class 3 wherever the first does not."""
    folder = tiny.copy(finished, tmp_path_factory.mktemp("blind"))
    with tiny.within(folder):
        made = searched()
        tiny.copy(made.run / "fpn", made.run / "blind")
        for store in (*(made.oof("blind", k) for k in FOLDS), made.test("blind")):
            tiny.change_maps(store, _blind)
    return folder


@pytest.fixture(scope="module")
def decided(with_blind: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of it that has been decided on."""
    folder = tiny.copy(with_blind, tmp_path_factory.mktemp("decided"))
    with tiny.within(folder):
        run.make(searched(), FOLDS)
    return folder


@pytest.fixture
def paths(with_blind: Path, tmp_path: Path) -> Iterator[Paths]:
    """A copy of the run with two segmenters, to change: as the working directory."""
    tiny.copy(with_blind, tmp_path)
    with tiny.within(tmp_path):
        yield searched()


@pytest.fixture
def decided_run(decided: Path, tmp_path: Path) -> Iterator[Paths]:
    """The same after `decide`."""
    tiny.copy(decided, tmp_path)
    with tiny.within(tmp_path):
        yield searched()


def same(a: Table, b: Table) -> bool:
    return all((getattr(a, name) == getattr(b, name)).all() for name in LAYOUT)


def test_a_blind_model_loses_its_votes(paths: Paths) -> None:
    found = search_votes(paths, FOLDS)
    even = Blend.equal(2, 1)
    assert set(found.tables) == {even, found.ships, *found.rotations.values()}
    assert found.ships.counts[2] == (1, 0)  # of fpn, and of the blind one
    assert found.evidence["masks"]["3"]["is_adopted"] and found.evidence["masks"]["3"]["gain"] > 0


def test_tables_of_many_blends_are_those_of_each_alone(paths: Paths) -> None:
    even = Blend.equal(2, 1)
    blends = [even, replace(even, counts=((1, 1), (1, 1), (1, 0), (1, 1))), replace(even, kinds=("root",) * 4)]
    built = build_tables(paths, FOLDS, blends, _row_sum)
    together, seen = built.tables, built.found
    masks = open_strips(paths.cache, "train").masks
    assert masks is not None and seen == masks.sum((1, 2)).tolist()
    for blend, table in zip(blends, together, strict=True):
        (alone,) = build_tables(paths, FOLDS, [blend]).tables
        assert same(alone, table)
    assert not same(together[0], together[1]) and not same(together[0], together[2])


def test_a_model_without_a_vote_is_not_read(paths: Paths) -> None:
    """Whatever became of its maps."""
    first = replace(Blend.equal(2, 1), counts=((1, 0),) * 4)
    (before,) = build_tables(paths, FOLDS, [first]).tables
    shutil.rmtree(paths.oof("blind", 1) / "maps.zarr")
    (after,) = build_tables(paths, FOLDS, [first]).tables
    assert same(before, after)
    with pytest.raises(UserError, match="blind"):
        build_tables(paths, FOLDS, [Blend.equal(2, 1)])


def _row_sum(_: object, mask_bits: np.ndarray) -> int:
    return int(mask_bits.sum())


def test_what_is_written_is_what_was_found(decided_run: Paths) -> None:
    table, ships, decision = run.load(decided_run.decide, decided_run.solution)
    found = search_votes(decided_run, FOLDS)
    assert (decision.blend, {k: decision.blend_of(k) for k in FOLDS}) == (found.ships, found.rotations)
    assert same(ships, found.tables[found.ships])
    assert (decided_run.decide / run.SHIPS).exists() == any(blend != found.ships for blend in found.rotations.values())
    for fold, blend in found.rotations.items():
        assert same(table.subset(table.fold == fold), found.tables[blend].subset(table.fold == fold))
        rules = lofo(found.tables[blend], default_grid(ships, 8, 8))[fold]
        assert decision.lofo[fold] == rules
    votes = json.loads((decided_run.decide / run.VOTES).read_text())
    models = Models.load(decided_run.decide)
    assert models.correlations == votes["correlations"]
    assert np.shape(votes["correlations"]["segmenters"]["all"]) == (2, 2)
    assert votes["mean"] == pytest.approx(_mean(table, decision), abs=1e-12)
    equally = vote_equally(decided_run, FOLDS)
    assert votes["equal_mean"] == pytest.approx(_lofo_mean(equally.honest), abs=1e-12)
    assert votes["gap"]["value"] == pytest.approx(votes["mean"] - votes["equal_mean"])
    assert votes["gap"]["low"] <= votes["gap"]["value"] <= votes["gap"]["high"]


def _mean(table: Table, decision: Decision) -> float:
    return mean_of(decision.lofo, table)


def _lofo_mean(table: Table) -> float:
    return mean_of(lofo(table, default_grid(table, 8, 8)), table)


def test_a_poisoned_fold_changes_nothing_that_is_chosen_for_it(decided_run: Paths) -> None:
    """Garbage in the maps, gates and masks of fold 0: its votes, calibrations, families and rules stay the same."""
    honest = Decision.load(decided_run.decide / run.RULES)
    rng = np.random.default_rng(4)

    def noise(*_: object) -> NDArray[np.uint8]:
        maps = np.zeros((4, 256, 1600), np.uint8)
        maps[:, ::4] = np.repeat(rng.integers(0, 256, (4, 64, 16), np.uint8), 100, axis=2)
        return maps

    for name in ("fpn", "blind"):
        tiny.change_maps(decided_run.oof(name, 0), noise)
    for name in decided_run.solution.models:
        values = dict(np.load(decided_run.oof(name, 0) / "values.npz"))
        poison = {"gate": rng.random(values["gate"].shape), "sums": values["sums"] - 700 * rng.random((1, 4))}
        known = {key: value for key, value in poison.items() if not np.isnan(values[key]).all()}
        np.savez(decided_run.oof(name, 0) / "values.npz", **{**values, **known})
    masks = np.load(decided_run.cache / "train_masks.npy", mmap_mode="r+")
    held_out = fold_of(decided_run.folds, open_strips(decided_run.cache, "train").image_ids) == 0
    for row in np.flatnonzero(held_out):
        masks[row] = np.repeat(1 << rng.integers(0, 4, (256, 16)).astype(np.uint8), 100, axis=1)
    masks.flush()
    run.make(decided_run, FOLDS)
    poisoned = Decision.load(decided_run.decide / run.RULES)
    for way in ("lofo", "plain"):
        before, after = getattr(honest, way), getattr(poisoned, way)
        assert after[0] == before[0]
        assert after[1] != before[1]  # the poison does work
    assert poisoned.blend_of(0) == honest.blend_of(0)


def test_equal_votes_write_no_more_than_is_needed(decided_run: Paths) -> None:
    assert (decided_run.decide / run.VOTES).exists()
    equal = Paths(replace(decided_run.solution, decide=replace(decided_run.solution.decide, ensemble="equal")))
    always = {run.TABLE, run.RULES, run.SURFACES, run.SOLUTION, MODELS, FAMILY_GAINS}
    assert {path.name for path in run.make(equal, FOLDS)} == always
    assert not (decided_run.decide / run.VOTES).exists() and not (decided_run.decide / run.SHIPS).exists()


@pytest.mark.parametrize("way", ["equal", "search"])
def test_the_blind_model_is_not_missed(paths: Paths, way: Literal["equal", "search"]) -> None:
    """Equal votes are better off without it, since with it nothing is seen; those that are found have left it out."""
    one = Paths(replace(paths.solution, decide=replace(paths.solution.decide, ensemble=way)))
    run.make(one, FOLDS)
    models = Models.load(one.decide)
    assert models.left_out is not None and models.correlations is not None
    fpn, blind = (models.left_out["segmenters"][name]["gain"] for name in ("fpn", "blind"))
    assert blind < -0.02 < fpn < 0.02 if way == "equal" else blind >= -0.02 and fpn > 0.02
    assert list(models.left_out["gates"]) == ["gate"]


def test_a_single_part_leaves_nothing_out(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an earlier run told of families is removed."""
    monkeypatch.setattr(held_out, "N_PARTS", 1)
    assert (paths.decide / FAMILY_GAINS).exists()
    run.make(paths, [1])
    models = Models.load(paths.decide)
    assert models.left_out is None and models.correlations is not None
    assert {row.rules for row in models.rows} == {"fixed"}
    assert not (paths.decide / FAMILY_GAINS).exists()


def test_the_submission_follows_the_votes(paths: Paths) -> None:
    """With all votes for one model it is that model's submission."""
    decision = Decision.load(paths.decide / run.RULES)
    gate = mean_gate(class_probs([open_store(paths.test("gate"))]), 6)
    stores = [open_store(paths.test(name)) for name in ("fpn", "blind")]
    both = replace(decision, segmenters=["fpn", "blind"], blend=Blend.equal(2, 1))
    for_one = replace(both, blend=replace(both.blend, counts=((3, 0),) * 4))
    for i in range(0, 6, 2):
        masks = [
            submit.mask_strip(outputs_of(found, i), gate[i], votes)
            for found, votes in ((stores[:1], decision), (stores, for_one), (stores, both))
        ]
        assert (masks[0] == masks[1]).all()
        assert not masks[2][[0, 1, 3]].any()  # half of 250 outdoes the others


def test_a_rotation_has_its_own_table() -> None:
    """Two blends with tables that differ everywhere: each fold's strips come from the one that did not see it."""
    tables = {Blend.equal(m, 0): _constant(m) for m in (1, 2)}
    one, two = tables
    ensemble = Ensemble(one, {0: one, 1: two, 2: one}, tables)
    assert ensemble.honest.area_px[:, 0, 1].tolist() == [1, 2, 1, 1, 2, 1]
    assert ensemble.honest.fold.tolist() == [0, 1, 2, 0, 1, 2]
    assert Ensemble(one, dict.fromkeys(FOLDS, one), tables).honest is tables[one]


def _constant(value: int) -> Table:
    shapes = {f.name: LAYOUT[f.name] for f in fields(Table)}
    arrays = {name: np.full((6, *shape), value, dtype) for name, (dtype, shape) in shapes.items() if dtype != "U"}
    ids = np.array([f"{i}.jpg" for i in range(6)])
    return Table(ids, **{**arrays, "fold": np.arange(6).astype(np.int16) % np.int16(3), "gate": arrays["gate"] * 0 + 1})


def test_rules_of_other_models_are_refused(paths: Paths) -> None:
    """The rules of the run know nothing of the second segmenter."""
    with pytest.raises(UserError, match=r"rules\.json holds rules for the models fpn, gate; allowed: fpn, blind, gate"):
        run.load(paths.decide, paths.solution)
    rules = json.loads((paths.decide / run.RULES).read_text())
    rules["segmenters"] = ["fpn", "blind"]
    (paths.decide / run.RULES).write_text(json.dumps(rules))
    with pytest.raises(UserError, match=r"rules\.json has votes of other models than it names"):
        run.load(paths.decide, paths.solution)


def test_models_in_another_order_are_decided_on_anew(paths: Paths) -> None:
    models = paths.solution.models
    turned = replace(paths.solution, models={name: models[name] for name in ("blind", "fpn", "gate")})
    before, after = run.spec(paths, FOLDS), run.spec(Paths(turned), FOLDS)
    assert before.inputs == after.inputs and before.key != after.key


def test_what_ships_is_missed(decided_run: Paths) -> None:
    """Where rotations vote in their own ways, the table of what ships must be there."""
    decision = Decision.load(decided_run.decide / run.RULES)
    others = (
        {0: Blend.equal(2, 1)}
        if decision.blend != Blend.equal(2, 1)
        else {0: replace(decision.blend, kinds=("root",) * 4)}
    )
    replace(decision, blends=others).save(decided_run.decide / run.RULES)
    (decided_run.decide / run.SHIPS).unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"ships\.npy does not exist; run the decide stage first"):
        run.load(decided_run.decide)


def test_a_single_part_votes_equally(paths: Paths, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "N_PARTS", 1)
    found = search_votes(paths, [1])
    assert found.ships == Blend.equal(2, 1) and set(found.rotations) == {0} and not found.evidence


@pytest.mark.parametrize("models", [("fpn",), ("fpn", "gate")])
def test_one_model_has_nothing_to_weigh(paths: Paths, models: tuple[str, ...]) -> None:
    solution: Solution = replace(paths.solution, models={name: paths.solution.models[name] for name in models})
    assert run.VOTES not in {path.name for path in run.make(Paths(solution), FOLDS)}
