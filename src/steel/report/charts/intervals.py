"""Scores and gains with their intervals: a row for each, a dot, and a line as far as the interval goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from steel.report.charts.draw import GREY
from steel.report.uncertainty import PERCENT

ROW_PX = 34
SCORE, GAIN = ".5f", "+.5f"  # formats of numbers


def dots(
    rows: Sequence[Mapping[str, Any]],
    y: alt.Y,
    title: str,
    named: Sequence[alt.Tooltip],
    form: str = SCORE,
    shape: Any = alt.Undefined,
    **encoding: Any,
) -> list[alt.Chart]:
    """Layers of dots with intervals, from left to right.

    Args:
        rows: with "value", and "low" and "high", which are None where they are not known.
        y: what tells the rows apart.
        title: of the axis of the values.
        named: what the pointer is told beside the three numbers.
        form: SCORE; or GAIN, whose dots have a line at zero.
        shape: of the dots.
        encoding: of dots and lines: colour, offset.
    """
    numbers = {"value": title, "low": f"{PERCENT}, low", "high": f"{PERCENT}, high"}
    tooltip = [*named, *(alt.Tooltip(f"{key}:Q", title=name, format=form) for key, name in numbers.items())]
    axis = alt.Axis(format="+.4~f" if form == GAIN else "~g", tickCount=5, labelOverlap="greedy", labelSeparation=8)
    x = alt.X("value:Q", title=title, axis=axis, scale=alt.Scale(zero=False, padding=8))
    base = alt.Chart({"values": list(rows)}).encode(y=y, tooltip=tooltip, **encoding)
    lines = base.transform_filter("datum.low != null").mark_rule(strokeWidth=2)
    points = base.mark_point(filled=True, size=110, opacity=1).encode(x=x, shape=shape)
    zero = alt.Chart({"values": [{"zero": 0}]}).mark_rule(color=GREY, strokeDash=[4, 4]).encode(x="zero:Q")
    return [*([zero] if form == GAIN else []), lines.encode(x=alt.X("low:Q", title=title), x2="high:Q"), points]
