"""The table of all held-out strips, from the stored maps of the models; and any other pass over those maps."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from steel.data.cache import Strips, open_strips
from steel.data.folds import deal_groups, fold_of, group_of
from steel.decide.ensemble import mean_gate, mean_map
from steel.decide.table import Table, measure
from steel.errors import UserError, shorten
from steel.infer.store import Store, open_store
from steel.paths import Paths
from steel.progress import track
from steel.workers import Workers, cores

N_PARTS = 5  # of a single fold, over which the rules are rotated
CHUNK = 32  # images per task of a worker
T = TypeVar("T")
OnStrip = Callable[[NDArray[np.uint8], NDArray[np.uint8]], T]  # of map (4, 256, 1600) and mask bits (256, 1600)


def build_table(paths: Paths, folds: Sequence[int]) -> Table:
    """Measure the ensemble's map of every image that the given folds hold out.

    Of a single fold the table's column `fold` names random parts: rules are tuned on some and scored on another.
    """
    strips = open_strips(paths.cache, "train")
    split = fold_of(paths.folds, strips.image_ids)
    parts = [_measure_fold(paths, strips, k, np.flatnonzero(split == k)) for k in folds]
    rows = np.concatenate([part.rows for part in parts])
    order = np.argsort(rows)  # the table is in row order of the cache, whatever the folds
    image_ids = np.array(strips.image_ids)[rows[order]]
    of_one = deal_groups(group_of(paths.folds, image_ids.tolist()), N_PARTS) if len(folds) == 1 else None
    return Table(
        image_ids=image_ids,
        fold=(split[rows[order]] if of_one is None else of_one).astype(np.int16),
        true_px=np.concatenate([part.true_px for part in parts])[order],
        area_px=np.concatenate([part.area_px for part in parts])[order],
        overlap_px=np.concatenate([part.overlap_px for part in parts])[order],
        gate=np.concatenate([part.gate for part in parts])[order],
    )


def gates(stores: Sequence[Store], n: int) -> NDArray[np.float32]:
    """Mean class probability of the models that give one, (n, 4); ones where there is none."""
    return mean_gate([store.gate for store in stores if store.gate is not None], n)


@dataclass(frozen=True)
class _Measured:
    rows: NDArray[np.int64]
    area_px: NDArray[np.int32]
    overlap_px: NDArray[np.int32]
    true_px: NDArray[np.int32]
    gate: NDArray[np.float32]


def _measure_fold(paths: Paths, strips: Strips, fold: int, rows: NDArray[np.int64]) -> _Measured:
    """Measure all strips that a fold holds out."""
    solution = paths.solution
    for name in solution.gates:
        _check_coverage(paths.oof(name, fold), [strips.image_ids[row] for row in rows])
    class_stores = [open_store(paths.oof(name, fold)) for name in solution.gates]
    found = map_strips(paths, solution.segmenters, strips, {fold: rows}, measure, f"decide: table of fold {fold}")
    area, overlap, true = (np.stack(arrays) for arrays in zip(*found, strict=True))
    return _Measured(rows, area, overlap, true, gates(class_stores, len(rows)))


def map_strips(
    paths: Paths,
    names: Sequence[str],
    strips: Strips,
    rows: Mapping[int, NDArray[np.int64]],
    call: OnStrip[T],
    title: str,
) -> list[T]:
    """Results of a call for each held-out strip, in parallel over processes when there are many.

    Args:
        paths: of the solution.
        names: the segmenters to average.
        strips: the training strips.
        rows: fold to the rows of the strips that it holds out, ascending.
        call: gets the mean map and the true masks of a strip; from the top of a module, that processes may find it.
        title: of the progress.

    Returns:
        The results, fold after fold, in the order of `rows`.
    """
    tasks = []
    for fold, held_out in rows.items():
        folders = [paths.oof(name, fold) for name in names]
        for folder in folders:
            _check_coverage(folder, [strips.image_ids[row] for row in held_out])
        tasks += [(call, folders, paths.cache, s, held_out[s : s + CHUNK]) for s in range(0, len(held_out), CHUNK)]
    wanted = paths.solution.machine.workers
    workers = wanted if wanted is not None else cores()
    if workers < 2 or len(tasks) < 4:  # starting processes takes longer than measuring some strips
        found = [_call_on_rows(*task) for task in track(tasks, title, "chunks")]
    else:
        with Workers(min(workers, len(tasks))) as pool:
            found = list(track(pool.map(_call_on_rows, *zip(*tasks, strict=True)), title, "chunks", len(tasks)))
    return [result for chunk in found for result in chunk]


def _call_on_rows(call: OnStrip[T], folders: list[Path], cache: Path, first: int, rows: NDArray[np.int64]) -> list[T]:
    """Worker: average the models' maps of some strips and make the call on them and the masks."""
    stores = [open_store(folder) for folder in folders]
    masks = np.load(cache / "train_masks.npy", mmap_mode="r")
    return [
        call(mean_map([store.map(place) for store in stores]), np.asarray(masks[row]))
        for place, row in enumerate(rows, first)
    ]


def _check_coverage(folder: Path, expected: list[str]) -> None:
    """A store must hold exactly the strips that its fold holds out, in row order."""
    found = open_store(folder).image_ids
    if found != expected:
        odd = sorted(set(found) ^ set(expected)) or ["the order"]
        raise UserError(f"{folder} holds predictions of other strips ({shorten(odd)}): run `steel oof CONFIG --force`")
