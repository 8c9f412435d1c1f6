"""One class's surface: mean Dice of plain rules over threshold and minimum area, the best plateau, and what ships."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_PIXELS
from steel.decide.evidence import AnyRule
from steel.decide.expected import ExpectedRule
from steel.decide.families import PLAIN, family_of
from steel.decide.rule import NEVER_PX, Rule
from steel.decide.surfaces import Surfaces
from steel.report.charts.draw import GREY, figure, seamless
from steel.report.rule_words import of_rule
from steel.report.section import Figure

N_THRESHOLDS, N_AREAS = 52, 32  # cells of a surface as it is drawn, at most
AREA = "minimum area, px"
INK = "#440154"  # the dark end of the surfaces' colours: told from the bright end, where the plateau lies
MARKS = {"choice of the plain rule": "circle", "what ships": "diamond"}
CHOICE, SHIPS = MARKS


def surface(found: Surfaces, k: int, rule: AnyRule) -> Figure:
    """The surface of class index k, with the plain rule's choice and its plateau, and `rule`, which ships."""
    box, shipped = _box(found, k), _place(found, rule)
    is_choice = box is not None and _is_choice(found, k, rule)
    has_diamond = shipped is not None and not is_choice
    shape = _shape([what for what, is_there in ((CHOICE, box is not None), (SHIPS, has_diamond)) if is_there])
    cells = _cells(found, k, box, shipped)
    areas = alt.Axis(labelAngle=0, labelOverlap="greedy", labelSeparation=6)
    x = alt.X("area:O", title=AREA, sort=list(dict.fromkeys(cell["area"] for cell in cells)), axis=areas)
    layers: list[Any] = [_heat(found.score[k], cells, x)]
    told = "no plain rule gains over nothing"
    if box is not None:
        t, a = box[:, 1]
        place = f"threshold {found.thresholds[t] / 255:.3f}, area {_area_name(found.areas_px[a])} px"
        told = f"best plateau at {place} (ring): {found.score[k, t, a]:.4f}"
        layers += _plateau(found, k, box, x, shape)
    if has_diamond:
        assert shipped is not None
        layers += _diamond(found, shipped, rule, x, shape)
    told = f"{told}; {'this ships' if is_choice else _ships(rule, shipped is not None)}"
    return figure(
        f"surface-class{CLASSES[k]}",
        f"Class {CLASSES[k]}, mean Dice of plain rules: {told}",
        f"Mean Dice of class {CLASSES[k]} over pixel threshold and minimum area at a gate of {found.min_gate[k]:.3f}, "
        f"{float(found.score[k].min()):.4f} to {float(found.score[k].max()):.4f}. The choice: {told}.",
        alt.layer(*layers).properties(width="container", height=260),
    )


def _ships(rule: AnyRule, is_placed: bool) -> str:
    """What ships where that is not the plain rule's choice, in words."""
    assert isinstance(rule, Rule | ExpectedRule)
    if rule.min_area_px >= NEVER_PX:
        return "what ships shows nothing"
    name = "another plain rule" if family_of(rule) == PLAIN else family_of(rule).replace("_", " ")
    return f"{name} ships ({'diamond' if is_placed else 'it has no place here'})"


def _is_choice(found: Surfaces, k: int, rule: AnyRule) -> bool:
    """Whether a rule is the plain one of the chosen point."""
    t, a = found.chosen[k]
    return rule == Rule(int(found.thresholds[t]), int(found.areas_px[a]), float(found.min_gate[k]))


def _place(found: Surfaces, rule: AnyRule) -> tuple[int, int] | None:
    """Places of a rule's threshold and minimum area; None where it has no threshold, shows nothing, or is off the axes.

    What else a rule asks, and its gate, are not on the surface.
    """
    assert isinstance(rule, Rule | ExpectedRule)
    a = np.flatnonzero(found.areas_px == rule.min_area_px)
    if not rule.threshold or not len(a) or rule.min_area_px >= NEVER_PX:
        return None
    return rule.threshold - 1, int(a[0])


def _box(found: Surfaces, k: int) -> NDArray[np.int64] | None:
    """Places of threshold and area in a class's plateau: (2, 3) lowest, chosen, highest; as wide as `adopt.smooth`."""
    if found.chosen[k].min() < 0:
        return None
    n = np.array(found.score[k].shape)[:, None]
    return np.clip(found.chosen[k][:, None] + n // 32 * np.array([-1, 0, 1]), 0, n - 1)


def _cells(
    found: Surfaces, k: int, box: NDArray[np.int64] | None, shipped: tuple[int, int] | None
) -> list[dict[str, Any]]:
    """Points of a class's surface, thinned: the chosen threshold, the areas of the box and what ships are among them.

    Each has its values and, as probabilities, the edges to the thresholds next to it.
    """
    levels, areas = ([], []) if box is None else ([int(box[0, 1])], box[1].tolist())
    if shipped is not None:
        levels, areas = [*levels, shipped[0]], [*areas, shipped[1]]
    rows, columns = _thin(len(found.thresholds), N_THRESHOLDS, levels), _thin(len(found.areas_px), N_AREAS, areas)
    prob = found.thresholds[rows] / 255
    edges = np.concatenate([[0.0], (prob[1:] + prob[:-1]) / 2, [1.0]]).round(4).tolist()
    names = [_area_name(px) for px in found.areas_px[columns]]
    return [
        {"area": name, "from": low, "to": high, "t": round(float(t), 3), "dice": round(float(dice), 5)}
        for low, high, t, scores in zip(edges[:-1], edges[1:], prob, found.score[k][rows][:, columns], strict=True)
        for name, dice in zip(names, scores, strict=True)
    ]


def _heat(score: NDArray[np.float32], cells: list[dict[str, Any]], x: alt.X) -> alt.Chart:
    """The surface itself, its colours as far below nothing shown as the best is above."""
    high = float(score.max())
    low = max(float(score.min()), 2 * float(score[:, -1].min()) - high)
    top = max(high, low + 1e-5)  # a class without masks, never shown, has one score
    scale = alt.Scale(scheme="viridis", domain=[low, top], clamp=True)
    legend = alt.Legend(orient="bottom", format=".4f", values=np.linspace(low, top, 4).tolist())
    rects = alt.Chart({"values": cells}).mark_rect(**seamless("dice"))
    return rects.encode(
        x=x,
        y=alt.Y("from:Q", title="pixel threshold (probability)", scale=alt.Scale(domain=[0, 1])),
        y2="to:Q",
        color=alt.Color("dice:Q", title="mean Dice", scale=scale, legend=legend),
        tooltip=_of_point(),
    )


def _plateau(found: Surfaces, k: int, box: NDArray[np.int64], x: alt.X, shape: alt.Shape) -> list[Any]:
    """A ring at the choice, and the outline of the neighbourhood that it is the best mean of."""
    prob, names = found.thresholds[box[0]] / 255, [_area_name(px) for px in found.areas_px[box[1]]]
    t, a = box[:, 1]
    values = {"dice": float(found.score[k, t, a]), "mean": float(found.smoothed[k, t, a])}
    ring = alt.Chart({"values": [{"what": CHOICE, "area": names[1], "t": float(prob[1]), **values}]})
    corners = [
        {"area": names[i], "t": float(prob[j]), "place": place}
        for place, (i, j) in enumerate(((0, 0), (0, 2), (2, 2), (2, 0), (0, 0)))
    ]
    line = alt.Chart({"values": corners}).mark_line(color=INK, strokeWidth=1.5)
    tooltip = [alt.Tooltip("what:N"), *_of_point(), alt.Tooltip("mean:Q", title="mean of the box", format=".5f")]
    return [
        line.encode(x=x, y="t:Q", order="place:Q", tooltip=alt.value("the neighbourhood of the choice")),
        ring.mark_point(color=INK, size=130, strokeWidth=3, filled=False, opacity=1).encode(
            x=x, y="t:Q", shape=shape, tooltip=tooltip
        ),
    ]


def _diamond(found: Surfaces, place: tuple[int, int], rule: AnyRule, x: alt.X, shape: alt.Shape) -> list[alt.Chart]:
    """What ships, at its threshold and minimum area: on white, since it may lie anywhere."""
    t, a = place
    threshold, area, gate, more = of_rule(rule)
    told = {"threshold": threshold, "minimum area": area, "gate": gate, "more": more or PLAIN}
    row = {"what": SHIPS, "area": _area_name(found.areas_px[a]), "t": float(found.thresholds[t] / 255), **told}
    base = alt.Chart({"values": [row]}).encode(x=x, y="t:Q", tooltip=[f"{key}:N" for key in ("what", *told)])
    ground = base.mark_point(shape="diamond", filled=True, color="white", size=150, opacity=1)
    return [ground, base.mark_point(color=INK, size=110, strokeWidth=2, opacity=1).encode(shape=shape)]


def _shape(marks: Sequence[str]) -> alt.Shape:
    """Of some of MARKS, with a legend."""
    scale = alt.Scale(domain=list(marks), range=[MARKS[mark] for mark in marks])
    legend = alt.Legend(orient="bottom", symbolStrokeColor=GREY, symbolSize=100)
    return alt.Shape("what:N", title=None, scale=scale, legend=legend)


def _of_point() -> list[alt.Tooltip]:
    """What is told of a point of a surface."""
    dice = alt.Tooltip("dice:Q", title="mean Dice", format=".5f")
    return [alt.Tooltip("t:Q", title="threshold", format=".3f"), alt.Tooltip("area:O", title=AREA), dice]


def _thin(n: int, most: int, keep: Sequence[int]) -> NDArray[np.int64]:
    """At most `most` of n places, evenly spaced, those to keep among them."""
    even = np.linspace(0, n - 1, most - len(keep)).round().astype(np.int64)
    return np.arange(n) if n <= most else np.unique([*even, *keep])


def _area_name(px: int) -> str:
    return "any" if px == 0 else "never" if px > N_PIXELS else str(px)
