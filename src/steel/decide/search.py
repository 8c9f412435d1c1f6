"""Search of the rules on the table, exactly, in a fraction of a second: in sample, and leaving one fold out."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class InSample:
    """Rules tuned on all images and applied to the same images: optimistic, the rules that ship.

    Attributes:
        rules: the rules.
        families: the family of each class's rule, a name of FAMILIES.
        pred_px, overlap_px: (n, 4) int32 under them.
    """

    rules: Rules
    families: tuple[str, ...]
    pred_px: NDArray[np.int32]
    overlap_px: NDArray[np.int32]


@dataclass(frozen=True)
class LofoResult:
    """Every image under the rules that did not see it: the honest score.

    Attributes:
        rules: fold to the rules searched on all other folds.
        families: fold to the family of each class's rule, chosen on all other folds too.
        pred_px, overlap_px: (n, 4) int32, in the order of the table.
    """

    rules: dict[int, Rules]
    families: dict[int, tuple[str, ...]]
    pred_px: NDArray[np.int32]
    overlap_px: NDArray[np.int32]


def search(table: Table, grid: Grid, families: Sequence[str] = ALL) -> Rules:
    """The best rules on all images of the table, each class on its own (see `ClassSearch.adopt`)."""
    return in_sample(table, grid, families).rules


def in_sample(table: Table, grid: Grid, families: Sequence[str] = ALL) -> InSample:
    """Search on all images and apply to the same ones; the plain rule and, where it is adopted, one of `families`."""
    everywhere = _folds(table)
    rules, names = _rotate(table, grid, families, {0: everywhere})
    return InSample(rules[0], names[0], *apply_to_table(rules[0], table))


def lofo(
    table: Table, grid: Grid, families: Sequence[str] = ALL, left_out: Collection[int] | None = None
) -> LofoResult:
    """Leave one fold out: choose family and rule on the other folds, apply on the one left out, for every fold in turn.

    Args:
        table: of the images.
        grid: minimum areas and gates to try.
        families: those that may be adopted over the plain rule.
        left_out: the folds to be left out in turn; None for all. Nothing is shown in the others.
    """
    folds = _folds(table)
    if len(folds) < 2:
        raise UserError(f"lofo: the table has the folds {sorted(folds)}, allowed: at least two")
    rotations = {fold: folds - {fold} for fold in sorted(folds if left_out is None else left_out)}
    rules, names = _rotate(table, grid, families, rotations)
    return LofoResult(rules, names, *apply_rotated(rules, table))


def apply_rotated(rules: Mapping[int, Rules], table: Table) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Pixels shown and their overlap with the truth, each (n, 4), of every image under the rules of its fold."""
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
) -> tuple[dict[int, Rules], dict[int, tuple[str, ...]]]:
    """Rules, and the families of their classes, for each rotation: a name and the folds that choose."""
    found: dict[int, list[tuple[str, AnyRule]]] = {name: [] for name in rotations}
    for k in range(N_CLASSES):  # class after class: the sums of one take up to 200 MB
        one = ClassSearch(table, k, grid, families)
        for name, folds in rotations.items():
            found[name].append(one.adopt(folds))
    rules = {name: Rules(tuple(rule for _, rule in classes)) for name, classes in found.items()}
    return rules, {name: tuple(family for family, _ in classes) for name, classes in found.items()}
