"""The sheet of one strip: truth, prediction, a heat map of each class that matters, and the numbers."""

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES, WIDTH
from steel.decide.evidence import N_LEVELS
from steel.decide.expected import ExpectedRule
from steel.decide.rule import NEVER_PX, Rule
from steel.metrics import dice
from steel.report.overlay import outline
from steel.report.sheets import caption
from steel.report.strips import View
from steel.report.text import text_table

HEAD = ["class", "true px", "shown px", "Dice", "gate", "largest prob", "threshold", "min area, px", "min gate"]
EVEN = 128  # level from which on a pixel is rather of the class than not
LINE_PX, COLUMN_PX = 32, 170


def strip_sheet(view: View) -> NDArray[np.uint8]:
    """The sheet, (H, 1600, 3) uint8, BGR as OpenCV writes it."""
    parts = [caption(f"{view.image_id}   {view.where}", legend=True)]
    if view.true is not None:
        parts += [caption("truth"), outline(view.strip, view.true)]
    prediction = f"prediction of {', '.join(view.models)}{'' if view.shown.any() else ': nothing'}"
    parts += [caption(prediction), outline(view.strip, view.shown)]
    masks = view.shown if view.true is None else view.true
    for k in classes_that_matter(view):
        own = np.zeros_like(masks)
        own[k] = masks[k]
        what = "shown mask" if view.true is None else "true mask"
        parts += [caption(f"probability of class {k + 1}, 0 black to 1 yellow; its {what} outlined")]
        parts += [_heat(view.prob[k], own)]
    return np.concatenate([*parts, _drawn_table(numbers(view))])


def classes_that_matter(view: View) -> list[int]:
    """Class indices that are there, are shown or are rather there than not in some pixel; if none, the likeliest."""
    peak = view.prob.reshape(N_CLASSES, -1).max(1)
    there = np.zeros(N_CLASSES, bool) if view.true is None else view.true.any((1, 2))
    matters = there | view.shown.any((1, 2)) | (peak >= EVEN)
    return np.flatnonzero(matters).tolist() or [int(peak.argmax())]


def numbers(view: View) -> list[list[str]]:
    """A row of each class, its columns those of HEAD."""
    rows = []
    for k, rule in enumerate(view.rules.classes):
        assert isinstance(rule, Rule | ExpectedRule)
        shown_px = int(view.shown[k].sum())
        true = ["–", "–"]
        if view.true is not None:
            true_px, overlap_px = int(view.true[k].sum()), int((view.true[k] & view.shown[k]).sum())
            true = [str(true_px), f"{float(dice(*map(np.array, (shown_px, true_px, overlap_px)))):.4f}"]
        asks = [
            f"{rule.threshold / (N_LEVELS - 1):.3f}" if rule.threshold else "its own",
            "never" if rule.min_area_px >= NEVER_PX else str(rule.min_area_px),
            f"{rule.min_gate:.3f}",
        ]
        peak = f"{int(view.prob[k].max()) / (N_LEVELS - 1):.3f}"
        rows.append([str(CLASSES[k]), true[0], str(shown_px), true[1], f"{view.gate[k]:.3f}", peak, *asks])
    return rows


def as_text(view: View) -> str:
    """The numbers in words and a table."""
    head = f"{view.image_id}: {view.where}; models {', '.join(view.models)}"
    return f"{head}\n{text_table(HEAD, numbers(view))}"


def _heat(prob: NDArray[np.uint8], masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """A map (256, 1600) in colours, (256, 1600, 3) BGR, with the outlines of masks (4, 256, 1600)."""
    picture = cv2.applyColorMap(prob, cv2.COLORMAP_INFERNO)
    lines = outline(np.zeros_like(prob), masks)
    drawn = lines.any(2)
    picture[drawn] = lines[drawn]
    return picture.astype(np.uint8, copy=False)


def _drawn_table(rows: list[list[str]]) -> NDArray[np.uint8]:
    """The numbers as a picture, (H, 1600, 3)."""

    def line(cells: list[str]) -> NDArray[np.uint8]:
        picture = np.full((LINE_PX, WIDTH, 3), 255, np.uint8)
        for i, cell in enumerate(cells):
            picture[:, i * COLUMN_PX : (i + 1) * COLUMN_PX] = caption(cell.replace("–", "-"))[:LINE_PX, :COLUMN_PX]
        return picture

    return np.concatenate([line(HEAD), *(line(row) for row in rows)])
