"""Search of the rules on the table, exactly, in a fraction of a second: in sample, and leaving one fold out."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.decide.adopt import ClassSearch
from steel.decide.evidence import AnyRule
from steel.decide.families import FAMILIES
from steel.decide.grid import Grid
from steel.decide.rules import Rules, apply_to_table
from steel.decide.table import Table
from steel.errors import UserError

ALL = tuple(FAMILIES)


def search(table: Table, grid: Grid, families: Sequence[str] = ALL) -> Rules:
    """The best rules on all images: for each class the plain rule or, where it is adopted, one of `families`."""
    return _rotate(table, grid, families, {0: _folds(table)})[0]


def lofo(
    table: Table, grid: Grid, families: Sequence[str] = ALL, left_out: Collection[int] | None = None
) -> dict[int, Rules]:
    """Leave one fold out, for every fold in turn: family and rule of each class chosen on the other folds.

    Args:
        table: of the images.
        grid: minimum areas and gates to try.
        families: those that may be adopted over the plain rule.
        left_out: the folds to be left out in turn; None for all.

    Returns:
        Fold to the rules that it is scored by (see `apply_rotated`).
    """
    folds = _folds(table)
    if len(folds) < 2:
        raise UserError(f"lofo: the table has the folds {sorted(folds)}, allowed: at least two")
    rotations = {fold: folds - {fold} for fold in sorted(folds if left_out is None else left_out)}
    return _rotate(table, grid, families, rotations)


def apply_rotated(rules: Mapping[int, Rules], table: Table) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pixels shown and their overlap with the truth, each (n, 4) int32, of every image under the rules of its fold.

    Nothing is shown in a fold that has none.
    """
    pred_px, overlap_px = np.zeros((2, len(table), N_CLASSES), np.int32)
    for fold in rules:
        held_out = table.fold == fold
        pred_px[held_out], overlap_px[held_out] = apply_to_table(rules[fold], table.subset(held_out))
    return pred_px, overlap_px


def _folds(table: Table) -> frozenset[int]:
    if len(table) == 0:
        raise UserError("search: the table has no images, allowed: at least one")
    return frozenset(int(fold) for fold in np.unique(table.fold))


def _rotate(
    table: Table, grid: Grid, families: Sequence[str], rotations: dict[int, frozenset[int]]
) -> dict[int, Rules]:
    """Rules for each rotation: a name and the folds that choose."""
    found: dict[int, list[AnyRule]] = {name: [] for name in rotations}
    for k in range(N_CLASSES):  # class after class: the sums of one take up to 200 MB
        one = ClassSearch(table, k, grid, families)
        for name, folds in rotations.items():
            found[name].append(one.adopt(folds))
    return {name: Rules(tuple(classes)) for name, classes in found.items()}
