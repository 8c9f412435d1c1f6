"""The split: every image in one fold, classes and areas balanced, duplicates together; and its file."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from steel.competition import CLASSES
from steel.data.cache import AREAS
from steel.data.duplicates import read_rows
from steel.errors import UserError, shorten
from steel.files import atomic

COLUMNS = ("image_id", "fold", "group")
N_AREA_BINS = 3


def make_folds(index: pd.DataFrame, group: Sequence[str], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Assign a fold in 0..n_folds-1 to each row of the index, (n,) int64.

    Iterative stratification (Sechidis et al. 2011, package iterstrat) over the four classes, clean, and the terciles of
    each class's area. A duplicate group enters as one row with the union of its labels, so it stays in one fold. The
    same images, groups and seed give the same folds, whatever the order of the rows and the names of the groups.

    Args:
        index: columns image_id and area1_px..area4_px; 0 px = the class is absent.
        group: the group of each row.
        n_folds: 2 or more.
        seed: breaks ties.

    Raises:
        UserError: n_folds below 2, or more folds than groups.
    """
    ids = index["image_id"].to_numpy(str)
    order = np.argsort(ids)
    codes, names = pd.factorize(np.asarray(group, dtype=object)[order])  # numbered by their smallest image_id
    if n_folds < 2:
        raise UserError(f"n_folds is {n_folds}; allowed: 2 or more")
    if n_folds > len(names):
        raise UserError(
            f"n_folds is {n_folds}, but the {len(ids)} images form only {len(names)} groups; allowed: 2 to {len(names)}"
        )
    labels = np.zeros((len(names), 0), bool)
    for column in _labels(index[AREAS].to_numpy()[order]).T:
        united = np.bincount(codes, weights=column, minlength=len(names)) > 0
        labels = np.column_stack([labels, united])
    fold = np.empty(len(ids), np.int64)
    fold[order] = _stratify(labels, n_folds, seed)[codes]
    return fold


def draw_groups(group: Sequence[str], share: float, seed: int) -> NDArray[np.bool_]:
    """Draw whole groups at random until they hold at least `share` of the rows, in 0..1: (n,) bool, some but not all.

    The same groups and seed give the same rows, whatever the names of the groups. Raises UserError for a single group.
    """
    codes, names = pd.factorize(np.asarray(group, dtype=object))
    if len(names) < 2:
        raise UserError(f"split: {len(codes)} strips form a single group of duplicates; allowed: two or more groups")
    order = np.random.default_rng(seed).permutation(len(names))
    filled = np.bincount(codes)[order].cumsum()
    n_drawn = min(int(np.searchsorted(filled, share * len(codes))) + 1, len(names) - 1)
    return np.isin(codes, order[:n_drawn])


def deal_groups(group: Sequence[str], n: int) -> NDArray[np.int64]:
    """Deal whole groups to at most `n` parts of about equal size, at random: the part of each row, int64 from 0."""
    codes, names = pd.factorize(np.asarray(group, dtype=object))
    order = np.random.default_rng(0).permutation(len(names))
    part = np.empty(len(names), np.int64)
    part[order] = np.arange(len(names)) % n
    return part[codes]


def summary(index: pd.DataFrame, fold: NDArray[np.int64]) -> pd.DataFrame:
    """Count images, each class and clean per fold (last row: all), with their shares of the fold's images in [0, 1]."""
    present = index[AREAS].to_numpy() > 0
    table = pd.DataFrame({f"class{k}": present[:, i] for i, k in enumerate(CLASSES)})
    table["clean"] = ~present.any(1)
    table.insert(0, "images", True)
    counts = table.astype(int).groupby(np.asarray(fold)).sum()
    counts.index = counts.index.astype(str)
    counts.loc["all"] = table.sum()
    for name in counts.columns[1:]:
        counts[f"{name}_share"] = counts[name] / counts["images"]
    return counts.rename_axis("fold")


def write_folds(path: Path, image_ids: Sequence[str], fold: NDArray[np.int64], group: Sequence[str]) -> None:
    """Write a split as csv image_id,fold,group, sorted by image_id: whole or not at all, and no labels in it."""
    with atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted((str(i), int(k), str(g)) for i, k, g in zip(image_ids, fold, group, strict=True)))


def read_folds(path: Path) -> pd.DataFrame:
    """Read and check a split: image_id (str), fold (int64, from 0 on, none left out) and group (str), in file order.

    Raises:
        UserError: no such file, other columns, an empty field, an image listed twice, a fold that is not a number from
            0 on, fewer than two folds, a number left out, a group in two folds.
    """
    line_of: dict[str, int] = {}
    fold_of: dict[str, tuple[int, int]] = {}
    rows: list[tuple[str, int, str]] = []
    for line, (image_id, number, group) in read_rows(path, COLUMNS):
        where = f"{path}, line {line}"
        if image_id in line_of:
            raise UserError(f"{where}: {image_id} is already in line {line_of[image_id]}; each image is allowed once")
        if not (number.isascii() and number.isdigit()):
            raise UserError(f"{where}: fold of {image_id} is {number!r}; allowed: 0, 1, 2, ...")
        first, first_line = fold_of.setdefault(group, (int(number), line))
        if first != int(number):
            raise UserError(
                f"{where}: group {group} is in fold {int(number)}, but in fold {first} in line {first_line}; "
                "a group must stay in one fold"
            )
        line_of[image_id] = line
        rows.append((image_id, int(number), group))
    _check_numbers(path, [number for _, number, _ in rows])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def fold_of(path: Path, image_ids: Sequence[str]) -> NDArray[np.int64]:
    """Fold of each of some images by the split in a file, (n,) int64; an image that it does not name is a UserError."""
    return _look_up(path, image_ids).fold.to_numpy(np.int64)


def group_of(path: Path, image_ids: Sequence[str]) -> list[str]:
    """Duplicate group of each of some images by the split in a file, as `fold_of`."""
    return _look_up(path, image_ids).group.tolist()


def _look_up(path: Path, image_ids: Sequence[str]) -> pd.DataFrame:
    found = read_folds(path).set_index("image_id").reindex(image_ids)
    if (unknown := found.fold.isna()).any():
        raise UserError(f"{path} does not name {shorten(list(found.index[unknown]))}; make the split anew")
    return found


def _labels(areas: NDArray) -> NDArray[np.bool_]:
    """Labels (n, up to 17) of areas (n, 4) px: classes, clean, terciles of each class's area; none empty."""
    present = areas > 0
    columns = [*present.T, ~present.any(1)]
    for area, here in zip(areas.T, present.T, strict=True):
        if here.any():
            edges = np.quantile(area[here], np.arange(1, N_AREA_BINS) / N_AREA_BINS)
            tercile = np.searchsorted(edges, area)  # 0, 1, 2; equal areas fall in the same one
            columns += [here & (tercile == k) for k in range(N_AREA_BINS)]
    return np.column_stack([column for column in columns if column.any()])


def _stratify(labels: NDArray[np.bool_], n_folds: int, seed: int) -> NDArray[np.int64]:
    """Fold of each row of (n, labels), (n,)."""
    from iterstrat.ml_stratifiers import MultilabelStratifiedKFold  # brings scikit-learn: only where a split is made

    # "Every row" is a label too, which evens out the sizes; "no row" lets iterstrat accept a table of all-equal labels.
    padded = np.column_stack([labels, np.ones(len(labels), bool), np.zeros(len(labels), bool)]).astype(int)
    fold = np.empty(len(labels), np.int64)
    splitter = MultilabelStratifiedKFold(n_splits=n_folds, shuffle=True, random_state=seed)
    for k, (_, held_out) in enumerate(splitter.split(labels, padded)):
        fold[held_out] = k
    return fold


def _check_numbers(path: Path, numbers: list[int]) -> None:
    found = set(numbers)
    if len(found) < 2:
        raise UserError(f"{path}: {len(found)} folds in {len(numbers)} rows; allowed: 2 or more folds")
    missing = set(range(max(found) + 1)) - found
    if missing:
        raise UserError(f"{path}: no image is in fold {min(missing)}, but the folds go up to {max(found)}")
