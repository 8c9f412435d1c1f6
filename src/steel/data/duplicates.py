"""Duplicate strips: found by a perceptual hash, verified on the pixels, joined into groups that share a fold."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.errors import UserError
from steel.progress import track

# Measured on 223 real strips without duplicates. Copies that were re-encoded, made brighter, darker or noisier, or
# moved by 2 px differ in 0 to 57 of the 256 bits (more only where overexposure wipes out texture), others: 81 up.
HASH_ROWS, HASH_COLUMNS = 8, 32  # lowest frequencies of the cosine transform
MAX_BITS = 64
# At a quarter of the size the 557 of 560 changed copies that pass at full size reach .77, other strips .48 at most
# (`benchmarks/duplicates.py`).
MIN_COARSE_CORRELATION = 0.60
# 240 of 240 changed copies of 60 strips pass (brightness x .6 and + 20, gamma .7, JPEG quality 80), 59 of 60 at quality
# 60; other strips correlate by at most .08. Checker plates are the hard case: moved by exactly one period of its
# pattern, one resembles itself by up to .79.
MIN_CORRELATION = 0.80
SLACK_PX = 2  # copies may be this far out of place
# Below this RMS of its texture, in grey levels, a strip shows too little to be called a copy (real strips: above 1.7).
MIN_TEXTURE = 0.5

KNOWN_COLUMNS = ("ImageId", "DuplicateOf")


class Scale(NamedTuple):
    """What counts as texture: standard deviations of blurs, px, and the variance that keeps noise in the dark small."""

    finest: float
    around: float
    noise: float


FINE, COARSE = Scale(1.2, 8.0, 1.0), Scale(1.0, 6.0, 0.25)  # of whole strips, and at a quarter of their size


def find_pairs(images: NDArray[np.uint8]) -> list[tuple[int, int]]:
    """Find the rows that show the same strip, as sorted pairs (i, j) with i < j.

    A copy may differ in JPEG quality, brightness, contrast or a little noise; one that is mirrored, or moved by more
    than 2 px, is not found. Featureless strips (all black, uniform) are never paired.

    Args:
        images: (n, 256, 1600) uint8, usually memory-mapped: strips are read one at a time.
    """
    codes = np.zeros((len(images), HASH_ROWS * HASH_COLUMNS // 64), np.uint64)
    textured = np.zeros(len(images), bool)
    for i, image in enumerate(track(images, "duplicates: hash", "images")):
        codes[i], textured[i] = _hash(image)
    rows = np.flatnonzero(textured)

    @lru_cache(maxsize=256)
    def coarse(row: int) -> NDArray[np.float32]:
        return _detail(_small(images[row]), COARSE)

    @lru_cache(maxsize=16)
    def fine(row: int) -> NDArray[np.float32]:
        return _detail(images[row], FINE)

    # Like hashes are rare but for chance, whose pairs grow with the square of n: a look at little strips drops most.
    near = ((int(rows[i]), int(rows[j])) for i, j in _near(codes[rows], MAX_BITS))
    likely = [(i, j) for i, j in near if _correlation(coarse(i), coarse(j), 1) >= MIN_COARSE_CORRELATION]
    return [(i, j) for i, j in likely if _correlation(fine(i), fine(j), SLACK_PX) >= MIN_CORRELATION]


def read_known_pairs(path: Path) -> list[tuple[str, str]]:
    """Read pairs of image ids known to be duplicates from a csv with the columns ImageId, DuplicateOf.

    Raises:
        UserError: no such file, other columns, a row with another number of fields, an empty id, an image paired
            with itself.
    """
    pairs = []
    for line, (a, b) in read_rows(path, KNOWN_COLUMNS):
        if a == b:
            raise UserError(
                f"{path}, line {line}: {a} is given as a duplicate of itself; two different images are needed"
            )
        pairs.append((a, b))
    return pairs


def group(image_ids: Sequence[str], pairs: Iterable[tuple[str, str]]) -> list[str]:
    """Name the duplicate group of each image: the smallest of its image ids (its own, if it has no duplicate).

    Pairs are transitive. They may name images that are not in `image_ids` (known pairs, applied to a part of the
    data): those link others, but name no group.
    """
    parent: dict[str, str] = {}

    def root(image_id: str) -> str:
        while (above := parent.setdefault(image_id, image_id)) != image_id:
            parent[image_id] = parent[above]
            image_id = above
        return image_id

    for a, b in pairs:
        parent[root(a)] = root(b)
    name: dict[str, str] = {}
    for image_id in sorted(image_ids):
        name.setdefault(root(image_id), image_id)
    return [name[root(image_id)] for image_id in image_ids]


def read_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, stripped fields) of a csv that must have just these columns and no empty field."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if header != list(columns):
                raise UserError(
                    f"{path}, line 1: columns are {','.join(header) or 'missing'}; needed: {','.join(columns)}"
                )
            for row in reader:
                fields = [field.strip() for field in row]
                if len(fields) != len(columns) or not all(fields):
                    where, form = f"{path}, line {reader.line_num}", ",".join(columns)
                    raise UserError(f"{where}: {','.join(row)!r} is not {form}, each with a value")
                yield reader.line_num, fields
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as csv ({error})") from error


def _small(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """One strip at a quarter of its size, (64, 400)."""
    return np.asarray(cv2.resize(image, None, fx=1 / 4, fy=1 / 4, interpolation=cv2.INTER_AREA), np.uint8)


def _hash(image: NDArray[np.uint8]) -> tuple[NDArray[np.uint64], bool]:
    """256 bits of one strip, as (4,) uint64, and whether it shows enough to be compared."""
    small = _small(image).astype(np.float32)
    texture = small - cv2.GaussianBlur(small, (0, 0), 3.0)
    # Clipped: else the black border of a strip would decide most bits, and a third of the strips have one.
    limit = 3.0 * float(np.abs(texture).mean())
    spectrum = cv2.dct(np.clip(texture, -limit, limit))[:HASH_ROWS, :HASH_COLUMNS]
    return np.packbits(spectrum > 0).view(np.uint64), float(texture.std()) >= MIN_TEXTURE


def _near(codes: NDArray[np.uint64], max_bits: int, block: int = 1024) -> Iterator[tuple[int, int]]:
    """Yield the row pairs i < j of (n, words) codes that differ in at most `max_bits` bits.

    Bits as signs: the product of two codes is the number of equal bits less that of others. It is exact in float32, and
    a product of matrices compares a block of them with another at once.
    """
    signs = np.unpackbits(codes.view(np.uint8), axis=1).astype(np.float32) * 2 - 1  # (n, bits)
    for start in range(0, len(signs), block):
        for other in range(start, len(signs), block):
            products = signs[start : start + block] @ signs[other : other + block].T
            for i, j in np.argwhere(products >= signs.shape[1] - 2 * max_bits):
                if start + i < other + j:
                    yield start + int(i), other + int(j)


def _detail(image: NDArray[np.uint8], scale: Scale) -> NDArray[np.float32]:
    """Fine texture of one strip (H, W) with equal contrast everywhere, (H, W) in [-2, 2].

    Evened out by the local contrast, since borders and the pattern of checker plates agree between different strips.
    """
    grey = image.astype(np.float32)
    texture = cv2.GaussianBlur(grey, (0, 0), scale.finest) - cv2.GaussianBlur(grey, (0, 0), 3.0)
    contrast = np.sqrt(cv2.GaussianBlur(texture * texture, (0, 0), scale.around) + scale.noise)
    return np.asarray(np.clip(texture / contrast, -2, 2), np.float32)


def _correlation(a: NDArray[np.float32], b: NDArray[np.float32], slack: int) -> float:
    """Largest correlation of two details of a size over all moves by at most `slack` px, in [-1, 1]."""
    inner = b[slack:-slack, slack:-slack]
    inner = inner - inner.mean()
    found = []
    for window in chain(*np.lib.stride_tricks.sliding_window_view(a, inner.shape)):
        window = window - window.mean()
        found.append(np.vdot(window, inner) / max(float(np.linalg.norm(window)), 1e-9))
    return float(max(found)) / max(float(np.linalg.norm(inner)), 1e-9)
