"""Weights of the classes in the positive term of a cross-entropy, from the number of images that show each class."""

import math
from collections.abc import Callable, Sequence

from steel.competition import N_CLASSES
from steel.errors import UserError
from steel.tables import choose

CAP = 20.0  # beyond it, one strip of a rare class outweighs all others of its batch
BETA = 0.999


def inverse(n_images: int, n_positive: Sequence[int]) -> list[float]:
    """Images without the class per image with it, (n - n_k) / n_k: both then weigh the same in total.

    Kept within 1/20..20; 1 for a class that no image shows.
    """
    return [min(max((n_images - n) / n, 1 / CAP), CAP) if n else 1.0 for n in n_positive]


def effective(_n_images: int, n_positive: Sequence[int]) -> list[float]:
    """One over the effective number of images of the class, (1 - beta ** n_k) / (1 - beta), scaled to mean 1.

    Milder than `inverse`, as more images of a class add less and less: beta .999 counts at most 1,000. A class that no
    image shows has weight 1, and no part in the mean. Source: Cui et al., Class-Balanced Loss, 2019.
    """
    rarity = [(1 - BETA) / (1 - BETA**n) if n else 0.0 for n in n_positive]
    mean = sum(rarity) / max(1, sum(n > 0 for n in n_positive))
    return [value / mean if value else 1.0 for value in rarity]


WEIGHTS: dict[str, Callable[[int, Sequence[int]], list[float]]] = {"inverse": inverse, "effective": effective}


def positive_weights(name: str | Sequence[float], n_images: int, n_positive: Sequence[int]) -> list[float]:
    """The weights of the four classes: by a name of the table WEIGHTS, or four numbers > 0, taken as they are.

    Args:
        name: the name, or the numbers.
        n_images: images trained on.
        n_positive: of these, how many show each class, (4,).
    """
    found = choose(WEIGHTS, name, "pos_weight")(n_images, n_positive) if isinstance(name, str) else name
    if len(found) != N_CLASSES or not all(0 < value < math.inf for value in found):
        raise UserError(
            f"pos_weight: {list(found)} is not allowed; allowed: {', '.join(WEIGHTS)}, or {N_CLASSES} numbers > 0"
        )
    return [float(value) for value in found]
