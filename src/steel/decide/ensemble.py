"""From the maps of several models to one: the weighted mean, and the step that gives each pixel to one class."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.errors import UserError


def mean_map(maps: Sequence[NDArray[np.uint8]], weights: Sequence[float] | None = None) -> NDArray[np.uint8]:
    """Weighted mean of probability maps, rounded half up: the same bytes wherever it is called.

    Equal weights are averaged in integers; others in float64, element by element in the given order, so that no
    vector width or thread count can change a value.

    Args:
        maps: uint8 arrays of one shape, (4, 256, 1600), 255 = probability 1.
        weights: one finite number >= 0 per map, of any positive sum; None for equal weights.

    Returns:
        A new uint8 array of that shape.
    """
    if not maps or any(m.dtype != np.uint8 or m.shape != maps[0].shape for m in maps):
        raise UserError(f"ensemble: needs uint8 maps of one shape, got {[(str(m.dtype), m.shape) for m in maps]}")
    used = _check_weights(weights, len(maps))
    if used is None or len(set(used)) == 1:
        return _equal_mean(maps)
    total = np.zeros(maps[0].shape, np.float64)
    for one, weight in zip(maps, used, strict=True):
        if weight:
            total += one * np.float64(weight)
    total /= sum(used)
    total += 0.5
    return total.astype(np.uint8)  # the cast cuts off: floor, as nothing is negative


def mean_gate(probs: Sequence[NDArray[np.float64]], n: int) -> NDArray[np.float32]:
    """Mean of class probabilities (n, 4) in the given order, as float32; ones where no model gives any."""
    return np.mean(probs, axis=0).astype(np.float32) if probs else np.ones((n, N_CLASSES), np.float32)


def winner(prob: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The largest value of each pixel and the class index 0..3 that has it (ties: the lower class).

    Args:
        prob: (4, H, W) uint8.

    Returns:
        value (H, W) uint8 and index (H, W) uint8.
    """
    value = np.maximum(np.maximum(prob[0], prob[1]), np.maximum(prob[2], prob[3]))
    # Comparing beats argmax 10 to 1: the index is the number of classes passed over before the first that wins.
    past_0 = prob[0] != value
    past_1 = past_0 & (prob[1] != value)
    past_2 = past_1 & (prob[2] != value)
    index = past_0.view(np.uint8) + past_1.view(np.uint8) + past_2.view(np.uint8)
    return value, index


def largest_class(prob: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Keep in each pixel only the largest class and set the others to 0 (ties: the lower class).

    True masks of different classes never overlap, so this costs nothing and makes the classes separable.

    Args:
        prob: (4, H, W) uint8.

    Returns:
        A new array of that shape and dtype.
    """
    _, index = winner(prob)
    kept = np.empty_like(prob)
    for k in range(len(prob)):
        np.multiply(prob[k], (index == k).view(np.uint8), out=kept[k])
    return kept


def _check_weights(weights: Sequence[float] | None, n: int) -> tuple[float, ...] | None:
    if weights is None:
        return None
    used = tuple(float(w) for w in weights)
    if len(used) != n:
        raise UserError(f"ensemble: {len(used)} weights for {n} models, allowed: one each")
    if not all(0 <= w < float("inf") for w in used) or sum(used) <= 0:
        raise UserError(f"ensemble: weights {list(used)}, allowed: finite numbers >= 0 that are not all 0")
    return used


def _equal_mean(maps: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    n = len(maps)
    if n == 1:
        return maps[0].copy()
    exact = np.uint16 if 511 * n <= np.iinfo(np.uint16).max else np.uint32  # holds 2 * 255 n + n
    total = np.add(maps[0], maps[1], dtype=exact)
    for one in maps[2:]:
        total += one
    total *= exact(2)
    total += exact(n)
    total //= exact(2 * n)
    return total.astype(np.uint8)
