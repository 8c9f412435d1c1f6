"""Charts by Altair: what all have in common, and their PNG."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

import altair as alt
import vl_convert

from steel import files
from steel.competition import CLASSES
from steel.report.overlay import COLOURS
from steel.report.section import Figure

PNG_SCALE = 2.0  # pixels per unit of the chart: sharp on paper
TITLE_LETTERS = 56  # of a line of a PNG's title: about the width of a chart
FONT = "system-ui, sans-serif"
GREY = "#888888"  # of what only explains: bounds, zero lines, dashes; seen on light and dark alike
DARK, LIGHT = "#222222", "#eeeeee"  # text on marks, whose colours are the same in both themes
BLUE, RED = "#2a84c8", "#d55e00"  # beside the colours of the classes; on light and dark their contrast is 3 or more
# What the page's own style sets for light and dark alike; the PNG is light.
CONFIG: dict[str, Any] = {
    "background": "transparent",
    "font": FONT,
    "view": {"stroke": None, "continuousWidth": 420, "continuousHeight": 240, "discreteWidth": 420},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "gridOpacity": 0.4},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "labelLimit": 300},
    "header": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "title": {"fontSize": 13, "anchor": "start"},
}
# Legends side by side are wider than a phone. Vega-Lite knows this; its schema, and so Altair, does not.
STACKED = {end: {"direction": "vertical", "anchor": "start", "margin": 6} for end in ("top", "bottom")}


def by_class(field: str = "class", title: str = "class") -> alt.Color:
    """Colour by class "1".."4": the same in every chart and outline, told apart with any kind of colour vision."""
    colours = ["#{:02x}{:02x}{:02x}".format(*colour) for colour in COLOURS]
    scale = alt.Scale(domain=[str(c) for c in CLASSES], range=colours)
    return alt.Color(f"{field}:N", title=title, scale=scale)


def seamless(field: str) -> dict[str, Any]:
    """Of cells coloured by a field: a stroke of the same colour, else seams show between them."""
    return {"strokeWidth": 1, "stroke": alt.expr(f"scale('color', datum.{field})")}


def figure(name: str, title: str, description: str, chart: Any) -> Figure:
    """A chart as the page and the PNG take it: its data within, its looks set."""
    dressed = chart.properties(description=description).configure(**CONFIG)
    with alt.data_transformers.enable("default", max_rows=None):
        spec = dressed.to_dict()
    spec["config"]["legend"]["layout"] = STACKED
    if spec.get("width") == "container":  # in height a chart is as large as its rows
        spec["autosize"] = {"type": "fit-x", "contains": "padding"}
        spec["padding"] = {"left": 5, "top": 5, "right": 16, "bottom": 5}  # the last label may stand out
    return Figure(name, title, description, spec)


def write_png(one: Figure, folder: Path) -> Path:
    """Write a figure as `NAME.png` on white, its title above it."""
    spec = {**one.spec, "background": "white", "title": textwrap.wrap(one.title, TITLE_LETTERS), "padding": 12}
    path = folder / f"{one.name}.png"
    with files.atomic(path) as temporary:
        temporary.write_bytes(vl_convert.vegalite_to_png(spec, scale=PNG_SCALE))
    return path
