"""The votes of the models: what the search found, what it gives, and how alike the models are."""

from collections.abc import Mapping, Sequence
from typing import Any

from steel.competition import CLASSES
from steel.decide.bootstrap import LEVEL
from steel.decide.decision import Decision
from steel.report.text import number, text_table


def as_markdown(votes: Mapping[str, Any] | None, decision: Decision) -> list[str]:
    """The section of the report, from what `decide` wrote of its search; nothing where votes were not searched."""
    if votes is None:
        return []
    gap = votes["gap"]
    interval = f"{100 * LEVEL:g} % interval {gap['low']:+.5f} to {gap['high']:+.5f}"
    lines = [
        "## Votes",
        "Searched for each class; used where they surely gained on strips that did not choose them. Leaving one fold "
        f"out, that gives {votes['mean']:.5f}, equal votes {votes['equal_mean']:.5f}: {gap['value']:+.5f} "
        f"({interval}).",
    ]
    for names, part, title in (
        (decision.segmenters, "masks", "Segmenters: how often each counts."),
        (decision.gates, "gates", "Classifiers: how often each counts."),
    ):
        if len(names) > 1:
            lines += [title, _votes_table(names, votes[part])]
            key = "segmenters" if part == "masks" else "gates"
            what = "their Dice where there is a mask" if part == "masks" else "their probabilities"
            lines += [f"Correlation of {what}:", _correlation_table(names, votes["correlations"][key]["all"])]
    return lines


def _votes_table(names: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for c in map(str, CLASSES):
        one = found[c]
        used = "used" if one["is_adopted"] else "no: equal"
        rows.append([c, one["kind"], *map(str, one["counts"]), f"{one['gain']:+.5f}", f"{one['error']:.5f}", used])
    return text_table(["class", "mean of", *names, "gain left out", "standard error", "votes found are"], rows)


def _correlation_table(names: Sequence[str], matrix: Sequence[Sequence[float | None]]) -> str:
    rows = [[name, *(number(value) for value in row)] for name, row in zip(names, matrix, strict=True)]
    return text_table(["", *names], rows)
