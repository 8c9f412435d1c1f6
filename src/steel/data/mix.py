"""Mixtures of two training images for classifiers, on batches that lie on the device already.

Random numbers come from a numpy Generator that the caller seeds by (training, epoch): a resumed run mixes alike.
"""

import numpy as np
import torch
from torch import Tensor

from steel.errors import UserError


def mixup(image: Tensor, target: Tensor, rng: np.random.Generator, alpha: float = 0.4) -> tuple[Tensor, Tensor]:
    """Each image and target mixed with another's of the batch: share * own + (1 - share) * other.

    `image` is (B, 1, H, W) uint8 (rounded) or float, `target` (B, 4) float in [0, 1]; both come back in shape and
    dtype, the target soft. One share per batch, from Beta(alpha, alpha), alpha > 0.
    Source: Zhang et al. 2018, mixup: Beyond Empirical Risk Minimization.
    """
    share, other = _draw(len(image), rng, alpha, "mixup")
    other = other.to(image.device)
    own = image if image.is_floating_point() else image.float()
    mixed = torch.lerp(own[other], own, share)
    return (mixed if image.is_floating_point() else mixed.round_().to(image.dtype)), _soft(target, other, share)


def cutmix(image: Tensor, target: Tensor, rng: np.random.Generator, alpha: float = 1.0) -> tuple[Tensor, Tensor]:
    """A box of another image of the batch in each image; the target mixed by the box's share of the area.

    Shapes and dtypes as in `mixup`. One box per batch, of the image's own form, centred anywhere and clipped at the
    rim; its share of the area before that is from Beta(alpha, alpha), alpha > 0. The target follows the area alone: it
    does not know whether the box holds the defect, or hides one.
    Source: Yun et al. 2019, CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features.
    """
    height, width = image.shape[-2:]
    share, other = _draw(len(image), rng, alpha, "cutmix")
    other = other.to(image.device)
    rows = _span(height, (1 - share) ** 0.5, rng)
    columns = _span(width, (1 - share) ** 0.5, rng)
    mixed = image.clone()
    mixed[..., rows, columns] = image[other][..., rows, columns]
    box_px = (rows.stop - rows.start) * (columns.stop - columns.start)
    return mixed, _soft(target, other, 1 - box_px / (height * width))


MIXES = {"mixup": mixup, "cutmix": cutmix}


def _draw(n: int, rng: np.random.Generator, alpha: float, where: str) -> tuple[float, Tensor]:
    """The share that stays the image's own, and for each of the n images the other one, (n,) int64."""
    if not alpha > 0:
        raise UserError(f"{where}: alpha is {alpha}; allowed: > 0")
    return float(rng.beta(alpha, alpha)), torch.from_numpy(rng.permutation(n))


def _span(size: int, share: float, rng: np.random.Generator) -> slice:
    """A stretch of about share * size px around a random pixel, clipped to 0..size."""
    centre, half = int(rng.integers(size)), int(size * share) // 2
    return slice(max(centre - half, 0), min(centre + half, size))


def _soft(target: Tensor, other: Tensor, share: float) -> Tensor:
    return torch.lerp(target[other], target, share)
