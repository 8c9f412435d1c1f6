"""How alike the models of a kind are, and the votes that were found for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from steel.competition import CLASSES
from steel.report.charts.alone import by_model
from steel.report.charts.draw import DARK, LIGHT, figure, seamless
from steel.report.charts.intervals import ROW_PX
from steel.report.section import Figure

WHAT = {"segmenters": "Dice where there is a mask", "gates": "probabilities"}  # that correlates


def correlation(plural: str, names: Sequence[str], matrices: Mapping[str, Any]) -> Figure:
    """A matrix of all classes; of each class, on hovering."""
    parts = {"all": "all classes", **{str(c): f"class {c}" for c in CLASSES}}
    present = {key: title for key, title in parts.items() if matrices.get(key)}
    cells: list[dict[str, Any]] = [
        {"a": a, "b": b} | {key: _rounded(matrices[key][i][j]) for key in present}
        for i, a in enumerate(names)
        for j, b in enumerate(names)
    ]
    others = [cell["all"] for cell in cells if cell["a"] != cell["b"] and cell["all"] is not None]
    low = min(others, default=0.0)
    tooltip = [alt.Tooltip("a:N", title="model"), alt.Tooltip("b:N", title="and")]
    tooltip += [alt.Tooltip(f"{key}:Q", title=title, format=".3f") for key, title in present.items()]
    order, slant = list(names), alt.Axis(labelAngle=-40, labelLimit=90)
    base = alt.Chart({"values": cells}).encode(
        x=alt.X("b:N", title=None, sort=order, axis=slant), y=by_model(order, "a"), tooltip=tooltip
    )
    scale = alt.Scale(scheme="viridis", domain=[min(low, 0.999), 1], clamp=True)
    rects = base.mark_rect(**seamless("all")).encode(
        color=alt.Color("all:Q", title="correlation", scale=scale, legend=alt.Legend(orient="bottom"))
    )
    ink = alt.condition(f"datum.all > {(low + 1) / 2}", alt.value(DARK), alt.value(LIGHT))
    text = base.mark_text(fontSize=11).encode(text=alt.Text("all:Q", format=".2f"), color=ink)
    told = f"between {low:.3f} and {max(others):.3f}" if others else "not defined"
    return figure(
        f"models-correlation-{plural}",
        f"Correlation of the {plural}",
        f"Correlation of the {plural}' {WHAT[plural]} for each pair of {', '.join(names)}: {told}.",
        alt.layer(rects, text).properties(width="container", height=ROW_PX * len(names) + 20),
    )


def votes(plural: str, names: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """How often each model counts in each class; pale where equal votes are used instead."""
    tooltip = [
        alt.Tooltip("class:N"),
        alt.Tooltip("model:N"),
        alt.Tooltip("count:Q", title="counts"),
        alt.Tooltip("share:Q", title="share, %", format=".1f"),
        alt.Tooltip("used:N", title="these votes are used"),
    ]
    bars = alt.Chart({"values": _vote_rows(names, found)}).mark_bar()
    chart = bars.encode(
        x=alt.X("share:Q", title="share of the votes, %", scale=alt.Scale(domain=[0, 100])),
        y=alt.Y("class:N", title="class"),
        color=alt.Color("model:N", sort=list(names), legend=alt.Legend(orient="bottom", columns=2)),
        opacity=alt.condition("datum.used == 'yes'", alt.value(1.0), alt.value(0.45)),
        order=alt.Order("place:Q"),
        tooltip=tooltip,
    )
    adopted = [c for c in map(str, CLASSES) if found[c]["is_adopted"]]
    told = f"used in class {', '.join(adopted)}" if adopted else "used in no class"
    return figure(
        f"models-votes-{plural}",
        f"Votes found for the {plural}; pale: equal ones are used instead",
        f"How often each of {', '.join(names)} counts in each class. These votes are {told}; where they are pale, "
        "equal ones are used.",
        chart.properties(width="container", height=ROW_PX * len(CLASSES)),
    )


def _vote_rows(names: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A row for each class and model."""
    rows = []
    for c in map(str, CLASSES):
        one = found[c]
        used = "yes" if one["is_adopted"] else "no: equal votes are"
        for place, (name, count) in enumerate(zip(names, one["counts"], strict=True)):
            share = round(100 * count / sum(one["counts"]), 2)
            rows.append({"class": c, "model": name, "count": count, "share": share, "place": place, "used": used})
    return rows


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
