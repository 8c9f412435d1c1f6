"""Stage `decide`: from the held-out probabilities to the table, the rules and their honest score."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from steel import files
from steel.config import Solution
from steel.data.folds import group_of
from steel.decide.blends import Ensemble, search_votes, vote_equally
from steel.decide.bootstrap import interval, resample
from steel.decide.decision import Decision
from steel.decide.ensemble import Blend
from steel.decide.families import FAMILIES, PLAIN
from steel.decide.grid import Grid, default_grid
from steel.decide.rules import Rules, fixed_rules
from steel.decide.search import apply_rotated, lofo, search
from steel.decide.surfaces import Surfaces
from steel.decide.table import Table
from steel.errors import UserError
from steel.metrics import dice
from steel.paths import Paths
from steel.stage import RECORD, Spec, recorded

TABLE, SHIPS, RULES, VOTES, SOLUTION = "table.npy", "ships.npy", "rules.json", "votes.json", "solution.json"
SURFACES = "surfaces.npz"
PACKAGES = ("numpy", "opencv-python-headless", "scikit-learn")  # those that have a say in the numbers
CODE = ("decide", "infer/store", "data/cache", "data/folds", "metrics", "competition")


def spec(paths: Paths, folds: Sequence[int]) -> Spec:
    """What table and rules are made from."""
    inputs = {f"{name} fold {k}": recorded(paths.oof(name, k)) for name in paths.solution.models for k in folds}
    inputs["masks"] = recorded(paths.cache, "train_masks.npy", "train.csv")
    inputs["folds"] = recorded(paths.folds_record)
    solution = paths.solution
    order = {"segmenters": solution.segmenters, "gates": solution.gates}  # votes are counted in the order of the YAML
    config = {**asdict(solution.decide), "folds": list(folds), **order}
    return Spec("decide", paths.decide, config, inputs, CODE, {name: version(name) for name in PACKAGES})


def make(paths: Paths, folds: Sequence[int]) -> dict[Path, str]:
    """Build the tables, search votes and rules; the digests of what is written."""
    solution = paths.solution
    has_choice = max(len(solution.segmenters), len(solution.gates)) > 1
    find = search_votes if solution.decide.ensemble == "search" and has_choice else vote_equally
    ensemble = find(paths, folds)
    ships = ensemble.tables[ensemble.ships]
    grid = default_grid(ships, solution.decide.n_area, solution.decide.n_gate)
    decision = Decision(
        segmenters=solution.segmenters,
        gates=solution.gates,
        folds=list(folds),
        blend=ensemble.ships,
        tuned=search(ships, grid),
        fixed=_fixed(solution),
        lofo=_rotate(ensemble, grid, tuple(FAMILIES)),
        plain=_rotate(ensemble, grid, (PLAIN,)),
        blends={fold: blend for fold, blend in ensemble.rotations.items() if blend != ensemble.ships},
    )
    written = {TABLE: ensemble.honest.save, RULES: decision.save, SURFACES: Surfaces.of(ships, grid).save}
    if decision.blends:
        written[SHIPS] = ships.save
    if ensemble.evidence:
        votes = {**ensemble.evidence, **_gives(paths, ensemble, decision, grid)}
        written[VOTES] = partial(files.write_json, value=votes)
    written[SOLUTION] = partial(files.write_json, value=asdict(solution))
    for name, write in written.items():  # all is known by now: what stood is replaced within moments
        write(paths.decide / name)
    for name in {SHIPS, VOTES} - set(written):
        files.remove(paths.decide / name)
    return {paths.decide / name: files.sha256(paths.decide / name) for name in written}


def load(folder: Path, solution: Solution | None = None) -> tuple[Table, Table, Decision]:
    """What `make` wrote: every strip under the votes that did not see it, under those that ship, and the decision."""
    table, decision = Table.load(folder / TABLE), Decision.load(folder / RULES, solution)
    return table, Table.load(folder / SHIPS) if decision.blends else table, decision


def check_whole(folder: Path) -> None:
    """Refuse what `make` wrote if it is not as the stage has recorded it: edited, or interrupted half way."""
    recorded_as = {Path(name).name: value for name, value in files.read_json(folder / RECORD)["outputs"].items()}
    for name, value in recorded_as.items():
        if not (folder / name).is_file() or files.sha256(folder / name) != value:
            raise UserError(f"{folder / name} is not as recorded: run `steel decide CONFIG` again")


def _rotate(ensemble: Ensemble, grid: Grid, families: Sequence[str]) -> dict[int, Rules]:
    """Rules of every rotation, searched on the table under the rotation's own votes; none with a single part."""
    if len(ensemble.rotations) < 2:
        return {}
    rules: dict[int, Rules] = {}
    for blend in dict.fromkeys(ensemble.rotations.values()):
        left_out = [fold for fold, own in ensemble.rotations.items() if own == blend]
        rules |= lofo(ensemble.tables[blend], grid, families, left_out)
    return dict(sorted(rules.items()))


def _gives(paths: Paths, ensemble: Ensemble, decision: Decision, grid: Grid) -> dict[str, Any]:
    """What the votes found give, leaving one fold out, against equal votes: for the report."""
    even = Blend.equal(len(decision.segmenters), len(decision.gates))
    equal_table, table = ensemble.tables[even], ensemble.honest
    shown = apply_rotated(lofo(equal_table, grid), equal_table), apply_rotated(decision.lofo, table)
    values = [dice(pred_px, table.true_px, overlap_px) for pred_px, overlap_px in shown]
    group = group_of(paths.folds, table.image_ids.tolist())
    equal_mean, mean = (resample(of_one, table.true_px > 0, group).mean for of_one in values)
    return {"equal_mean": equal_mean[0], "mean": mean[0], "gap": interval(mean - equal_mean).as_json()}


def _fixed(solution: Solution) -> Rules:
    decide = solution.decide
    return fixed_rules(decide.fixed_threshold, decide.fixed_min_area_px, decide.fixed_gate)
