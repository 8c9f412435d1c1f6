"""The score's uncertainty: what the same predictions would score on other strips like these, by resampling them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steel.competition import N_CLASSES, PUBLIC_SHARES
from steel.errors import UserError

N_RESAMPLES = 2000
LEVEL = 0.95
COUNTS = 1 << 20  # held at a time: 8 MB


@dataclass(frozen=True)
class Interval:
    """A number and its bounds; NaN where the number does not exist, as the positive-only Dice without a true mask."""

    value: float
    low: float
    high: float

    def as_json(self) -> dict[str, float | None]:
        """The three numbers; None for NaN, which JSON does not know."""
        return {key: None if np.isnan(number) else float(number) for key, number in vars(self).items()}


@dataclass(frozen=True)
class Resamples:
    """The score of the images as they are (the first entry of every array), then of B resamples of them.

    Two solutions on the same images, groups and seed meet the same resamples: subtracting their arrays pairs them.

    Attributes:
        mean: (1 + B,) the competition's score.
        class_mean: (1 + B, 4) the same of each class.
        positive: (1 + B,) mean Dice of the true masks; NaN in a resample without one.
        class_positive: (1 + B, 4) the same of each class.
        public: (1 + B,) the mean at the public test set's class shares; a class without any true mask counts as found.
            NaN in a resample that has lost all masks of a class (or all strips without it): it says nothing about them.
    """

    mean: NDArray[np.float64]
    class_mean: NDArray[np.float64]
    positive: NDArray[np.float64]
    class_positive: NDArray[np.float64]
    public: NDArray[np.float64]


def resample(
    values: NDArray[np.float64],
    positive: NDArray[np.bool_],
    group: Sequence[str],
    n_resamples: int = N_RESAMPLES,
    seed: int = 0,
) -> Resamples:
    """Score resamples of the images, drawn with replacement; images of one group are drawn together.

    Source: Efron, Bootstrap methods, 1979; whole clusters as in Field and Welsh, Bootstrapping clustered data, 2007.

    Args:
        values: (n, 4) Dice of each image and class, as `steel.metrics.dice` gives it.
        positive: (n, 4) whether there is a true mask.
        group: the duplicate group of each image, as `steel.data.folds.group_of` gives it.
        n_resamples: B, 1 or more.
        seed: of the draw.
    """
    if values.ndim != 2 or values.shape[1] != N_CLASSES or positive.shape != values.shape:
        raise UserError(f"bootstrap: values {values.shape}, masks {positive.shape}; allowed: (n, {N_CLASSES}) both")
    columns = [np.ones((len(values), 1)), values, positive, np.where(positive, values, 0.0)]
    sums = resampled_sums(np.column_stack(columns), group, n_resamples, seed)  # (1 + B, 13)
    n, total, n_with, with_mask = np.split(sums, np.cumsum([1, N_CLASSES, N_CLASSES]), axis=1)
    class_positive = _ratio(with_mask, n_with)
    class_clean = _ratio(total - with_mask, n - n_with)
    shares = np.array(PUBLIC_SHARES)
    return Resamples(
        mean=total.mean(1) / n[:, 0],
        class_mean=total / n,
        positive=_ratio(with_mask.sum(1), n_with.sum(1)),
        class_positive=class_positive,
        public=(shares * _found_if_absent(class_positive) + (1 - shares) * _found_if_absent(class_clean)).mean(1),
    )


def resampled_sums(values: NDArray, group: Sequence[str], n_resamples: int, seed: int) -> NDArray[np.float64]:
    """Sums over the images of each column of (n, m), then over those of each resample of the groups: (1 + B, m).

    As many groups are drawn as there are: resamples differ in their number of images where groups differ in theirs.
    """
    if len(values) == 0 or len(group) != len(values):
        raise UserError(f"bootstrap: {len(values)} images in {len(group)} groups; allowed: one or more, a group each")
    if n_resamples < 1:
        raise UserError(f"bootstrap: {n_resamples} resamples; allowed: 1 or more")
    names, code = np.unique(np.asarray(group), return_inverse=True)
    n = len(names)
    per_group = np.zeros((n, values.shape[1]))
    np.add.at(per_group, code, values)
    rng = np.random.default_rng(seed)
    sums = np.empty((1 + n_resamples, values.shape[1]))
    sums[0] = per_group.sum(0)
    step = max(1, COUNTS // n)
    for start in range(1, 1 + n_resamples, step):
        size = min(step, 1 + n_resamples - start)
        drawn = rng.integers(n, size=(size, n)) + n * np.arange(size)[:, None]
        # How often each group was drawn, in one count; a product with it is far cheaper than gathering the values.
        counts = np.bincount(drawn.ravel(), minlength=size * n).reshape(size, n)
        sums[start : start + size] = counts.astype(np.float64) @ per_group
    return sums


def mean_intervals(values: NDArray[np.float64], group: Sequence[str]) -> list[Interval]:
    """The interval of the mean over the images of each column of (n, m), all on the same resamples.

    Columns of gains tell what models or rules differ by on these: pairs are drawn together.
    """
    n, *sums = resampled_sums(np.column_stack([np.ones(len(values)), values]), group, N_RESAMPLES, seed=0).T
    return [interval(total / n) for total in sums]


def intervals_of_models(
    values: Sequence[NDArray[np.float64]], positive: NDArray[np.bool_], group: Sequence[str]
) -> list[dict[str, Interval]]:
    """The intervals of the "mean" and the "positive" of `Resamples`, of several models on the same resamples.

    Args:
        values: of each model the Dice of each image and class, (n, 4).
        positive: (n, 4) whether there is a true mask.
        group: the duplicate group of each image.
    """
    columns = [np.ones(len(positive)), positive.sum(1)]
    for one in values:
        columns += [one.mean(1), np.where(positive, one, 0.0).sum(1)]
    n, n_with, *sums = resampled_sums(np.column_stack(columns), group, N_RESAMPLES, seed=0).T
    pairs = zip(sums[::2], sums[1::2], strict=True)
    return [{"mean": interval(all_ / n), "positive": interval(_ratio(found, n_with))} for all_, found in pairs]


def interval(draws: ArrayLike, level: float = LEVEL) -> Interval:
    """The percentile interval of one array of `Resamples`, or of the difference of two: (1 + B,).

    Resamples in which the number does not exist (NaN) are left out.
    """
    if not 0 < level < 1:
        raise UserError(f"bootstrap: level is {level!r}; allowed: between 0 and 1")
    numbers = np.asarray(draws, np.float64)
    drawn = numbers[1:][~np.isnan(numbers[1:])]
    if np.isnan(numbers[0]) or not len(drawn):
        return Interval(float(numbers[0]), float("nan"), float("nan"))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(numbers[0]), float(low), float(high))


def intervals(found: Resamples, level: float = LEVEL) -> dict[str, Interval | list[Interval]]:
    """The interval of every number, by the name of the field; a list of four where it is one of each class."""
    return {
        name: interval(draws, level) if draws.ndim == 1 else [interval(column, level) for column in draws.T]
        for name, draws in vars(found).items()
    }


def _ratio(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """a / b; NaN where b is 0."""
    return np.divide(a, b, out=np.full_like(a, np.nan), where=b > 0)


def _found_if_absent(means: NDArray[np.float64]) -> NDArray[np.float64]:
    """(1 + B, 4) with ones in the columns of classes that the images as they are do not have."""
    return np.where(np.isnan(means[0]), 1.0, means)
