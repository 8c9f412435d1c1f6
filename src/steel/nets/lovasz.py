"""The Lovasz hinge: a convex stand-in for the Jaccard loss of thresholded masks, one number per (image, class).

Source: Berman et al., The Lovasz-Softmax Loss, 2018. The pixels are ranked by their hinge error 1 - logit * sign, sign
being +1 in the mask and -1 outside, and each positive error is weighed by how much the Jaccard loss 1 - intersection /
union grows when that pixel joins the wrong ones before it. Masks must be hard: a target counts as 1 from .5 on. A pixel
that is right by a logit of 1 or more costs nothing.
"""

import torch
from torch import Tensor


def lovasz_hinge(logits: Tensor, target: Tensor) -> Tensor:
    """Lovasz hinge of each (image, class), mean over images and classes; (B, 4, H, W) or (B, 4), target in [0, 1].

    An image without the class costs max(0, 1 + its largest logit), as one false pixel takes its Jaccard from 1 to 0:
    only that pixel has a gradient.
    """
    errors, true = _hinge(logits, target)
    return (errors.relu() * _growth(_ranking(errors), true)).sum(1).mean()


def lovasz_symmetric(logits: Tensor, target: Tensor) -> Tensor:
    """Mean of the Lovasz hinge of the masks and of their complements: of (logits, target) and (-logits, 1 - target).

    The complement's part, the Jaccard loss of the background, gives every false pixel of an image without the class a
    gradient. Source: solutions of the TGS Salt Identification Challenge on Kaggle, 2018.
    """
    errors, true = _hinge(logits, target)  # the same for the complement: both signs turn
    order = _ranking(errors)
    return (errors.relu() * (_growth(order, true) + _growth(order, ~true)) / 2).sum(1).mean()


def _hinge(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Errors (N, P) float and truth (N, P) bool, a row of P pixels for each of the N = B * 4 (image, class)."""
    n = logits.shape[0] * logits.shape[1]
    true = target.reshape(n, -1) >= 0.5
    rows = logits.reshape(n, -1)
    return 1 - torch.where(true, rows, -rows), true


@torch.no_grad()
def _ranking(errors: Tensor) -> Tensor:
    """Positions (N, P) int64 of the pixels of each row, the largest error first; equal errors in a fixed order."""
    return errors.argsort(dim=1, descending=True, stable=True)


@torch.no_grad()
def _growth(order: Tensor, true: Tensor) -> Tensor:
    """By how much each pixel in its turn makes the Jaccard loss grow: (N, P) float >= 0, a row sums to 1.

    A true pixel that turns wrong leaves the intersection: 1 / union. A false one joins the union: intersection /
    (union * (union - 1)). Differences of neighbouring Jaccard losses would lose all digits in float32 at 400,000 px.
    """
    ranked = true.gather(1, order)
    area = true.sum(1, keepdim=True, dtype=torch.int32)
    overlap = area - ranked.cumsum(1, dtype=torch.int32)  # exact: integers
    union = (area + (~ranked).cumsum(1, dtype=torch.int32)).float()
    growth = torch.where(ranked, 1 / union, overlap / (union * (union - 1).clamp_min(1)))
    growth[:, :1] += area == 0  # without a mask the first false pixel takes the loss from 0 to 1
    return torch.empty_like(growth).scatter_(1, order, growth)  # back in the order of the pixels
