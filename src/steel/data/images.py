"""Strips from image files, judged by their content: some of the competition's .jpg files hold PNG data."""

import hashlib
import re
import zlib
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import GREY_TOLERANCE, HEIGHT, WIDTH
from steel.errors import UserError

SUFFIXES = (".jpg", ".jpeg", ".png")
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
# In a scan, FF 00 stands for the byte FF, FF D0..D7 are restart marks, and FF may be repeated: all others end it.
_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])", re.DOTALL)


def list_images(folder: Path) -> list[str]:
    """Sorted names of the .jpg, .jpeg and .png files of a folder. Raises UserError if there is none."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder: expected a folder of images")
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES)
    if not names:
        raise UserError(f"{folder}: no images: expected files that end in {', '.join(SUFFIXES)}")
    return names


def read_strip(path: Path) -> NDArray[np.uint8]:
    """One strip as grey levels, (256, 1600) uint8.

    Raises UserError unless the file is a whole JPEG or PNG of 256x1600 px and 8 bits, grey within GREY_TOLERANCE.
    """
    return read_strip_and_digest(path)[0]


def read_strip_and_digest(path: Path) -> tuple[NDArray[np.uint8], str]:
    """`read_strip`, and the SHA-256 of the file's bytes in hex."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file: expected an image") from None
    except OSError as fault:
        raise UserError(f"{path}: cannot be read ({fault.strerror}): expected an image") from None
    try:
        return decode_strip(data), hashlib.sha256(data).hexdigest()
    except UserError as fault:
        raise UserError(f"{path}: {fault}") from None


def decode_strip(data: bytes) -> NDArray[np.uint8]:
    """`read_strip` of a file's bytes; its UserError does not name the file."""
    if fault := _fault(data):
        raise UserError(fault)
    image = _decode(data)
    if image is None:
        raise UserError("the image data is damaged: expected a whole JPEG or PNG")
    if image.shape[:2] != (HEIGHT, WIDTH):
        raise UserError(f"{image.shape[0]}x{image.shape[1]} px: expected {HEIGHT}x{WIDTH} (height x width)")
    if image.dtype != np.uint8:
        raise UserError(f"{8 * image.itemsize} bits per channel: expected 8")
    return _grey(image)


def _fault(data: bytes) -> str:
    """Why the bytes are no whole JPEG or PNG; '' if they are. Decoders pass over some faults in silence."""
    if not data:
        return "the file is empty: expected an image"
    if data.startswith(_JPEG):
        return "" if _is_whole_jpeg(data) else f"JPEG cut off at {len(data)} bytes: expected an end-of-image marker"
    if data.startswith(_PNG):
        return _png_fault(data)
    return f"not an image (starts with {data[:8]!r}): expected JPEG or PNG data"


def _is_whole_jpeg(data: bytes) -> bool:
    """Whether an end-of-image marker follows the scans; one inside a thumbnail's segment does not count."""
    at, scanned = 2, False
    while marker := _MARKER.search(data, at):
        code = marker[1][0]
        if code == _END_OF_IMAGE:
            return scanned
        scanned |= code == _START_OF_SCAN
        size = data[marker.end() : marker.end() + 2]  # of the segment, with these two bytes
        if len(size) < 2:
            return False
        at = marker.end() + max(int.from_bytes(size, "big"), 2)
    return False


def _png_fault(data: bytes) -> str:
    at = len(_PNG)
    while at + 12 <= len(data):
        size, kind = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 8 + size
        if end + 4 > len(data):
            break
        if zlib.crc32(data[at + 4 : end]) != int.from_bytes(data[end : end + 4], "big"):
            return f"PNG damaged: the checksum of its {kind!r} chunk at byte {at} is wrong"
        if kind == b"IEND":
            return ""
        at = end + 4
    return f"PNG cut off at {len(data)} bytes: expected an IEND chunk"


def _decode(data: bytes) -> NDArray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # such as a size beyond OpenCV's limit
        return None


def _grey(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    if image.ndim == 2:
        return image
    if image.shape[2] != 3:
        raise UserError(f"{image.shape[2]} channels: expected grey or RGB without transparency")
    b, g, r = cv2.split(image)
    spread = int(max(cv2.norm(x, y, cv2.NORM_INF) for x, y in ((b, g), (g, r), (b, r))))
    if spread > GREY_TOLERANCE:
        raise UserError(f"coloured, channels differ by {spread} levels: expected at most {GREY_TOLERANCE}")
    return g if spread == 0 else cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)  # type: ignore[return-value]
