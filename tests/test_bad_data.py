"""Faults of the data, through `steel prepare`: one line that names file, line and value, code 2, nothing half made."""

from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import tiny
from tiny import ON_RAW, RAW


@pytest.fixture(scope="module")
def flat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with six flat strips and their cache."""
    folder = tmp_path_factory.mktemp("flat")
    tiny.write_config(folder)
    tiny.write_raw(folder / RAW)
    with tiny.within(folder):
        tiny.run("prepare", args=ON_RAW)
    return folder


@pytest.fixture
def prepared(flat: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of it, as the working directory."""
    tiny.copy(flat, tmp_path)
    with tiny.within(tmp_path):
        yield tmp_path


def no(name: str) -> Callable[[], None]:
    return lambda: tiny.remove(RAW / name)


def empty(name: str) -> Callable[[], None]:
    def change() -> None:
        tiny.remove(RAW / name)
        (RAW / name).mkdir()

    return change


def rows(*lines: str, head: str = "ImageId,ClassId,EncodedPixels") -> Callable[[], None]:
    return lambda: tiny.write(RAW / "train.csv", head, *lines)


def pixels(text: str) -> Callable[[], None]:
    return rows("tr0.jpg,1,1 9", f"tr1.jpg,3,{text}")


def sample(*names: str) -> Callable[[], None]:
    return lambda: tiny.write(
        RAW / "sample_submission.csv", "ImageId,EncodedPixels,ClassId", *(f"{i},1 1,1" for i in names)
    )


def strip(data: Callable[[bytes], bytes]) -> Callable[[], None]:
    def change() -> None:
        path = RAW / "train_images/tr3.jpg"
        path.write_bytes(data(path.read_bytes()))

    return change


def jpeg(shape: tuple[int, ...], red: int = 80) -> Callable[[bytes], bytes]:
    image = np.full(shape, 80, np.uint8)
    if len(shape) == 3:
        image[..., 2] = red
    return lambda _: cv2.imencode(".jpg", image)[1].tobytes()


TR3 = "raw/train_images/tr3.jpg: "
IN_ROW_3 = "raw/train.csv, line 3, image tr1.jpg, class 3: RLE "
RANGE = "expected a whole number from 1 to 409600"
OF_THE_DATA: dict[str, tuple[Callable[[], None], str]] = {
    "no train.csv": (no("train.csv"), "raw lacks train.csv: get the data with `steel download"),
    "no train_images": (no("train_images"), "raw lacks train_images: get the data"),
    "no test_images": (no("test_images"), "raw lacks test_images: get the data"),
    "no sample": (no("sample_submission.csv"), "raw lacks sample_submission.csv: get the data"),
    "empty train_images": (empty("train_images"), "raw/train_images: no images: expected files that end in .jpg"),
    "empty test_images": (empty("test_images"), "raw/test_images: no images: expected files that end in .jpg"),
    "empty csv": (rows(head=""), "raw/train.csv: the file is empty: expected a csv with a header"),
    "other columns": (
        rows("tr0.jpg,1", head="image,mask"),
        "raw/train.csv: the columns are image,mask: expected ImageId_ClassId,EncodedPixels or ImageId,Cl",
    ),
    "short row": (rows("tr0.jpg,1"), "raw/train.csv, line 2: 2 values: expected 3, as in the header"),
    "image in the csv but not in the folder": (
        rows("tr0.jpg,1,1 9", "tr9.jpg,1,1 9"),
        "raw/train.csv, line 3: unknown image tr9.jpg: expected names among the 6 images",
    ),
    "image gone from the folder": (no("train_images/tr1.jpg"), "raw/train.csv, line 3: unknown image tr1.jpg"),
    "repeated row": (
        rows("tr0.jpg,1,1 9", "tr0.jpg,1,1 9"),
        "raw/train.csv, line 3: image tr0.jpg, class 1, stands in line 2 already: expected each once",
    ),
    "class 0": (rows("tr0.jpg,0,1 9"), "raw/train.csv, line 2: class '0' (0 is that of the competition's sample_"),
    "class 5": (rows("tr0.jpg,5,1 9"), "raw/train.csv, line 2: class '5': expected one of 1, 2, 3, 4"),
    "class 1.0": (rows("tr0.jpg,1.0,1 9"), "raw/train.csv, line 2: class '1.0': expected one of 1, 2, 3, 4"),
    "class NaN": (rows("tr0.jpg,NaN,1 9"), "raw/train.csv, line 2: class 'NaN': expected one of 1, 2, 3, 4"),
    "image NaN": (rows("NaN,1,1 9"), "raw/train.csv, line 2: image is empty: expected the file name of an image"),
    "mask NaN": (rows("tr0.jpg,1,NaN"), "raw/train.csv, line 2: EncodedPixels is empty: expected a mask in each row"),
    "mask missing": (rows("tr0.jpg,1,"), "raw/train.csv, line 2: EncodedPixels is empty: expected a mask in each row"),
    "odd count": (pixels("1 9 20"), f"{IN_ROW_3}has 3 numbers: expected pairs of start and length"),
    "not a number": (pixels("1 x"), f"{IN_ROW_3}has 'x' (number 2 of 2): {RANGE}"),
    "fraction": (pixels("1 2.5"), f"{IN_ROW_3}has '2.5' (number 2 of 2): {RANGE}"),
    "zero start": (pixels("0 9"), f"{IN_ROW_3}has 0 (number 1 of 2): {RANGE}"),
    "zero length": (pixels("1 0"), f"{IN_ROW_3}has 0 (number 2 of 2): {RANGE}"),
    "negative": (pixels("1 9 20 -3"), f"{IN_ROW_3}has '-3' (number 4 of 4): {RANGE}"),
    "beyond the strip": (pixels("409600 2"), f"{IN_ROW_3}run of length 2 (number 2 of 2) ends at 409601: expected at"),
    "far beyond": (pixels("99999999999999999999 1"), f"{IN_ROW_3}has 99999999999999999999 (number 1 of 2): {RANGE}"),
    "unsorted": (pixels("50 9 1 9"), f"{IN_ROW_3}run starts at 1 (number 3 of 4) but the run before ends at 58"),
    "overlapping": (pixels("1 9 5 9"), f"{IN_ROW_3}run starts at 5 (number 3 of 4) but the run before ends at 9"),
    "overlapping classes": (
        rows("tr0.jpg,1,1 9", "tr0.jpg,2,9 1"),
        "raw/train.csv, line 3: the masks of classes 1 and 2 of image tr0.jpg share px 9",
    ),
    "truncated": (strip(lambda data: data[:-40]), f"{TR3}JPEG cut off at "),
    "empty image": (strip(lambda _: b""), f"{TR3}the file is empty: expected an image"),
    "no image": (strip(lambda _: b"<html>not found"), f"{TR3}not an image (starts with b'<html>no'): expected JPEG"),
    "wrong size": (strip(jpeg((1600, 256))), f"{TR3}1600x256 px: expected 256x1600 (height x width)"),
    "colour": (strip(jpeg((256, 1600, 3), red=120)), f"{TR3}coloured, channels differ by "),
    "test image missing": (sample("te0.jpg", "te7.jpg", "te1.jpg"), "raw/test_images lacks te7.jpg, listed in raw/sam"),
    "test image not listed": (sample("te1.jpg"), "raw/sample_submission.csv does not list te0.jpg of raw/test_images"),
    "test image twice": (sample("te0.jpg", "te0.jpg"), "raw/sample_submission.csv, line 3: te0.jpg is listed twice"),
}


@pytest.mark.usefixtures("prepared")
@pytest.mark.parametrize("name", OF_THE_DATA)
def test_a_fault_of_the_data(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    change, expected = OF_THE_DATA[name]
    change()
    assert tiny.refused(capsys, "prepare", *ON_RAW).startswith(expected)


@pytest.mark.usefixtures("prepared")
def test_no_folder_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    message = tiny.refused(capsys, "prepare", *ON_RAW, "--data.raw", "nowhere", "--data.name", "other")
    assert message.startswith("nowhere lacks train.csv, train_images, test_images, sample_submission.csv: get the data")


def test_a_fault_met_by_a_worker_process(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny.write_config(tmp_path)
    tiny.write_raw(tmp_path / RAW, n_train=40)
    (tmp_path / RAW / "train_images/tr33.jpg").write_text("no")
    with tiny.within(tmp_path):
        message = tiny.fault(capfd, "prepare", tiny.CONFIG, *ON_RAW, "--machine.workers", "2")
    assert message.startswith("raw/train_images/tr33.jpg: not an image")
    assert [
        path.name for path in (tmp_path / "data/flat/cache").iterdir() if path.name[1:] not in ("lock", "begun")
    ] == []
