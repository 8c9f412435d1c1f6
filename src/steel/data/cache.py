"""The cache that `prepare` writes: grey strips and mask bit fields as memory-mapped arrays, and their index."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steel.competition import CLASSES

AREAS = [f"area{c}_px" for c in CLASSES]


@dataclass(frozen=True)
class Strips:
    """One set of strips.

    Attributes:
        index: columns row, image_id, sha256; for training strips also area1_px..area4_px.
        images: (n, 256, 1600) uint8 grey, memory-mapped.
        masks: (n, 256, 1600) uint8, bit k set where class k+1 is; None for test strips.
    """

    index: pd.DataFrame
    images: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None

    @cached_property
    def image_ids(self) -> list[str]:
        """Image ids in row order."""
        return list(self.index.image_id)

    @property
    def areas(self) -> NDArray[np.int64]:
        """Area of the true masks, px: (n, 4)."""
        return self.index[AREAS].to_numpy(np.int64)


def open_strips(cache: Path, part: Literal["train", "test"]) -> Strips:
    """Open one part of the cache for reading."""
    index = pd.read_csv(cache / f"{part}.csv", dtype={"image_id": str})
    images = np.load(cache / f"{part}_images.npy", mmap_mode="r")
    masks = np.load(cache / f"{part}_masks.npy", mmap_mode="r") if part == "train" else None
    return Strips(index, images, masks)
