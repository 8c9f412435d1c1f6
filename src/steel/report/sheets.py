"""Sheets of strips, truth above prediction: the report's best and worst."""

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES
from steel.data.cache import open_strips
from steel.decide.decision import Decision
from steel.decide.table import Table
from steel.paths import Paths
from steel.report.overlay import COLOURS, compare
from steel.report.strips import held_out, stores_of, true_masks

N_SHOWN = 6  # strips in a gallery


def extremes(values: NDArray[np.float64]) -> list[int]:
    """Rows with the smallest values (n, 4; NaN: no such mask), the classes in turn, each row once; at most N_SHOWN."""
    columns = [np.argsort(column, kind="stable")[: np.isfinite(column).sum()] for column in values.T]
    turns = [int(column[i]) for i in range(len(values)) for column in columns if i < len(column)]
    return list(dict.fromkeys(turns))[:N_SHOWN]


def gallery(paths: Paths, table: Table, decision: Decision, rows: Sequence[int], values: NDArray) -> NDArray[np.uint8]:
    """Strips with truth above and prediction below, captioned: (H, 1600, 3) uint8, BGR.

    `rows` are rows of the table, `values` (n, 4) the Dice of each true mask, NaN where there is none.
    """
    strips = open_strips(paths.cache, "train")
    assert strips.masks is not None
    row_of = {image_id: row for row, image_id in enumerate(strips.image_ids)}
    parts = [caption("truth above, prediction below", legend=True)]
    what = "fold" if len(decision.folds) > 1 else "part"
    for i in rows:
        image_id, fold = str(table.image_ids[i]), int(table.fold[i])
        per_class = ", ".join(
            f"class {c} Dice {v:.3f}" for c, v in zip(CLASSES, values[i], strict=True) if not np.isnan(v)
        )
        parts.append(caption(f"{image_id}  {what} {fold}  {per_class}"))
        row = row_of[image_id]
        stores = stores_of(paths, decision, fold)
        _, shown = held_out(stores, image_id, decision, fold, table.gate[i])
        parts.append(compare(strips.images[row], true_masks(strips.masks[row]), shown))
    return np.concatenate(parts)


def caption(text: str, legend: bool = False) -> NDArray[np.uint8]:
    band = np.full((36, 1600, 3), 255, np.uint8)
    font: dict[str, Any] = {
        "fontFace": cv2.FONT_HERSHEY_SIMPLEX,
        "fontScale": 0.7,
        "thickness": 1,
        "lineType": cv2.LINE_AA,
    }
    cv2.putText(band, text, (8, 25), color=(0, 0, 0), **font)
    for k, colour in enumerate(COLOURS if legend else ()):
        x = 1100 + 120 * k
        cv2.rectangle(band, (x, 8), (x + 18, 28), colour[::-1], -1)
        cv2.putText(band, f"class {k + 1}", (x + 24, 25), color=(0, 0, 0), **font)
    return band
