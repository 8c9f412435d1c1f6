"""Metrics of the study that the kit grew out of: beside the competition's (`metrics`), and never called Dice alone.

The study (Keras) trained and judged on strips with a defect only; so does whoever compares with its figures. Faults of
its metric code are known and not repeated: precision and recall were swapped; the F1 averaged over one example instead
of all; masks lay one pixel off, since the start of an RLE, which counts from 1, was taken to count from 0.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.errors import UserError
from steel.metrics import sum_levels

BATCH = 16  # strips, of the study
SMOOTH = 1.0  # added above and below the line of its soft Dice
CUT = 0.5  # probability from which it counts a pixel or a class as predicted
CUT_LEVEL = 128  # the first level of a uint8 map (255 = 1.0) at or above the cut
LEVEL_MAX = 255

# All that the metrics of a segmenter need to know of one strip, per class and exact: soft sums in units of 1/255.
SUMS = np.dtype(
    [(name, "<i8", N_CLASSES) for name in ("soft_area", "soft_overlap", "true_px", "pred_px", "overlap_px")]
)


@dataclass(frozen=True)
class StudySegmentation:
    """Segmenters, each in [0, 1]; NaN where nothing can be said.

    Attributes:
        soft_dice: batch-flattened soft Dice, smooth 1: the mean over batches of 16 strips (the last may be smaller) of
            (2 sum(p t) + 1) / (sum(p) + sum(t) + 1), all classes and pixels of a batch as one long vector.
        iou: mean intersection over union: pixels of the maps cut at .5, totals over all strips for each class, and the
            mean over those classes that have a true or a predicted pixel on any strip.
        precision, recall: of pixels, maps cut at .5, totals over all classes and strips; NaN for 0 / 0.
    """

    soft_dice: float
    iou: float
    precision: float
    recall: float

    def as_dict(self) -> dict[str, float | None]:
        """The fields for JSON, which knows no NaN: None instead."""
        return _plain(asdict(self))


@dataclass(frozen=True)
class StudyClassification:
    """Classifiers, example by example: a strip shows the classes Y, Z are predicted at .5; means over ALL strips.

    A strip where Y and Z are both empty counts 1, one where either is 0. NaN without any strip. Source: Godbole and
    Sarawagi, Discriminative Methods for Multi-labeled Classification, 2004.

    Attributes:
        accuracy: |Y and Z| / |Y or Z|.
        precision: |Y and Z| / |Z|.
        recall: |Y and Z| / |Y|.
        f1: 2 |Y and Z| / (|Y| + |Z|).
    """

    accuracy: float
    precision: float
    recall: float
    f1: float

    def as_dict(self) -> dict[str, float | None]:
        """The fields for JSON, which knows no NaN: None instead."""
        return _plain(asdict(self))


def strip_sums(
    each: Sequence[NDArray[np.uint8]], bits: NDArray[np.uint8], levels: NDArray[np.float64] | None = None
) -> NDArray:
    """What `segmentation` needs of one strip: for each of m models a record of SUMS, (m,).

    Args:
        each: m of (4, H, W) uint8, the maps of each model, 255 = probability 1.
        bits: (H, W) uint8, bit k = true mask of class k+1.
        levels: (m, 4) sums over the pixels of the maps, if they are known.
    """
    for maps in each:
        if maps.dtype != np.uint8 or maps.shape != (N_CLASSES, *bits.shape):
            raise UserError(
                f"study metrics: map {maps.dtype} {maps.shape} for a mask {bits.shape}, "
                f"allowed: uint8 {(N_CLASSES, *bits.shape)}"
            )
    masked = np.flatnonzero(bits != 0)  # few pixels: truth and overlap need no other
    true = (bits.ravel()[masked] >> np.arange(N_CLASSES, dtype=np.uint8)[:, None] & 1).astype(bool)  # (4, n_masked)
    sums = np.zeros(len(each), SUMS)
    sums["true_px"] = true.sum(1)
    for record, maps, soft_area in zip(sums, each, map(sum_levels, each) if levels is None else levels, strict=True):
        under = np.where(true, maps.reshape(N_CLASSES, -1)[:, masked], np.uint8(0))
        record["soft_area"] = soft_area
        record["soft_overlap"] = under.sum(1, dtype=np.uint32)
        record["pred_px"] = [cv2.countNonZero((one >= CUT_LEVEL).view(np.uint8)) for one in maps]
        record["overlap_px"] = (under >= CUT_LEVEL).sum(1)
    return sums


def segmentation(sums: NDArray) -> StudySegmentation:
    """The metrics of a segmenter from the records (n,) of its strips, in the order in which they form batches."""
    if sums.dtype != SUMS or sums.ndim != 1:
        raise UserError(f"study metrics: sums {sums.dtype} {sums.shape}, allowed: records (n,) of strip_sums")
    starts = np.arange(0, len(sums), BATCH)
    area, overlap, true_px = (
        np.add.reduceat(sums[name].sum(1), starts) if len(starts) else np.zeros(0)
        for name in ("soft_area", "soft_overlap", "true_px")
    )  # (n_batches,)
    soft_dice = (2 * overlap / LEVEL_MAX + SMOOTH) / (area / LEVEL_MAX + true_px + SMOOTH)
    true, pred, both = (sums[name].sum(0) for name in ("true_px", "pred_px", "overlap_px"))  # (4,)
    either = true + pred - both
    return StudySegmentation(
        soft_dice=_mean(soft_dice),
        iou=_mean(both[either > 0] / either[either > 0]),
        precision=_share(int(both.sum()), int(pred.sum())),
        recall=_share(int(both.sum()), int(true.sum())),
    )


def classification(prob: NDArray, present: NDArray[np.bool_]) -> StudyClassification:
    """The metrics of a classifier from its probabilities (n, 4) and the classes that the strips show (n, 4) bool."""
    if prob.shape != present.shape or prob.shape[1:] != (N_CLASSES,) or present.dtype != bool:
        raise UserError(
            f"study metrics: probabilities {prob.shape} for classes {present.dtype} {present.shape}, "
            f"allowed: (n, {N_CLASSES}) and bool of that shape"
        )
    predicted = prob >= CUT
    n_true, n_pred = present.sum(1), predicted.sum(1)  # (n,)
    n_both = (present & predicted).sum(1)

    def mean_of(below: NDArray) -> float:
        """Mean of n_both / below; where that is 0 / 0, Y and Z are both empty or one of them is."""
        return _mean(np.where(n_true + n_pred == 0, 1.0, n_both / np.maximum(below, 1)))

    return StudyClassification(
        accuracy=mean_of(n_true + n_pred - n_both),
        precision=mean_of(n_pred),
        recall=mean_of(n_true),
        f1=mean_of((n_true + n_pred) / 2),
    )


def _mean(values: NDArray) -> float:
    return float(values.mean()) if values.size else math.nan


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan


def _plain(values: dict[str, float]) -> dict[str, float | None]:
    return {name: None if math.isnan(value) else value for name, value in values.items()}
