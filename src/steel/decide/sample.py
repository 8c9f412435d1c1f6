"""The maps of all models on a lattice of points: small enough to try hundreds of blends on, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES
from steel.decide.ensemble import blended
from steel.errors import UserError
from steel.metrics import dice

EVERY = 4  # of this many rows and columns, one is on the lattice: 1/16 of the pixels
LATTICE = slice(EVERY // 2, None, EVERY)
FAINT = 8  # points where every model is below this, outside the true mask, are left out: no threshold is as low
MAX_POINTS = 2048  # of a strip and class, evenly thinned out beyond: bounds memory and time, whatever the nets
MAX_STRIPS = 12_568  # with so many points each; of more strips each has fewer, which bounds the sum
BIN = 4  # levels that the search takes together
BINS = 256 // BIN
LEVELS = np.arange(FAINT, 256, BIN)  # (62,) thresholds
COMMON = 128  # threshold at which models are compared


class Bag(NamedTuple):
    """How the models vote in one class: the kind of their mean, a name of TRANSFORMS, and how often each counts."""

    kind: str
    counts: tuple[int, ...]


class Shown(NamedTuple):
    """What n images of one class would show at each of the LEVELS, as `grid.sums_of` wants it.

    Attributes:
        gain: (62, n) float64, what showing it adds to the Dice of showing nothing.
        area_px: (62, n) int32.
    """

    gain: NDArray[np.float64]
    area_px: NDArray[np.int32]


class Points(NamedTuple):
    """The points of one strip that matter, class after class.

    Attributes:
        values: (m, p) uint8, those of each of the m models.
        under: (p,) bool, whether the point lies under the true mask of its class.
        n: (4,) int64, points of each class.
        px: (4,) float64, the pixels that a point of each class stands for: 16 or more.
    """

    values: NDArray[np.uint8]
    under: NDArray[np.bool_]
    n: NDArray[np.int64]
    px: NDArray[np.float64]


def reduce_strip(maps: Sequence[NDArray[np.uint8]], mask_bits: NDArray[np.uint8], n_strips: int = 1) -> Points:
    """Keep the points of one strip's lattice where some model or the true mask shows anything of a class.

    A fixed lattice is an unbiased sample of the pixels: counts of points, times 16, estimate areas and overlaps.

    Args:
        maps: (4, 256, 1600) uint8 of each model.
        mask_bits: (256, 1600) uint8, bit k = true mask of class k+1.
        n_strips: how many strips there are in all.
    """
    most = max(1, MAX_POINTS * MAX_STRIPS // max(n_strips, MAX_STRIPS))
    values = np.stack([one[:, LATTICE, LATTICE] for one in maps], 1).reshape(N_CLASSES, len(maps), -1)  # (4, m, 25600)
    bits = mask_bits[LATTICE, LATTICE].ravel()
    under = (bits >> np.arange(N_CLASSES, dtype=np.uint8)[:, None] & 1).astype(np.bool_)
    matters = (values.max(1) >= FAINT) | under  # (4, 25600)
    kept, px = [], np.full(N_CLASSES, EVERY**2, np.float64)
    for k in range(N_CLASSES):
        found = np.flatnonzero(matters[k])
        step = max(1, -(-len(found) // most))  # rounded up
        kept.append(found[step // 2 :: step])
        px[k] *= len(found) / len(kept[k]) if len(found) else 1
    return Points(
        np.concatenate([values[k][:, kept[k]] for k in range(N_CLASSES)], 1),
        np.concatenate([under[k, kept[k]] for k in range(N_CLASSES)]),
        np.array([len(places) for places in kept]),
        px,
    )


@dataclass(frozen=True)
class Part:
    """One class in the images of one fold, and nothing of any other.

    Images without a point are only named: nothing can be gained or lost in them.

    Attributes:
        rows: (n_images,) int64, places of the fold's images in the sample: first the n with points.
        values: (m, p) uint8 of the points.
        cell: (p,) int64, 64 * (2 * image + under): the image's place 0..n-1 among those with points, and whether the
            point lies under the true mask.
        px: (n,) float64, pixels that a point of the image stands for.
        true_px: (n,) int32.
        gates: (n_gates, n) float64, the classifiers' probabilities.
    """

    rows: NDArray[np.int64]
    values: NDArray[np.uint8]
    cell: NDArray[np.int64]
    px: NDArray[np.float64]
    true_px: NDArray[np.int32]
    gates: NDArray[np.float64]

    @property
    def n_images(self) -> int:
        """Of the fold."""
        return len(self.rows)

    def show(self, bag: Bag) -> Shown:
        """Estimate what a blend shows.

        The largest-class step is left out: the search sees each class alone, and the exact table is made of its choice.
        """
        code = self.cell + blended(list(self.values), *bag) // BIN
        histogram = np.bincount(code, minlength=2 * len(self.px) * BINS).reshape(-1, 2, BINS)
        points = histogram[..., ::-1].cumsum(2)[..., ::-1]  # of this bin or above
        n_under = points[:, 1, 0]
        area, overlap = ((n[:, FAINT // BIN :] * self.px[:, None]).T for n in (points.sum(1), points[:, 1]))  # (62, n)
        # The mask's own area is estimated too, where it has a point: a perfect map then scores exactly 1.
        true = np.where(n_under > 0, n_under * self.px, self.true_px)
        return Shown(dice(area, true, overlap) - (self.true_px == 0), area.round().astype(np.int32))

    def gate(self, counts: Sequence[int]) -> NDArray[np.float32]:
        """Mean of the classifiers' probabilities, (n,); ones where there is none."""
        if not counts:
            return np.ones(len(self.px), np.float32)
        total = np.zeros(len(self.px))
        for gate, count in zip(self.gates, counts, strict=True):
            total += gate * count
        return (total / sum(counts)).astype(np.float32)


@dataclass(frozen=True)
class Sample:
    """The lattice points of all held-out strips.

    Attributes:
        n_models, n_gates: segmenters and classifiers.
        folds: those that hold out the images.
        parts: class index 0..3 and fold to the points.
        true_px: (n, 4) int32.
        gates: (n_gates, n, 4) float64.
    """

    n_models: int
    n_gates: int
    folds: frozenset[int]
    parts: dict[tuple[int, int], Part]
    true_px: NDArray[np.int32]
    gates: NDArray[np.float64]

    @staticmethod
    def of(
        strips: Sequence[Points], fold: NDArray[np.int16], true_px: NDArray[np.int32], gates: Sequence[NDArray]
    ) -> Sample:
        """Gather n strips.

        Args:
            strips: n of what `reduce_strip` gave.
            fold: (n,) the fold that each was held out in.
            true_px: (n, 4) exact areas of the true masks.
            gates: (n, 4) probabilities of each classifier.
        """
        n = len(strips)
        shapes = [np.shape(fold), np.shape(true_px), *map(np.shape, gates)]
        if not n or shapes != [(n,), *[(n, N_CLASSES)] * (1 + len(gates))]:
            raise UserError(f"sample: {n} strips for fold, true_px and gates of {shapes}, allowed: as many of all")
        models = {len(one.values) for one in strips}
        if len(models) != 1:
            raise UserError(f"sample: strips of {sorted(models)} models, allowed: the same number in all")
        stacked = np.stack(gates).astype(np.float64) if gates else np.zeros((0, n, N_CLASSES))
        folds = frozenset(int(f) for f in np.unique(fold))
        parts = {}
        for f in folds:
            rows = np.flatnonzero(fold == f)
            own = [strips[row] for row in rows.tolist()]
            for k in range(N_CLASSES):
                parts[k, f] = _part(own, k, rows, true_px[rows, k], stacked[:, rows, k])
        return Sample(models.pop(), len(gates), folds, parts, true_px, stacked)


def _part(
    strips: Sequence[Points], k: int, rows: NDArray[np.int64], true_px: NDArray[np.int32], gates: NDArray[np.float64]
) -> Part:
    """Class index k of some strips, whose places in the sample are `rows`."""
    ends = [int(one.n[: k + 1].sum()) for one in strips]
    own = [slice(end - int(one.n[k]), end) for one, end in zip(strips, ends, strict=True)]
    n_points = np.array([one.n[k] for one in strips])
    seen = n_points > 0
    image = np.repeat(np.arange(seen.sum()), n_points[seen])
    under = np.concatenate([one.under[points] for one, points in zip(strips, own, strict=True)])
    return Part(
        rows=np.concatenate([rows[seen], rows[~seen]]),
        values=np.concatenate([one.values[:, points] for one, points in zip(strips, own, strict=True)], 1),
        cell=BINS * (2 * image + under),
        px=np.array([one.px[k] for one in strips])[seen],
        true_px=true_px[seen],
        gates=gates[:, seen],
    )


def correlations(sample: Sample) -> dict[str, dict[str, list[list[float | None]]]]:
    """How alike the models are: the less, the more their mean gains.

    Returns:
        For "segmenters" (m, m) the correlation over the images that have the class of their Dice at the threshold 128;
        for "gates" (n_gates, n_gates) that of their probabilities over all images. By class "1".."4", and over all of
        these together ("all"). None where it does not exist: fewer than two images, or one value throughout.
    """
    dices = [_dice_of_models(sample, k) for k in range(N_CLASSES)]
    probs = list(np.moveaxis(sample.gates, 2, 0))  # 4 of (n_gates, n)
    return {
        name: {key: _correlation(v) for key, v in zip((*map(str, CLASSES), "all"), (*x, np.hstack(x)), strict=True)}
        for name, x in (("segmenters", dices), ("gates", probs))
    }


def _dice_of_models(sample: Sample, k: int) -> NDArray[np.float64]:
    """Dice (m, n) of each model alone in the n images with class index k."""
    parts = [sample.parts[k, fold] for fold in sorted(sample.folds)]
    alone = [Bag("mean", tuple(row)) for row in np.eye(sample.n_models, dtype=int).tolist()]
    at = int(np.flatnonzero(LEVELS == COMMON)[0])
    # In an image with the class, the gain over showing nothing is the Dice.
    return np.hstack([np.stack([part.show(bag).gain[at, part.true_px > 0] for bag in alone]) for part in parts])


def _correlation(values: NDArray[np.float64]) -> list[list[float | None]]:
    """Pearson's correlation of the rows of (m, n), as plain values."""
    apart = values - values.mean(1, keepdims=True) if values.shape[1] else values
    product, squares = apart @ apart.T, (apart**2).sum(1)
    norm = np.sqrt(np.outer(squares, squares))
    return [
        [float(p / q) if q > 0 else None for p, q in zip(*rows, strict=True)]
        for rows in zip(product, norm, strict=True)
    ]
