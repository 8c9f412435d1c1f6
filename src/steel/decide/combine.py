"""From the outputs of several segmenters for one strip to the ensemble's map and what the map has lost."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steel.decide.ensemble import mean_map


@dataclass(frozen=True)
class Outputs:
    """What m segmenters say of one strip.

    Attributes:
        maps: m of (4, 256, 1600) uint8, 255 = probability 1.
        sums: (m, 4) float64, sums over the pixels of the probabilities before they became uint8.
    """

    maps: list[NDArray[np.uint8]]
    sums: NDArray[np.float64]

    def combine(self) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The ensemble's map (4, 256, 1600) uint8 and its tail (4,) float64, see `Table.tail_px`."""
        prob = mean_map(self.maps)
        in_map = prob.reshape(len(prob), -1).sum(1, dtype=np.int64) / 255
        return prob, np.maximum(self.sums.mean(0) - in_map, 0.0)
