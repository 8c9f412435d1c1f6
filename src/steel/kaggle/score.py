"""The competition's score of a submission file against a label file."""

from collections.abc import Mapping
from itertools import product
from pathlib import Path

import numpy as np

from steel import metrics, rle
from steel.competition import CLASSES, N_CLASSES
from steel.data.labels import read_labels, read_masks
from steel.errors import UserError, shorten
from steel.kaggle.check import open_submission


def score_files(truth: Path, submission: Path, images: Path | None) -> metrics.Score:
    """Score a submission against labels; each file in either of its forms.

    Args:
        truth: labels. With `images`, its rows for other images are not scored; without, such rows are an error.
        submission: predictions; each scored image needs its rows (four, or at least one in today's form).
        images: csv list, or folder, of the images to score; without it those of the submission.

    Raises UserError for faults of the files, and for images that are missing or unknown.
    """
    predicted = open_submission(submission, images)
    if images is None:
        _check_labelled(truth, submission, predicted.image_ids)
    labels = read_labels(truth, None)
    masks = {(i, k): text for i, k, text in zip(labels.image_id, labels.class_id, labels.rle, strict=True)}
    return metrics.score(*count_pixels(predicted.image_ids, predicted.masks, masks))


def format_score(score: metrics.Score) -> str:
    """A small table: the competition's mean Dice to 5 decimals, and what always stands beside it."""
    rows = [["", "all", *(f"class {k}" for k in CLASSES)]]
    rows.append(["mean Dice", *_decimals(score.mean, *score.class_mean)])
    rows.append(["positive only", *_decimals(score.positive, *score.class_positive)])
    for name, counts in (("true masks", score.n_positive), ("false positives", score.fp), ("missed", score.fn)):
        rows.append([name, *(str(n) for n in (sum(counts), *counts))])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [f"{score.n_images} images"]
    for row in rows:
        cells = [row[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells))
    return "\n".join(lines)


def _check_labelled(truth: Path, submission: Path, image_ids: list[str]) -> None:
    """Raise UserError if labelled images are not in the submission: their score would be left out in silence."""
    labelled = {row.image_id for row in read_masks(truth).rows}
    if missing := sorted(labelled - set(image_ids)):
        raise UserError(
            f"{submission} has no row for {shorten(missing)}, labelled in {truth}: "
            "expected every labelled image, or the images to score as --images"
        )


def count_pixels(
    image_ids: list[str], predicted: Mapping[tuple[str, int], str], true: Mapping[tuple[str, int], str]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Px predicted, true and in both, each (n, 4) int64; only masks that can overlap are decoded."""
    pred_px, true_px, overlap_px = np.zeros((3, len(image_ids), N_CLASSES), np.int64)
    for (row, image_id), class_id in product(enumerate(image_ids), CLASSES):
        at, a, b = (row, class_id - 1), predicted.get((image_id, class_id)), true.get((image_id, class_id))
        if a:
            pred_px[at] = rle.area(a)
        if b:
            true_px[at] = rle.area(b)
        if a and b:
            overlap_px[at] = pred_px[at] if a == b else np.count_nonzero(rle.decode(a) & rle.decode(b))
    return pred_px, true_px, overlap_px


def _decimals(*values: float) -> list[str]:
    return ["-" if np.isnan(value) else f"{value:.5f}" for value in values]
