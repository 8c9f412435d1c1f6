"""Stage `decide`: from the held-out probabilities to the table, the rules and their honest score."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steel import files
from steel.config import Solution
from steel.data.cache import Strips, open_strips
from steel.data.folds import fold_of
from steel.decide.ensemble import mean_map
from steel.decide.rules import Rules, fixed_rules
from steel.decide.search import default_grid, in_sample, lofo
from steel.decide.table import Table, measure
from steel.errors import UserError, shorten
from steel.infer.store import Store, open_store
from steel.paths import Paths
from steel.progress import track
from steel.stage import Spec, recorded
from steel.workers import Workers, cores

CODE = ("decide", "infer/store", "data/cache", "data/folds", "metrics", "competition")
CHUNK = 32  # images per task of a worker


def spec(paths: Paths, folds: Sequence[int]) -> Spec:
    """What table and rules are made from."""
    inputs = {f"{name} fold {k}": recorded(paths.oof(name, k)) for name in paths.solution.models for k in folds}
    inputs["masks"] = recorded(paths.cache, "train_masks.npy", "train.csv")
    inputs["folds"] = recorded(paths.folds_record)
    return Spec("decide", paths.decide, {**asdict(paths.solution.decide), "folds": list(folds)}, inputs, CODE)


@dataclass(frozen=True)
class Decision:
    """What a finished solution needs to turn probabilities into masks.

    Attributes:
        segmenters, classifiers: model names, in the order in which their outputs are averaged.
        folds: folds whose models vote.
        tuned: the rules that ship, tuned on all held-out images.
        fixed: the usual rules, for comparison.
        lofo: fold to the rules tuned on the other folds; empty with a single fold.
    """

    segmenters: list[str]
    classifiers: list[str]
    folds: list[int]
    tuned: Rules
    fixed: Rules
    lofo: dict[int, Rules]

    def save(self, path: Path) -> None:
        """Write as JSON, whole or not at all."""
        rules = {"tuned": self.tuned.to_json(), "fixed": self.fixed.to_json()}
        rotations = {str(k): rules.to_json() for k, rules in self.lofo.items()}
        names = {"segmenters": self.segmenters, "classifiers": self.classifiers, "folds": self.folds}
        files.write_json(path, {**names, **rules, "lofo": rotations})

    @classmethod
    def load(cls, path: Path) -> "Decision":
        """Read what `save` wrote."""
        try:
            found = files.read_json(path)
            rotations = {int(k): Rules.from_json(rules, str(path)) for k, rules in found["lofo"].items()}
            tuned, fixed = (Rules.from_json(found[key], str(path)) for key in ("tuned", "fixed"))
            return cls(found["segmenters"], found["classifiers"], found["folds"], tuned, fixed, rotations)
        except (KeyError, ValueError, TypeError, AttributeError) as error:
            raise UserError(f"{path} is not a rules file ({error}): run `steel decide CONFIG --force`") from None


def make(paths: Paths, folds: Sequence[int]) -> dict[Path, str]:
    """Build the table, search the rules; the digests of both."""
    solution = paths.solution
    table = build_table(paths, folds)
    with files.atomic(paths.decide / "table.npz") as temporary:
        table.save(temporary)
    grid = default_grid(table, solution.decide.n_area, solution.decide.n_gate)
    rotations = lofo(table, grid).rules if len(folds) > 1 else {}
    decision = Decision(
        solution.of_kind("segmenter"),
        solution.of_kind("classifier"),
        list(folds),
        in_sample(table, grid).rules,
        _fixed(solution),
        rotations,
    )
    decision.save(paths.decide / "rules.json")
    files.write_json(paths.decide / "solution.json", asdict(solution))
    return {
        paths.decide / name: files.sha256(paths.decide / name) for name in ("table.npz", "rules.json", "solution.json")
    }


def build_table(paths: Paths, folds: Sequence[int]) -> Table:
    """Measure the ensemble's map of every image that the given folds hold out."""
    strips = open_strips(paths.cache, "train")
    split = fold_of(paths.folds, strips.image_ids)
    parts = [_measure_fold(paths, strips, k, np.flatnonzero(split == k)) for k in folds]
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows)  # the table is in row order of the cache, whatever the folds
    return Table(
        image_ids=np.array(strips.image_ids)[rows[order]],
        fold=split[rows[order]].astype(np.int16),
        true_px=np.concatenate([part.true_px for part in parts])[order],
        area_px=np.concatenate([part.area_px for part in parts])[order],
        overlap_px=np.concatenate([part.overlap_px for part in parts])[order],
        gate=np.concatenate([part.gate for part in parts])[order],
    )


def gates(stores: Sequence[Store], n: int) -> NDArray[np.float32]:
    """Mean probability of the classifiers, (n, 4); ones where there is none."""
    if not stores:
        return np.ones((n, 4), np.float32)
    return np.mean([store.p for store in stores], axis=0).astype(np.float32)


@dataclass(frozen=True)
class _Measured:
    rows: NDArray[np.int64]
    area_px: NDArray[np.int32]
    overlap_px: NDArray[np.int32]
    true_px: NDArray[np.int32]
    gate: NDArray[np.float32]


def _measure_fold(paths: Paths, strips: Strips, fold: int, rows: NDArray[np.int64]) -> _Measured:
    """Measure all strips that a fold holds out, in parallel over processes when there are many."""
    expected = [strips.image_ids[row] for row in rows]
    solution = paths.solution
    for name in solution.models:
        _check_coverage(paths.oof(name, fold), expected)
    folders = [paths.oof(name, fold) for name in solution.of_kind("segmenter")]
    classifiers = [open_store(paths.oof(name, fold)) for name in solution.of_kind("classifier")]
    tasks = [(folders, paths.cache, s, rows[s : s + CHUNK]) for s in range(0, len(rows), CHUNK)]
    workers = solution.machine.workers if solution.machine.workers is not None else cores()
    title = f"decide: table of fold {fold}"
    if workers < 2 or len(tasks) < 4:  # starting processes takes longer than measuring some strips
        found = [_measure_rows(*task) for task in track(tasks, title, "chunks")]
    else:
        with Workers(min(workers, len(tasks))) as pool:
            found = list(track(pool.map(_measure_rows, *zip(*tasks, strict=True)), title, "chunks", len(tasks)))
    area, overlap, true = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return _Measured(rows, area, overlap, true, gates(classifiers, len(rows)))


def _measure_rows(
    folders: list[Path], cache: Path, first: int, rows: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Worker: average the models' maps of some strips and measure them."""
    stores = [open_store(folder) for folder in folders]
    masks = np.load(cache / "train_masks.npy", mmap_mode="r")
    found = []
    for place, row in enumerate(rows, first):
        prob = mean_map([store.map(place) for store in stores])
        found.append(measure(prob, np.asarray(masks[row])))
    area, overlap, true = zip(*found, strict=True)
    return np.stack(area), np.stack(overlap), np.stack(true)


def _check_coverage(folder: Path, expected: list[str]) -> None:
    """A store must hold exactly the strips that its fold holds out, in row order."""
    found = open_store(folder).image_ids
    if found != expected:
        odd = sorted(set(found) ^ set(expected)) or ["the order"]
        raise UserError(f"{folder} holds predictions of other strips ({shorten(odd)}): run `steel oof CONFIG --force`")


def _fixed(solution: Solution) -> Rules:
    decide = solution.decide
    if len(decide.fixed_min_area_px) != 4:
        raise UserError(f"decide.fixed_min_area_px: {decide.fixed_min_area_px} has not four values")
    return fixed_rules(decide.fixed_threshold, decide.fixed_min_area_px, decide.fixed_gate)
