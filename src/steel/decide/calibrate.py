"""What the values of one class's maps and its gate have meant: a calibration, learned on held-out images."""

import numpy as np
from numpy.typing import NDArray

from steel.decide.evidence import N_LEVELS, Evidence
from steel.decide.exact import log
from steel.decide.expected import ONE, Calibration, gate_logit, seen_px

ENOUGH = 5  # images with a mask, and as many without: a logistic curve from fewer is a guess


def fit(evidence: Evidence, true_px: NDArray, overlap_px: NDArray) -> Calibration | None:
    """Learn the calibration of one class from n held-out images.

    Args:
        evidence: of the n images.
        true_px: (n,) area of the true masks.
        overlap_px: (n, 256); [i, t] = pixels of value >= t under the true mask, as in `Table`; t = 0 is not used.

    Returns:
        The calibration; None where fewer than 5 images have a mask, fewer than 5 have none, or the maps of those with
        one are empty.
    """
    has = true_px > 0
    if min(has.sum(), (~has).sum()) < ENOUGH or not evidence.area_px[has, 1].any():
        return None
    pixel, tail = _fit_pixels(evidence.area_px[has], evidence.tail_px[has], true_px[has], overlap_px[has])
    bias, gate, area = _fit_defect(gate_logit(evidence.gate), log(1 + seen_px(pixel, tail, evidence)), has)
    return Calibration(tuple(pixel.tolist()), tail, bias, gate, area)


def _rounded(value: float) -> float:
    """To six digits: the last ones of what a solver gives depend on the processor."""
    return float(f"{value:.6g}")


def _fit_pixels(
    area_px: NDArray[np.int32], tail_px: NDArray[np.float64], true_px: NDArray, overlap_px: NDArray
) -> tuple[NDArray[np.int64], float]:
    """`Calibration.pixel`, (256,), and `Calibration.tail`, from images with a mask alone.

    The probability of a value is its hits by its pixels, over all images, made monotone by isotonic regression; values
    never seen lie on the line between their neighbours.

    The hits of value 0 are the mask pixels that the map has lost. Of these, the tail takes tail * the sum of tail_px
    (tail_px < 1/510 of each pixel): as many as there are, but no lost pixel may be likelier than one of value 1, so
    that tail <= 510 * p(1). What the tail does not take spreads evenly over the pixels of value 0.
    """
    from sklearn.isotonic import IsotonicRegression  # takes a second to import, and rules are applied without it

    area, hits = area_px.sum(0, dtype=np.int64), overlap_px.sum(0, dtype=np.int64)
    hits[0] = true_px.sum(dtype=np.int64)
    count, hits = (x - np.append(x[1:], 0) for x in (area, hits))  # of "= t"
    seen = np.flatnonzero(count)
    isotonic = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip")
    isotonic.fit(seen, hits[seen] / count[seen], sample_weight=count[seen])
    p = isotonic.predict(np.arange(N_LEVELS))
    lost, in_tail = p[0] * count[0], tail_px.sum()
    tail = _rounded(min(lost / in_tail, 510 * p[1])) if in_tail > 0 else 0.0
    p[0] = max(lost - tail * in_tail, 0) / max(count[0], 1)
    return np.rint(ONE * p).astype(np.int64), tail


def _fit_defect(
    gate: NDArray[np.float64], area: NDArray[np.float64], has: NDArray[np.bool_]
) -> tuple[float, float, float]:
    """Bias and weights of a logistic regression of "has a mask" (n,) on two features (n,).

    The features are standardised and their weights drawn to 0 by half their squares (L2, C = 1), worth about one
    image's evidence: ten masks cannot make the curve steep, and a gate that is always the same gets no weight. No
    weight is negative, or beyond the areas that were seen a larger one would speak against a defect: a feature that
    would get one is left out.
    """
    from sklearn.linear_model import LogisticRegression

    x = np.column_stack([gate, area])
    middle, scale = x.mean(0), x.std(0)
    scale[scale < 1e-9] = 1.0  # all the same but for rounding
    columns, weight = [0, 1], np.zeros(2)
    while columns:
        model = LogisticRegression(C=1.0, solver="newton-cholesky", tol=1e-9)
        found = model.fit(((x - middle) / scale)[:, columns], has).coef_[0]
        if (found >= 0).all():
            weight[columns] = found / scale[columns]
            break
        columns = [column for column, one in zip(columns, found, strict=True) if one > 0]
    bias = model.intercept_[0] - weight @ middle if columns else np.log(has.sum() / (~has).sum())
    return _rounded(bias), _rounded(weight[0]), _rounded(weight[1])
