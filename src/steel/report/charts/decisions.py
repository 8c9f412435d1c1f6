"""Section `decisions`: the surfaces and their plateaus, the gates, what ships, and what families of rules add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES, N_PIXELS
from steel.decide.decision import Decision
from steel.decide.families import PLAIN
from steel.decide.surfaces import Surfaces
from steel.decide.table import Table
from steel.report.charts import gates
from steel.report.charts.draw import figure
from steel.report.outcomes import Outcome
from steel.report.rule_words import of_rule
from steel.report.section import Figure, Numbers, Section
from steel.report.text import number
from steel.report.uncertainty import PERCENT

N_THRESHOLDS, N_AREAS = 52, 32  # cells of a surface as it is drawn, at most
GREY = "#888888"
AREA = "minimum area, px"
INK = "#440154"  # the dark end of the surfaces' colours: told from the bright end, where the plateau lies


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
    blocks: list[Figure | Numbers] = [_rules_table(table, decision, outcome)]
    blocks += [_surface(surfaces, k) for k in range(N_CLASSES)]
    blocks += gates.figures(table, decision)
    if families is not None and len(families) > 1:
        blocks += [_families(families), _families_table(families)]
    return Section(
        "decisions",
        "Decisions",
        [
            "A surface is the mean Dice of plain rules on all held-out strips, at the gate of the chosen one. The ring "
            "is the plain rule's choice: the point whose neighbourhood, the box around it and as far in gates, scores "
            "best on average. It was chosen on these very strips, so its score is optimistic; the table above has what "
            "ships, perhaps of another family, and what such rules score on strips that did not choose them."
        ],
        blocks,
    )


def _rules_table(table: Table, decision: Decision, outcome: Outcome) -> Numbers:
    score = outcome.score(table).as_dict()
    rows = []
    for k, rule in enumerate(decision.tuned.classes):
        scores = [f"{score['class_mean'][k]:.5f}", number(score["class_positive"][k])]
        counts = [str(score[key][k]) for key in ("n_positive", "fp", "fn")]
        rows.append([str(CLASSES[k]), *of_rule(rule), *scores, *counts])
    head = ["class", "threshold", "min area, px", "gate", "more", "mean Dice", "positive-only", "masks", "FP", "FN"]
    return Numbers("What ships, and what such rules score held out", head, rows)


def _surface(found: Surfaces, k: int) -> Figure:
    """Mean Dice of one class over threshold and minimum area; the choice and its plateau, if anything is shown."""
    score, box = found.score[k], _box(found, k)
    cells = _cells(found, k, box)
    high = float(score.max())
    low = max(float(score.min()), 2 * float(score[:, -1].min()) - high)  # as far below nothing shown as the best above
    top = max(high, low + 1e-5)  # a class without masks, never shown, has one score
    scale = alt.Scale(scheme="viridis", domain=[low, top], clamp=True)
    legend = alt.Legend(orient="bottom", format=".4f", values=np.linspace(low, top, 4).tolist())
    areas = alt.Axis(labelAngle=0, labelOverlap="greedy", labelSeparation=6)
    x = alt.X("area:O", title=AREA, sort=list(dict.fromkeys(cell["area"] for cell in cells)), axis=areas)
    rects = alt.Chart({"values": cells}).mark_rect(strokeWidth=1)
    layers: list[Any] = [
        rects.encode(
            x=x,
            y=alt.Y("from:Q", title="pixel threshold (probability)", scale=alt.Scale(domain=[0, 1])),
            y2="to:Q",
            color=alt.Color("dice:Q", title="mean Dice", scale=scale, legend=legend),
            stroke=alt.Stroke("dice:Q", title="mean Dice", scale=scale, legend=legend),  # else seams show between cells
            tooltip=_of_point(),
        )
    ]
    told = "no plain rule gains over nothing"
    if box is not None:
        t, a = box[:, 1]
        told = f"threshold {found.thresholds[t] / 255:.3f}, area {_area_name(found.areas_px[a])} px: {score[t, a]:.4f}"
        layers += _plateau(found, k, box, x)
    return figure(
        f"surface-class{CLASSES[k]}",
        f"Class {CLASSES[k]}: {told}",
        f"Mean Dice of class {CLASSES[k]} over pixel threshold and minimum area at a gate of {found.min_gate[k]:.3f}, "
        f"{float(score.min()):.4f} to {high:.4f}. The choice: {told}.",
        alt.layer(*layers).properties(width="container", height=260),
    )


def _box(found: Surfaces, k: int) -> NDArray[np.int64] | None:
    """Places of threshold and area in a class's plateau: (2, 3) lowest, chosen, highest; as wide as `adopt.smooth`."""
    if found.chosen[k].min() < 0:
        return None
    n = np.array(found.score[k].shape)[:, None]
    return np.clip(found.chosen[k][:, None] + n // 32 * np.array([-1, 0, 1]), 0, n - 1)


def _cells(found: Surfaces, k: int, box: NDArray[np.int64] | None) -> list[dict[str, Any]]:
    """Points of a class's surface, thinned: the chosen threshold and the areas of the box are among them.

    Each has its values and, as probabilities, the edges to the thresholds next to it.
    """
    rows = _thin(len(found.thresholds), N_THRESHOLDS, [] if box is None else [int(box[0, 1])])
    columns = _thin(len(found.areas_px), N_AREAS, [] if box is None else box[1].tolist())
    prob = found.thresholds[rows] / 255
    edges = np.concatenate([[0.0], (prob[1:] + prob[:-1]) / 2, [1.0]]).round(4).tolist()
    names = [_area_name(px) for px in found.areas_px[columns]]
    return [
        {"area": name, "from": low, "to": high, "t": round(float(t), 3), "dice": round(float(dice), 5)}
        for low, high, t, scores in zip(edges[:-1], edges[1:], prob, found.score[k][rows][:, columns], strict=True)
        for name, dice in zip(names, scores, strict=True)
    ]


def _plateau(found: Surfaces, k: int, box: NDArray[np.int64], x: alt.X) -> list[Any]:
    """A ring at the choice, and the outline of the neighbourhood that it is the best mean of."""
    prob, names = found.thresholds[box[0]] / 255, [_area_name(px) for px in found.areas_px[box[1]]]
    t, a = box[:, 1]
    values = {"dice": float(found.score[k, t, a]), "mean": float(found.smoothed[k, t, a])}
    ring = alt.Chart({"values": [{"area": names[1], "t": float(prob[1]), **values}]})
    corners = [
        {"area": names[i], "t": float(prob[j]), "place": place}
        for place, (i, j) in enumerate(((0, 0), (0, 2), (2, 2), (2, 0), (0, 0)))
    ]
    line = alt.Chart({"values": corners}).mark_line(color=INK, strokeWidth=1.5)
    mean = alt.Tooltip("mean:Q", title="mean of its neighbourhood", format=".5f")
    return [
        line.encode(x=x, y="t:Q", order="place:Q", tooltip=alt.value("the neighbourhood of the choice")),
        ring.mark_point(color=INK, size=130, strokeWidth=3, filled=False, opacity=1).encode(
            x=x, y="t:Q", tooltip=[*_of_point(), mean]
        ),
    ]


def _of_point() -> list[alt.Tooltip]:
    """What is told of a point of a surface."""
    dice = alt.Tooltip("dice:Q", title="mean Dice", format=".5f")
    return [alt.Tooltip("t:Q", title="threshold", format=".3f"), alt.Tooltip("area:O", title=AREA), dice]


def _families(families: Mapping[str, Any]) -> Figure:
    """Gains over the plain rules with their intervals, the largest first."""
    rows = [{"family": name, **families[name]} for name in _ranked(families)]
    tooltip = [
        alt.Tooltip("family:N"),
        *(alt.Tooltip(f"{key}:Q", title=key, format="+.5f") for key in ("gain", "low", "high")),
        alt.Tooltip("adopted_in:Q", title="adopted in"),
        alt.Tooltip("n_rotations:Q", title="of rotations"),
    ]
    names = alt.Y("family:N", title=None, sort=_ranked(families))
    base = alt.Chart({"values": rows}).encode(y=names, tooltip=tooltip)
    x = alt.X(
        "low:Q",
        title="gain in mean Dice over plain rules",
        axis=alt.Axis(format="+.4~f", tickCount=5, labelSeparation=8),
    )
    bars = base.mark_rule(color=GREY, strokeWidth=2).encode(x=x, x2="high:Q")
    dots = base.mark_point(filled=True, size=100, color="#0072b2", opacity=1).encode(x="gain:Q")
    zero = alt.Chart({"values": [{"zero": 0}]}).mark_rule(color=GREY, strokeDash=[4, 4]).encode(x="zero:Q")
    told = ", ".join(f"{row['family']} {row['gain']:+.5f}" for row in rows)
    return figure(
        "families",
        "What each family of rules adds, leaving one fold out",
        f"Gain in mean Dice over plain rules ({families[PLAIN]['mean']:.5f}) with the {PERCENT}: {told}.",
        alt.layer(zero, bars, dots).properties(width="container", height=34 * len(rows)),
    )


def _families_table(families: Mapping[str, Any]) -> Numbers:
    rows = []
    for name in _ranked(families):
        one = families[name]
        used = f"{one['adopted_in']} of {one['n_rotations']}"
        rows.append([name, f"{one['gain']:+.5f}", f"{one['low']:+.5f} to {one['high']:+.5f}", used])
    head = ["family", "gain over plain", PERCENT, "adopted in (rotations of classes)"]
    return Numbers(f"Families of rules; plain ones score {families[PLAIN]['mean']:.5f}", head, rows)


def _ranked(families: Mapping[str, Any]) -> list[str]:
    return sorted((name for name in families if name != PLAIN), key=lambda name: -families[name]["gain"])


def _thin(n: int, most: int, keep: Sequence[int]) -> NDArray[np.int64]:
    """At most `most` of n places, evenly spaced, those to keep among them."""
    even = np.linspace(0, n - 1, most - len(keep)).round().astype(np.int64)
    return np.arange(n) if n <= most else np.unique([*even, *keep])


def _area_name(px: int) -> str:
    return "any" if px == 0 else "never" if px > N_PIXELS else str(px)
