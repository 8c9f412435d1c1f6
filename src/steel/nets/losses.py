"""Losses by name, mixed by weight. All take logits and targets of equal shape, float: (B, 4, H, W) or (B, 4)."""

from collections.abc import Callable, Mapping

from torch import Tensor
from torch.nn import functional as F

from steel.tables import choose

Loss = Callable[[Tensor, Tensor], Tensor]


def bce(logits: Tensor, target: Tensor) -> Tensor:
    """Binary cross-entropy, mean over everything. Images without a class count like any other pixels."""
    return F.binary_cross_entropy_with_logits(logits, target)


def focal(logits: Tensor, target: Tensor, gamma: float = 2.0) -> Tensor:
    """Focal loss: cross-entropy times (1 - probability of the truth) ** gamma, mean over everything.

    Source: Lin et al., Focal Loss for Dense Object Detection, 2017. Easy empty pixels weigh almost nothing.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return ((1 - (-entropy).exp()) ** gamma * entropy).mean()


def dice(logits: Tensor, target: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus soft Dice of each class over the whole batch, mean over the classes; `smooth` in pixels.

    A class absent from the batch still has a gradient: its predicted area is pushed towards zero, gently, as
    1 - smooth / (area + smooth). (smp's DiceLoss gives such classes none.)
    """
    axes = [axis for axis in range(logits.ndim) if axis != 1]
    prob = logits.sigmoid()
    overlap = (prob * target).sum(axes)  # (4,)
    total = prob.sum(axes) + target.sum(axes)
    return (1 - (2 * overlap + smooth) / (total + smooth)).mean()


LOSSES: dict[str, Loss] = {"bce": bce, "focal": focal, "dice": dice}


def mixed(weights: Mapping[str, float]) -> Loss:
    """The weighted sum of the named losses; an unknown name is a UserError."""
    parts = [(choose(LOSSES, name, "loss"), weight) for name, weight in weights.items()]

    def loss(logits: Tensor, target: Tensor) -> Tensor:
        return sum((weight * part(logits, target) for part, weight in parts), logits.new_zeros(()))

    return loss
