"""`steel submission check FILE`: whether a submission is valid and complete, and what it shows."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steel import rle
from steel.competition import CLASSES
from steel.data.images import list_images
from steel.data.labels import MaskFile, check_disjoint, check_known, read_image_list, read_masks
from steel.errors import UserError, shorten
from steel.report.text import text_table

QUANTILES = {"10 %": 0.1, "median": 0.5, "90 %": 0.9, "largest": 1.0}  # of the areas of a class


@dataclass(frozen=True)
class Submission:
    """A submission file, checked.

    Attributes:
        path: of the file.
        per_class: the form of 2019, with four rows per strip; else today's, with one per mask.
        n_rows: rows of the file.
        image_ids: the strips, in the order of the list they were checked against, else of the file.
        masks: run-length string of each (strip, class) that shows something.
    """

    path: Path
    per_class: bool
    n_rows: int
    image_ids: list[str]
    masks: dict[tuple[str, int], str]


def open_submission(path: Path, images: Path | None = None) -> Submission:
    """Read a submission in either form and check it.

    Checked are the columns, each string (numbers, range, sorted, apart), repeated rows, classes that overlap, and that
    each strip has its rows (four in the form of 2019, in today's at least one).

    Args:
        path: the file.
        images: the strips that it must have, and no others: a folder, or a csv such as sample_submission.csv; None:
            those that it names itself.

    Raises UserError at the first fault.
    """
    file = read_masks(path)
    check_disjoint(path, file.rows)
    if images is None:
        image_ids = list(dict.fromkeys(row.image_id for row in file.rows))
    else:
        image_ids = list_images(images) if images.is_dir() else read_image_list(images)
        check_known(path, file.rows, image_ids)
    if not image_ids:
        raise UserError(f"{path}: no rows: expected at least one image")
    _check_complete(path, file, image_ids)
    masks = {(row.image_id, row.class_id): row.rle for row in file.rows if row.rle}
    return Submission(path, file.per_class, len(file.rows), image_ids, masks)


def summary(found: Submission) -> str:
    """What was found valid, and a table: of each class the strips that show it, and quantiles of their areas, px."""
    n_strips, shown = len(found.image_ids), {image_id for image_id, _ in found.masks}
    form = "the form of 2019 (four rows per strip)" if found.per_class else "today's form (one row per mask)"
    rows = []
    for class_id in CLASSES:
        areas = [rle.area(text) for (_, k), text in found.masks.items() if k == class_id]
        quantiles = [f"{np.quantile(areas, q):.0f}" if areas else "–" for q in QUANTILES.values()]
        rows.append([f"class {class_id}", str(len(areas)), f"{100 * len(areas) / n_strips:.1f} %", *quantiles])
    return "\n".join(
        [
            f"{found.path}: valid, {found.n_rows} rows in {form}",
            f"{n_strips} strips, {len(shown)} of them with something shown",
            text_table(["area, px", "strips", "share", *QUANTILES], rows),
        ]
    )


def _check_complete(path: Path, file: MaskFile, image_ids: list[str]) -> None:
    """Raise UserError if an image lacks rows: any in today's form, one of its four in that of 2019."""
    if file.per_class:
        given = {f"{row.image_id}_{row.class_id}" for row in file.rows}
        missing = [f"{i}_{k}" for i in image_ids for k in CLASSES if f"{i}_{k}" not in given]
    else:
        given = {row.image_id for row in file.rows}
        missing = [i for i in image_ids if i not in given]
    if missing:
        raise UserError(f"{path}: no row for {shorten(missing)}: expected each of the {len(image_ids)} images")
