"""The rules of every rotation, with all families and with each alone; and what each family adds to the plain rules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel import files
from steel.competition import N_CLASSES
from steel.decide.adopt import ClassSearch
from steel.decide.blends import Ensemble
from steel.decide.bootstrap import mean_intervals
from steel.decide.evidence import AnyRule
from steel.decide.families import FAMILIES, PLAIN, family_of
from steel.decide.grid import Grid
from steel.decide.rules import Rules
from steel.decide.search import apply_rotated
from steel.decide.table import Table
from steel.metrics import dice
from steel.progress import track

FAMILY_GAINS = "families.json"
ALL = "all"
# By what may be adopted: all families, none beyond the plain one, or one.
WAYS = {ALL: tuple(FAMILIES), **{name: tuple(dict.fromkeys((PLAIN, name))) for name in FAMILIES}}


@dataclass(frozen=True)
class Searched:
    """Rules of an ensemble.

    Attributes:
        tuned: on all folds; they ship.
        rotated: key of WAYS, then fold, to the rules that the others choose; without folds where there is only one.
    """

    tuned: Rules
    rotated: dict[str, dict[int, Rules]]


def search_all(ensemble: Ensemble, grid: Grid) -> Searched:
    """Search the rules that ship and those of every rotation, each on the table under its own votes.

    All ways on a table share one search of each class, which keeps what it has summed and found: each family by itself
    costs next to nothing beyond all together.
    """
    rotations = ensemble.rotations if len(ensemble.rotations) > 1 else {}
    every = frozenset(ensemble.rotations)
    tuned: list[AnyRule] = []
    rotated: dict[str, dict[int, list[AnyRule]]] = {way: {fold: [] for fold in sorted(rotations)} for way in WAYS}
    tasks = [(blend, k) for blend in dict.fromkeys([ensemble.ships, *rotations.values()]) for k in range(N_CLASSES)]
    for blend, k in track(tasks, "decide: rules", "classes"):
        one = ClassSearch(ensemble.tables[blend], k, grid)
        if blend == ensemble.ships:
            tuned.append(one.adopt(every))
        own = [fold for fold in sorted(rotations) if rotations[fold] == blend]
        known = one.families
        for way, names in WAYS.items():
            one.families = {name: known[name] for name in names}
            for fold in own:
                rotated[way][fold].append(one.adopt(every - {fold}))
    by_fold = {way: {fold: Rules(tuple(c)) for fold, c in found.items()} for way, found in rotated.items()}
    return Searched(Rules(tuple(tuned)), by_fold)


def gains_of_families(
    rotated: Mapping[str, Mapping[int, Rules]], table: Table, group: Sequence[str]
) -> dict[str, Any] | None:
    """What each family adds to the plain rules, leaving one fold out.

    Args:
        rotated: as in `Searched`.
        table: every strip under the votes that did not see it.
        group: duplicate group of each strip.

    Returns:
        Under "plain" its "mean" Dice; under each other family the "gain" of the mean where it alone may be adopted, the
        bounds "low" and "high" of the gain (a bootstrap over the strips), and in how many ("adopted_in") of
        "n_rotations", folds times classes, it is chosen where all may be. None where no fold can be left out.
    """
    full = rotated[ALL]
    if not full:
        return None
    plain, others = _means(rotated[PLAIN], table), [name for name in FAMILIES if name != PLAIN]
    gains = mean_intervals(np.column_stack([_means(rotated[name], table) - plain for name in others]), group)
    chosen = [family_of(rule) for rules in full.values() for rule in rules.classes]
    found: dict[str, Any] = {PLAIN: {"mean": float(plain.mean())}}
    for name, gain in zip(others, gains, strict=True):
        bounds = {"gain": gain.value, "low": gain.low, "high": gain.high}
        found[name] = {**bounds, "adopted_in": chosen.count(name), "n_rotations": len(chosen)}
    return found


def load(folder: Path) -> dict[str, Any] | None:
    """What `gains_of_families` gave, as `decide` has written it into its folder; None where it had nothing to say."""
    path = folder / FAMILY_GAINS
    return files.read_json(path) if path.exists() else None


def _means(rotations: Mapping[int, Rules], table: Table) -> NDArray[np.float64]:
    """Mean Dice of each strip over the classes, (n,)."""
    pred_px, overlap_px = apply_rotated(rotations, table)
    return dice(pred_px, table.true_px, overlap_px).mean(1)
