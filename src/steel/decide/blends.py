"""How the models of a solution vote: equally, or by weights that surely gain; and the tables under these votes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel.decide.combine import Outputs
from steel.decide.ensemble import Blend
from steel.decide.held_out import build_tables
from steel.decide.sample import Points, Sample, correlations, reduce_strip
from steel.decide.table import Table
from steel.decide.weights import search_blends
from steel.paths import Paths
from steel.workers import cores


@dataclass(frozen=True)
class Ensemble:
    """The votes of a solution's models.

    Attributes:
        ships: the blend chosen on all folds.
        rotations: value of `Table.fold` to the blend chosen on the others.
        tables: of all held-out strips, under each of these blends and under equal votes.
        evidence: what the search found, for the report; empty where votes are equal without any search.
    """

    ships: Blend
    rotations: dict[int, Blend]
    tables: dict[Blend, Table]
    evidence: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def honest(self) -> Table:
        """Every strip under the blend that did not see it."""
        return _stitch({fold: self.tables[blend] for fold, blend in self.rotations.items()})


def vote_equally(paths: Paths, folds: Sequence[int]) -> Ensemble:
    """Every model counts alike."""
    even = _even(paths)
    (table,) = build_tables(paths, folds, [even]).tables
    return Ensemble(even, dict.fromkeys(_folds(table), even), {even: table})


def search_votes(paths: Paths, folds: Sequence[int]) -> Ensemble:
    """Search how often each model counts, on a sample of the pixels; then the exact tables of what is found.

    One pass over the stores gives the table under equal votes and the sample, a second one the other tables.
    """
    even = _even(paths)
    built = build_tables(paths, folds, [even], _reduce)
    (table,) = built.tables
    if len(_folds(table)) < 2:  # nothing can be left out: as for the rules
        return Ensemble(even, dict.fromkeys(_folds(table), even), {even: table})
    sample = Sample.of(built.found, table.fold, table.true_px, built.probs)
    wanted = paths.solution.machine.workers
    found = search_blends(sample, wanted if wanted is not None else cores())
    tables = {even: table}
    if others := [blend for blend in dict.fromkeys([found.ships, *found.rotations.values()]) if blend != even]:
        tables |= zip(others, build_tables(paths, folds, others).tables, strict=True)
    return Ensemble(found.ships, found.rotations, tables, found.evidence() | {"correlations": correlations(sample)})


def _reduce(outputs: Outputs, mask_bits: NDArray[np.uint8]) -> Points:
    return reduce_strip(outputs.maps, mask_bits)


def _even(paths: Paths) -> Blend:
    return Blend.equal(len(paths.solution.segmenters), len(paths.solution.gates))


def _folds(table: Table) -> list[int]:
    return [int(fold) for fold in np.unique(table.fold)]


def _stitch(tables: Mapping[int, Table]) -> Table:
    """The strips of each fold from a table of its own."""
    first = next(iter(tables.values()))
    if all(table is first for table in tables.values()):
        return first
    columns = {f.name: getattr(first, f.name).copy() for f in fields(Table)}
    for fold, table in tables.items():
        rows = table.fold == fold
        for name, column in columns.items():
            column[rows] = getattr(table, name)[rows]
    return Table(**columns)
