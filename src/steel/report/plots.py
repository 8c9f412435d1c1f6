"""Pictures of the report: training curves, and the best and worst strips."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from steel import files
from steel.competition import CLASSES, N_PIXELS
from steel.data.cache import open_strips
from steel.decide import run
from steel.decide.decision import Decision
from steel.decide.surfaces import Surfaces
from steel.decide.table import Table
from steel.metrics import dice
from steel.paths import Paths
from steel.report.outcomes import Outcome
from steel.report.overlay import COLOURS, compare
from steel.report.strips import held_out, stores_of, true_masks

mpl.use("Agg")
N_SHOWN = 6  # strips in a gallery


def write(paths: Paths, table: Table, decision: Decision, outcome: Outcome) -> list[Path]:
    """Write all pictures; their paths."""
    written = [
        _save(paths.report / "curves.png", curves(paths, decision)),
        _save(paths.report / "surfaces.png", surfaces(Surfaces.load(paths.decide / run.SURFACES))),
    ]
    positive = dice(outcome.pred_px, table.true_px, outcome.overlap_px)
    positive[table.true_px == 0] = np.nan
    for name, sign in (("worst", 1), ("best", -1)):
        rows = extremes(sign * positive)
        if len(rows):
            path = paths.report / f"{name}.png"
            with files.atomic(path) as temporary:
                picture = gallery(paths, table, decision, rows, positive)
                temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
            written.append(path)
    return written


def curves(paths: Paths, decision: Decision) -> Figure:
    """Loss and held-out score over the epochs, one row per model, one line per fold."""
    names = list(dict.fromkeys([*decision.segmenters, *decision.gates]))
    figure = Figure(figsize=(11, 3.2 * len(names)), layout="constrained")
    axes = figure.subplots(len(names), 2, squeeze=False)
    for name, (left, right) in zip(names, axes, strict=True):
        for fold in decision.folds:
            log = [json.loads(line) for line in (paths.fold(name, fold) / "log.jsonl").read_text().splitlines()]
            left.plot([row["epoch"] for row in log], [row["loss"] for row in log], label=f"fold {fold}")
            looks = [row for row in log if "score" in row]
            right.plot([row["epoch"] for row in looks], [row["score"]["positive"] for row in looks], marker=".")
        what = "Dice of strips with a mask" if name in decision.segmenters else "recall of classes"
        left.set(title=f"{name}: training loss", xlabel="epoch", ylabel="loss")
        right.set(title=f"{name}: held out, at threshold 0.5", xlabel="epoch", ylabel=what, ylim=(0, 1))
        left.legend()
    return figure


def surfaces(found: Surfaces) -> Figure:
    """Mean Dice of each class over threshold and minimum area, at the gate of the chosen rule, which is marked."""
    figure = Figure(figsize=(13, 7.5), layout="constrained")
    n_area = len(found.areas_px)
    ticks = np.linspace(0, n_area - 1, min(9, n_area)).round().astype(int)
    names = ["any" if px == 0 else "never" if px > N_PIXELS else str(px) for px in found.areas_px[ticks]]
    for k, axes in enumerate(figure.subplots(2, 2).flat):
        scores = found.score[k]
        low = max(
            float(scores.min()), 2 * float(scores[:, -1].min()) - float(scores.max())
        )  # as far below nothing shown
        edges = (-0.5, n_area - 0.5, 0.5, 255.5)
        image = axes.imshow(scores, aspect="auto", origin="lower", extent=edges, vmin=low, cmap="viridis")
        figure.colorbar(image, ax=axes, label="mean Dice", extend="min")
        t, a = found.chosen[k]
        what = "no plain rule gains over showing nothing"
        if t >= 0:
            axes.plot(a, found.thresholds[t], marker="o", mfc="none", mec="white", ms=12, mew=2.5)
            axes.plot(a, found.thresholds[t], marker="o", mfc="none", mec="black", ms=14, mew=1)
            area_px = int(found.areas_px[a])
            what = f"plain rule: {found.thresholds[t] / 255:.3f}, {area_px} px: {scores[t, a]:.4f}"
        axes.set_xticks(ticks, names)
        axes.set(title=f"class {k + 1}, gate {found.min_gate[k]:.3f}; {what}", xlabel="minimum area, px")
        axes.set(ylabel="pixel threshold, of 255")
    return figure


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


def _save(path: Path, figure: Figure) -> Path:
    with files.atomic(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png", metadata={"Software": None})
    return path
