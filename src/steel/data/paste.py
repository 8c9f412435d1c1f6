"""Copy-paste of defects: one connected defect of a source onto another strip, with its mask.

Source: Ghiasi et al. 2021, Simple Copy-Paste is a Strong Data Augmentation Method for Instance Segmentation.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

FEATHER_PX = 8  # over which the surroundings of a pasted defect fade into the target
LEAST_AREA_PX = 100  # smaller pieces are crumbs of a loose outline, not a defect that anybody would mark
DARK = 24  # mean grey of a column: below it lies the black beyond the coil; real columns hardly ever fall in 16..28


def paste(
    image: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    source_image: NDArray[np.uint8],
    source_mask: NDArray[np.uint8],
    seed: int,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Paste one connected defect of the source, drawn at random; gives the image and mask (H, W) uint8 with it.

    `image` and `mask` (bits) are those of the target, (H, W) uint8; the source is as high, and of any width. The defect
    keeps its rows, since the texture of rolled steel depends on them, and takes a random column among all where the
    target shows steel without a defect, FEATHER_PX around included. It is made brighter or darker by the mean
    difference of the surroundings there and here, and those fade into the target over FEATHER_PX.

    A pure function of its arguments. Where no defect of the source fits (too small, too wide, cut by the source's left
    or right end, beside black, no free place), the target itself comes back. The best source is a whole strip: a crop
    cuts more defects.
    """
    rng = np.random.default_rng(seed)
    found = _draw_defect(source_mask, rng)
    if found is None:
        return image, mask
    defect, rows, columns = found
    places = _places(image[rows], mask[rows], defect.shape[1])
    near, near_bits = source_image[rows, columns], source_mask[rows, columns]
    if not len(places) or not is_steel(near).all():
        return image, mask
    left = int(rng.choice(places))
    image, mask = image.copy(), mask.copy()
    under = image[rows, left : left + defect.shape[1]]  # views: what is written there is written to the copies
    bits = mask[rows, left : left + defect.shape[1]]
    under[:] = _blend(under, near, defect, (near_bits > 0) & ~defect)
    bits[defect] = near_bits[defect]
    return image, mask


def is_steel(image: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Whether each column of a grey image (h, W) shows steel rather than the black beyond the coil's edge: (W,)."""
    return cv2.reduce(image, 0, cv2.REDUCE_AVG, dtype=cv2.CV_32F)[0] >= DARK


def _draw_defect(bits: NDArray[np.uint8], rng: np.random.Generator) -> tuple[NDArray[np.bool_], slice, slice] | None:
    """One connected defect as (bool in its box, the box's rows, its columns), the box FEATHER_PX wider; None if none.

    Pixels that touch are one defect, also where their classes differ.
    """
    some = (bits > 0).view(np.uint8)
    x, y, w, h = cv2.boundingRect(some)  # 10 times faster than labelling a whole strip, and 16-bit labels twice
    if not w:  # OpenCV would crash on an empty array
        return None
    _, labels, stats, _ = cv2.connectedComponentsWithStats(some[y : y + h, x : x + w], connectivity=8, ltype=cv2.CV_16U)
    left, right = x + stats[:, cv2.CC_STAT_LEFT], x + stats[:, cv2.CC_STAT_LEFT] + stats[:, cv2.CC_STAT_WIDTH]
    whole = (left >= FEATHER_PX) & (right <= bits.shape[1] - FEATHER_PX) & (stats[:, cv2.CC_STAT_AREA] >= LEAST_AREA_PX)
    whole[0] = False  # the ground
    if not whole.any():
        return None
    label = int(rng.choice(np.flatnonzero(whole)))
    top = y + int(stats[label, cv2.CC_STAT_TOP])
    bottom = top + int(stats[label, cv2.CC_STAT_HEIGHT])
    rows = slice(max(top - FEATHER_PX, 0), min(bottom + FEATHER_PX, len(bits)))
    columns = slice(int(left[label]) - FEATHER_PX, int(right[label]) + FEATHER_PX)
    defect = np.zeros(bits.shape, np.bool_)
    defect[y : y + h, x : x + w] = labels == label
    return defect[rows, columns], rows, columns


def _places(image: NDArray[np.uint8], bits: NDArray[np.uint8], width: int) -> NDArray[np.int64]:
    """Left edges of all boxes `width` px wide, of the full height of (h, W), on steel without a defect."""
    taken = ~is_steel(image) | (cv2.reduce(bits, 0, cv2.REDUCE_MAX)[0] > 0)  # (W,)
    before = np.concatenate(([0], np.cumsum(taken)))  # taken columns left of each edge
    return np.flatnonzero(before[width:] == before[:-width]) if width <= len(taken) else np.empty(0, np.int64)


def _blend(
    under: NDArray[np.uint8], near: NDArray[np.uint8], defect: NDArray[np.bool_], others: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """The box with the defect in it: `under` of the target, `near` of the source, all (h, w).

    Other defects of the source, in the corners of the box, stay out.
    """
    distance_px = cv2.distanceTransform((~defect).view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5)
    share = np.clip(1 - distance_px / FEATHER_PX, 0, 1)  # 1 on the defect, 0 from FEATHER_PX on
    share[others] = 0
    around = (share > 0) & ~defect
    here, there = under.astype(np.float32), near.astype(np.float32)
    # A defect that fills the box from top to bottom has surroundings too: the box is wider than it.
    shift = here[around].mean() - there[around].mean()
    mixed = here + share * (there + shift - here)
    return np.clip(np.rint(mixed), 0, 255).astype(np.uint8)
