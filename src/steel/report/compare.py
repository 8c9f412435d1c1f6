"""`steel compare A B`: which of two finished runs is better, by how much and how surely, on strips both held out."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steel import cli
from steel.config import Solution
from steel.data.folds import group_of
from steel.decide import run
from steel.decide.bootstrap import LEVEL, N_RESAMPLES
from steel.decide.table import Table
from steel.errors import UserError, shorten
from steel.metrics import dice
from steel.paths import Paths
from steel.report import options, paired
from steel.report.outcomes import WAYS, Outcome, judge
from steel.report.paired import Paired
from steel.report.text import text_table
from steel.stage import RECORD, Leaf

KINDS = ("lofo", "plain", "fixed", "empty", "in_sample")  # ways of deciding that can be compared
WRITTEN = (run.TABLE, run.RULES, run.SOLUTION)


@dataclass(frozen=True)
class Side:
    """One of the two runs.

    Attributes:
        folder: of the run.
        solution: as the run stored it.
        table, outcome: the held-out strips, and what is shown of them.
    """

    folder: Path
    solution: Solution
    table: Table
    outcome: Outcome


@dataclass(frozen=True)
class Comparison:
    """Two runs on the strips that both held out.

    Attributes:
        kinds: how A and B were decided on, keys of `outcomes.WAYS`.
        folders: of A and B.
        n_strips: strips in common, of A and of B.
        options: in which their solutions differ.
        found: the numbers of both, paired.
    """

    kinds: tuple[str, str]
    folders: tuple[Path, Path]
    n_strips: tuple[int, int, int]
    options: Sequence[Leaf]
    found: Paired


def compare(
    a: Path, b: Path, kinds: Sequence[str] = ("lofo",), n_resamples: int = N_RESAMPLES, seed: int = 0
) -> Comparison:
    """Compare two finished runs, each given by its solution's YAML or by its folder, such as runs/demo.

    `kinds`: how both were decided on, or A and B each: one run under two rules tells what the second gains.

    Raises UserError for a run that is not finished, for runs without a strip in common or with other labels of it, and
    for a way of deciding that a run does not have.
    """
    if not 1 <= len(kinds) <= 2:
        raise UserError(
            f"--rules: {' '.join(kinds)} are {len(kinds)} ways; allowed: one for both, or one for A and B each"
        )
    sides = [_open(path, kind) for path, kind in zip((a, b), (kinds[0], kinds[-1]), strict=True)]
    tables = [side.table for side in sides]
    ids, *rows = np.intersect1d(tables[0].image_ids, tables[1].image_ids, return_indices=True)
    if not len(ids):
        names = " and ".join(f"{side.folder} (data {side.solution.data.name})" for side in sides)
        raise UserError(f"compare: {names} hold out no strip in common; allowed: runs on the same data")
    _check_labels(sides, rows)
    values = [_values(side, at) for side, at in zip(sides, rows, strict=True)]
    group = group_of(Paths(sides[0].solution).folds, ids.tolist())
    return Comparison(
        kinds=(kinds[0], kinds[-1]),
        folders=(sides[0].folder, sides[1].folder),
        n_strips=(len(ids), len(tables[0]), len(tables[1])),
        options=options.differing(*(asdict(side.solution) for side in sides)),
        found=paired.pair(values[0], values[1], tables[0].true_px[rows[0]] > 0, group, n_resamples, seed),
    )


def format_comparison(made: Comparison) -> str:
    """A table of what is compared, under what was compared, above the verdict."""
    n_common, *n_each = made.n_strips
    sides = zip("AB", made.folders, made.kinds, strict=True)
    lines = [f"{letter}: {folder}, {WAYS[kind]}" for letter, folder, kind in sides]
    lines.append(f"{n_common} held-out strips")
    if n_each != [n_common, n_common]:
        lines.append(f"compared on the {n_common} strips that both hold out; A holds out {n_each[0]}, B {n_each[1]}")
    tables = [options.table(made.options, "A", "B")] if made.options else []
    tables.append(paired.table(made.found, "", "A", "B", "B - A"))
    return "\n".join([*lines, *(text_table(one.head, one.rows) for one in tables), verdict(made.found)])


def verdict(found: Paired) -> str:
    """One sentence: which is better, by how much of the mean Dice, and how sure that is."""
    gap = found.whole.gap
    if gap.value == gap.low == gap.high == 0:
        return "Neither is better: both score the same."
    ahead, (low, high) = ("B", (gap.low, gap.high)) if gap.value >= 0 else ("A", (-gap.high, -gap.low))
    lead = f"{abs(gap.value):.5f} of the mean Dice ({100 * LEVEL:g} % interval {low:+.5f} to {high:+.5f})"
    if low > 0:
        return f"{ahead} is better, by {lead}."
    return f"Neither is clearly better: {ahead} is ahead by {lead}."


def _open(path: Path, kind: str) -> Side:
    """A finished run, by its YAML or its folder."""
    if not path.exists():
        raise UserError(f"compare: there is no {path}; allowed: the folder of a run, such as runs/demo, or its YAML")
    folder = path if path.is_dir() else Paths(cli.parse("status", "", [str(path)])[0]).run
    decided = folder / "decide"
    if missing := [name for name in (RECORD, *WRITTEN) if not (decided / name).is_file()]:
        raise UserError(f"{path}: {decided} has no {shorten(missing)}: run `steel decide CONFIG` first")
    run.check_whole(decided)
    solution, _ = cli.parse("status", "", [str(decided / "solution.json")])
    table, ships, decision = run.load(decided)
    outcomes = judge(table, decision, ships)
    if kind not in KINDS or kind not in outcomes:
        allowed = [name for name in KINDS if name in outcomes]
        raise UserError(f"--rules: {path} has no {kind!r}; allowed: {', '.join(allowed)}")
    return Side(folder, solution, table, outcomes[kind])


def _check_labels(sides: Sequence[Side], rows: Sequence[NDArray[np.intp]]) -> None:
    """The strips in common must have masks of the same area; sides and their rows, two each."""
    true_px = [side.table.true_px[at] for side, at in zip(sides, rows, strict=True)]
    if (unlike := np.argwhere(true_px[0] != true_px[1])).size:
        i, k = unlike[0]
        areas = " and ".join(
            f"{px[i, k]} px in {side.folder} (data {side.solution.data.name})"
            for side, px in zip(sides, true_px, strict=True)
        )
        image_id = sides[0].table.image_ids[rows[0][i]]
        raise UserError(f"compare: class {k + 1} of {image_id} has {areas}; allowed: runs on the same labels")


def _values(side: Side, rows: NDArray[np.intp]) -> NDArray[np.float64]:
    """Dice of some rows of a side's table, (n, 4)."""
    outcome = side.outcome
    return dice(outcome.pred_px[rows], side.table.true_px[rows], outcome.overlap_px[rows])
