"""How the models of a solution vote: equally, or by weights that surely gain; and the tables under these votes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steel.data.cache import open_strips
from steel.decide.combine import Outputs
from steel.decide.ensemble import Blend
from steel.decide.held_out import build_tables
from steel.decide.model_scores import Alone, look_alone
from steel.decide.sample import Points, Sample, reduce_strip
from steel.decide.table import Table
from steel.decide.weights import search_blends
from steel.paths import Paths
from steel.workers import cores


@dataclass(frozen=True)
class Ensemble:
    """The votes of a solution's models, and what the pass over their maps has told of each.

    Attributes:
        ships: the blend chosen on all folds.
        rotations: value of `Table.fold` to the blend chosen on the others.
        tables: of all held-out strips, under each of these blends and under equal votes.
        evidence: what the search found, for the report; empty where votes are equal without any search.
        alone: of each strip, what the segmenters show, each alone.
        probs: class probabilities (n, 4) of each classifier.
        sample: of the pixels; None where there are no two models of a kind.
    """

    ships: Blend
    rotations: dict[int, Blend]
    tables: dict[Blend, Table]
    evidence: dict[str, Any] = field(default_factory=dict)
    alone: list[Alone] = field(default_factory=list)
    probs: list[NDArray[np.float64]] = field(default_factory=list)
    sample: Sample | None = None

    @cached_property
    def honest(self) -> Table:
        """Every strip under the blend that did not see it."""
        return _stitch({fold: self.tables[blend] for fold, blend in self.rotations.items()})


def vote_equally(paths: Paths, folds: Sequence[int]) -> Ensemble:
    """Every model counts alike: one pass over the stores."""
    segmenters, gates = paths.solution.segmenters, paths.solution.gates
    even = Blend.equal(len(segmenters), len(gates))
    n_strips = len(open_strips(paths.cache, "train").index)
    look = partial(_look, n_strips=n_strips if max(len(segmenters), len(gates)) > 1 else 0)
    built = build_tables(paths, folds, [even], look)
    (table,) = built.tables
    points = [found for _, found in built.found if found is not None]
    return Ensemble(
        ships=even,
        rotations=dict.fromkeys(np.unique(table.fold).tolist(), even),
        tables={even: table},
        alone=[alone for alone, _ in built.found],
        probs=built.probs,
        sample=Sample.of(points, table.fold, table.true_px, built.probs) if points else None,
    )


def search_votes(paths: Paths, folds: Sequence[int]) -> Ensemble:
    """Search how often each model counts, on a sample of the pixels; then the exact tables of what is found.

    One pass over the stores gives the table under equal votes and the sample, a second one the other tables.
    """
    equally = vote_equally(paths, folds)
    if equally.sample is None or len(equally.rotations) < 2:  # nothing to weigh, or to leave out
        return equally
    wanted = paths.solution.machine.workers
    found = search_blends(equally.sample, wanted if wanted is not None else cores())
    tables = dict(equally.tables)
    if others := [blend for blend in dict.fromkeys([found.ships, *found.rotations.values()]) if blend not in tables]:
        tables |= zip(others, build_tables(paths, folds, others).tables, strict=True)
    return replace(
        equally, ships=found.ships, rotations=found.rotations, tables=tables, evidence=dict(found.evidence())
    )


def _look(outputs: Outputs, mask_bits: NDArray[np.uint8], n_strips: int) -> tuple[Alone, Points | None]:
    """In a worker; `n_strips` is how many share the sample, 0 if there is none."""
    points = reduce_strip(outputs.maps, mask_bits, n_strips) if n_strips else None
    return look_alone(outputs, mask_bits), points


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
