"""From the outputs of several segmenters for one strip to the ensemble's map and what the map has lost."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from steel.decide.ensemble import Blend, blended
from steel.metrics import sum_levels


@dataclass(frozen=True)
class Outputs:
    """What m segmenters say of one strip.

    Attributes:
        maps: m of (4, 256, 1600) uint8, 255 = probability 1.
        sums: (m, 4) float64, sums over the pixels of the probabilities before they became uint8.
        levels: (m, 4) float64, sums over the pixels of the maps; None: not known yet.
    """

    maps: Sequence[NDArray[np.uint8]]
    sums: NDArray[np.float64]
    levels: NDArray[np.float64] | None = None
    _planes: dict[tuple, NDArray[np.uint8]] = field(default_factory=dict, repr=False)  # means, by class and votes

    def combine(self, blend: Blend) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """The ensemble's map (4, 256, 1600) uint8 and its tail (4,) float64, see `Table.tail_px`."""
        classes = enumerate(zip(blend.kinds, blend.counts, strict=True))
        prob = np.stack([self._plane(k, kind, counts) for k, (kind, counts) in classes])
        # What each model's own map has lost: the mean's rounding, or another kind of mean, is no loss.
        levels = np.stack([sum_levels(maps) for maps in self.maps]) if self.levels is None else self.levels
        votes = np.array(blend.counts, np.float64).T  # (m, 4)
        return prob, np.maximum((votes * (self.sums - levels / 255)).sum(0) / votes.sum(0), 0.0)

    def _plane(self, k: int, kind: str, counts: tuple[int, ...]) -> NDArray[np.uint8]:
        """The mean of class index k (0..3); the blends of a solution's rotations share most of them."""
        if (k, kind, counts) not in self._planes:
            self._planes[k, kind, counts] = blended([maps[k] for maps in self.maps], kind, counts)
        return self._planes[k, kind, counts]
