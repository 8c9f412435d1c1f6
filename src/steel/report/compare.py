"""`steel compare A B`: which of two finished runs is better, by how much and how surely, on strips both held out."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steel import cli
from steel.competition import CLASSES
from steel.config import Solution
from steel.data.folds import group_of
from steel.decide import run
from steel.decide.bootstrap import LEVEL, N_RESAMPLES, Interval, Resamples, interval, resample
from steel.decide.table import Table
from steel.errors import UserError, shorten
from steel.metrics import dice
from steel.paths import Paths
from steel.report.outcomes import WAYS, Outcome, judge
from steel.report.text import text_table
from steel.stage import RECORD

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
class Difference:
    """One number of both runs.

    Attributes:
        a, b: the number; NaN where it does not exist.
        gap: B - A, paired, with its interval.
        b_better: share of the resamples in which B is better, 0..1.
    """

    a: float
    b: float
    gap: Interval
    b_better: float


@dataclass(frozen=True)
class Comparison:
    """Two runs on the strips that both held out.

    Attributes:
        kinds: how A and B were decided on, keys of `outcomes.WAYS`.
        folders: of A and B.
        n_strips: strips in common, of A and of B.
        n_masks: true masks of each class on those in common.
        whole: the competition's score.
        classes: the same of each class (4).
        positive: mean Dice of the true masks.
        public: the mean at the public test set's class shares.
    """

    kinds: tuple[str, str]
    folders: tuple[Path, Path]
    n_strips: tuple[int, int, int]
    n_masks: tuple[int, ...]
    whole: Difference
    classes: tuple[Difference, ...]
    positive: Difference
    public: Difference


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
    true_px = tables[0].true_px[rows[0]]
    group = group_of(Paths(sides[0].solution).folds, ids.tolist())
    found = [
        resample(_values(side, at), true_px > 0, group, n_resamples, seed) for side, at in zip(sides, rows, strict=True)
    ]
    return Comparison(
        kinds=(kinds[0], kinds[-1]),
        folders=(sides[0].folder, sides[1].folder),
        n_strips=(len(ids), len(tables[0]), len(tables[1])),
        n_masks=tuple((true_px > 0).sum(0).tolist()),
        whole=_difference(found[0].mean, found[1].mean),
        classes=tuple(_difference(*columns) for columns in zip(*_by_class(found), strict=True)),
        positive=_difference(found[0].positive, found[1].positive),
        public=_difference(found[0].public, found[1].public),
    )


def format_comparison(found: Comparison) -> str:
    """A table of what is compared, under what was compared, above the verdict."""
    n_masks = found.n_masks
    rows = [_row("mean Dice", sum(n_masks), found.whole)]
    rows += [_row(f"class {c}", n, gap) for c, n, gap in zip(CLASSES, n_masks, found.classes, strict=True)]
    rows += [_row("positive-only", sum(n_masks), found.positive), _row("expected LB", sum(n_masks), found.public)]
    percent = f"{100 * LEVEL:g} % interval"
    n_common, *n_each = found.n_strips
    sides = zip("AB", found.folders, found.kinds, strict=True)
    lines = [f"{letter}: {folder}, {WAYS[kind]}" for letter, folder, kind in sides]
    lines.append(f"{n_common} held-out strips")
    if n_each != [n_common, n_common]:
        lines.append(f"compared on the {n_common} strips that both hold out; A holds out {n_each[0]}, B {n_each[1]}")
    return "\n".join(
        [*lines, text_table(["", "masks", "A", "B", "B - A", percent, "B better in"], rows), verdict(found)]
    )


def verdict(found: Comparison) -> str:
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
    if (differing := np.argwhere(true_px[0] != true_px[1])).size:
        i, k = differing[0]
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


def _by_class(found: Sequence[Resamples]) -> list[NDArray[np.float64]]:
    """Of each side its class means, (4, 1 + B)."""
    return [side.class_mean.T for side in found]


def _difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
    """Of draws (1 + B,) of the same resamples."""
    gap = b - a
    drawn = gap[1:][~np.isnan(gap[1:])]
    return Difference(
        float(a[0]), float(b[0]), interval(gap), float((drawn > 0).mean()) if len(drawn) else float("nan")
    )


def _row(name: str, n_masks: int, found: Difference) -> list[str]:
    cells = [f"{found.a:.5f}", f"{found.b:.5f}", f"{found.gap.value:+.5f}"]
    cells += [f"{found.gap.low:+.5f} to {found.gap.high:+.5f}", f"{100 * found.b_better:.1f} %"]
    return [name, str(n_masks), *("–" if "nan" in cell else cell for cell in cells)]
