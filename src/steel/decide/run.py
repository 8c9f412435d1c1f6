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
from steel.decide.families import PLAIN
from steel.decide.family_gains import ALL, FAMILY_GAINS, gains_of_families, search_all
from steel.decide.grid import Grid, default_grid
from steel.decide.left_out import estimate, of_one_gate
from steel.decide.model_scores import MODELS, Models, judge_models
from steel.decide.rules import Rules, fixed_rules
from steel.decide.sample import correlations
from steel.decide.search import apply_rotated, lofo
from steel.decide.surfaces import Surfaces
from steel.decide.table import Table
from steel.errors import UserError
from steel.metrics import dice
from steel.paths import Paths
from steel.stage import RECORD, Spec, recorded

TABLE, SHIPS, RULES, VOTES, SOLUTION = "table.npy", "ships.npy", "rules.json", "votes.json", "solution.json"
SURFACES = "surfaces.npz"
PACKAGES = ("numpy", "opencv-python-headless", "scikit-learn")  # those that have a say in the numbers
CODE = ("decide", "infer/store", "data/cache", "data/folds", "metrics", "study_metrics", "competition")


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
    """Build the tables, search votes and rules, judge the models; the digests of what is written."""
    solution = paths.solution
    ensemble = (search_votes if solution.decide.ensemble == "search" else vote_equally)(paths, folds)
    ships = ensemble.tables[ensemble.ships]
    grid = default_grid(ships, solution.decide.n_area, solution.decide.n_gate)
    group = group_of(paths.folds, ships.image_ids.tolist())
    models = _models(solution, ensemble, group)
    searched = search_all(ensemble, grid)
    gains = gains_of_families(searched.rotated, ensemble.honest, group)
    decision = Decision(
        segmenters=solution.segmenters,
        gates=solution.gates,
        folds=list(folds),
        blend=ensemble.ships,
        tuned=searched.tuned,
        fixed=_fixed(solution),
        lofo=searched.rotated[ALL],
        plain=searched.rotated[PLAIN],
        blends={fold: blend for fold, blend in ensemble.rotations.items() if blend != ensemble.ships},
    )
    written = {TABLE: ensemble.honest.save, RULES: decision.save, SURFACES: Surfaces.of(ships, grid).save}
    written[MODELS] = models.save
    if decision.blends:
        written[SHIPS] = ships.save
    if gains:
        written[FAMILY_GAINS] = partial(files.write_json, value=gains)
    if ensemble.evidence:
        told = {**ensemble.evidence, "correlations": models.correlations}
        votes = {**told, **_gives(ensemble, decision, grid, group)}
        written[VOTES] = partial(files.write_json, value=votes)
    written[SOLUTION] = partial(files.write_json, value=asdict(solution))
    for name, write in written.items():  # all is known by now: what stood is replaced within moments
        write(paths.decide / name)
    for name in {SHIPS, VOTES, FAMILY_GAINS} - set(written):
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


def _models(solution: Solution, ensemble: Ensemble, group: Sequence[str]) -> Models:
    """What is known of each model, for the report."""
    judged = judge_models(solution, ensemble.honest, ensemble.alone, ensemble.probs, _fixed(solution), group)
    rows, sample = [one.row for one in judged], ensemble.sample
    if sample is None:
        return Models(rows, of_one_gate(judged, group))
    left_out = estimate(sample, ensemble.ships, solution.segmenters, solution.gates, group)
    return Models(rows, left_out, correlations(sample))


def _gives(ensemble: Ensemble, decision: Decision, grid: Grid, group: Sequence[str]) -> dict[str, Any]:
    """What the votes found give, leaving one fold out, against equal votes: for the report."""
    even = Blend.equal(len(decision.segmenters), len(decision.gates))
    equal_table, table = ensemble.tables[even], ensemble.honest
    equal_rules = decision.lofo if table is equal_table else lofo(equal_table, grid)
    shown = apply_rotated(equal_rules, equal_table), apply_rotated(decision.lofo, table)
    values = [dice(pred_px, table.true_px, overlap_px) for pred_px, overlap_px in shown]
    equal_mean, mean = (resample(of_one, table.true_px > 0, group).mean for of_one in values)
    return {"equal_mean": equal_mean[0], "mean": mean[0], "gap": interval(mean - equal_mean).as_json()}


def _fixed(solution: Solution) -> Rules:
    decide = solution.decide
    return fixed_rules(decide.fixed_threshold, decide.fixed_min_area_px, decide.fixed_gate)
