"""What has changed: against the run that this solution's report told of before, or against another run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import pandas as pd

from steel import files
from steel.competition import N_CLASSES
from steel.decide.bootstrap import LEVEL
from steel.errors import UserError
from steel.metrics import dice
from steel.report import options, paired, strip_table
from steel.report.paired import Difference, Paired
from steel.report.section import Section
from steel.stage import Leaf

NUMBERS, PREVIOUS = "cv.json", "previous"
CONFIG = "config"  # the solution, among the numbers


@dataclass(frozen=True)
class Change:
    """What the report told of before (A) and what it tells of now (B), on the strips of both.

    Attributes:
        other: what it is compared with.
        n_strips: those of both.
        options: in which the solutions differ; None: of before they are not known.
        found: the numbers of both, paired.
    """

    other: str
    n_strips: int
    options: Sequence[Leaf] | None
    found: Paired

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON: gains by name, and options as lists of name, before, now."""
        gains = {name: {"n_masks": n, **_plain(one)} for name, n, one in self.found.rows()}
        return {"other": self.other, "n_strips": self.n_strips, "options": self.options, "gains": gains}


def keep(folder: Path, decided: str) -> None:
    """Put numbers and strips of the report that stands aside, as the previous one's.

    Killed while it is written, a report has new numbers and old strips, and nothing is put aside of it: that was done.

    `decided`: digest of what the report that is about to be written tells of; of the same, nothing is put aside.
    """
    here = [folder / name for name in (NUMBERS, strip_table.FILE)]
    if not all(path.exists() for path in here) or files.read_json(here[0]).get("decided") == decided:
        return
    for path in reversed(here):  # the numbers last: they say of what they tell
        with files.atomic(folder / PREVIOUS / path.name) as temporary:
            temporary.write_bytes(path.read_bytes())


def since_previous(folder: Path, now: pd.DataFrame, group: Sequence[str], config: Mapping[str, Any]) -> Change | None:
    """Against what `keep` has put aside; None if there is none, or no strip of now in it."""
    before = folder / PREVIOUS
    return against(before, "the previous run", now, group, config) if (before / strip_table.FILE).exists() else None


def check_other(run: Path, own: Path) -> None:
    """Refuse to compare a run with itself, or with one that has no report."""
    if run.resolve() == own.resolve():
        raise UserError(f"report.against: {run} is this very run; allowed: the folder of another one")
    if not run.is_dir():
        raise UserError(f"report.against: there is no folder {run}; allowed: that of a run, such as runs/demo")
    if not (path := run / "report" / strip_table.FILE).exists():
        raise UserError(f"report.against: {path} does not exist: run `steel report` for {run} first")


def since_other(run: Path, own: Path, now: pd.DataFrame, group: Sequence[str], config: Mapping[str, Any]) -> Change:
    """Against another run, by its folder, such as runs/demo; a UserError if it is `own`, or has no strip of it."""
    check_other(run, own)
    report = run / "report"
    if (found := against(report, str(run), now, group, config)) is None:
        raise UserError(f"report.against: {run} holds out no strip of this run; allowed: runs on the same data")
    return found


def against(
    report: Path, name: str, now: pd.DataFrame, group: Sequence[str], config: Mapping[str, Any]
) -> Change | None:
    """The change since another report; None if none of its strips is there now, with masks of the same area.

    Args:
        report: folder with the numbers and the strips of before.
        name: what to call it.
        now: as `strip_table.of_outcome` gives it.
        group: duplicate group of each strip of now, in its order.
        config: the solution of now as plain values.
    """
    before = strip_table.load(report / strip_table.FILE)
    group_of = dict(zip(now.image_id[::N_CLASSES], group, strict=True))
    both = now.merge(before, on=["image_id", "class_id", "true_px"], suffixes=("", "_before"))
    both = both[both.groupby("image_id").image_id.transform("size") == N_CLASSES]
    if both.empty:
        return None
    both = both.sort_values(["image_id", "class_id"])
    true_px, shown_px, overlap_px, shown_before, overlap_before = (
        both[name].to_numpy().reshape(-1, N_CLASSES)
        for name in ("true_px", "shown_px", "overlap_px", "shown_px_before", "overlap_px_before")
    )
    groups = [group_of[image_id] for image_id in both.image_id[::N_CLASSES]]
    values = [dice(shown_before, true_px, overlap_before), dice(shown_px, true_px, overlap_px)]
    then = files.read_json(report / NUMBERS).get(CONFIG) if (report / NUMBERS).exists() else None
    differing = None if then is None else options.differing(then, config)
    return Change(name, len(true_px), differing, paired.pair(values[0], values[1], true_px > 0, groups))


def told(change: Change) -> str:
    """In words: how much, and how surely."""
    gap = change.found.whole.gap
    against = f"{change.other} ({change.found.whole.a:.5f}) on the {change.n_strips} strips of both"
    if gap.value == gap.low == gap.high == 0:
        return f"the same as {against}."
    way = "better than" if gap.low > 0 else "worse than" if gap.high < 0 else "not clearly better or worse than"
    return f"{way} {against}: {gap.value:+.5f}, {100 * LEVEL:g} % interval {gap.low:+.5f} to {gap.high:+.5f}."


def section(changes: Sequence[Change]) -> Section:
    """What differs, and the gains by class."""
    blocks = []
    for one in changes:
        blocks.append(paired.table(one.found, f"Now, and {one.other}", "before", "now", "gain"))
        if one.options:
            blocks.append(options.table(one.options, "before", "now"))
    return Section("change", "Change", [f"This run is {told(one)} {_why(one)}" for one in changes], blocks)


def _why(change: Change) -> str:
    if change.options is None:
        return "Its options are not known."
    return f"What differs: {options.told(change.options)}." if change.options else "No option differs."


def _plain(one: Difference) -> dict[str, float | None]:
    """Of JSON, which knows no NaN."""
    found = {"before": one.a, "now": one.b, "gain": one.gap.value, "low": one.gap.low, "high": one.gap.high}
    return {key: None if isnan(value) else value for key, value in found.items()}
