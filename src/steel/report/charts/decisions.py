"""Section `decisions`: the surfaces and their plateaus, the gates, what ships, and what families of rules add."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import altair as alt

from steel.decide.decision import Decision
from steel.decide.families import FAMILIES, PLAIN
from steel.decide.surfaces import Surfaces
from steel.decide.table import Table
from steel.report import cv
from steel.report.charts import gates
from steel.report.charts.draw import BLUE, figure
from steel.report.charts.intervals import GAIN, ROW_PX, dots
from steel.report.charts.surfaces import surface
from steel.report.outcomes import Outcome
from steel.report.section import Figure, Numbers, Section
from steel.report.uncertainty import PERCENT


def section(
    surfaces: Surfaces, table: Table, decision: Decision, outcome: Outcome, families: Mapping[str, Any] | None
) -> Section:
    """How masks are decided on, class by class.

    Args:
        surfaces: of the plain rule.
        table: every strip under the votes that did not see it.
        decision: votes and rules.
        outcome: what is shown of the table under rules that did not see it.
        families: name to "gain", "low", "high", "adopted_in" and "n_rotations", and PLAIN to "mean"; None: not known.
    """
    blocks: list[Figure | Numbers] = [cv.class_table(outcome.score(table).as_dict(), decision)]
    blocks += [surface(surfaces, k, rule) for k, rule in enumerate(decision.tuned.classes)]
    blocks += gates.figures(table, decision)
    if families is not None and len(families) > 1:
        blocks += [_families(families), _families_table(families)]
    return Section(
        "decisions",
        "Decisions",
        [
            "A surface is the mean Dice of plain rules on all held-out strips, at the gate of the chosen one. The ring "
            "is the plain rule's choice: the point whose neighbourhood, the box around it and as far in gates, scores "
            "best on average. It was chosen on these very strips, so its score is optimistic. Where another rule "
            "ships, a diamond has its threshold and minimum area; what more it asks, and its gate, have no place on "
            "the surface. The table has all that ships, and what such rules score on strips that did not choose them.",
        ],
        blocks,
    )


def _families(families: Mapping[str, Any]) -> Figure:
    """Gains over the plain rules with their intervals, the largest first."""
    rows = [
        {"family": (label := _name(name)), "words": f"{label}: {FAMILIES[name].asks}", **families[name]}
        for name in _ranked(families)
    ]
    named = [
        alt.Tooltip("family:N"),
        alt.Tooltip("adopted_in:Q", title="adopted in"),
        alt.Tooltip("n_rotations:Q", title="of rotations"),
    ]
    y = alt.Y("family:N", title=None, sort=[row["family"] for row in rows], axis=None)
    gains = [{**row, "value": row["gain"]} for row in rows]
    layers = dots(gains, y, "gain in mean Dice over plain rules", named, GAIN, color=alt.value(BLUE))
    words = alt.Chart({"values": rows}).mark_text(align="left", dx=2, dy=-14, fontSize=12)
    layers.append(words.encode(x=alt.value(0), y=y, text="words:N", tooltip=named))
    told = ", ".join(f"{row['family']} {row['gain']:+.5f}" for row in rows)
    return figure(
        "families",
        f"What each family of rules adds, leaving one fold out, with the {PERCENT}",
        f"Gain in mean Dice over plain rules ({families[PLAIN]['mean']:.5f}) with the {PERCENT}: {told}.",
        alt.layer(*layers).properties(width="container", height=1.3 * ROW_PX * len(rows)),
    )


def _families_table(families: Mapping[str, Any]) -> Numbers:
    rows = []
    for name in _ranked(families):
        one = families[name]
        used = f"{one['adopted_in']} of {one['n_rotations']}"
        bounds = f"{one['low']:+.5f} to {one['high']:+.5f}"
        rows.append([_name(name), f"{one['gain']:+.5f}", bounds, used, FAMILIES[name].asks])
    head = ["family", "gain over plain", PERCENT, "adopted in (rotations of classes)", "what it asks"]
    return Numbers(f"Families of rules; plain ones score {families[PLAIN]['mean']:.5f}", head, rows)


def _name(family: str) -> str:
    return family.replace("_", " ")


def _ranked(families: Mapping[str, Any]) -> list[str]:
    return sorted((name for name in families if name != PLAIN), key=lambda name: -families[name]["gain"])
