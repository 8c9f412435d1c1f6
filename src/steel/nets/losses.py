"""Losses by name, mixed by weight. All take logits and targets of equal shape, float: (B, 4, H, W) or (B, 4).

Targets lie in [0, 1]: 0 and 1, or with `downscale` the share of each cell that the class covers. An overlap is the sum
of prob * target, a false positive prob * (1 - target): with shares that is just what the full-size mask would give. A
classifier's image is one pixel. `smooth` is in pixels of the map. None wraps smp, whose Dice, Jaccard and Tversky give
a class absent from the batch no gradient, and whose Lovasz ranks the pixels of all classes of an image together.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from steel.errors import UserError
from steel.nets.lovasz import lovasz_hinge, lovasz_symmetric
from steel.tables import choose

Loss = Callable[[Tensor, Tensor], Tensor]

PER_CLASS, PER_IMAGE, OVER_ALL = (0, 2), (2,), (0, 1, 2)  # axes of (B, 4, pixels) that an area is summed over


def bce(logits: Tensor, target: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """Binary cross-entropy, mean over everything. Images without a class count like any other pixels.

    `pos_weight`, (4,) or (4, 1, 1), multiplies the positive term -target * log(prob) of each class.
    """
    return F.binary_cross_entropy_with_logits(logits, target, pos_weight=pos_weight)


def soft_bce(logits: Tensor, target: Tensor, pos_weight: Tensor | None = None, smoothing: float = 0.05) -> Tensor:
    """Binary cross-entropy with the target moved towards .5 by the share `smoothing`: 0 becomes .025, 1 becomes .975.

    Source: label smoothing of Szegedy et al., Rethinking the Inception Architecture, 2016. Its least value is .117, not
    0. Images without a class count like any other; their pixels are pushed to .025, and back up from below it.
    """
    return bce(logits, target * (1 - smoothing) + smoothing / 2, pos_weight)


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0, pos_weight: Tensor | None = None) -> Tensor:
    """Focal loss: cross-entropy times (1 - probability of the truth) ** gamma, mean over everything.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017. Easy empty pixels weigh almost nothing: an image
    without a class pushes down only where the class is predicted. `pos_weight` multiplies as in `bce`; which pixels
    are easy is judged without it.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    focus = (1 - (-entropy).exp()) ** gamma
    if pos_weight is not None:
        entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none", pos_weight=pos_weight)
    return (focus * entropy).mean()


def dice(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus soft Dice of each class over the whole batch, mean over the classes.

    Dice is (2 overlap + smooth) / (predicted area + true area + smooth). Source: Milletari et al., V-Net, 2016. Images
    without a class add their predicted area to that of the batch. A class absent from the whole batch still has a
    gradient: its area is pushed towards zero, gently, as 1 - smooth / (area + smooth).
    """
    return _dice(logits, target, PER_CLASS, smooth)


def dice_image(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus soft Dice of each (image, class), mean over all of them: the competition's metric made smooth.

    An image without the class costs 1 - smooth / (predicted area + smooth), which is 0 only as the area goes to 0. Its
    pull fades as smooth / area ** 2, so mix it with a cross-entropy, which pulls on large false masks too.
    """
    return _dice(logits, target, PER_IMAGE, smooth)


def batch_dice_flat(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus soft Dice of the batch as one long vector, all images and classes together: the study's loss.

    Rare classes weigh by their pixels only. Images without a class add their predicted area to the batch's; a batch
    without any defect costs 1 - smooth / (area + smooth).
    """
    return _dice(logits, target, OVER_ALL, smooth)


def jaccard(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus soft Jaccard (intersection over union) of each class over the batch, mean over the classes.

    Jaccard is (overlap + smooth) / (predicted area + true area - overlap + smooth). Source: Rahman and Wang, Optimizing
    Intersection-Over-Union, 2016. Images without a class, and classes absent from the batch, fare as in `dice`.
    """
    overlap, pred, true = _areas(logits, target, PER_CLASS)
    return (1 - (overlap + smooth) / (pred + true - overlap + smooth)).mean()


def tversky(logits: Tensor, target: Tensor, alpha: float = 0.3, beta: float = 0.7, smooth: float = 1.0) -> Tensor:
    """One minus the Tversky index of each class over the batch, mean over the classes.

    The index is (overlap + smooth) / (overlap + alpha * false positives + beta * false negatives + smooth): with these
    weights a missed pixel costs more than a false one. Source: Salehi et al., Tversky loss function, 2017. A class
    absent from the batch costs 1 - smooth / (alpha * area + smooth); its false positives are thus pushed down less.
    """
    return (1 - _tversky(logits, target, alpha, beta, smooth)).mean()


def focal_tversky(logits: Tensor, target: Tensor, gamma: float = 4 / 3, smooth: float = 1.0) -> Tensor:
    """The Tversky loss of each class to the power 1 / gamma, mean over the classes; alpha .3, beta .7.

    Source: Abraham and Khan, A Novel Focal Tversky Loss Function, 2019, whose exponent is 1 / gamma: classes that are
    nearly right keep a larger gradient. Images without a class fare as in `tversky`.
    """
    loss = 1 - _tversky(logits, target, 0.3, 0.7, smooth)
    return (loss.clamp_min(1e-6) ** (1 / gamma)).mean()  # at 0 the slope of the power is infinite


def bce_dice(logits: Tensor, target: Tensor, pos_weight: Tensor | None = None) -> Tensor:
    """`bce` + `dice`, a short cut for {bce: 1, dice: 1}; images without a class fare as in the two."""
    return bce(logits, target, pos_weight) + dice(logits, target)


# A loss that uses per-class weights has a parameter `pos_weight`.
LOSSES: dict[str, Loss] = {
    "bce": bce,
    "soft_bce": soft_bce,
    "focal": focal,
    "dice": dice,
    "dice_image": dice_image,
    "jaccard": jaccard,
    "tversky": tversky,
    "focal_tversky": focal_tversky,
    "lovasz_hinge": lovasz_hinge,
    "lovasz_symmetric": lovasz_symmetric,
    "bce_dice": bce_dice,
    "batch_dice_flat": batch_dice_flat,
}


def mixed(weights: Mapping[str, float], pos_weight: Sequence[float] | None = None) -> Loss:
    """The weighted sum of the named losses.

    `pos_weight` (4 numbers > 0, see `steel.data.balance`) goes to those of them that use it. An unknown name, or a
    `pos_weight` that none of them uses, is a UserError.
    """
    parts: list[tuple[Callable[..., Tensor], float, bool]] = []
    for name, weight in weights.items():
        part = choose(LOSSES, name, "loss")
        parts.append((part, weight, pos_weight is not None and _uses_pos_weight(part)))
    if pos_weight is not None and not any(uses for _, _, uses in parts):
        able = ", ".join(name for name, part in LOSSES.items() if _uses_pos_weight(part))
        raise UserError(f"pos_weight: not used by the loss {', '.join(weights)}; allowed with at least one of: {able}")

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        total = logits.new_zeros(())
        extra: dict[str, Any] = {}
        if pos_weight is not None:
            extra["pos_weight"] = logits.new_tensor(pos_weight).view(-1, *[1] * (logits.ndim - 2))  # (4, 1, 1) or (4,)
        for part, weight, uses in parts:
            total = total + weight * part(logits, target, **(extra if uses else {}))
        return total

    return loss


def _uses_pos_weight(loss: Callable[..., Tensor]) -> bool:
    try:
        return "pos_weight" in inspect.signature(loss).parameters
    except (ValueError, TypeError):  # some functions written in C tell no signature
        return False


def _areas(logits: Tensor, target: Tensor, axes: tuple[int, ...]) -> tuple[Tensor, Tensor, Tensor]:
    """Overlap, predicted and true area (soft, px), summed over axes of (B, 4, pixels)."""
    prob = logits.sigmoid().reshape(*logits.shape[:2], -1)  # (B, 4, pixels)
    truth = target.reshape(prob.shape)
    return (prob * truth).sum(axes), prob.sum(axes), truth.sum(axes)


def _dice(logits: Tensor, target: Tensor, axes: tuple[int, ...], smooth: float) -> Tensor:
    overlap, pred, true = _areas(logits, target, axes)
    return (1 - (2 * overlap + smooth) / (pred + true + smooth)).mean()


def _tversky(logits: Tensor, target: Tensor, alpha: float, beta: float, smooth: float) -> Tensor:
    """The index of each class over the batch, (4,)."""
    overlap, pred, true = _areas(logits, target, PER_CLASS)
    return (overlap + smooth) / (overlap + alpha * (pred - overlap) + beta * (true - overlap) + smooth)
