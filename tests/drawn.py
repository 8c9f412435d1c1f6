"""Charts as tests look at them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steel.report.charts.draw import write_png
from steel.report.section import Figure, Numbers, Section

LARGEST_BYTES = 150_000  # of a chart as JSON


def layers(figure: Figure) -> list[dict[str, Any]]:
    """The marks of a chart, from the bottom up."""
    return figure.spec.get("layer", [figure.spec])


def rows(figure: Figure, layer: int = 0) -> list[dict[str, Any]]:
    """What a layer is drawn from."""
    data = layers(figure)[layer].get("data") or figure.spec["data"]
    return data["values"] if "values" in data else figure.spec["datasets"][data["name"]]


def named(section: Section) -> dict[str, Figure]:
    """The charts of a section."""
    return {block.name: block for block in section.blocks if isinstance(block, Figure)}


def tables(section: Section) -> list[Numbers]:
    """The tables of a section."""
    return [block for block in section.blocks if isinstance(block, Numbers)]


def check(section: Section, folder: Path) -> None:
    """Every table is rectangular; every chart has its own name, answers the pointer, is small, and can be drawn."""
    for table in tables(section):
        assert {len(row) for row in table.rows} == {len(table.head)}, table.caption
    figures: Sequence[Figure] = [block for block in section.blocks if isinstance(block, Figure)]
    assert len(named(section)) == len(figures)
    for figure in figures:
        assert figure.name.replace("-", "").isalnum() and figure.name == figure.name.lower(), figure.name
        assert figure.spec["width"] == "container" and figure.description == figure.spec["description"]
        assert "nan" not in figure.description and "None" not in figure.description
        for layer in layers(figure):
            is_zero = layer["encoding"].get("x", {}).get("field") == "zero"  # a rule that says no more than the axis
            assert is_zero or "tooltip" in layer["encoding"], figure.name
        assert len(json.dumps(figure.spec, allow_nan=False)) < LARGEST_BYTES, figure.name
        assert write_png(figure, folder).read_bytes().startswith(b"\x89PNG")
