"""The competition's Dice, computed from areas and overlaps: exact in integers, the same in every stage."""

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES


def dice(pred_px: NDArray, true_px: NDArray, overlap_px: NDArray) -> NDArray[np.float64]:
    """Dice of masks given by their pixel counts (any equal shapes): 2 overlap / (pred + true), 1 where both are empty.

    Source: the competition's evaluation page.
    """
    total = np.add(pred_px, true_px, dtype=np.float64)
    return np.where(total > 0, 2.0 * overlap_px / np.maximum(total, 1), 1.0)


def sum_levels(maps: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Sums over the pixels of maps (4, H, W), (4,): exact, in a tenth of numpy's time."""
    return np.array([cv2.sumElems(plane)[0] for plane in maps])


@dataclass(frozen=True)
class Score:
    """What is always reported together, since an all-empty submission alone scores .86.

    Attributes:
        n_images: images scored.
        mean: the competition's score: mean Dice over (image, class), in [0, 1].
        positive: mean Dice over the (image, class) pairs that have a true mask; NaN without any.
        class_mean, class_positive: the same for each of the 4 classes.
        n_positive: true masks per class.
        fp: pairs without a true mask where one is predicted, per class.
        fn: pairs with a true mask where none is predicted, per class.
    """

    n_images: int
    mean: float
    positive: float
    class_mean: tuple[float, ...]
    class_positive: tuple[float, ...]
    n_positive: tuple[int, ...]
    fp: tuple[int, ...]
    fn: tuple[int, ...]

    def as_dict(self) -> dict:
        """The fields as plain Python values for JSON, which knows no NaN: None instead."""
        return {key: _plain(value) for key, value in asdict(self).items()}


def score(pred_px: NDArray, true_px: NDArray, overlap_px: NDArray) -> Score:
    """Score predictions of n images given by pixel counts, each (n, 4) of integers."""
    values = dice(pred_px, true_px, overlap_px)  # (n, 4)
    positive = true_px > 0
    return Score(
        n_images=len(values),
        mean=_mean(values),
        positive=_mean(values[positive]),
        class_mean=tuple(_mean(values[:, k]) for k in range(N_CLASSES)),
        class_positive=tuple(_mean(values[positive[:, k], k]) for k in range(N_CLASSES)),
        n_positive=tuple(int(n) for n in positive.sum(0)),
        fp=tuple(int(n) for n in ((pred_px > 0) & ~positive).sum(0)),
        fn=tuple(int(n) for n in ((pred_px == 0) & positive).sum(0)),
    )


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    return None if isinstance(value, float) and np.isnan(value) else value


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
