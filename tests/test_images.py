"""Strips from files: what is accepted, and the one line for all else."""

import hashlib
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from steel.competition import GREY_TOLERANCE, HEIGHT, WIDTH
from steel.data.images import list_images, read_strip, read_strip_and_digest
from steel.errors import UserError


@pytest.fixture
def strip() -> NDArray[np.uint8]:
    """A smooth strip, (256, 1600) uint8."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    return (60 + rows // 4 + columns // 20).astype(np.uint8)


def encoded(image: NDArray, suffix: str, *options: int) -> bytes:
    done, data = cv2.imencode(suffix, image, list(options))
    assert done
    return data.tobytes()


def refusal(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(UserError) as caught:
        read_strip(path)
    message = str(caught.value)
    assert str(path) in message and "\n" not in message
    return message


def test_png_data_under_any_name(tmp_path: Path, strip: NDArray) -> None:
    path = tmp_path / "a.jpg"
    for image in (strip, cv2.merge([strip] * 3)):
        path.write_bytes(encoded(image, ".png"))
        grey, digest = read_strip_and_digest(path)
        np.testing.assert_array_equal(grey, strip)
        assert grey.dtype == np.uint8 and grey.flags.c_contiguous
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("options", [(), (cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg(tmp_path: Path, strip: NDArray, options: tuple[int, ...], channels: int) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(cv2.merge([strip] * channels), ".jpg", *options) + b"\0\0trailing bytes\xff")
    assert np.abs(read_strip(path).astype(int) - strip).max() <= 4


def test_grey_within_the_tolerance(tmp_path: Path, strip: NDArray) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(cv2.merge([strip, strip, strip + GREY_TOLERANCE]), ".png"))
    assert (read_strip(path) >= strip).all()
    message = refusal(path, encoded(cv2.merge([strip, strip + GREY_TOLERANCE + 1, strip]), ".png"))
    assert "differ by 9 levels: expected at most 8" in message


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.9999])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_cut_off(tmp_path: Path, strip: NDArray, suffix: str, share: float, capfd: pytest.CaptureFixture[str]) -> None:
    data = encoded(strip, suffix)
    assert "cut off" in refusal(tmp_path / "a.jpg", data[: int(len(data) * share)])
    assert capfd.readouterr().err == ""  # decoders print


def test_the_end_marker_of_a_thumbnail_does_not_count(tmp_path: Path, strip: NDArray) -> None:
    data = encoded(strip, ".jpg")
    thumbnail = encoded(strip[:8, :8], ".jpg")
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    path = tmp_path / "a.jpg"
    path.write_bytes(data[:2] + segment + data[2:])
    np.testing.assert_array_equal(read_strip(path), cv2.imdecode(np.frombuffer(data, np.uint8), 0))
    assert "cut off" in refusal(path, data[:2] + segment + data[2:-2])


def test_damaged(tmp_path: Path, strip: NDArray, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jpg"
    data = bytearray(encoded(strip, ".png"))
    data[len(data) // 2] ^= 1
    assert "checksum" in refusal(path, bytes(data))
    jpeg = encoded(strip, ".jpg")
    assert "damaged" in refusal(path, jpeg[:2] + jpeg[jpeg.index(b"\xff\xda") :])  # no tables, no size
    header = struct.pack(">IIBBBBB", 2**30, 2**30, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"0")), (b"IEND", b"")]
    huge = b"".join(struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    assert "damaged" in refusal(path, b"\x89PNG\r\n\x1a\n" + huge)
    capfd.readouterr()


def test_not_a_strip(tmp_path: Path, strip: NDArray) -> None:
    path = tmp_path / "a.jpg"
    assert "the file is empty" in refusal(path, b"")
    assert "not an image" in refusal(path, b"<html>not found</html>")
    assert "256x1599 px: expected 256x1600" in refusal(path, encoded(strip[:, 1:], ".jpg"))
    assert "1600x256 px" in refusal(path, encoded(strip.T, ".png"))
    assert "16 bits" in refusal(path, encoded(strip.astype(np.uint16) * 256, ".png"))
    assert "4 channels" in refusal(path, encoded(cv2.merge([strip] * 4), ".png"))
    with pytest.raises(UserError, match="no such file"):
        read_strip(tmp_path / "b.jpg")
    with pytest.raises(UserError, match="cannot be read"):
        read_strip(tmp_path)


def test_list_images(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no such folder"):
        list_images(tmp_path / "none")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UserError, match="no images"):
        list_images(tmp_path)
    for name in ("b.jpg", "a.png", "C.JPEG"):
        (tmp_path / name).touch()
    assert list_images(tmp_path) == ["C.JPEG", "a.png", "b.jpg"]


def test_real_strips(severstal: Path) -> None:
    folder = severstal / "sample" / "train_images"
    names = list_images(folder)
    assert len(names) == 182
    datas = {name: (folder / name).read_bytes() for name in names}
    png = [name for name, data in datas.items() if data.startswith(b"\x89PNG")]
    assert len(png) == 14
    for name in [*png[:3], *names[:20]]:
        expected = cv2.imdecode(np.frombuffer(datas[name], np.uint8), cv2.IMREAD_COLOR)
        assert expected is not None
        np.testing.assert_array_equal(read_strip(folder / name), expected[:, :, 0])
