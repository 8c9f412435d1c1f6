"""The prepared data in numbers, and examples of it."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from steel.competition import CLASSES, N_CLASSES
from steel.data.cache import Strips, open_strips
from steel.data.folds import group_of
from steel.paths import Paths
from steel.report.eda.look import BLACK_SHARE, MEAN, MIN_STRIPS, QUANTILES, STATISTICS, STD, Seen, look
from steel.report.overlay import outline
from steel.report.section import Picture

BINS_PER_DECADE = 5
MEAN_EDGES, STD_EDGES = np.arange(0, 261, 10), np.arange(0, 131, 5)  # grey levels
N_PARTS, N_TELLING = 5, 6  # of train against test
EXAMPLES = 2
EXAMPLE_SIZE = 800, 128  # width, height, px


def measure(paths: Paths) -> dict[str, Any]:
    """The prepared data as plain values: counts, masks, positions, grey levels, duplicates, train against test."""
    train = open_strips(paths.cache, "train")
    test = open_strips(paths.cache, "test") if (paths.cache / "test.csv").exists() else None
    present = train.areas > 0
    seen = look(paths.cache, present, len(test.image_ids) if test else 0)
    of_train, of_test = np.split(seen.statistics, [len(present)])
    defect = present.any(1)
    kinds = {"train, defect": of_train[defect], "train, clean": of_train[~defect], "test": of_test}
    group = group_of(paths.folds, train.image_ids) if paths.folds.exists() else None
    first = np.unique(train.image_ids if group is None else group, return_index=True)[1]
    return {
        "data": paths.solution.data.name,
        "n_train": len(present),
        "n_test": len(of_test),
        "n_test_in_train": int(test.index.sha256.isin(train.index.sha256).sum()) if test else 0,
        **_counts(present),
        "areas": _areas(train.areas),
        "components": [_components(seen, present, k) for k in range(N_CLASSES)],
        "positions": np.round(seen.covers / np.maximum(present.sum(0), 1)[:, None, None], 4).tolist(),
        "levels": _levels(kinds),
        "duplicates": None if group is None else _duplicates(group, train, present),
        "train_test": alike(of_train[first], of_test),  # a copy in a fold of its own would be recognised, not judged
    }


def alike(train: NDArray[np.float64], test: NDArray[np.float64]) -> dict[str, Any]:
    """Adversarial validation: how well statistics (n, s) and (m, s) of strips tell train from test.

    `auc`: mean ROC AUC of boosted trees on the held-out fifths, .5 if they guess, with its standard `error`; `telling`:
    the statistics that do best alone. All None or empty with fewer than 50 strips on one side.
    """
    if min(len(train), len(test)) < MIN_STRIPS:
        return {"auc": None, "error": None, "telling": []}
    from sklearn.ensemble import HistGradientBoostingClassifier  # takes a second to import
    from sklearn.model_selection import StratifiedKFold
    from threadpoolctl import threadpool_limits  # scikit-learn's own

    x, is_test = np.concatenate([train, test]), np.arange(len(train) + len(test)) >= len(train)
    found = []
    for rows, held_out in StratifiedKFold(N_PARTS, shuffle=True, random_state=0).split(x, is_test):
        with threadpool_limits(1):  # on busy cores its threads wait for each other: ten times slower
            trees = HistGradientBoostingClassifier(early_stopping=False, random_state=0).fit(x[rows], is_test[rows])
            prob = trees.predict_proba(x[held_out])[:, 1]
        found.append(auc(prob[is_test[held_out]], prob[~is_test[held_out]]))
    value, error = np.mean([v for v, _ in found]), np.sqrt(np.sum([e**2 for _, e in found])) / N_PARTS
    alone = np.array([auc(b, a)[0] for a, b in zip(train.T, test.T, strict=True)])
    medians = np.median(train, 0), np.median(test, 0)
    telling = [
        {
            "statistic": STATISTICS[i],
            "auc": round(float(alone[i]), 4),
            "train": round(float(medians[0][i]), 3),
            "test": round(float(medians[1][i]), 3),
        }
        for i in np.argsort(-np.abs(alone - 0.5), kind="stable")[:N_TELLING]
    ]
    return {"auc": round(float(value), 4), "error": round(float(error), 4), "telling": telling}


def auc(above: NDArray[np.float64], below: NDArray[np.float64]) -> tuple[float, float]:
    """Chance that one of `above` (n,) exceeds one of `below` (m,), ties being half, and its standard error.

    Source: DeLong, DeLong and Clarke-Pearson, Comparing the areas under two or more correlated ROC curves, 1988.
    """
    wins, losses = _share_below(above, below), _share_below(below, above)
    variance = wins.var(ddof=1) / len(wins) + losses.var(ddof=1) / len(losses)
    return float(wins.mean()), float(np.sqrt(variance))


def examples(paths: Paths) -> list[Picture]:
    """Two strips of each class whose masks are nearest to its median area, then two clean ones, reduced to 128x800."""
    train = open_strips(paths.cache, "train")
    pictures = []
    for c, area_px in zip(CLASSES, train.areas.T, strict=True):
        rows = np.flatnonzero(area_px)
        distance_px = np.abs(area_px[rows] - np.median(area_px[rows])) if len(rows) else rows
        nearest = np.argsort(distance_px, kind="stable")[:EXAMPLES]
        pictures += [_picture(train, int(row), f"class {c}") for row in rows[nearest]]
    clean = np.flatnonzero(~train.areas.any(1))
    spread = clean[len(clean) * np.arange(1, EXAMPLES + 1) // (EXAMPLES + 1)] if len(clean) else clean
    return pictures + [_picture(train, int(row), "clean") for row in np.unique(spread)]


def _counts(present: NDArray[np.bool_]) -> dict[str, Any]:
    """Strips and masks by class, by number of classes and by set of classes, of flags (n, 4)."""
    sets = Counter(tuple(c for c, shown in zip(CLASSES, row, strict=True) if shown) for row in present.tolist())
    counts = present.astype(np.int64)
    return {
        "n_masks": present.sum(0).tolist(),
        "n_clean": int((~present.any(1)).sum()),
        "n_by_classes": np.bincount(present.sum(1), minlength=N_CLASSES + 1).tolist(),
        "together": (counts.T @ counts).tolist(),
        "sets": [{"classes": list(classes), "n": n} for classes, n in sets.most_common()],
    }


def _areas(areas: NDArray[np.int64]) -> dict[str, Any]:
    """Histogram, quantiles and extremes of the masks' areas (n, 4), px; None for a class without any."""
    decades = BINS_PER_DECADE * np.log10(areas[areas > 0])
    bins = np.arange(np.floor(decades.min()), np.floor(decades.max()) + 2) if len(decades) else np.arange(0)
    edges = 10 ** (bins / BINS_PER_DECADE)
    classes = []
    for area_px in areas.T:
        px = area_px[area_px > 0]
        # By the numbers of the bins, since powers of ten are not exact and the smallest mask may lie on an edge.
        number = np.floor(BINS_PER_DECADE * np.log10(px)) - (bins[0] if len(bins) else 0)
        extremes = {"min_px": int(px.min()), "max_px": int(px.max())} if len(px) else {"min_px": None, "max_px": None}
        quantiles_px = np.quantile(px, QUANTILES).round(1).tolist() if len(px) else None
        histogram = np.bincount(number.astype(int), minlength=max(len(bins) - 1, 0)).tolist()
        classes.append({"histogram": histogram, "quantiles_px": quantiles_px, **extremes})
    return {"edges_px": edges.round(2).tolist(), "classes": classes}


def _components(seen: Seen, present: NDArray[np.bool_], k: int) -> dict[str, Any] | None:
    """How many components the masks of a class have, and the shares of those that touch an end or a rim."""
    rows = np.flatnonzero(present[:, k])
    if not len(rows):
        return None
    n = seen.n_components[rows, k]
    ends, rims = seen.touches[rows, k].mean(0)
    counted = {"mean": round(float(n.mean()), 3), "one": round(float((n == 1).mean()), 4), "most": int(n.max())}
    return {**counted, "ends": round(float(ends), 4), "rims": round(float(rims), 4)}


def _levels(kinds: dict[str, NDArray[np.float64]]) -> dict[str, Any]:
    """Histograms of the strips' mean and standard deviation, and what is black, by kind of strips with STATISTICS."""
    by_kind = {}
    for kind, values in kinds.items():
        if not len(values):
            continue
        black = values[:, BLACK_SHARE]
        by_kind[kind] = {
            "n": len(values),
            "mean": np.histogram(values[:, MEAN], MEAN_EDGES)[0].tolist(),
            "std": np.histogram(values[:, STD].clip(max=STD_EDGES[-1]), STD_EDGES)[0].tolist(),
            "median_mean": round(float(np.median(values[:, MEAN])), 4),
            "median_std": round(float(np.median(values[:, STD])), 4),
            "has_black": round(float((black > 0).mean()), 4),
            "black": round(float(black.mean()), 4),
        }
    return {"mean_edges": MEAN_EDGES.tolist(), "std_edges": STD_EDGES.tolist(), "kinds": by_kind}


def _duplicates(group: Sequence[str], train: Strips, present: NDArray[np.bool_]) -> dict[str, int]:
    """Groups of more than one strip, and how many of them disagree: in the classes, or in the masks alone."""
    _, name, n_strips = np.unique(group, return_inverse=True, return_counts=True)
    assert train.masks is not None
    n_other_classes = n_other_masks = 0
    for i in np.flatnonzero(n_strips > 1):
        first, *others = np.flatnonzero(name == i)
        if any((present[first] != present[row]).any() for row in others):
            n_other_classes += 1
        else:
            n_other_masks += any(not np.array_equal(train.masks[first], train.masks[row]) for row in others)
    repeated = n_strips[n_strips > 1]
    counts = {"n_groups": len(repeated), "n_strips": int(repeated.sum()), "largest": int(n_strips.max())}
    return {**counts, "n_other_classes": n_other_classes, "n_other_masks": n_other_masks}


def _share_below(values: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Share of `others` (m,) below each of `values` (n,), ties being half: (n,)."""
    ordered = np.sort(others)
    places = [np.searchsorted(ordered, values, side) for side in ("left", "right")]
    return (places[0] + places[1]) / (2 * len(others))


def _picture(strips: Strips, row: int, what: str) -> Picture:
    """A strip reduced, then outlined, so that the lines stay crisp."""
    assert strips.masks is not None
    image, bits = np.asarray(strips.images[row]), np.asarray(strips.masks[row])
    small = cv2.resize(image, EXAMPLE_SIZE, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    bits = cv2.resize(bits, EXAMPLE_SIZE, interpolation=cv2.INTER_NEAREST).astype(np.uint8, copy=False)
    masks = np.stack([bits >> k & 1 for k in range(N_CLASSES)]).astype(bool)
    shown = [f"class {c}: {px} px" for c, px in zip(CLASSES, strips.areas[row], strict=True) if px]
    name, told = strips.image_ids[row], ", ".join(shown) or "no defect"
    alt = f"Grey strip {name}, {f'outlined: {told}' if shown else told}"
    return Picture(f"{what}: {name} ({told})" if shown else f"{what}: {name}", alt, outline(small, masks, 1))
