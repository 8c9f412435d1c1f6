"""The submission file: its bytes, reading it back, and each fault that a check must find."""

import time
from pathlib import Path

import numpy as np
import pytest

from steel import rle
from steel.data.labels import read_labels
from steel.errors import UserError
from steel.kaggle.submission import check_submission, format_rows, read_submission, write_submission

IDS = ["b.jpg", "a.jpg"]
GOOD = format_rows(IDS, [["", "1 2", "", "9 1"], ["", "", "", ""]])


def test_form_by_eye(tmp_path: Path) -> None:
    assert GOOD == (
        "ImageId_ClassId,EncodedPixels\n"
        "b.jpg_1,\nb.jpg_2,1 2\nb.jpg_3,\nb.jpg_4,9 1\n"
        "a.jpg_1,\na.jpg_2,\na.jpg_3,\na.jpg_4,\n"
    )
    path = tmp_path / "submission.csv"
    write_submission(path, IDS, [["", "1 2", "", "9 1"], ["", "", "", ""]])
    assert path.read_bytes() == GOOD.encode()
    check_submission(path, IDS)


def test_counts_must_agree() -> None:
    for ids, rles in ((IDS, [["", "", "", ""]]), (["a.jpg"], [["", "", ""]])):
        with pytest.raises(ValueError, match="zip"):
            format_rows(ids, rles)


def test_read_back_with_empties(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(GOOD, encoding="utf-8")
    frame = read_submission(path)
    assert frame.image_id.tolist() == ["b.jpg"] * 4 + ["a.jpg"] * 4
    assert frame.class_id.tolist() == [1, 2, 3, 4] * 2
    assert frame.rle.tolist() == ["", "1 2", "", "9 1", "", "", "", ""]
    path.write_text("ImageId,EncodedPixels,ClassId\na.jpg,1 2,3\nb.jpg,,1\n", encoding="utf-8")
    assert read_submission(path).to_numpy().tolist() == [["a.jpg", 3, "1 2"], ["b.jpg", 1, ""]]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("b.jpg_1,\nb.jpg_2,1 2", "b.jpg_2,1 2\nb.jpg_1,", "line 2: b.jpg_2: expected b.jpg_1"),
        ("a.jpg_1", "c.jpg_1", "line 6: c.jpg_1: expected a.jpg_1"),
        ("a.jpg_4,\n", "", "7 rows: expected 8"),
        ("a.jpg_4,\n", "a.jpg_4,\nc.jpg_1,\n", "9 rows: expected 8"),
        ("a.jpg_4,\n", "a.jpg_3,\n", "stands in line 8 already"),
        ("1 2", "1 2 3", "line 3, image b.jpg, class 2: RLE has 3 numbers"),
        ("1 2", "409600 2", "ends at 409601"),
        ("1 2", "5 1 1 1", "expected sorted, apart"),
        ("9 1", "2 1", "classes 2 and 4 of image b.jpg share px 2"),
        ("ImageId_ClassId", "Id", "columns"),
    ],
)
def test_check_finds(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(GOOD.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        check_submission(path, IDS)


def test_check_wants_the_form_with_four_rows(tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("ImageId,EncodedPixels,ClassId\na.jpg,1 2,3\n", encoding="utf-8")
    with pytest.raises(UserError, match="one row per mask"):
        check_submission(path, ["a.jpg"])


def test_a_very_long_mask_is_read(tmp_path: Path) -> None:
    """A chessboard needs 1.8 million characters, more than csv reads by itself."""
    board = (np.indices((256, 1600)).sum(0) % 2).astype(np.uint8)
    path = tmp_path / "submission.csv"
    write_submission(path, ["a.jpg"], [[rle.encode(board), "", "", ""]])
    check_submission(path, ["a.jpg"])


def test_a_whole_test_set_in_time(tmp_path: Path, severstal: Path) -> None:
    labels = read_labels(severstal / "labels" / "train_partial.csv.gz")
    rows = {image_id: ["", "", "", ""] for image_id in labels.image_id.unique()}
    for image_id, class_id, text in labels.itertuples(index=False):
        rows[image_id][class_id - 1] = text
    clean = [f"clean{i}.jpg" for i in range(5_506 - len(rows))]
    ids = [*rows, *clean]
    path = tmp_path / "submission.csv"
    write_submission(path, ids, [rows.get(image_id, [""] * 4) for image_id in ids])
    start = time.perf_counter()
    check_submission(path, ids)
    assert time.perf_counter() - start < 6  # twice the aim, on a busy machine
