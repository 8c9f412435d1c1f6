"""The intervals of the report: of the score, of each class, and of what the leaderboard may show."""

from collections.abc import Sequence
from typing import Any

from steel.competition import CLASSES
from steel.decide.bootstrap import LEVEL, N_RESAMPLES, intervals, resample
from steel.decide.table import Table
from steel.metrics import dice
from steel.report.outcomes import Outcome
from steel.report.section import Numbers
from steel.report.text import number

PERCENT = f"{100 * LEVEL:g} % interval"


def as_json(table: Table, outcome: Outcome, group: Sequence[str]) -> dict[str, Any]:
    """Intervals of all numbers of `bootstrap.Resamples` as plain values; `group`: duplicate group of each strip."""
    values = dice(outcome.pred_px, table.true_px, outcome.overlap_px)
    found = intervals(resample(values, table.true_px > 0, group))
    plain = {
        name: [one.as_json() for one in each] if isinstance(each, list) else each.as_json()
        for name, each in found.items()
    }
    return {"level": LEVEL, "n_resamples": N_RESAMPLES, "n_groups": len(set(group)), **plain}


def of_headline(found: dict[str, Any] | None) -> dict[str, list[float | None] | None]:
    """What of them belongs beside the score: low and high; None without them."""
    names = ("mean", "positive", "public")
    return {f"{name}_interval": [found[name]["low"], found[name]["high"]] if found else None for name in names}


def within(bounds: Sequence[float | None] | None, decimals: int) -> str:
    """An interval in words; empty if it is not known."""
    if bounds is None or None in bounds:
        return ""
    low, high = bounds
    return f"{PERCENT} {low:.{decimals}f} to {high:.{decimals}f}"


def table(found: dict[str, Any]) -> Numbers:
    """The scores of all classes and of each with their intervals, from `as_json`."""
    rows = [["all", *_cells(found["mean"]), *_cells(found["positive"])]]
    for c, mean, positive in zip(CLASSES, found["class_mean"], found["class_positive"], strict=True):
        rows.append([f"class {c}", *_cells(mean), *_cells(positive)])
    return Numbers(
        "Uncertainty",
        ["", "mean Dice", PERCENT, "positive-only", PERCENT],
        rows,
        f"Intervals over {found['n_resamples']} resamples of the strips, duplicates drawn together. The nets and rules "
        "stay as they are: what another training would change is not in them, nor is the luck of a leaderboard score, "
        "which is taken on fewer strips. Of a class with few masks (some ten) the interval is too narrow.",
    )


def _cells(one: dict[str, float | None]) -> list[str]:
    bounds = [one["low"], one["high"]]
    return [number(one["value"]), "–" if None in bounds else " to ".join(map(number, bounds))]
