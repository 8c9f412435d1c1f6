"""The grid of minimum areas and gates, and what each of its points gains: sums over images, which add up over folds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from steel.competition import N_PIXELS
from steel.decide.evidence import N_LEVELS
from steel.decide.rule import NEVER_PX
from steel.decide.table import Table
from steel.errors import UserError
from steel.metrics import dice

SMALLEST_PX, LARGEST_PX = 32, 30_000  # of the default minimum areas between "any" and "never"
CHUNK = 64  # thresholds at a time: bounds memory to some 50 MB at 12,568 images
N_GATES = 16  # of the coarse grid


@dataclass(frozen=True)
class Grid:
    """The minimum areas and gates to try, each strictly ascending; the plain rule's thresholds are always all 255.

    Attributes:
        areas_px: minimum areas, 0..409,601 px (the last is never reached: show nothing).
        gates: minimum gate probabilities, 0..1.
    """

    areas_px: tuple[int, ...]
    gates: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse empty, unsorted or out-of-range axes."""
        for name, axis, high in (("areas_px", self.areas_px, NEVER_PX), ("gates", self.gates, 1)):
            gaps = np.diff(np.asarray(axis, np.float32 if name == "gates" else np.int64))
            if not axis or not (gaps > 0).all() or not 0 <= axis[0] <= axis[-1] <= high:
                raise UserError(f"grid: {name} is {axis}, allowed: ascending values 0..{high}, at least one")

    @cached_property
    def passes(self) -> NDArray[np.intp]:
        """(409601,): how many of the minimum areas each area reaches."""
        return np.bincount(self.areas_px, minlength=NEVER_PX + 1)[: N_PIXELS + 1].cumsum()

    @cached_property
    def coarse(self) -> Grid:
        """The same areas, and about 16 of the gates."""
        return Grid(self.areas_px, self.gates[:: max(1, len(self.gates) // N_GATES)])


def default_grid(table: Table, n_area: int = 64, n_gate: int = 64) -> Grid:
    """Areas 0, evenly spaced in the logarithm from 32 to 30,000 px, and never; gates 0, 1/64, 2/64 ...

    Without a classifier (all gates 1) there is one gate, 0. Beyond some 100 areas the small ones merge: they are whole.
    """
    if n_area < 3 or n_gate < 1:
        raise UserError(f"grid: n_area {n_area} and n_gate {n_gate}, allowed: at least 3 and 1")
    middle = np.unique(np.geomspace(SMALLEST_PX, LARGEST_PX, n_area - 2).round().astype(int))
    gates = (0.0,) if (table.gate == 1).all() else tuple(i / n_gate for i in range(n_gate))
    return Grid((0, *(int(a) for a in middle), NEVER_PX), gates)


@dataclass(frozen=True)
class Column:
    """One class of n images as the sums want it: thresholds first, and a last one, 256, that no pixel reaches.

    Attributes:
        area_px: (257, n) int32, predicted area.
        gain: (257, n) float64, what showing the mask at this threshold adds to the Dice of showing nothing, -1..1.
        gate: (n,) float32.
        large_area_px, large_gain: (3, 12, n) the same without small components, by COMPONENTS_PX and COMPONENT_LEVELS.
    """

    area_px: NDArray[np.int32]
    gain: NDArray[np.float64]
    gate: NDArray[np.float32]
    large_area_px: NDArray[np.int32]
    large_gain: NDArray[np.float64]

    @staticmethod
    def of(table: Table, k: int, rows: NDArray | slice = slice(None)) -> Column:
        """Class index k (0..3) of some rows of the table."""
        true_px = table.true_px[rows, k]
        area_px, large_area_px = (np.moveaxis(px[rows, k], 0, -1) for px in (table.area_px, table.large_area_px))
        overlaps = (np.moveaxis(px[rows, k], 0, -1) for px in (table.overlap_px, table.large_overlap_px))
        gain, large_gain = (
            dice(area, true_px, overlap) - (true_px == 0)
            for area, overlap in zip((area_px, large_area_px), overlaps, strict=True)
        )
        nobody = np.zeros((1, len(true_px)))
        return Column(
            np.concatenate([area_px, nobody.astype(np.int32)]),
            np.concatenate([gain, nobody]),
            table.gate[rows, k],
            large_area_px,
            large_gain,
        )


def sums_of(gain: NDArray[np.float64], area_px: NDArray, gate: NDArray[np.float32], grid: Grid) -> NDArray[np.float64]:
    """Sum the gains of the images that each (minimum area, gate) of the grid shows.

    What an image gains by being shown does not depend on minimum area and gate; whether it is shown, does. So the
    gains are binned by (area, gate) and summed from the top: all points of one threshold cost one histogram.

    Args:
        gain: (m, n) for m thresholds and n images.
        area_px: (m, n) integers 0..409,600, the areas that the minimum is asked of.
        gate: (n,).
        grid: minimum areas and gates.

    Returns:
        (m, n_area, n_gate) float64. Sums of disjoint sets of images add up: what holds without a fold needs no second
        look at the table.
    """
    shape = (len(grid.areas_px) + 1, len(grid.gates) + 1)  # bin j holds what passes exactly the first j values
    gate_bin = np.searchsorted(np.asarray(grid.gates, np.float32), gate, side="right")  # (n,)
    total = np.empty((len(gain), len(grid.areas_px), len(grid.gates)))
    for low in range(0, len(gain), CHUNK):
        part = gain[low : low + CHUNK]
        cell = grid.passes[area_px[low : low + CHUNK]] * shape[1] + gate_bin
        cell += np.arange(len(part))[:, None] * (shape[0] * shape[1])
        bins = np.bincount(cell.ravel(), part.ravel(), len(part) * shape[0] * shape[1]).reshape(-1, *shape)
        total[low : low + CHUNK] = bins[:, :0:-1, :0:-1].cumsum(1).cumsum(2)[:, ::-1, ::-1]
    return total


def surface(table: Table, k: int, grid: Grid) -> NDArray[np.float64]:
    """Mean score of class index k (0..3) under every plain rule of the grid, over all images of the table.

    Returns:
        (256, n_area, n_gate) float64; threshold 0 (the whole strip) is there for completeness.
    """
    if len(table) == 0:
        raise UserError("search: the table has no images, allowed: at least one")
    column = Column.of(table, k)
    sums = sums_of(column.gain[:N_LEVELS], column.area_px, column.gate, grid)
    return sums / len(table) + (table.true_px[:, k] == 0).mean()
