"""A contact sheet of an augmentation recipe: strips as they are, and what training makes of them."""

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.data.augment import augmenter
from steel.errors import UserError
from steel.report.overlay import outline

GAP_PX = 4


def sheet(
    images: Sequence[NDArray[np.uint8]],
    masks: Sequence[NDArray[np.uint8]],
    recipe: str | Mapping[str, str],
    n: int,
    seed: int,
    max_width_px: int = 1600,
) -> NDArray[np.uint8]:
    """One row per strip: the strip as it is, then `n` augmented versions; (H', W', 3) uint8, BGR as OpenCV writes it.

    `images` and `masks` (bits) are strips or crops of one size, each (H, W) uint8. Defects are outlined in the class
    colours. A sheet wider than `max_width_px` is reduced to it, before outlines are drawn, so that they stay crisp.
    """
    if n < 1 or not len(images):
        raise UserError(f"sheet: {len(images)} strips and {n} versions; allowed: at least one of each")
    augment = augmenter(recipe)
    seeds = np.random.default_rng(seed).integers(2**31, size=(len(images), n))
    height, width = images[0].shape
    scale = min(1.0, (max_width_px - n * GAP_PX) / ((n + 1) * width))
    size = max(1, int(width * scale)), max(1, round(height * scale))
    rows = []
    for image, mask, row_seeds in zip(images, masks, seeds, strict=True):
        versions = [(image, mask), *(augment(image, mask, int(s)) for s in row_seeds)]
        rows.append(_join([_tile(*version, size) for version in versions], axis=1))
    return _join(rows, axis=0)


def _tile(image: NDArray[np.uint8], bits: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """One picture of `size` (width, height) px."""
    if size != image.shape[::-1]:
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
        bits = cv2.resize(bits, size, interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False)
    classes = np.arange(N_CLASSES, dtype=np.uint8)[:, None, None]
    return outline(image, (bits >> classes & 1).astype(bool), width_px=1)


def _join(pictures: list[NDArray[np.uint8]], axis: int) -> NDArray[np.uint8]:
    """Pictures beside (axis 1) or above (axis 0) each other, white between."""
    shape = list(pictures[0].shape)
    shape[axis] = GAP_PX
    gap = np.full(shape, 255, np.uint8)
    return np.concatenate([part for picture in pictures for part in (gap, picture)][1:], axis=axis)
