"""The submission file: written, read back, and checked before it gets its name."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from steel.competition import CLASSES, N_CLASSES
from steel.data.labels import MaskRow, check_disjoint, read_masks, to_frame
from steel.errors import UserError

HEADER = "ImageId_ClassId,EncodedPixels"


def format_rows(image_ids: Sequence[str], rles: Sequence[Sequence[str]]) -> str:
    """Text of the submission form: a header, then 4 rows per image in the order given, empty where nothing is found.

    `rles`: one string for each of the 4 classes of each image. Raises ValueError if the counts differ.
    """
    lines = [HEADER]
    for image_id, texts in zip(image_ids, rles, strict=True):
        lines += [f"{image_id}_{k},{text}" for k, text in zip(CLASSES, texts, strict=True)]
    return "\n".join(lines) + "\n"


def write_submission(path: Path, image_ids: Sequence[str], rles: Sequence[Sequence[str]]) -> None:
    """Write `format_rows` to a path that the caller then checks and renames."""
    path.write_text(format_rows(image_ids, rles), encoding="utf-8", newline="\n")


def read_submission(path: Path) -> pd.DataFrame:
    """All rows of a submission in either form, in its order: image_id (str), class_id (int), rle ('' where empty).

    Raises UserError for columns, classes, values and repeated rows that the form does not allow.
    """
    return to_frame([(row.image_id, row.class_id, row.rle) for row in read_masks(path).rows])


def check_submission(path: Path, image_ids: Sequence[str]) -> None:
    """Raise UserError at the first fault of a submission for these images, in this order, 4 rows each.

    Checked are ids, order and count, each mask (numbers, range, sorted, apart), and that the classes of an image do
    not overlap.
    """
    file = read_masks(path)
    if not file.per_class:
        raise UserError(f"{path}: one row per mask: expected the columns {HEADER} and {N_CLASSES} rows per image")
    expected = [(image_id, k) for image_id in image_ids for k in CLASSES]
    for row, (image_id, class_id) in zip(file.rows, expected, strict=False):
        if (row.image_id, row.class_id) != (image_id, class_id):
            raise UserError(
                f"{path}, line {row.line}: {_name(row)}: expected {image_id}_{class_id}, the order of the test images"
            )
    if len(file.rows) != len(expected):
        raise UserError(
            f"{path}: {len(file.rows)} rows: expected {len(expected)}, {N_CLASSES} for each of {len(image_ids)} images"
        )
    check_disjoint(path, file.rows)


def _name(row: MaskRow) -> str:
    return f"{row.image_id}_{row.class_id}"
