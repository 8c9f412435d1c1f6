"""How well the gate tells which strips show a class; without one, how well the area of the maps does."""

from __future__ import annotations

from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES
from steel.decide.decision import Decision
from steel.decide.evidence import AnyRule
from steel.decide.expected import ExpectedRule
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.table import Table
from steel.report.charts.draw import GREY, by_class, figure
from steel.report.section import Figure

N_POINTS = 101  # of a curve of precision and recall, at most: evenly spaced in recall
N_BINS = 10  # of a calibration
USUAL_LEVEL = 128  # for rules whose threshold is each strip's own
SHIPS = "what the rule that ships asks of it"


def figures(table: Table, decision: Decision) -> list[Figure]:
    """Precision and recall of every class; where there is a gate, its calibration too."""
    return [_precision_recall(table, decision), *([_calibration(table)] if decision.gates else [])]


def precision_recall(
    positive: NDArray[np.bool_], score: NDArray
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray, float]:
    """The curve of one class, thinned to N_POINTS, by what is asked at least; and its average precision.

    Args:
        positive: (n,), some true.
        score: (n,), the larger the surer.

    Returns:
        Precision, recall (ascending) and the least score that gives them, (m,) each; the mean of the precision over
        all steps of the recall.
    """
    order = np.argsort(-score, kind="stable")
    n_found, ranked = positive[order].cumsum(), score[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # equal scores pass together
    precision = (n_found / np.arange(1, len(score) + 1))[last]
    recall = (n_found / n_found[-1])[last]
    average = float((np.diff(recall, prepend=0.0) * precision).sum())
    thin = np.unique(np.searchsorted(recall, np.linspace(0, 1, N_POINTS)))
    return precision[thin], recall[thin], ranked[last][thin], average


def reliability(positive: NDArray[np.bool_], prob: NDArray) -> list[tuple[float, float, int]]:
    """Mean probability, share of positives and number of images, of at most N_BINS bins of about equal size.

    `positive` and `prob` are (n,); equal probabilities fall in the same bin.
    """
    exact = prob.astype(np.float64)
    edges = np.quantile(exact, np.arange(1, N_BINS) / N_BINS)
    bins = np.searchsorted(edges, exact)
    parts = [bins == i for i in np.unique(bins)]
    return [(float(exact[part].mean()), float(positive[part].mean()), int(part.sum())) for part in parts]


def _precision_recall(table: Table, decision: Decision) -> Figure:
    """The curves of the gates or, without any, of the area above the threshold; the rules that ship on them."""
    what, unit = ("gate", "gate at least") if decision.gates else ("area above the threshold", "area at least, px")
    curves, marks, told = _curves(table, decision)
    encoding: dict[str, Any] = {
        "x": alt.X("recall:Q", title="recall (share of the strips with the class)", scale=alt.Scale(domain=[0, 1])),
        "y": alt.Y("precision:Q", title="precision (share of those that pass)", scale=alt.Scale(domain=[0, 1])),
        "color": by_class().legend(orient="bottom"),
        "tooltip": [alt.Tooltip("class:N"), alt.Tooltip("at:Q", title=unit, format=".4~g")]
        + [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("precision", "recall")],
    }
    legend = alt.Legend(orient="bottom", symbolStrokeColor=GREY, symbolStrokeWidth=2.5, symbolSize=100)
    shape = alt.Shape("what:N", title=None, scale=alt.Scale(domain=[SHIPS], range=["diamond"]), legend=legend)
    lines = alt.Chart({"values": curves}).mark_line(point={"size": 14}, strokeWidth=1.5).encode(**encoding)
    ships = alt.Chart({"values": marks}).mark_point(size=150, strokeWidth=2.5).encode(shape=shape, **encoding)
    return figure(
        "precision-recall",
        f"Precision and recall of the {what}",
        f"Whether strips show a class, told by the {what}; diamonds: what the rules that ship ask of it. Average "
        f"precision: {', '.join(told) or 'no masks'}.",
        alt.layer(lines, ships).properties(width="container", height=280),
    )


def _curves(table: Table, decision: Decision) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[str]]:
    """Points of the curve of each class that has masks; where its rule lies on it; its average precision in words."""
    curves, marks, told = [], [], []
    for k, rule in enumerate(decision.tuned.classes):
        positive = table.true_px[:, k] > 0
        if not positive.any():
            continue
        score, least = _certainty(table, k, rule, bool(decision.gates))
        precision, recall, at, average = precision_recall(positive, score)
        told.append(f"class {CLASSES[k]} {average:.3f}")
        of_class = {"class": str(CLASSES[k])}
        found = zip(precision, recall, at, strict=True)
        curves += [of_class | {"precision": _five(p), "recall": _five(r), "at": _five(s)} for p, r, s in found]
        passed = score >= least
        if passed.any():
            hits = int((passed & positive).sum())
            ratios = {"precision": _five(hits / passed.sum()), "recall": _five(hits / positive.sum())}
            marks.append(of_class | ratios | {"at": _five(least), "what": SHIPS})
    return curves, marks, told


def _certainty(table: Table, k: int, rule: AnyRule, has_gate: bool) -> tuple[NDArray, float]:
    """What tells strips with a class from others, (n,), and the least of it that a rule asks for.

    Of a rule that shows nothing, it is more than any strip has.
    """
    assert isinstance(rule, Rule | ExpectedRule)
    if not has_gate:
        return table.area_px[:, k, rule.threshold or USUAL_LEVEL], float(rule.min_area_px)
    never = np.inf if rule.min_area_px >= NEVER_PX else 0.0
    return table.gate[:, k], float(np.float32(rule.min_gate)) + never  # as the rule compares them


def _calibration(table: Table) -> Figure:
    """How often a class is there, against the gate's probability; points as large as their bins."""
    rows, told = _bins(table)
    tooltip = [
        alt.Tooltip("class:N"),
        alt.Tooltip("prob:Q", title="mean gate", format=".3f"),
        alt.Tooltip("share:Q", title="share with the class", format=".3f"),
        alt.Tooltip("n:Q", title="strips", format=","),
    ]
    full = alt.Scale(domain=[0, 1])
    base = alt.Chart({"values": rows}).encode(
        x=alt.X("prob:Q", title="gate (mean probability of a bin)", scale=full),
        y=alt.Y("share:Q", title="share of strips with the class", scale=full),
        color=by_class().legend(orient="bottom"),
        tooltip=tooltip,
    )
    sizes = sorted({choice(row["n"] for row in rows) for choice in (min, max)} if rows else [])
    counts = alt.Legend(orient="bottom", symbolFillColor=GREY, symbolStrokeColor=GREY, values=sizes, format=",d")
    size = alt.Size("n:Q", title="strips in the bin", scale=alt.Scale(domainMin=0, rangeMax=160), legend=counts)
    ends = {"values": [{"x": 0, "y": 0}, {"x": 1, "y": 1}]}
    perfect = alt.Chart(ends).mark_line(color=GREY, strokeDash=[4, 4])
    return figure(
        "calibration",
        "Calibration of the gate; on the dashed line it is right",
        f"Share of strips with a class over the gate's probability, in bins of a tenth of the strips; on the dashed "
        f"line the gate is right. {'; '.join(told) or 'No masks'}.",
        alt.layer(
            perfect.encode(x="x:Q", y="y:Q", tooltip=alt.value("as promised")),
            base.mark_line(strokeWidth=1.5),
            base.mark_circle(opacity=0.9).encode(size=size),
        ).properties(width="container", height=280),
    )


def _bins(table: Table) -> tuple[list[dict[str, Any]], list[str]]:
    """The bins of every class that has masks; in words, how often each is expected and found."""
    rows, told = [], []
    for k, c in enumerate(CLASSES):
        positive, prob = table.true_px[:, k] > 0, table.gate[:, k]
        if not positive.any():
            continue
        found = reliability(positive, prob)
        rows += [{"class": str(c), "prob": _five(p), "share": _five(s), "n": n} for p, s, n in found]
        expected = 100 * float(prob.mean(dtype=np.float64))
        told.append(f"class {c}: expected {expected:.1f} %, found {100 * positive.mean():.1f} %")
    return rows, told


def _five(value: Any) -> float:
    return round(float(value), 5)
