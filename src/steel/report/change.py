"""What has changed: against the run that this solution's report told of before, or against another run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from steel import files
from steel.competition import N_CLASSES
from steel.decide.bootstrap import LEVEL, interval, resample
from steel.errors import UserError
from steel.metrics import dice
from steel.report import strip_table

NUMBERS, PREVIOUS = "cv.json", "previous"


@dataclass(frozen=True)
class Change:
    """The mean Dice of now less that of before, paired, on the strips of both.

    Attributes:
        other: what it is compared with.
        n_strips: those of both.
        before, gain: mean Dice then, and how much more it is now.
        low, high: interval of the gain.
    """

    other: str
    n_strips: int
    before: float
    gain: float
    low: float
    high: float

    def as_dict(self) -> dict[str, Any]:
        """The fields as plain values for JSON."""
        return asdict(self)


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


def since_previous(folder: Path, now: pd.DataFrame, group: Sequence[str]) -> Change | None:
    """Against what `keep` has put aside; None if there is none, or no strip of now in it."""
    path = folder / PREVIOUS / strip_table.FILE
    return against(path, "the previous run", now, group) if path.exists() else None


def since_other(run: Path, own: Path, now: pd.DataFrame, group: Sequence[str]) -> Change:
    """Against another run, by its folder, such as runs/demo; a UserError if it is `own`, or has no strip of it."""
    if run.resolve() == own.resolve():
        raise UserError(f"report.against: {run} is this very run; allowed: the folder of another one")
    path = run / "report" / strip_table.FILE
    if not path.exists():
        raise UserError(f"report.against: {path} does not exist: run `steel report` for {run} first")
    if (found := against(path, str(run), now, group)) is None:
        raise UserError(f"report.against: {run} holds out no strip of this run; allowed: runs on the same data")
    return found


def against(path: Path, name: str, now: pd.DataFrame, group: Sequence[str]) -> Change | None:
    """The change since a table of strips; None if none of its strips is there now, with masks of the same area.

    Args:
        path: of the table of before.
        name: what to call it.
        now: as `strip_table.of_outcome` gives it.
        group: duplicate group of each strip of now, in its order.
    """
    before = strip_table.load(path)
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
    values = [dice(shown_px, true_px, overlap_px), dice(shown_before, true_px, overlap_before)]
    after, then = (resample(of_one, true_px > 0, groups).mean for of_one in values)
    gain = interval(after - then)
    return Change(name, len(true_px), float(then[0]), gain.value, gain.low, gain.high)


def told(change: Change) -> str:
    """In words."""
    luck = "beyond" if change.low > 0 or change.high < 0 else "within"
    way = "the same as" if change.gain == 0 else "better than" if change.gain > 0 else "worse than"
    bounds = f"{100 * LEVEL:g} % interval {change.low:+.5f} to {change.high:+.5f}"
    lead = f"{way} {change.other} ({change.before:.5f}) on the {change.n_strips} strips of both"
    if change.gain == change.low == change.high == 0:
        return f"{lead}."
    return f"{lead}: {change.gain:+.5f}, {bounds}: {luck} the luck of the strips."
