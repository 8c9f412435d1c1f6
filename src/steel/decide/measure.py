"""One image measured for the table: areas and overlaps at all thresholds at once."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.decide.ensemble import Won, winner
from steel.decide.evidence import N_LEVELS
from steel.errors import UserError

N_LANES = 4  # see _owner_and_value
MASK_VALUES = 1 << N_CLASSES  # of a bit field
HAS_CLASS = np.arange(MASK_VALUES) >> np.arange(N_CLASSES)[:, None] & 1  # (4, 16): is the bit of class k set


Measured = tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]


def measure(prob: NDArray[np.uint8], mask_bits: NDArray[np.uint8], won: Won | None = None) -> Measured:
    """Measure one image at all thresholds at once, exactly.

    One histogram of (class that owns the pixel, its value) serves all four classes, and one more of the pixels under
    their true mask; reverse cumulative sums turn counts of "= t" into counts of ">= t".

    Args:
        prob: (4, 256, 1600) uint8, the ensemble's map before `largest_class`.
        mask_bits: (256, 1600) uint8, bit k = true mask of class k+1.
        won: what `winner` says of it, if that is known.

    Returns:
        area (4, 256), overlap (4, 256) and true_px (4,), int32, as in `Table`; t = 0 counts all pixels.
    """
    return measure_each([prob], mask_bits, None if won is None else [won])[0]


def measure_each(
    probs: Sequence[NDArray[np.uint8]], mask_bits: NDArray[np.uint8], won: Sequence[Won] | None = None
) -> list[Measured]:
    """`measure` of several maps of one image: what its mask says is looked up once."""
    shape = mask_bits.shape
    for prob in probs:
        if prob.shape != (N_CLASSES, *shape):
            raise UserError(f"table: map {prob.shape} for a mask {shape}, allowed: {(N_CLASSES, *shape)}")
    masked = np.flatnonzero(mask_bits != 0)  # few pixels or none: no second pass over the strip
    bits = mask_bits.ravel()[masked]  # (n_masked,)
    by_bits = np.bincount(bits, minlength=MASK_VALUES)
    if len(by_bits) > MASK_VALUES:
        raise UserError(f"table: mask holds the value {len(by_bits) - 1}, allowed: bit fields 0..{MASK_VALUES - 1}")
    true_px = (HAS_CLASS @ by_bits).astype(np.int32)
    found = []
    for value, index in map(winner, probs) if won is None else won:
        code = _owner_and_value(value, index)
        area = _at_least(_count(code))
        area[:, 0] = mask_bits.size
        code = code.ravel()[masked]
        owner = (code >> 8).astype(np.uint8) % N_CLASSES
        hit = code[(bits >> owner) & 1 == 1] % (N_CLASSES * N_LEVELS)
        overlap = _at_least(np.bincount(hit, minlength=N_CLASSES * N_LEVELS).reshape(N_CLASSES, N_LEVELS))
        overlap[:, 0] = true_px
        found.append((area, overlap, true_px))
    return found


def _owner_and_value(value: NDArray[np.uint8], index: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """Code of each pixel, (H, W) uint16: value + 256 * (class index that owns it + 4 * lane)."""
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
