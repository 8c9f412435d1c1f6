"""Section `training`: loss, score and learning rate of every model over its epochs; seconds and memory."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import altair as alt

from steel.report.charts.draw import figure
from steel.report.section import Figure, Numbers, Section

Log = Sequence[Mapping[str, Any]]  # rows of log.jsonl, one per epoch
N_TICKS = 10  # on the axis of the epochs, about


class Curve(NamedTuple):
    """A quantity of a training: title, name of its axis, format of its values, name of the mean beside it."""

    title: str
    axis: str
    form: str = ".4f"
    mean: str = ""


LOSS, RATE = Curve("training loss", "loss"), Curve("learning rate", "learning rate", ".2e")
DICE = Curve("positive-only Dice, held out, at threshold 0.5", "positive-only Dice", mean="mean Dice")
RECALL = Curve("recall, held out, at threshold 0.5", "recall", mean="accuracy")


def section(logs: Mapping[tuple[str, int], Log], segmenters: Collection[str]) -> Section:
    """Curves of each model, a line per fold, and what an epoch costs.

    Args:
        logs: rows by model and fold. Those of earlier versions lack "peak_mb" and "resumed": they are drawn without.
        segmenters: the names of those models that are judged by Dice.
    """
    models = list(dict.fromkeys(name for name, _ in logs))
    blocks: list[Figure | Numbers] = []
    for number, name in enumerate(models, 1):
        own = {fold: rows for (model, fold), rows in logs.items() if model == name}
        curves = {"loss": LOSS, "score": DICE if name in segmenters else RECALL, "lr": RATE}
        prefix = f"training-{number}-{_slug(name)}"
        found = [_curve(f"{prefix}-{what}", name, own, what, curve) for what, curve in curves.items()]
        blocks += filter(None, found)
    if models:
        blocks.append(_cost_table(logs))
    lead = [
        "Lines are folds; a dashed rule marks the first epoch after a training was resumed. Held out, segmenters are "
        "judged by their positive-only Dice, classifiers by their recall."
    ]
    return Section("training", "Training", lead if models else ["No training has left a log."], blocks, folded=True)


def _curve(name: str, model: str, logs: Mapping[int, Log], what: str, curve: Curve) -> Figure | None:
    """One quantity over the epochs, where it was taken; None if it never was."""
    rows = [
        {"fold": str(fold), "epoch": row["epoch"], "value": value, **_details(row, what)}
        for fold, log in sorted(logs.items())
        for row in log
        if (value := _value(row, what)) is not None
    ]
    if not rows:
        return None
    resumed = [
        {"fold": str(fold), "epoch": row["epoch"]} for fold, log in logs.items() for row in log if row.get("resumed")
    ]
    folds = [str(fold) for fold in sorted(logs)]
    ends = {row["fold"]: row["value"] for row in rows}
    n_epochs = max(row["epoch"] for log in logs.values() for row in log)
    return figure(
        name,
        f"{model}: {curve.title}",
        f"{model}, {curve.title} over the epochs of fold {', '.join(folds)}: in the end "
        + ", ".join(f"{value:{curve.form}}" for value in ends.values())
        + "".join(f"; fold {row['fold']} was resumed before epoch {row['epoch']}" for row in resumed)
        + ".",
        _lines(rows, resumed, folds, n_epochs, curve),
    )


def _lines(
    rows: list[dict[str, Any]], resumed: list[dict[str, Any]], folds: list[str], n_epochs: int, curve: Curve
) -> Any:
    """A line per fold, and a dashed rule where it was resumed."""
    step = -(-n_epochs // N_TICKS)  # rounded up
    ticks = alt.Axis(format="d", values=sorted({1, *range(step, n_epochs + 1, step)}), labelSeparation=4)
    x = alt.X("epoch:Q", title="epoch", scale=alt.Scale(domain=[1, max(n_epochs, 2)], nice=False), axis=ticks)
    is_rate = curve is RATE
    y_axis = alt.Axis(format=".1e" if is_rate else "~g")
    y = alt.Y("value:Q", title=curve.axis, scale=alt.Scale(zero=is_rate), axis=y_axis)
    legend = alt.Legend(orient="bottom", columns=6)
    colour = alt.Color("fold:N", scale=alt.Scale(domain=folds, scheme="tableau10"), legend=legend)
    tooltip = [alt.Tooltip("fold:N"), alt.Tooltip("epoch:Q")]
    tooltip.append(alt.Tooltip("value:Q", title=curve.axis, format=curve.form))
    if curve.mean:
        tooltip.append(alt.Tooltip("mean:Q", title=curve.mean, format=".4f"))
    lines = alt.Chart({"values": rows}).mark_line(point={"size": 30}, strokeWidth=1.5)
    marks = alt.Chart({"values": resumed}).mark_rule(strokeDash=[5, 4], strokeWidth=1.5, opacity=1)
    why = [alt.Tooltip("fold:N"), alt.Tooltip("epoch:Q", title="resumed before epoch")]
    layers = [marks.encode(x=x, color=colour, tooltip=why), lines.encode(x=x, y=y, color=colour, tooltip=tooltip)]
    return alt.layer(*layers).properties(width="container", height=200)


def _value(row: Mapping[str, Any], what: str) -> float | None:
    """A quantity of an epoch; None where it was not taken, or does not exist."""
    value = row.get("score", {}).get("positive") if what == "score" else row[what]
    return None if value is None else float(f"{value:.5g}")


def _details(row: Mapping[str, Any], what: str) -> dict[str, float]:
    return {"mean": round(row["score"]["mean"], 5)} if what == "score" else {}


def _cost_table(logs: Mapping[tuple[str, int], Log]) -> Numbers:
    """Seconds and memory of each model's epochs, all folds together."""
    rows = []
    for model in dict.fromkeys(name for name, _ in logs):
        own = [log for (name, _), log in logs.items() if name == model]
        epochs = [row for log in own for row in log]
        seconds = _middle_and_most((row.get("seconds", row["train_s"]) for row in epochs), ".1f")
        train_s = _middle_and_most((row["train_s"] for row in epochs), ".1f")
        peak_mb = _middle_and_most((row["peak_mb"] for row in epochs if "peak_mb" in row), ",.0f")
        n_resumed = sum(bool(row.get("resumed")) for row in epochs)
        rows.append([model, str(len(own)), str(len(epochs)), *train_s, *seconds[1:], *peak_mb, str(n_resumed)])
    head = ["model", "folds", "epochs", "training, s: median", "max", "with held-out score, s: max"]
    return Numbers("An epoch's seconds and memory", [*head, "memory, MB: median", "max", "resumed"], rows)


def _middle_and_most(values: Iterable[float], form: str) -> list[str]:
    """Median and maximum as text; dashes where nothing is known."""
    found = list(values)
    return [f"{median(found):{form}}", f"{max(found):{form}}"] if found else ["–", "–"]


def _slug(name: str) -> str:
    """Lower case, digits and dashes."""
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") or "model"
