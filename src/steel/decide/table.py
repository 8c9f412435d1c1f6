"""The table that decisions are made on: predicted area and overlap of every (image, class) at all 256 thresholds."""

from dataclasses import dataclass, fields
from pathlib import Path
from zipfile import BadZipFile

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.decide.ensemble import winner
from steel.errors import UserError

N_LEVELS = 256  # of a uint8 probability
N_LANES = 4  # see _owner_and_value
MASK_VALUES = 1 << N_CLASSES  # of a bit field
HAS_CLASS = np.arange(MASK_VALUES) >> np.arange(N_CLASSES)[:, None] & 1  # (4, 16): is the bit of class k set

# dtype (the kind alone for text) and shape after the leading n of every field.
LAYOUT = {
    "image_ids": ("U", ()),
    "fold": ("int16", ()),
    "true_px": ("int32", (N_CLASSES,)),
    "area_px": ("int32", (N_CLASSES, N_LEVELS)),
    "overlap_px": ("int32", (N_CLASSES, N_LEVELS)),
    "gate": ("float32", (N_CLASSES,)),
}


@dataclass(frozen=True)
class Table:
    """All that the rules need to know of n held-out images: 103 MB for 12,568 instead of 20 GB of maps.

    Attributes:
        image_ids: (n,) str.
        fold: (n,) int16, the fold each image was held out in; where one fold alone was, a random part of it.
        true_px: (n, 4) int32, area of the true masks.
        area_px: (n, 4, 256) int32; [i, k, t] = pixels of class k+1 with value >= t after `largest_class`.
        overlap_px: (n, 4, 256) int32, those of them under the true mask of class k+1.
        gate: (n, 4) float32, the probability that the class is there; 1 where no model gives one.
    """

    image_ids: NDArray[np.str_]
    fold: NDArray[np.int16]
    true_px: NDArray[np.int32]
    area_px: NDArray[np.int32]
    overlap_px: NDArray[np.int32]
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

    def subset(self, rows: NDArray) -> "Table":
        """The table of some images: `rows` is a boolean mask (n,) or an array of row numbers."""
        return Table(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})

    def save(self, path: Path) -> None:
        """Write an uncompressed npz to exactly this path; equal tables give equal bytes."""
        with path.open("wb") as file:  # given a name, numpy would append .npz to it
            np.savez(file, **{f.name: getattr(self, f.name) for f in fields(self)})

    @staticmethod
    def load(path: Path) -> "Table":
        """Read what `save` wrote."""
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                return Table(**{name: arrays[name] for name in LAYOUT})
        except FileNotFoundError:
            raise UserError(f"table: {path} does not exist; run the decide stage first") from None
        except (OSError, ValueError, TypeError, KeyError, EOFError, BadZipFile, UserError) as error:
            raise UserError(f"table: {path} is no decision table ({error}); delete it, run decide again") from None


def measure(
    prob: NDArray[np.uint8], mask_bits: NDArray[np.uint8]
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]:
    """Measure one image at all thresholds at once, exactly.

    One histogram of (class that owns the pixel, its value) serves all four classes, and one more of the pixels under
    their true mask; reverse cumulative sums turn counts of "= t" into counts of ">= t".

    Args:
        prob: (4, 256, 1600) uint8, the ensemble's map before `largest_class`.
        mask_bits: (256, 1600) uint8, bit k = true mask of class k+1.

    Returns:
        area (4, 256), overlap (4, 256) and true_px (4,), int32, as in `Table`; t = 0 counts all pixels.
    """
    shape = mask_bits.shape
    if prob.shape != (N_CLASSES, *shape):
        raise UserError(f"table: map {prob.shape} for a mask {shape}, allowed: {(N_CLASSES, *shape)}")
    code = _owner_and_value(prob)
    area = _at_least(_count(code))
    area[:, 0] = mask_bits.size

    masked = np.flatnonzero(mask_bits != 0)  # few pixels or none: no second pass over the strip
    bits, code = mask_bits.ravel()[masked], code.ravel()[masked]  # (n_masked,)
    by_bits = np.bincount(bits, minlength=MASK_VALUES)
    if len(by_bits) > MASK_VALUES:
        raise UserError(f"table: mask holds the value {len(by_bits) - 1}, allowed: bit fields 0..{MASK_VALUES - 1}")
    owner = (code >> 8).astype(np.uint8) % N_CLASSES
    hit = code[(bits >> owner) & 1 == 1] % (N_CLASSES * N_LEVELS)
    overlap = _at_least(np.bincount(hit, minlength=N_CLASSES * N_LEVELS).reshape(N_CLASSES, N_LEVELS))
    true_px = (HAS_CLASS @ by_bits).astype(np.int32)
    overlap[:, 0] = true_px
    return area, overlap, true_px


def _owner_and_value(prob: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Code of each pixel, (H, W) uint16: value + 256 * (class index that owns it + 4 * lane)."""
    value, index = winner(prob)
    # Most pixels of a map are 0, and adding to one counter again and again waits for memory each time: four lanes of
    # counters, taken in turn by the columns, are up to twice as fast.
    lane = (np.arange(value.shape[1]) % N_LANES * N_CLASSES).astype(np.uint8)
    return cv2.merge([value, index + lane]).view("<u2")[..., 0]


def _count(code: NDArray[np.uint16]) -> NDArray[np.int64]:
    """Number of pixels per (class, value), (4, 256)."""
    n = N_LANES * N_CLASSES * N_LEVELS
    histogram = cv2.calcHist([code], [0], None, [n], [0, n])  # float32: exact to 2^24
    return histogram.reshape(N_LANES, N_CLASSES, N_LEVELS).astype(np.int64).sum(0)


def _at_least(histogram: NDArray) -> NDArray[np.int32]:
    """Counts of "= t" (4, 256) to counts of ">= t"."""
    return np.cumsum(histogram[:, ::-1], axis=1)[:, ::-1].astype(np.int32)
