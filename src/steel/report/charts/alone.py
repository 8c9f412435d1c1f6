"""Every model alone, and the others without it: scores and gains with their intervals, in charts, tables and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from steel.competition import CLASSES
from steel.report.charts.draw import BLUE, RED, figure
from steel.report.charts.intervals import GAIN, ROW_PX, SCORE, dots
from steel.report.section import Figure, Numbers
from steel.report.text import number
from steel.report.uncertainty import PERCENT

SCORES = {"mean": "mean Dice", "positive": "positive-only Dice"}
ROLES = {"segmenter": "segmenters", "gate": "gates"}  # of a model in cv.json, and of all of them
LOOKS = {"segmenter": (BLUE, "circle"), "gate": (RED, "diamond")}  # of their dots
WITHOUT = "lost without it"


def alone(rows: Sequence[Mapping[str, Any]], key: str) -> Figure:
    """One kind of score of every model alone; `rows`: "models" of cv.json, `key`: of SCORES."""
    found = [
        {"model": row["name"], "role": row["role"], "net": row["net"], "value": row["score"][key], **_bounds(row, key)}
        for row in rows
        if row["score"][key] is not None
    ]
    told = ", ".join(f"{row['model']} as {row['role']} {row['value']:.4f}" for row in found)
    return figure(
        f"models-{key}",
        f"Each model alone: {SCORES[key]}, with its {PERCENT}",
        f"Each model alone, {SCORES[key]}: {told}.",
        _of_models(found, SCORES[key], [alt.Tooltip("net:N")]),
    )


def alone_table(rows: Sequence[Mapping[str, Any]]) -> Numbers:
    """Scores of every model alone, in all and of each class."""
    cells = []
    for row in rows:
        score, bounds = row["score"], _bounds(row, "mean")
        within = "–" if bounds["low"] is None else f"{bounds['low']:.4f} to {bounds['high']:.4f}"
        scores = [f"{score['mean']:.5f}", within, number(score["positive"]), *map(number, score["class_positive"])]
        cells.append([row["name"], row["role"], row["net"], *scores, *(str(sum(score[key])) for key in ("fp", "fn"))])
    head = ["model", "as", "net", "mean Dice", PERCENT, "positive-only", *(f"class {c}" for c in CLASSES), "FP", "FN"]
    return Numbers("Each alone; of a class, its positive-only Dice", head, cells)


def left_out_rows(left_out: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The models that were left out, the segmenters first: "model", "role", "mean" without it, "value" (the gain)."""
    return [
        {"model": name, "role": role, "mean": one["mean"], "value": one["gain"], "low": one["low"], "high": one["high"]}
        for role, plural in ROLES.items()
        for name, one in left_out[plural].items()
    ]


def left_out(rows: Sequence[Mapping[str, Any]], how: str) -> Figure:
    """What the ensemble loses without each model; `rows` of `left_out_rows`."""
    told = ", ".join(f"{row['model']} as {row['role']} {row['value']:+.5f}" for row in rows)
    mean = alt.Tooltip("mean:Q", title="mean Dice without it", format=".5f")
    return figure(
        "models-left-out",
        f"Each model left out: what it adds to the others, with the {PERCENT}",
        f"Mean Dice that all models lose without each, {how}: {told}.",
        _of_models(rows, f"mean Dice {WITHOUT}", [mean], GAIN),
    )


def left_out_table(rows: Sequence[Mapping[str, Any]], how: str) -> Numbers:
    """The same in numbers."""
    cells = [[row["model"], row["role"], f"{row['mean']:.5f}", f"{row['value']:+.5f}", _within(row)] for row in rows]
    return Numbers(f"Each left out, {how}", ["without", "as", "mean Dice", WITHOUT, PERCENT], cells)


def costs(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which models cost more than they give, and what is too little to be sure of: sentences."""
    told = []
    for row in rows:
        if row["value"] < 0:
            luck = "; it may be luck" if row["high"] >= 0 else ""
            bounds = f"{PERCENT} {_within(row)}{luck}"
            told.append(f"Costs more than it gives: {row['model']} as {row['role']}, {row['value']:+.5f} ({bounds}).")
    if not told:
        told = ["No model that was left out costs more than it gives."]
    if unsure := [f"{row['model']} as {row['role']}" for row in rows if row["value"] >= 0 >= row["low"]]:
        told.append(f"Too little to be told from nothing: what {', '.join(unsure)} adds to the others.")
    return " ".join(told)


def _bounds(row: Mapping[str, Any], key: str) -> dict[str, float | None]:
    """The interval of a model's score."""
    return {end: row["intervals"][key][end] for end in ("low", "high")}


def _within(row: Mapping[str, Any]) -> str:
    return f"{row['low']:+.5f} to {row['high']:+.5f}"


def by_model(names: Sequence[str], field: str = "model") -> alt.Y:
    """A row for each name, in their order."""
    return alt.Y(f"{field}:N", title=None, sort=list(dict.fromkeys(names)), axis=alt.Axis(labelLimit=110))


def _of_models(rows: Sequence[Mapping[str, Any]], title: str, more: Sequence[alt.Tooltip], form: str = SCORE) -> Any:
    """Dots of models in their roles; a joint head has two rows, whose names tell the role."""
    names = [row["model"] for row in rows]
    named = [
        {**row, "name": row["model"] if names.count(row["model"]) == 1 else f"{row['model']}, {row['role']}"}
        for row in rows
    ]
    roles = [role for role in ROLES if any(row["role"] == role for row in rows)]
    colours, shapes = zip(*(LOOKS[role] for role in roles), strict=True)
    legend = alt.Legend(orient="bottom", title=None)
    layers = dots(
        named,
        by_model([row["name"] for row in named], "name"),
        title,
        [alt.Tooltip("model:N"), alt.Tooltip("role:N", title="as"), *more],
        form,
        shape=alt.Shape("role:N", scale=alt.Scale(domain=roles, range=list(shapes)), legend=legend),
        color=alt.Color("role:N", scale=alt.Scale(domain=roles, range=list(colours)), legend=legend),
    )
    return alt.layer(*layers).properties(width="container", height=ROW_PX * len(rows))
