"""The sheet of one strip: truth, prediction, a heat map of each class that matters, numbers, and what they decide."""

import textwrap

import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES, WIDTH
from steel.decide.ensemble import largest_class
from steel.metrics import dice
from steel.report.overlay import heat, outline
from steel.report.rule_words import as_prob, conditions, of_rule
from steel.report.sheets import caption, text_px
from steel.report.strips import View
from steel.report.text import text_table

HEAD = ["class", "true px", "shown px", "Dice", "gate", "largest prob", "threshold", "min area, px", "min gate"]
EVEN = 128  # level from which on a pixel is rather of the class than not
GAP_PX = 32  # between two columns
LINE_LENGTH = 130  # characters that a caption holds


def strip_sheet(view: View) -> NDArray[np.uint8]:
    """The sheet, (H, 1600, 3) uint8, BGR as OpenCV writes it."""
    parts = [caption(f"{view.image_id}   {view.where}", legend=True)]
    if view.true is not None:
        parts += [caption("truth"), outline(view.strip, view.true)]
    prediction = f"prediction of {', '.join(view.models)}{'' if view.shown.any() else ': nothing'}"
    parts += [caption(prediction), outline(view.strip, view.shown)]
    masks = view.shown if view.true is None else view.true
    what = "shown mask" if view.true is None else "true mask"
    for k in classes_that_matter(view):
        parts += [caption(f"class {CLASSES[k]}: probabilities, its {what} outlined", scale=True)]
        parts += [_heat(view.prob[k], masks, k)]
    lines = [part for line in verdicts(view) for part in textwrap.wrap(line, LINE_LENGTH, subsequent_indent="    ")]
    return np.concatenate([*parts, _drawn_table([HEAD, *numbers(view)]), *map(caption, lines)])


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
        shown_px = int(view.shown[k].sum())
        true = ["–", "–"]
        if view.true is not None:
            true_px, overlap_px = int(view.true[k].sum()), int((view.true[k] & view.shown[k]).sum())
            true = [str(true_px), f"{float(dice(*map(np.array, (shown_px, true_px, overlap_px)))):.4f}"]
        found = [f"{view.gate[k]:.3f}", as_prob(int(view.prob[k].max()))]
        rows.append([str(CLASSES[k]), true[0], str(shown_px), true[1], *found, *of_rule(rule)[:3]])
    return rows


def verdicts(view: View) -> list[str]:
    """A line on each class: whether it is shown, which conditions of its rule decide that, and what it is called."""
    owned = largest_class(view.prob)
    lines = []
    for k, rule in enumerate(view.rules.classes):
        found, alone = (conditions(rule, one[k], view.gate[k], view.tail_px[k]) for one in (owned, view.prob))
        met, unmet = (" and ".join(one.words for one in found if one.met == wanted) for wanted in (True, False))
        verdict = f"not shown: {unmet}" + (f"; met: {met}" if met else "") if unmet else f"shown: {met}"
        if unmet and all(one.met for one in alone):
            verdict += "; its map alone would be shown, but another class is likelier there"
        more = of_rule(rule)[3]
        lines.append(f"class {CLASSES[k]} {verdict}{f' ({more})' if more else ''}")
    return lines


def as_text(view: View) -> str:
    """The numbers in a table, and what they decide."""
    head = f"{view.image_id}: {view.where}; models {', '.join(view.models)}"
    return "\n".join([head, text_table(HEAD, numbers(view)), *verdicts(view)])


def _heat(prob: NDArray[np.uint8], masks: NDArray[np.bool_], k: int) -> NDArray[np.uint8]:
    """The map (256, 1600) of class index k in colours, (256, 1600, 3) BGR, its one of masks (4, 256, 1600) outlined."""
    picture = heat(prob)
    own = np.zeros_like(masks)
    own[k] = masks[k]
    lines = outline(np.zeros_like(prob), own)
    drawn = lines.any(2)
    picture[drawn] = lines[drawn]
    return picture


def _drawn_table(rows: list[list[str]]) -> NDArray[np.uint8]:
    """Lines of cells as a picture, (H, 1600, 3)."""
    widths = [max(map(text_px, column)) + GAP_PX for column in zip(*rows, strict=True)]
    bands = []
    for row in rows:
        cells = [caption(cell.replace("–", "-"))[:, :width] for cell, width in zip(row, widths, strict=True)]
        band = caption("")
        band[:, : sum(widths)] = np.concatenate(cells, axis=1)[:, :WIDTH]
        bands.append(band)
    return np.concatenate(bands)
