"""The table that decisions are made on: what the rules need to know of every held-out (image, class), exactly."""

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steel import files
from steel.competition import N_CLASSES
from steel.decide.components import COMPONENT_LEVELS, COMPONENTS_PX
from steel.decide.evidence import N_LEVELS, Evidence
from steel.errors import UserError

LARGE = (N_CLASSES, len(COMPONENTS_PX), len(COMPONENT_LEVELS))
# dtype (the kind alone for text) and shape after the leading n of every field.
LAYOUT = {
    "image_ids": ("U", ()),
    "fold": ("int16", ()),
    "true_px": ("int32", (N_CLASSES,)),
    "area_px": ("int32", (N_CLASSES, N_LEVELS)),
    "overlap_px": ("int32", (N_CLASSES, N_LEVELS)),
    "large_area_px": ("int32", LARGE),
    "large_overlap_px": ("int32", LARGE),
    "tail_px": ("float64", (N_CLASSES,)),
    "gate": ("float32", (N_CLASSES,)),
}


@dataclass(frozen=True)
class Table:
    """All that the rules need to know of n held-out images: 122 MB for 12,568 instead of 20 GB of maps.

    Attributes:
        image_ids: (n,) str.
        fold: (n,) int16, the fold each image was held out in; where one fold alone was, a random part of it.
        true_px: (n, 4) int32, area of the true masks.
        area_px: (n, 4, 256) int32; [i, k, t] = pixels of class k+1 with value >= t after `largest_class`.
        overlap_px: (n, 4, 256) int32, those of them under the true mask of class k+1.
        large_area_px: (n, 4, 3, 12) int32; [i, k, s, j] = pixels of class k+1 that lie, at the threshold
            COMPONENT_LEVELS[j], in a connected component of at least COMPONENTS_PX[s] pixels.
        large_overlap_px: the same of those under the true mask.
        tail_px: (n, 4) float64 >= 0, area to be expected in pixels whose values uint8 has lost: the sum of the
            probabilities less that of the map, in the mean over the models by their votes.
        gate: (n, 4) float32, the probability that the class is there; 1 where no model gives one.
    """

    image_ids: NDArray[np.str_]
    fold: NDArray[np.int16]
    true_px: NDArray[np.int32]
    area_px: NDArray[np.int32]
    overlap_px: NDArray[np.int32]
    large_area_px: NDArray[np.int32]
    large_overlap_px: NDArray[np.int32]
    tail_px: NDArray[np.float64]
    gate: NDArray[np.float32]

    def __post_init__(self) -> None:
        """Check dtypes and shapes against LAYOUT, and the gate's range: NaN would fail some comparisons only."""
        for name, (dtype, shape) in LAYOUT.items():
            array = getattr(self, name)
            kind = "U" if array.dtype.kind == "U" else array.dtype.name
            if kind != dtype or array.shape != (len(self), *shape):
                raise UserError(
                    f"table: {name} is {kind} {array.shape}, allowed: {dtype} {(len(self), *shape)} as for image_ids"
                )
        if not ((self.gate >= 0) & (self.gate <= 1)).all():
            row, k = np.argwhere(~((self.gate >= 0) & (self.gate <= 1)))[0]
            raise UserError(f"table: gate of {self.image_ids[row]} class {k + 1} is {self.gate[row, k]}, allowed: 0..1")

    def __len__(self) -> int:
        """Number of images."""
        return len(self.image_ids)

    def evidence(self, k: int, component_px: int = 0, rows: NDArray | slice = slice(None)) -> Evidence:
        """What a rule may look at of class index k (0..3), without components of fewer pixels."""
        area_px = self._without_small(self.area_px, self.large_area_px, k, component_px, rows)
        return Evidence(area_px, self.gate[rows, k], self.tail_px[rows, k])

    def overlaps(self, k: int, component_px: int = 0, rows: NDArray | slice = slice(None)) -> NDArray[np.int32]:
        """`overlap_px` of class index k (n, 256), without components of fewer pixels."""
        return self._without_small(self.overlap_px, self.large_overlap_px, k, component_px, rows)

    def subset(self, rows: NDArray) -> "Table":
        """The table of some images: `rows` is a boolean mask (n,) or an array of row numbers."""
        return Table(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def save(self, path: Path) -> None:
        """Write a .npy of one record per image, whole or not at all; equal tables give equal bytes."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        layout = np.dtype([(name, array.dtype, array.shape[1:]) for name, array in found.items()])
        with files.atomic(path) as temporary:
            records = files.create_array(temporary, (len(self),), layout)
            for name, array in found.items():
                records[name] = array
            records.flush()

    @staticmethod
    def load(path: Path) -> "Table":
        """Open what `save` wrote, memory-mapped."""
        try:
            records = np.lib.format.open_memmap(path, mode="r")
            return Table(**{name: np.asarray(records[name]) for name in LAYOUT})
        except FileNotFoundError:
            raise UserError(f"table: {path} does not exist; run the decide stage first") from None
        except (OSError, ValueError, TypeError, KeyError, EOFError, IndexError, UserError) as error:
            raise UserError(f"table: {path} is no decision table ({error}); delete it, run decide again") from None

    @staticmethod
    def _without_small(whole: NDArray, large: NDArray, k: int, component_px: int, rows: NDArray | slice) -> NDArray:
        """Of class index k (n, 256); without components, only the thresholds of COMPONENT_LEVELS are known."""
        if not component_px:
            return whole[rows, k]
        if component_px not in COMPONENTS_PX:
            raise UserError(f"table: component_px is {component_px}, allowed: 0, {', '.join(map(str, COMPONENTS_PX))}")
        known = large[rows, k, COMPONENTS_PX.index(component_px)]  # (n, 12)
        spread = np.zeros((len(known), N_LEVELS), np.int32)
        spread[:, COMPONENT_LEVELS] = known
        return spread
