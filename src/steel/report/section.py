"""What the pages are made of: sections of text, charts, tables and pictures, which know nothing of HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Figure:
    """A chart, by one specification for the page, where it answers the pointer, and for the PNG.

    Attributes:
        name: of the PNG, and in addresses within the page: lower case, digits and dashes.
        title: what it shows, in a few words.
        description: what it says, with its main numbers, for those who cannot see it.
        spec: Vega-Lite, as `charts.figure` gives it.
    """

    name: str
    title: str
    description: str
    spec: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Numbers:
    """A table, for the page and for text alike.

    Attributes:
        caption: what it shows, in a few words.
        head: of each column; the first column names the row.
        rows: its cells.
        note: what they mean, in a sentence or two.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass(frozen=True)
class Picture:
    """A photograph: what it shows, the same for those who cannot see it, its pixels (H, W, 3) uint8, BGR."""

    caption: str
    alt: str
    pixels: NDArray[np.uint8] = field(repr=False)


Block = Figure | Numbers | Picture


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        name: in addresses within the page: lower case, digits and dashes.
        title: its heading.
        lead: paragraphs below it, plain text.
        blocks: charts, tables and pictures, in order.
        folded: whether it is shut at first.
    """

    name: str
    title: str
    lead: Sequence[str] = ()
    blocks: Sequence[Block] = ()
    folded: bool = False
