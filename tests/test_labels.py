"""Label files and image lists: both forms read the same, and every fault gets one line."""

import gzip
import time
from pathlib import Path

import pandas as pd
import pytest

from steel.data.labels import read_image_list, read_labels
from steel.errors import UserError

PER_MASK = "ImageId,ClassId,EncodedPixels\n"
PER_CLASS = "ImageId_ClassId,EncodedPixels\n"


def write(folder: Path, text: str, name: str = "train.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def refusal(path: Path, images: list[str] | None = None) -> str:
    with pytest.raises(UserError) as caught:
        read_labels(path, images)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message and "expected" in message
    return message


def test_both_forms_read_the_same(tmp_path: Path) -> None:
    today = write(tmp_path, PER_MASK + "b.jpg,3,5 2\na.jpg,4,1 1\na.jpg,2,3 1 9 1\n", "today.csv")
    rows = "".join(f"c.jpg_{k},\n" for k in (1, 2, 3, 4))
    rows += "a.jpg_1,\na.jpg_2,3 1 9 1\na.jpg_3,\na.jpg_4,1 1\nb.jpg_1,\nb.jpg_2,\nb.jpg_3,5 2\nb.jpg_4,\n"
    of_2019 = write(tmp_path, PER_CLASS + rows, "2019.csv")
    labels = read_labels(today, ["a.jpg", "b.jpg", "c.jpg"])
    assert labels.to_numpy().tolist() == [["a.jpg", 2, "3 1 9 1"], ["a.jpg", 4, "1 1"], ["b.jpg", 3, "5 2"]]
    assert list(labels.columns) == ["image_id", "class_id", "rle"]
    pd.testing.assert_frame_equal(labels, read_labels(of_2019))


def test_order_of_columns_blank_lines_and_gzip_do_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "train.csv.gz"
    path.write_bytes(gzip.compress(b"\xef\xbb\xbfEncodedPixels,ImageId,ClassId\r\n\r\n1 2,a.jpg,1\r\n\r\n"))
    assert read_labels(path).to_numpy().tolist() == [["a.jpg", 1, "1 2"]]


def test_no_masks_at_all(tmp_path: Path) -> None:
    labels = read_labels(write(tmp_path, PER_MASK))
    assert len(labels) == 0
    assert list(labels.columns) == ["image_id", "class_id", "rle"]


@pytest.mark.parametrize(
    ("rows", "line", "value"),
    [
        ("a.jpg,0,1 1\n", 2, "'0'"),
        ("a.jpg,1,1 1\na.jpg,5,7 1\n", 3, "'5'"),
        ("a.jpg,nan,1 1\n", 2, "'nan'"),
        ("a.jpg,,1 1\n", 2, "''"),
        ("a.jpg,1,\n", 2, "EncodedPixels is empty"),
        ("a.jpg,1,nan\n", 2, "EncodedPixels is empty"),
        (",1,1 1\n", 2, "image is empty"),
        ("a.jpg,1,1 1\n\na.jpg,1,4 1\n", 4, "stands in line 2"),
        ("a.jpg,1,1 1\nz.jpg,1,1 1\n", 3, "z.jpg"),
        ("a.jpg,1\n", 2, "2 values"),
        ("a.jpg,1,1 1,9\n", 2, "4 values"),
        ("a.jpg,1,1 2 3\n", 2, "3 numbers"),
        ("a.jpg,1,1 x\n", 2, "'x'"),
        ("a.jpg,1,0 1\n", 2, "has 0"),
        ("a.jpg,1,-3 1\n", 2, "'-3'"),
        ("a.jpg,1,409600 2\n", 2, "409601"),
        ("a.jpg,1,9 1 3 1\n", 2, "starts at 3"),
        ("a.jpg,1,1 5 3 1\n", 2, "starts at 3"),
        ("a.jpg,1,1 5\na.jpg,3,9 1\na.jpg,4,5 1\n", 4, "classes 1 and 4 of image a.jpg share px 5"),
    ],
)
def test_faults_of_rows(tmp_path: Path, rows: str, line: int, value: str) -> None:
    message = refusal(write(tmp_path, PER_MASK + rows), ["a.jpg", "b.jpg"])
    assert f"line {line}" in message and value in message


def test_faults_of_the_form_of_2019(tmp_path: Path) -> None:
    assert "'a.jpg'" in refusal(write(tmp_path, PER_CLASS + "a.jpg,1 1\n"))
    assert "'7'" in refusal(write(tmp_path, PER_CLASS + "a.jpg_7,1 1\n"))
    assert "z.jpg" in refusal(write(tmp_path, PER_CLASS + "z.jpg_1,\n"), ["a.jpg"])  # though it has no mask


def test_faults_of_files(tmp_path: Path) -> None:
    assert "no such file" in refusal(tmp_path / "train.csv")
    assert "no such file" in refusal(tmp_path)
    assert "is empty" in refusal(write(tmp_path, ""))
    assert "ImageId,Class" in refusal(write(tmp_path, "ImageId,Class\n"))
    (tmp_path / "x.csv").write_bytes(b"ImageId,\xff\xfe\n")
    assert "not a readable csv" in refusal(tmp_path / "x.csv")
    whole = gzip.compress(PER_MASK.encode() + b"\n" * 100)
    for name, data in (
        ("cut.csv.gz", whole[:-9]),
        ("other.csv.gz", b"hello"),
        ("bad.csv.gz", whole[:14] + b"\xff" * 9),
    ):
        (tmp_path / name).write_bytes(data)
        assert "not a readable csv" in refusal(tmp_path / name)


def test_image_lists_keep_their_order(tmp_path: Path) -> None:
    today = write(tmp_path, "ImageId,EncodedPixels,ClassId\nb.jpg,1 409600,0\na.jpg,1 409600,0\n")
    assert read_image_list(today) == ["b.jpg", "a.jpg"]
    rows = "".join(f"{image}.jpg_{k},1 1\n" for image in "ba" for k in (1, 2, 3, 4))
    assert read_image_list(write(tmp_path, PER_CLASS + rows)) == ["b.jpg", "a.jpg"]
    assert read_image_list(write(tmp_path, "image_id,fold\nx.png,0\n")) == ["x.png"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("ImageId\na.jpg\nb.jpg\na.jpg\n", "line 4: a.jpg"),
        ("ImageId\n,\n", "2 values"),
        ("ImageId,x\n,1\n", "line 2: ImageId is empty"),
        ("ImageId\n", "no rows"),
        ("file\na.jpg\n", "columns are file"),
        ("ImageId_ClassId\na.jpg_1\na.jpg_1\n", "a.jpg_1 is listed twice"),
        ("ImageId_ClassId\na.jpg_1\na.jpg_2\n", "a.jpg has 2 rows"),
        ("ImageId_ClassId\na.jpg_0\n", "'0'"),
    ],
)
def test_faults_of_image_lists(tmp_path: Path, text: str, value: str) -> None:
    with pytest.raises(UserError, match=value):
        read_image_list(write(tmp_path, text))


def test_real_labels_and_lists(severstal: Path) -> None:
    start = time.perf_counter()
    labels = read_labels(severstal / "labels" / "train_partial.csv.gz")
    assert time.perf_counter() - start < 4  # twice the aim, on a busy machine
    assert len(labels) == 5_488
    assert labels.image_id.nunique() == 5_060
    assert labels.equals(labels.sort_values(["image_id", "class_id"], ignore_index=True))
    assert len(read_image_list(severstal / "labels" / "sample_submission.csv")) == 5_506
    assert len(read_image_list(severstal / "labels" / "sample_submission_2019.csv")) == 1_801
