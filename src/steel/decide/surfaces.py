"""The surfaces of the plain rule, for the report: what the search has seen, and the plateau it has chosen."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steel import files
from steel.competition import N_CLASSES
from steel.decide.adopt import choose, smooth
from steel.decide.grid import Grid, surface
from steel.decide.table import Table


@dataclass(frozen=True)
class Surfaces:
    """Mean Dice of each class on all held-out images, under plain rules at one gate.

    Attributes:
        thresholds: (255,) int64, 1..255.
        areas_px: (n_area,) int64, the minimum areas.
        min_gate: (4,) float64, the gate of the chosen rule; where none gains, that of the best point.
        score: (4, 255, n_area) float32, mean Dice at that gate.
        smoothed: (4, 255, n_area) float32, mean of each point's neighbourhood, gates too: its highest point is chosen.
        chosen: (4, 2) int64, places of the chosen threshold and area; -1 where no rule gains over showing nothing.
    """

    thresholds: NDArray[np.int64]
    areas_px: NDArray[np.int64]
    min_gate: NDArray[np.float64]
    score: NDArray[np.float32]
    smoothed: NDArray[np.float32]
    chosen: NDArray[np.int64]

    @staticmethod
    def of(table: Table, grid: Grid) -> Surfaces:
        """The surfaces of a table."""
        shape = (N_CLASSES, 255, len(grid.areas_px))
        score, smoothed = np.zeros((2, *shape), np.float32)
        min_gate, chosen = np.zeros(N_CLASSES), np.full((N_CLASSES, 2), -1)
        for k in range(N_CLASSES):
            scores = surface(table, k, grid)[1:]  # (255, n_area, n_gate)
            nothing = (table.true_px[:, k] == 0).mean()
            flat = smooth(scores)
            point = choose(scores - nothing)
            g = point[2] if point else int(np.unravel_index(flat.argmax(), flat.shape)[2])
            score[k], smoothed[k], min_gate[k] = scores[:, :, g], flat[:, :, g], grid.gates[g]
            if point:
                chosen[k] = point[:2]
        return Surfaces(np.arange(1, 256), np.array(grid.areas_px), min_gate, score, smoothed, chosen)

    def save(self, path: Path) -> None:
        """Write an npz, whole or not at all; equal surfaces give equal bytes."""
        with files.atomic(path) as temporary, temporary.open("wb") as file:
            np.savez(file, **{f.name: getattr(self, f.name) for f in fields(self)})

    @staticmethod
    def load(path: Path) -> Surfaces:
        """Read what `save` wrote."""
        with np.load(path) as arrays:
            return Surfaces(**{f.name: arrays[f.name] for f in fields(Surfaces)})
