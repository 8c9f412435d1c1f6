"""The votes of the models: what the search found, what it gives, and how alike the models are."""

from collections.abc import Mapping, Sequence
from typing import Any

from steel.competition import CLASSES
from steel.decide.bootstrap import LEVEL
from steel.decide.decision import Decision
from steel.report.section import Numbers
from steel.report.text import number


def told(votes: Mapping[str, Any]) -> str:
    """What the search gives, in words, from what `decide` wrote of it."""
    gap = votes["gap"]
    interval = f"{100 * LEVEL:g} % interval {gap['low']:+.5f} to {gap['high']:+.5f}"
    return (
        "Votes were searched for each class, and are used where they surely gained on strips that did not choose them. "
        f"Leaving one fold out, that gives {votes['mean']:.5f}, equal votes {votes['equal_mean']:.5f}: "
        f"{gap['value']:+.5f} ({interval})."
    )


def tables(votes: Mapping[str, Any], decision: Decision) -> list[Numbers]:
    """How often each model counts, and how alike they are; of a kind with one model there is nothing to weigh."""
    found = []
    for names, part, key, what in (
        (decision.segmenters, "masks", "segmenters", "Dice where there is a mask"),
        (decision.gates, "gates", "gates", "probabilities"),
    ):
        if len(names) > 1:
            found.append(votes_table(key, names, votes[part]))
            found.append(_correlation_table(f"Correlation of the {key}' {what}", names, votes["correlations"][key]))
    return found


def votes_table(plural: str, names: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> Numbers:
    """How often each model of a kind counts in each class; `found`: "masks" or "gates" of what `decide` wrote."""
    rows = []
    for c in map(str, CLASSES):
        one = found[c]
        used = "yes" if one["is_adopted"] else "no: equal"
        rows.append([c, one["kind"], *map(str, one["counts"]), f"{one['gain']:+.5f}", f"{one['error']:.5f}", used])
    head = ["class", "mean of", *names, "gain left out", "standard error", "used"]
    return Numbers(f"Votes found for the {plural}: how often each counts", head, rows)


def _correlation_table(caption: str, names: Sequence[str], found: Mapping[str, Any]) -> Numbers:
    rows = [[name, *map(number, values)] for name, values in zip(names, found["all"], strict=True)]
    return Numbers(caption, ["", *names], rows)
