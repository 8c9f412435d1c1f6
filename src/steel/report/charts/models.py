"""Section `models`: each alone, the ensemble without each, how alike they are, and their votes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from steel.competition import CLASSES
from steel.report.charts.draw import figure
from steel.report.outcomes import WAYS
from steel.report.section import Figure, Numbers, Section
from steel.report.text import number

# Role in cv.json: (keys of the votes and of the correlations, its name, its colour, what correlates).
ROLES = {
    "segmenter": ("masks", "segmenters", "#0072b2", "Dice where there is a mask"),
    "gate": ("gates", "gates", "#d55e00", "probabilities"),
}
SCORES = {"mean": "mean Dice", "positive": "positive-only Dice"}
GREY = "#888888"
ROW_PX = 34  # height of a model's row
DARK, LIGHT = "#222222", "#eeeeee"  # text on cells, whose colours are the same in both themes


def section(
    rows: Sequence[Mapping[str, Any]], votes: Mapping[str, Any] | None, extra: Mapping[str, Any] | None
) -> Section:
    """Charts and tables of the models.

    Args:
        rows: "models" of cv.json.
        votes: "votes" of cv.json; None where they were not searched.
        extra: "left_out" and "correlations" by role, as `decide` writes them; what is None or lacking is left out.
    """
    names = {role: [row["name"] for row in rows if row["role"] == role] for role in ROLES}
    left_out = (extra or {}).get("left_out") or {}
    correlations = (extra or {}).get("correlations") or (votes or {}).get("correlations") or {}
    blocks: list[Figure | Numbers] = []
    if rows:
        blocks += [*(_alone(rows, key) for key in SCORES), _alone_table(rows)]
    if any(left_out.get(plural) for _, plural, _, _ in ROLES.values()):
        blocks += [_left_out(left_out), _left_out_table(left_out)]
    for role, (part, plural, _, what) in ROLES.items():
        if len(names[role]) < 2:
            continue
        if correlations.get(plural):
            blocks.append(_correlation(plural, names[role], correlations[plural], what))
        if votes is not None:
            blocks += [_votes(plural, names[role], votes[part]), _votes_table(plural, names[role], votes[part])]
    return Section("models", "Models", _lead(rows), blocks)


def _lead(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    if not rows:
        return ["No model was judged alone."]
    return [
        "A segmenter alone is its masks without any gate; a gate alone is all segmenters together, gated by it. Scores "
        f"are the competition's on all {rows[0]['score']['n_images']} held-out strips, {WAYS[rows[0]['rules']]}."
    ]


def _by_role() -> alt.Color:
    colours = [colour for _, _, colour, _ in ROLES.values()]
    return alt.Color(
        "role:N", title="as", scale=alt.Scale(domain=list(ROLES), range=colours), legend=alt.Legend(orient="bottom")
    )


def _by_model(names: Sequence[str], field: str = "model") -> alt.Y:
    return alt.Y(f"{field}:N", title=None, sort=list(dict.fromkeys(names)), axis=alt.Axis(labelLimit=110))


def _alone(rows: Sequence[Mapping[str, Any]], key: str) -> Figure:
    """One kind of score of every model alone."""
    found = [
        {"model": row["name"], "role": row["role"], "net": row["net"], "dice": round(row["score"][key], 5)}
        for row in rows
        if row["score"][key] is not None
    ]
    names = [row["model"] for row in found]
    tooltip = [
        alt.Tooltip("model:N"),
        alt.Tooltip("role:N", title="as"),
        alt.Tooltip("net:N"),
        alt.Tooltip("dice:Q", title=SCORES[key], format=".5f"),
    ]
    chart = (
        alt.Chart({"values": found})
        .mark_point(filled=True, size=110, opacity=0.9)
        .encode(
            x=alt.X(
                "dice:Q", title=SCORES[key], scale=alt.Scale(zero=False), axis=alt.Axis(tickCount=5, labelSeparation=8)
            ),
            y=_by_model(names),
            color=_by_role(),
            shape=alt.Shape("role:N", title="as", scale=alt.Scale(domain=list(ROLES), range=["circle", "diamond"])),
            tooltip=tooltip,
        )
        .properties(width="container", height=ROW_PX * len(set(names)))
    )
    told = ", ".join(f"{row['model']} as {row['role']} {row['dice']:.4f}" for row in found)
    return figure(f"models-{key}", f"Each alone: {SCORES[key]}", f"Each model alone, {SCORES[key]}: {told}.", chart)


def _alone_table(rows: Sequence[Mapping[str, Any]]) -> Numbers:
    cells = []
    for row in rows:
        score = row["score"]
        of_classes = [number(value) for value in score["class_positive"]]
        counts = [str(sum(score[key])) for key in ("fp", "fn")]
        cells.append([row["name"], row["role"], row["net"], f"{score['mean']:.5f}", number(score["positive"])])
        cells[-1] += [*of_classes, *counts]
    head = ["model", "as", "net", "mean Dice", "positive-only", *(f"class {c}" for c in CLASSES), "FP", "FN"]
    return Numbers("Each alone; of a class, its positive-only Dice", head, cells)


def _left_out_rows(left_out: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"model": name, "role": role, "mean": one["mean"], "gain": one["gain"]}
        for role, (_, plural, _, _) in ROLES.items()
        for name, one in (left_out.get(plural) or {}).items()
    ]


def _left_out(left_out: Mapping[str, Any]) -> Figure:
    """What the ensemble loses without each model."""
    found = _left_out_rows(left_out)
    names = [row["model"] for row in found]
    gain = alt.X(
        "gain:Q", title="mean Dice: all less without it", axis=alt.Axis(format="+.4~f", tickCount=5, labelSeparation=8)
    )
    tooltip = [
        alt.Tooltip("model:N", title="without"),
        alt.Tooltip("role:N", title="as"),
        alt.Tooltip("gain:Q", title="all less without it", format="+.5f"),
        alt.Tooltip("mean:Q", title="mean Dice without it", format=".5f"),
    ]
    bars = alt.Chart({"values": found}).mark_bar(height={"band": 0.7})
    offset = alt.YOffset("role:N") if len(names) > len(set(names)) else alt.Undefined  # a joint head has two bars
    chart = bars.encode(x=gain, y=_by_model(names), yOffset=offset, color=_by_role(), tooltip=tooltip)
    zero = alt.Chart({"values": [{"zero": 0}]}).mark_rule(color=GREY).encode(x="zero:Q")
    told = ", ".join(f"{row['model']} as {row['role']} {row['gain']:+.5f}" for row in found)
    return figure(
        "models-left-out",
        "Each left out: what it adds to the others",
        f"Mean Dice of all models less that without each, estimated on a sample of the pixels: {told}.",
        alt.layer(chart, zero).properties(width="container", height=ROW_PX * len(set(names))),
    )


def _left_out_table(left_out: Mapping[str, Any]) -> Numbers:
    rows = [
        [row["model"], row["role"], f"{row['mean']:.5f}", f"{row['gain']:+.5f}"] for row in _left_out_rows(left_out)
    ]
    head = ["without", "as", "mean Dice", "all less without it"]
    return Numbers("Each left out, estimated on a sample of the pixels", head, rows)


def _correlation(plural: str, names: Sequence[str], matrices: Mapping[str, Any], what: str) -> Figure:
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
        x=alt.X("b:N", title=None, sort=order, axis=slant), y=_by_model(order, "a"), tooltip=tooltip
    )
    scale = alt.Scale(scheme="viridis", domain=[min(low, 0.999), 1], clamp=True)
    rects = base.mark_rect().encode(
        color=alt.Color("all:Q", title="correlation", scale=scale, legend=alt.Legend(orient="bottom"))
    )
    ink = alt.condition(f"datum.all > {(low + 1) / 2}", alt.value(DARK), alt.value(LIGHT))
    text = base.mark_text(fontSize=11).encode(text=alt.Text("all:Q", format=".2f"), color=ink)
    told = f"between {low:.3f} and {max(others):.3f}" if others else "not defined"
    return figure(
        f"models-correlation-{plural}",
        f"Correlation of the {plural}",
        f"Correlation of the {plural}' {what} for each pair of {', '.join(names)}: {told}.",
        alt.layer(rects, text).properties(width="container", height=ROW_PX * len(names) + 20),
    )


def _votes(plural: str, names: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> Figure:
    """How often each model counts in each class; pale where equal votes are used instead."""
    rows = []
    for c in map(str, CLASSES):
        one = found[c]
        for place, (name, count) in enumerate(zip(names, one["counts"], strict=True)):
            share = round(100 * count / sum(one["counts"]), 2)
            used = "yes" if one["is_adopted"] else "no: equal votes are"
            rows.append({"class": c, "model": name, "count": count, "share": share, "place": place, "used": used})
    tooltip = [
        alt.Tooltip("class:N"),
        alt.Tooltip("model:N"),
        alt.Tooltip("count:Q", title="counts"),
        alt.Tooltip("share:Q", title="share, %", format=".1f"),
        alt.Tooltip("used:N", title="these votes are used"),
    ]
    chart = (
        alt.Chart({"values": rows})
        .mark_bar()
        .encode(
            x=alt.X("share:Q", title="share of the votes, %", scale=alt.Scale(domain=[0, 100])),
            y=alt.Y("class:N", title="class"),
            color=alt.Color("model:N", sort=list(names), legend=alt.Legend(orient="bottom", columns=2)),
            opacity=alt.condition("datum.used == 'yes'", alt.value(1.0), alt.value(0.45)),
            order=alt.Order("place:Q"),
            tooltip=tooltip,
        )
        .properties(width="container", height=ROW_PX * len(CLASSES))
    )
    adopted = [c for c in map(str, CLASSES) if found[c]["is_adopted"]]
    told = f"used in class {', '.join(adopted)}" if adopted else "used in no class"
    return figure(
        f"models-votes-{plural}",
        f"Votes found for the {plural}",
        f"How often each of {', '.join(names)} counts in each class. These votes are {told}; where they are pale, "
        "equal ones are used.",
        chart,
    )


def _votes_table(plural: str, names: Sequence[str], found: Mapping[str, Mapping[str, Any]]) -> Numbers:
    rows = []
    for c in map(str, CLASSES):
        one = found[c]
        used = "yes" if one["is_adopted"] else "no: equal"
        rows.append([c, one["kind"], *map(str, one["counts"]), f"{one['gain']:+.5f}", f"{one['error']:.5f}", used])
    head = ["class", "mean of", *names, "gain left out", "standard error", "used"]
    return Numbers(f"Votes found for the {plural}: how often each counts", head, rows)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
