"""What a rule may look at, and what every rule is: a level for each image."""

from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

N_LEVELS = 256  # of a uint8 probability


@dataclass(frozen=True)
class Evidence:
    """One class in n images, without the truth.

    Attributes:
        area_px: (n, 256) int32; [i, t] = pixels of value >= t after `largest_class`.
        gate: (n,) float32, the probability that the class is there; 1 where no model gives one.
        tail_px: (n,) float64, the expected area in pixels of values too low for uint8, see `Table`.
    """

    area_px: NDArray[np.int32]
    gate: NDArray[np.float32]
    tail_px: NDArray[np.float64]

    @staticmethod
    def of_map(values: NDArray[np.uint8], gate: np.float32, tail_px: np.float64) -> "Evidence":
        """The evidence of one image: values (H, W) after `largest_class`."""
        histogram = cv2.calcHist([values], [0], None, [N_LEVELS], [0, N_LEVELS])  # float32: exact to 2^24
        area_px = histogram.astype(np.int32).ravel()[::-1].cumsum(dtype=np.int32)[::-1]
        return Evidence(area_px[None], np.array([gate], np.float32), np.array([tail_px], np.float64))

    def area_at(self, level: NDArray[np.int64]) -> NDArray[np.int32]:
        """Pixels of each image at its own level (n,) 1..256, (n,)."""
        return at_level(self.area_px, level)


class AnyRule(Protocol):
    """A rule of one class: what the search finds, and what is applied to the table and to maps."""

    @property
    def component_px(self) -> int:
        """Connected components of fewer pixels are removed before it looks; 0: none."""

    @property
    def threshold(self) -> int:
        """The level at which these components are taken, and the mask's where a rule has one for all images."""

    def level(self, evidence: Evidence) -> NDArray[np.int64]:
        """The mask of each image is what is at least this, (n,) 1..256; 256, which no pixel has, shows nothing."""

    def opened(self) -> "AnyRule":
        """The same with a perfect gate, which is 1 where there is a mask: nothing is hidden."""


def at_level(px: NDArray[np.int32], level: NDArray[np.int64]) -> NDArray[np.int32]:
    """Pixels (n, 256) at each image's level (n,) 1..256; none have 256."""
    found = np.take_along_axis(px, np.minimum(level, N_LEVELS - 1)[:, None], axis=1)[:, 0]
    return np.where(level < N_LEVELS, found, np.int32(0))
