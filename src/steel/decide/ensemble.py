"""From the outputs of several models to one: how they are averaged, and the step that gives each pixel to one class."""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES
from steel.errors import UserError

SCALE = 4 * 255**2  # of the lookup tables: whole for the square of every level, and of every middle between two
MAX_SUM = 1000  # of the counts of a class; SCALE times this is still an int32
Won = tuple[NDArray[np.uint8], NDArray[np.uint8]]  # see `winner`
FIELDS = ("kind", "counts", "gate_counts")  # of a class in JSON


def _logit(p: float) -> float:
    """The logit, moved to 0..1. A stored 0 stands for all below 1/510 and is taken as 1/1020; 255 likewise."""
    p = min(max(p, 1 / 1020), 1019 / 1020)
    return 0.5 + 0.5 * math.log(p / (1 - p)) / math.log(1019)


# Kinds of means: probabilities 0..1 are transformed (increasing, to 0..1), averaged, and transformed back. Beside the
# plain mean and that of the logits: power means with the exponents 2 (near the surest model) and 1/2 (near the doubts).
TRANSFORMS: dict[str, Callable[[float], float]] = {
    "mean": lambda p: p,
    "logit": _logit,
    "square": lambda p: p * p,
    "root": math.sqrt,
}


@dataclass(frozen=True)
class Blend:
    """How often each model votes, class by class: whole counts, so that means are exact.

    Attributes:
        kinds: (4,) names of TRANSFORMS, the kind of mean of each class's maps.
        counts: (4, m) whole numbers >= 0, of the m segmenters; each class's sum is 1..1000.
        gate_counts: (4, n_gates) the same of the classifiers, whose probabilities are plainly averaged.
    """

    kinds: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    gate_counts: tuple[tuple[int, ...], ...]

    def __post_init__(self) -> None:
        """Refuse unknown kinds, ragged counts, and counts that are not whole, negative, or all 0."""
        if any(len(rows) != N_CLASSES for rows in (self.kinds, self.counts, self.gate_counts)):
            raise UserError(f"blend: {[len(r) for r in vars(self).values()]} rows, allowed: {N_CLASSES} of each field")
        for c, kind, counts, gates in zip(CLASSES, self.kinds, self.counts, self.gate_counts, strict=True):
            if kind not in tuple(TRANSFORMS):  # a file may hold anything, even what has no hash
                raise UserError(f"blend: kind of class {c} is {kind!r}, allowed: {', '.join(TRANSFORMS)}")
            _check_counts(f"counts of class {c}", counts, len(self.counts[0]))
            if self.gate_counts[0] or gates:
                _check_counts(f"gate_counts of class {c}", gates, len(self.gate_counts[0]))

    @staticmethod
    def equal(n_models: int, n_gates: int) -> "Blend":
        """The plain mean of all, in every class."""
        return Blend(("mean",) * N_CLASSES, ((1,) * n_models,) * N_CLASSES, ((1,) * n_gates,) * N_CLASSES)

    def without(self, models: Collection[int], gates: Collection[int]) -> "Blend":
        """Without the votes of some segmenters and classifiers, by their places; equal ones where no other has any."""
        counts = tuple(_muted(row, models) for row in self.counts)
        return Blend(self.kinds, counts, tuple(_muted(row, gates) for row in self.gate_counts))

    def of(self, models: Sequence[int], gates: Sequence[int]) -> "Blend":
        """The votes of some segmenters and classifiers alone, by their places."""
        counts = tuple(tuple(row[i] for i in models) for row in self.counts)
        return Blend(self.kinds, counts, tuple(tuple(row[i] for i in gates) for row in self.gate_counts))

    def to_json(self) -> dict[str, dict[str, object]]:
        """Plain values for JSON: class "1".."4" to its part of each field."""
        classes = zip(CLASSES, self.kinds, self.counts, self.gate_counts, strict=True)
        return {str(c): dict(zip(FIELDS, (kind, list(n), list(gates)), strict=True)) for c, kind, n, gates in classes}

    @staticmethod
    def from_json(data: object, where: str = "blend") -> "Blend":
        """Read what `to_json` gave; `where` names the file in messages."""
        expected = [str(c) for c in CLASSES]
        if not isinstance(data, Mapping) or sorted(data) != expected:
            got = sorted(data) if isinstance(data, Mapping) else type(data).__name__
            raise UserError(f"{where}: classes {got}, allowed: exactly {expected}")
        for c in expected:
            one = data[c]
            if not isinstance(one, Mapping) or sorted(one) != sorted(FIELDS):
                got = sorted(one) if isinstance(one, Mapping) else type(one).__name__
                raise UserError(f"{where}: class {c} has the fields {got}, allowed: exactly {list(FIELDS)}")
            for name in FIELDS[1:]:
                if not isinstance(one[name], Sequence) or isinstance(one[name], str):
                    raise UserError(f"{where}: {name} of class {c} is {one[name]!r}, allowed: a list of whole numbers")
        kinds, counts, gates = ([data[c][name] for c in expected] for name in FIELDS)
        try:
            return Blend(tuple(kinds), tuple(map(tuple, counts)), tuple(map(tuple, gates)))
        except UserError as error:
            raise UserError(f"{where}: {error}") from None


def blended(planes: Sequence[NDArray[np.uint8]], kind: str, counts: Sequence[int]) -> NDArray[np.uint8]:
    """Mean of one class's values over the models: transformed, added up, divided, transformed back.

    Whole numbers throughout. "mean" and "square" are rounded half up exactly; of the others, whose tables are rounded
    to 1/260,100 of their range, an edge between two levels may lie off by 1/50 of a level.

    Args:
        planes: m uint8 arrays of one shape.
        kind: a name of TRANSFORMS.
        counts: (m,) whole numbers >= 0, not all 0.

    Returns:
        A new uint8 array of that shape.
    """
    used = [(plane, n) for plane, n in zip(planes, counts, strict=True) if n]
    if kind == "mean" or len(used) == 1 or not planes[0].size:  # the tables give the same, later; cv2 refuses nothing
        return _plain_mean(used)
    levels, back = _tables(kind)
    total = np.zeros(planes[0].shape, np.int32)
    for plane, n in used:
        np.add(total, cv2.LUT(plane, levels * np.int32(n)).reshape(plane.shape), out=total)
    total //= np.int32(sum(counts))
    return back.take(total)


def mean_gate(
    probs: Sequence[NDArray[np.float64]], n: int, counts: Sequence[Sequence[int]] | None = None
) -> NDArray[np.float32]:
    """Mean of class probabilities, in float64 in the given order; ones where no model gives any.

    Args:
        probs: (n, 4) of each model.
        n: number of images.
        counts: (4, n_gates) how often each model votes in each class, `Blend.gate_counts`; None: once.

    Returns:
        (n, 4) float32.
    """
    if not probs:
        return np.ones((n, N_CLASSES), np.float32)
    votes = np.ones((len(probs), N_CLASSES)) if counts is None else np.array(counts, np.float64).T  # (n_gates, 4)
    if votes.shape != (len(probs), N_CLASSES):
        raise UserError(f"ensemble: counts of {len(votes)} models for the gates of {len(probs)}, allowed: one each")
    total = np.zeros((n, N_CLASSES))
    for prob, vote in zip(probs, votes, strict=True):
        total += prob * vote
    return (total / votes.sum(0)).astype(np.float32)


def winner(prob: NDArray[np.uint8]) -> Won:
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
    return only_winner(prob, winner(prob)[1])


def only_winner(prob: NDArray[np.uint8], index: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """`largest_class` where the class index (H, W) that owns each pixel is known."""
    kept = np.empty_like(prob)
    for k in range(len(prob)):
        np.multiply(prob[k], (index == k).view(np.uint8), out=kept[k])
    return kept


@cache
def _tables(kind: str) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
    """The transformed levels of a kind, (256,) int32 0..SCALE, and the level of every whole mean of such, (SCALE + 1,).

    A mean is of level u from the transformed u - 1/2 on, a whole edge: it may be cut off before it is looked up.
    """
    transform = TRANSFORMS[kind]
    levels = np.array([round(SCALE * transform(v / 255)) for v in range(256)], np.int32)
    # Rounded to 1e-6 first: what is whole but for the last bits of a float must not go up.
    edges = [math.ceil(round(SCALE * transform((u - 0.5) / 255), 6)) for u in range(1, 256)]
    return levels, np.searchsorted(edges, np.arange(SCALE + 1), side="right").astype(np.uint8)


def _plain_mean(used: Sequence[tuple[NDArray[np.uint8], int]]) -> NDArray[np.uint8]:
    """Mean of maps with their counts (at least 1), rounded half up."""
    if len(used) == 1:
        return used[0][0].copy()
    n = sum(count for _, count in used)
    exact = np.uint16 if 511 * n <= np.iinfo(np.uint16).max else np.uint32  # holds 2 * 255 n + n
    total = np.multiply(used[0][0], exact(used[0][1]), dtype=exact)
    for one, count in used[1:]:
        total += one if count == 1 else np.multiply(one, exact(count), dtype=exact)
    total *= exact(2)
    total += exact(n)
    total //= exact(2 * n)
    return total.astype(np.uint8)


def _muted(counts: tuple[int, ...], places: Collection[int]) -> tuple[int, ...]:
    others = tuple(0 if i in places else count for i, count in enumerate(counts))
    return others if any(others) else tuple(int(i not in places) for i in range(len(counts)))


def _check_counts(what: str, counts: Sequence[int], n: int) -> None:
    whole = all(isinstance(c, int) and not isinstance(c, bool) and c >= 0 for c in counts)
    if len(counts) != n or not whole or not 1 <= sum(counts) <= MAX_SUM:
        raise UserError(f"blend: {what} are {list(counts)}, allowed: {n} whole numbers >= 0, of a sum 1..{MAX_SUM}")
