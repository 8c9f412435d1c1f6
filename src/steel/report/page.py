"""One HTML file from sections: no network, no server, nothing beside it; light or dark, wide or narrow."""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import cv2
import vl_convert
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from numpy.typing import NDArray

from steel import files
from steel.errors import UserError
from steel.report.section import Block, Figure, Numbers, Section

MAX_BYTES = 15_000_000
WEBP_QUALITY = 70


@dataclass(frozen=True)
class Fact:
    """A number at the top of a page: its name, the number, a note below it."""

    name: str
    value: str
    note: str = ""


@dataclass(frozen=True)
class Page:
    """All of a page but its gallery.

    Attributes:
        title, subtitle: at the top.
        facts: the numbers that matter most, the first in large.
        lead: lines below these.
        sections: in order.
        footer: the last line.
        beside: names of the files beside it that tell the same in text and numbers.
    """

    title: str
    subtitle: str
    facts: Sequence[Fact] = ()
    lead: Sequence[str] = ()
    sections: Sequence[Section] = ()
    footer: str = ""
    beside: Sequence[str] = ()

    @property
    def figures(self) -> list[Figure]:
        """All charts."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Figure)]


def environment() -> Environment:
    """Where templates come from; whatever they are given is escaped, and a name that they misspell is an error."""
    found = Environment(loader=PackageLoader("steel.report"), autoescape=True, undefined=StrictUndefined)
    found.filters.update(data_address=data_address, runs=runs)
    return found


def write(path: Path, page: Page, gallery: str = "") -> Path:
    """Write a page, whole or not at all; `gallery`: HTML of a section of its own, as `gallery.fragment` gives it."""
    templates = environment()
    assert templates.loader is not None
    css, *scripts = (templates.loader.get_source(templates, name)[0] for name in ("page.css", "values.js", "page.js"))
    vega = vl_convert.javascript_bundle()  # type: ignore[call-arg]  # which its stub does not know
    text = templates.get_template("page.html").render(
        page=page,
        gallery=Markup(gallery),
        css=Markup(css),
        script=Markup("".join(scripts)),
        vega=Markup(vega.replace("</script", "<\\/script")),
        charts=embedded({one.name: one.spec for one in page.figures}),
        heights={one.name: height_px(one) for one in page.figures},
    )
    data = text.encode()
    if len(data) > MAX_BYTES:
        raise UserError(f"{path}: {len(data)} bytes; allowed: {MAX_BYTES}")
    with files.atomic(path) as temporary:
        temporary.write_bytes(data)
    return path


def runs(blocks: Sequence[Block]) -> list[tuple[bool, list[Block]]]:
    """Tables, and what is none, each with those of its kind that follow at once: tables are as wide as they need."""
    return [(are, list(found)) for are, found in groupby(blocks, lambda block: isinstance(block, Numbers))]


def height_px(chart: Figure) -> int:
    """Height of a chart with its axes and legends, so that nothing moves when it is drawn."""
    found = re.search(r'<svg[^>]* height="([\d.]+)"', vl_convert.vegalite_to_svg(chart.spec))
    assert found is not None
    return math.ceil(float(found[1]))


def embedded(value: Any) -> Markup:
    """A value as JSON that can stand within a script of a page, whatever its texts hold."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    return Markup(text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"))


def data_address(picture: NDArray[Any]) -> str:
    """A picture (H, W) or (H, W, 3) BGR, uint8, as an address that holds it: WebP, base64."""
    data = cv2.imencode(".webp", picture, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])[1].tobytes()
    return f"data:image/webp;base64,{base64.b64encode(data).decode()}"
