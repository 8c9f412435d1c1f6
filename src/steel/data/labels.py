"""Label files and image lists: both forms of the competition's csv, checked line by line.

Today's form has one row per mask: ``ImageId,ClassId,EncodedPixels``. That of 2019 has four rows per image,
``ImageId_ClassId,EncodedPixels``, empty where a class is absent.
"""

import csv
import gzip
import zlib
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, TextIO

import numpy as np
import pandas as pd

from steel import rle
from steel.competition import CLASSES, N_CLASSES
from steel.errors import UserError, shorten

PER_MASK = ("ImageId", "ClassId", "EncodedPixels")
PER_CLASS = ("ImageId_ClassId", "EncodedPixels")
_IMAGE_COLUMNS = (("ImageId_ClassId",), ("ImageId",), ("image_id",))  # the last: the kit's own index and fold files
_MISSING = ("", "nan", "NaN", "NA", "<NA>", "None")
_MAX_FIELD = 8_000_000  # characters: more than the longest string a mask can have


class MaskRow(NamedTuple):
    """One row of a label or submission file; `rle` is '' where there is no mask."""

    line: int
    image_id: str
    class_id: int
    rle: str


class MaskFile(NamedTuple):
    """Rows in the order of the file; `per_class`: the form with four rows per image."""

    per_class: bool
    rows: list[MaskRow]


def read_labels(path: Path, image_ids: Collection[str] | None = None) -> pd.DataFrame:
    """The masks of a label file in either form (also .gz), checked.

    Returns columns image_id (str), class_id (int), rle (str), one row per mask, sorted by (image_id, class_id).
    `image_ids`, if given, are the images that exist. Raises UserError for any fault of the file: columns, classes,
    values, repeated rows, unknown images, and masks of different classes that overlap.
    """
    file = read_masks(path)
    if image_ids is not None:
        check_known(path, file.rows, image_ids)
    if not file.per_class:
        for row in file.rows:
            if not row.rle:
                raise UserError(f"{path}, line {row.line}: EncodedPixels is empty: expected a mask in each row")
    check_disjoint(path, file.rows)
    masks = sorted((row.image_id, row.class_id, row.rle) for row in file.rows if row.rle)
    return to_frame(masks)


def read_image_list(path: Path) -> list[str]:
    """The images of a sample submission in either form, in its order; also of any csv with a column image_id.

    Raises UserError for an image listed twice, and for an image without its four rows in the form of 2019.
    """
    found, lines = _read_columns(path, _IMAGE_COLUMNS)
    per_class = found == ("ImageId_ClassId",)
    seen: dict[str, set[str]] = {}
    for line, (name,) in lines:
        image_id, class_text = _split_id(path, line, name) if per_class else (name, "")
        if image_id in _MISSING:
            raise UserError(f"{path}, line {line}: {found[0]} is empty: expected the file name of an image")
        classes = seen.setdefault(image_id, set())
        if class_text in classes:
            raise UserError(f"{path}, line {line}: {name} is listed twice: expected each once")
        if per_class:
            _class_id(path, line, class_text)
        classes.add(class_text)
    if not seen:
        raise UserError(f"{path}: no rows: expected at least one image")
    for image_id, classes in seen.items():
        if per_class and len(classes) != N_CLASSES:
            raise UserError(f"{path}: {image_id} has {len(classes)} rows: expected one for each of {N_CLASSES} classes")
    return list(seen)


def read_masks(path: Path) -> MaskFile:
    """All rows of a label or submission file in either form, each row checked by itself and against repetition."""
    found, lines = _read_columns(path, (PER_CLASS, PER_MASK))
    per_class = found == PER_CLASS
    rows: list[MaskRow] = []
    first_line: dict[tuple[str, int], int] = {}
    for line, values in lines:
        image_id, class_text = _split_id(path, line, values[0]) if per_class else (values[0], values[1])
        if image_id in _MISSING:
            raise UserError(f"{path}, line {line}: image is empty: expected the file name of an image")
        class_id = _class_id(path, line, class_text)
        text = "" if values[-1] in _MISSING else values[-1]
        try:
            rle.parse(text)
        except ValueError as fault:
            raise UserError(f"{path}, line {line}, image {image_id}, class {class_id}: {fault}") from None
        before = first_line.setdefault((image_id, class_id), line)
        if before != line:
            known = f"image {image_id}, class {class_id}, stands in line {before} already"
            raise UserError(f"{path}, line {line}: {known}: expected each once")
        rows.append(MaskRow(line, image_id, class_id, text))
    return MaskFile(per_class, rows)


def check_known(path: Path, rows: Iterable[MaskRow], image_ids: Collection[str]) -> None:
    """Raise UserError if a row is of an image that is not among `image_ids`."""
    known = frozenset(image_ids)
    unknown: dict[str, int] = {}  # the line in which each comes first
    for row in rows:
        if row.image_id not in known:
            unknown.setdefault(row.image_id, row.line)
    if unknown:
        line = next(iter(unknown.values()))
        names = shorten(list(unknown))
        raise UserError(f"{path}, line {line}: unknown image {names}: expected names among the {len(known)} images")


def check_disjoint(path: Path, rows: Iterable[MaskRow]) -> None:
    """Raise UserError if masks of different classes of one image share a px."""
    masks: dict[str, list[MaskRow]] = {}
    for row in rows:
        if row.rle:
            masks.setdefault(row.image_id, []).append(row)
    for several in masks.values():
        if len(several) > 1:
            _check_image_disjoint(path, several)


def to_frame(masks: list[tuple[str, int, str]]) -> pd.DataFrame:
    """Frame with the columns image_id (str), class_id (int64), rle (str) of (image, class, string) rows."""
    image_ids, class_ids, texts = (list(column) for column in zip(*masks, strict=True)) if masks else ([], [], [])
    return pd.DataFrame(
        {
            "image_id": pd.Series(image_ids, dtype=str),
            "class_id": np.array(class_ids, np.int64),
            "rle": pd.Series(texts, dtype=str),
        }
    )


def _check_image_disjoint(path: Path, rows: list[MaskRow]) -> None:
    runs = np.concatenate([rle.parse(row.rle) for row in rows])  # (n, 2)
    owner = np.repeat(np.arange(len(rows)), [rle.parse(row.rle).shape[0] for row in rows])
    order = np.argsort(runs[:, 0], kind="stable")
    runs, owner = runs[order], owner[order]
    clash = np.flatnonzero(runs[1:, 0] < runs[:-1].sum(axis=1))
    if clash.size:
        i = int(clash[0])
        a, b = rows[owner[i]], rows[owner[i + 1]]
        raise UserError(
            f"{path}, line {b.line}: the masks of classes {a.class_id} and {b.class_id} of image {b.image_id} "
            f"share px {runs[i + 1, 0] + 1}: expected classes that do not overlap"
        )


def _read_columns(
    path: Path, forms: Iterable[tuple[str, ...]]
) -> tuple[tuple[str, ...], Iterator[tuple[int, list[str]]]]:
    """The first form whose columns the file has, and (line number, values in the order of the form) of each row."""
    lines = _lines(path)
    _, header = next(lines, (0, []))
    if not header:
        raise UserError(f"{path}: the file is empty: expected a csv with a header")
    for form in forms:
        if set(form) <= set(header):
            places = [header.index(name) for name in form]
            return form, _pick(path, lines, len(header), places)
    expected = " or ".join(",".join(form) for form in forms)
    raise UserError(f"{path}: the columns are {','.join(header)[:80]}: expected {expected}")


def _pick(
    path: Path, lines: Iterator[tuple[int, list[str]]], n_columns: int, places: list[int]
) -> Iterator[tuple[int, list[str]]]:
    for line, values in lines:
        if len(values) != n_columns:
            raise UserError(f"{path}, line {line}: {len(values)} values: expected {n_columns}, as in the header")
        yield line, [values[i] for i in places]


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """(line number from 1, values) of each line that is not blank."""
    if not path.is_file():
        raise UserError(f"{path}: no such file: expected a csv")
    csv.field_size_limit(_MAX_FIELD)  # csv's own limit is below the longest real mask
    try:
        with _open(path) as file:
            reader = csv.reader(file)
            for values in reader:
                if values:
                    yield reader.line_num, [value.strip() for value in values]
    except (OSError, EOFError, UnicodeDecodeError, csv.Error, zlib.error) as fault:
        raise UserError(f"{path}: not a readable csv ({fault}): expected UTF-8 text with commas") from None


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _split_id(path: Path, line: int, name: str) -> tuple[str, str]:
    image_id, separator, class_text = name.rpartition("_")
    if not separator:
        raise UserError(f"{path}, line {line}: ImageId_ClassId is {name!r}: expected IMAGE_CLASS such as 0a1b.jpg_1")
    return image_id, class_text


def _class_id(path: Path, line: int, text: str) -> int:
    if text not in {str(k) for k in CLASSES}:
        hint = " (0 is that of the competition's sample_submission.csv, which holds no masks)" if text == "0" else ""
        raise UserError(f"{path}, line {line}: class {text!r}{hint}: expected one of {', '.join(map(str, CLASSES))}")
    return int(text)
