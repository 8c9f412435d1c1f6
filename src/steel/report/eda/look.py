"""One pass over all strips: grey levels of each, and where its masks lie."""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import HEIGHT, N_CLASSES, WIDTH
from steel.progress import track
from steel.workers import Workers, cores

CHUNK, N_SERIAL = 64, 512  # strips per task of a worker, and how few need none
CELL_PX = 32
BLACK = 16.0  # mean level of a column below which it shows no steel
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
N_EIGHTHS = 8
MIN_STRIPS = 50  # of either side, before train and test are told apart

STATISTICS = (
    *("share of black columns", "mean level", "standard deviation of the levels"),
    *(f"{100 * q:g} % quantile of the levels" for q in QUANTILES),
    *("change from column to column", "change from row to row", "spread of the columns' means"),
    *("spread of the rows' means", *(f"mean level of eighth {i + 1} of the strip" for i in range(N_EIGHTHS))),
)
BLACK_SHARE, MEAN, STD = range(3)  # their first columns


@dataclass(frozen=True)
class Seen:
    """What one pass over n strips finds.

    Attributes:
        statistics: of the grey levels, (n, len(STATISTICS)) float64; of the columns that show steel, if any do.
        n_components: of each mask, neighbours being the eight around a pixel, (n, 4) int64.
        touches: whether a mask touches the left or right end, and the upper or lower rim, (n, 4, 2) bool.
        covers: number of masks with a pixel in each cell of 32x32 px, (4, 8, 50) int64.
    """

    statistics: NDArray[np.float64]
    n_components: NDArray[np.int64]
    touches: NDArray[np.bool_]
    covers: NDArray[np.int64]


def look(cache: Path, present: NDArray[np.bool_], n_test: int) -> Seen:
    """Pass once over the training strips, of which `present` (n, 4) tells the classes, then over the test strips."""
    absent = np.zeros((n_test, N_CLASSES), bool)
    tasks = [
        (cache, part, start, classes[start : start + CHUNK])
        for part, classes in (("train", present), ("test", absent))
        for start in range(0, len(classes), CHUNK)
    ]
    chunks = list(track(_each(tasks), "eda", "parts", len(tasks)))
    joined = {f.name: np.concatenate([getattr(chunk, f.name) for chunk in chunks]) for f in fields(Seen)[:-1]}
    return Seen(**joined, covers=np.sum([chunk.covers for chunk in chunks], axis=0))


def _each(tasks: list[tuple[Path, str, int, NDArray[np.bool_]]]) -> Iterator[Seen]:
    if len(tasks) * CHUNK <= N_SERIAL or cores() == 1:
        yield from (_look(*task) for task in tasks)
        return
    with Workers(cores()) as pool:
        yield from pool.map(_look, *zip(*tasks, strict=True))


def _look(cache: Path, part: str, start: int, present: NDArray[np.bool_]) -> Seen:
    """Worker: pass over some strips of a part, from row `start` on; `present` (n, 4) tells their classes."""
    images = np.load(cache / f"{part}_images.npy", mmap_mode="r")
    statistics = np.array([_statistics(np.asarray(image)) for image in images[start : start + len(present)]])
    n_components, touches = np.zeros(present.shape, np.int64), np.zeros((*present.shape, 2), bool)
    covers = np.zeros((N_CLASSES, HEIGHT // CELL_PX, WIDTH // CELL_PX), np.int64)
    masks = np.load(cache / f"{part}_masks.npy", mmap_mode="r") if present.any() else None
    for i in np.flatnonzero(present.any(1)):
        assert masks is not None
        bits = np.asarray(masks[start + i])
        stripes = np.bitwise_or.reduce(bits.reshape(-1, CELL_PX, WIDTH), axis=1)  # (8, 1600)
        cells = np.bitwise_or.reduce(stripes.reshape(len(stripes), -1, CELL_PX), axis=2)  # (8, 50)
        ends, rims = np.bitwise_or.reduce(bits[:, [0, -1]], axis=None), np.bitwise_or.reduce(bits[[0, -1]], axis=None)
        for k in np.flatnonzero(present[i]):
            n_components[i, k] = cv2.connectedComponents(bits & np.uint8(1 << k))[0] - 1  # no background
            touches[i, k] = ends >> k & 1, rims >> k & 1
            covers[k] += cells >> k & 1
    return Seen(statistics, n_components, touches, covers)


def _statistics(image: NDArray[np.uint8]) -> list[float]:
    """The STATISTICS of a strip (256, 1600); all but the first and the eighths are of the columns that show steel."""
    profile = image.mean(0, dtype=np.float32)  # (1600,)
    steel = profile >= BLACK
    shown = steel if steel.sum() > 1 else np.ones_like(steel)
    part = image if shown.all() else image.take(np.flatnonzero(shown), axis=1)
    counts = cv2.calcHist([part], [0], None, [256], [0, 256]).ravel().astype(np.float64)
    levels, total = np.arange(256), part.size
    mean = float(counts @ levels) / total
    variance = float(counts @ (levels - mean) ** 2) / total
    quantiles = np.searchsorted(counts.cumsum(), np.array(QUANTILES) * total)
    across = cv2.norm(part[:, 1:], part[:, :-1], cv2.NORM_L1) / part[:, 1:].size
    down = cv2.norm(part[1:], part[:-1], cv2.NORM_L1) / part[1:].size
    spreads = float(profile[shown].std()), float(part.mean(1, dtype=np.float32).std())
    eighths = profile.reshape(N_EIGHTHS, -1).mean(1).tolist()
    first = 1 - float(steel.mean()), mean, variance**0.5
    return [*first, *quantiles.tolist(), across, down, *spreads, *eighths]
