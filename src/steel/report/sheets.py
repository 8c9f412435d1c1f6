"""Sheets of strips, truth above prediction: the report's best and worst."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, WIDTH
from steel.decide.decision import Decision
from steel.decide.evidence import N_LEVELS
from steel.decide.table import Table
from steel.paths import Paths
from steel.report.overlay import COLOURS, compare, heat
from steel.report.strips import HeldOut

N_SHOWN = 6  # strips in a gallery
CAPTION_PX, SCALE_X = 36, 1300
FONT: dict[str, Any] = {"fontFace": cv2.FONT_HERSHEY_SIMPLEX, "fontScale": 0.7, "thickness": 1}


def extremes(values: NDArray[np.float64]) -> list[int]:
    """Rows with the smallest values (n, 4; NaN: no such mask), the classes in turn, each row once; at most N_SHOWN."""
    columns = [np.argsort(column, kind="stable")[: np.isfinite(column).sum()] for column in values.T]
    turns = [int(column[i]) for i in range(len(values)) for column in columns if i < len(column)]
    return list(dict.fromkeys(turns))[:N_SHOWN]


def gallery(paths: Paths, table: Table, decision: Decision, rows: Sequence[int], values: NDArray) -> NDArray[np.uint8]:
    """Strips with truth above and prediction below, captioned: (H, 1600, 3) uint8, BGR.

    `rows` are rows of the table, `values` (n, 4) the Dice of each true mask, NaN where there is none.
    """
    held_out = HeldOut(paths, decision)
    parts = [caption("truth above, prediction below", legend=True)]
    for i in rows:
        view = held_out.of_row(table, i)
        per_class = ", ".join(
            f"class {c} Dice {v:.3f}" for c, v in zip(CLASSES, values[i], strict=True) if not np.isnan(v)
        )
        parts.append(caption(f"{view.image_id}  {view.where}  {per_class}"))
        assert view.true is not None
        parts.append(compare(view.strip, view.true, view.shown))
    return np.concatenate(parts)


def caption(text: str, legend: bool = False, scale: bool = False) -> NDArray[np.uint8]:
    """A band (36, 1600, 3) with a line of ASCII; at its right end the classes' colours, or those of probabilities."""
    band = np.full((CAPTION_PX, WIDTH, 3), 255, np.uint8)
    _write(band, text, 8)
    for k, colour in enumerate(COLOURS if legend else ()):
        x = 1100 + 120 * k
        cv2.rectangle(band, (x, 8), (x + 18, 28), colour[::-1], -1)
        _write(band, f"class {CLASSES[k]}", x + 24)
    if scale:
        band[8:29, SCALE_X : SCALE_X + N_LEVELS] = heat(np.arange(N_LEVELS, dtype=np.uint8)[None])
        _write(band, "probability 0", SCALE_X - 8 - text_px("probability 0"))
        _write(band, "1", SCALE_X + N_LEVELS + 8)
    return band


def text_px(text: str) -> int:
    """Width of a text in a caption."""
    return cv2.getTextSize(text, FONT["fontFace"], FONT["fontScale"], FONT["thickness"])[0][0]


def _write(band: NDArray[np.uint8], text: str, x: int) -> None:
    cv2.putText(band, text, (x, 25), color=(0, 0, 0), lineType=cv2.LINE_AA, **FONT)
