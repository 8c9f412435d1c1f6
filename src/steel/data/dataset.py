"""Training samples: which strip, which crop, which augmentation; all a pure function of (seed, epoch, position)."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import Dataset

from steel.competition import N_CLASSES, WIDTH
from steel.data.augment import augmenter
from steel.data.cache import Strips
from steel.data.paste import paste


@dataclass(frozen=True)
class Sampling:
    """How the samples of one phase are drawn.

    Attributes:
        rows: training rows of the cache.
        width: width of a crop, px.
        n_samples: samples per epoch.
        defect_share: share of the samples drawn around a defect.
        augment: name of the recipe, or recipes by class.
        seed: seed of the training.
        class_balance: 1 draws each class as often as the others, 0 as often as strips show it.
        paste: share of the samples that get a defect of another strip.
    """

    rows: NDArray[np.int64]
    width: int
    n_samples: int
    defect_share: float
    augment: str | Mapping[str, str]
    seed: int
    class_balance: float = 1.0
    paste: float = 0.0


class Crops(Dataset[tuple[NDArray[np.uint8], NDArray[np.uint8]]]):
    """The samples of one epoch: (image, mask bits), each (256, width) uint8."""

    def __init__(self, strips: Strips, sampling: Sampling, epoch: int) -> None:
        self.strips = strips
        self.sampling = sampling
        self.augment = augmenter(sampling.augment)
        rng = np.random.default_rng([sampling.seed, epoch])
        self.rows, self.classes = _draw_rows(strips.areas[sampling.rows] > 0, sampling, rng)
        self.seeds = rng.integers(2**31, size=sampling.n_samples)
        self.sources = self._draw_sources(rng) if sampling.paste else np.full(sampling.n_samples, -1)

    def __len__(self) -> int:
        return self.sampling.n_samples

    def __getitem__(self, position: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        row, seed = self.rows[position], int(self.seeds[position])
        assert self.strips.masks is not None
        left = self.left(position, self.strips.masks[row])
        window = slice(left, left + self.sampling.width)
        image, mask = np.array(self.strips.images[row, :, window]), np.array(self.strips.masks[row, :, window])
        source = self.sources[position]
        if source >= 0:
            image, mask = paste(image, mask, self.strips.images[source], self.strips.masks[source], seed)
        return self.augment(image, mask, seed)

    def left(self, position: int, bits: NDArray[np.uint8]) -> int:
        """Left edge of a sample, px; `bits`: of its strip's mask, (H, WIDTH), or those of each column, (1, WIDTH)."""
        return _left_edge(bits, int(self.classes[position]), self.sampling.width, int(self.seeds[position]))

    def _draw_sources(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """Row whose defect each sample gets; -1: none."""
        always = replace(self.sampling, defect_share=1.0)
        rows, classes = _draw_rows(self.strips.areas[self.sampling.rows] > 0, always, rng)
        return np.where((classes >= 0) & (rng.random(len(rows)) < self.sampling.paste), rows, -1)


def _draw_rows(has: NDArray[np.bool_], sampling: Sampling, rng: np.random.Generator) -> tuple[NDArray, NDArray]:
    """Row and wanted class (-1: none) of each sample of an epoch; `has` (n, 4) tells which classes a strip shows.

    Samples without a wanted class walk through fresh permutations of all rows, so that none is met twice more often
    than another is met at all.
    """
    n = sampling.n_samples
    wanted = np.full(n, -1)
    present = np.flatnonzero(has.any(0))
    if len(present):
        share = None  # of each class
        if sampling.class_balance < 1:
            share = has.sum(0)[present] ** (1 - sampling.class_balance)
            share = share / share.sum()
        wanted = np.where(rng.random(n) < sampling.defect_share, rng.choice(present, n, p=share), -1)
    walk = np.concatenate([rng.permutation(len(has)) for _ in range(-(-n // len(has)))])
    position = walk[np.cumsum(wanted < 0) - 1]  # samples with a wanted class do not advance it
    for k in present:
        chosen = np.flatnonzero(wanted == k)
        position[chosen] = rng.choice(np.flatnonzero(has[:, k]), len(chosen))
    return sampling.rows[position], wanted


def _left_edge(bits: NDArray[np.uint8], wanted: int, width: int, seed: int) -> int:
    """Left edge of a crop of a strip, px: anywhere, or so that a random column of the wanted class lies within it."""
    if width == WIDTH:
        return 0
    rng = np.random.default_rng([seed, 1])  # the augmenter draws from `seed`: not the same numbers here
    if wanted < 0:
        return int(rng.integers(WIDTH - width + 1))
    columns = np.flatnonzero(np.bitwise_or.reduce(bits, axis=0) & (1 << wanted))
    left = int(rng.choice(columns)) - int(rng.integers(width))
    return min(max(left, 0), WIDTH - width)


def unpack(bits: Tensor, downscale: int = 1) -> Tensor:
    """Mask bits (B, H, W) uint8 -> (B, 4, H, W) float of 0 and 1, on the device of the bits.

    With a `downscale` the share of each cell that the class covers, (B, 4, H / downscale, W / downscale).
    """
    shifts = torch.arange(N_CLASSES, device=bits.device, dtype=torch.uint8).view(1, -1, 1, 1)
    masks = ((bits.unsqueeze(1) >> shifts) & 1).float()
    return F.avg_pool2d(masks, downscale) if downscale > 1 else masks


def presence(bits: Tensor) -> Tensor:
    """Mask bits (B, H, W) uint8 -> (B, 4) float: 1 where the class is anywhere in the image."""
    return unpack(bits).amax((2, 3))
