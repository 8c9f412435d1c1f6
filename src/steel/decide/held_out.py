"""The table of all held-out strips, from the stored maps of the models; and any other pass over those maps."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from steel.data.cache import Strips, open_strips
from steel.data.folds import deal_groups, fold_of, group_of
from steel.decide.combine import Outputs
from steel.decide.components import measure_large
from steel.decide.ensemble import largest_class, mean_gate
from steel.decide.measure import measure
from steel.decide.table import LAYOUT, Table
from steel.errors import UserError, shorten
from steel.infer.store import Store, open_store
from steel.paths import Paths
from steel.progress import track
from steel.workers import Workers, cores

N_PARTS = 5  # of a single fold, over which the rules are rotated
CHUNK = 32  # images per task of a worker
T = TypeVar("T")
OnStrip = Callable[[Outputs, NDArray[np.uint8]], T]  # of the segmenters' outputs and the mask bits (256, 1600)
MEASURED = ("true_px", "area_px", "overlap_px", "large_area_px", "large_overlap_px", "tail_px")  # fields of the table


def build_table(paths: Paths, folds: Sequence[int]) -> Table:
    """Measure the ensemble's map of every image that the given folds hold out.

    Of a single fold the table's column `fold` names random parts: rules are tuned on some and scored on another.
    """
    strips = open_strips(paths.cache, "train")
    split = fold_of(paths.folds, strips.image_ids)
    held_out = {k: np.flatnonzero(split == k) for k in folds}
    rows = np.concatenate(list(held_out.values()))
    order = np.argsort(rows)  # the table is in row order of the cache, whatever the folds
    image_ids = np.array(strips.image_ids)[rows[order]]
    of_one = deal_groups(group_of(paths.folds, image_ids.tolist()), N_PARTS) if len(folds) == 1 else None
    measured = np.concatenate(
        map_strips(paths, paths.solution.segmenters, strips, held_out, measure_strip, "decide: table")
    )
    return Table(
        image_ids=image_ids,
        fold=(split[rows[order]] if of_one is None else of_one).astype(np.int16),
        gate=np.concatenate([_gates(paths, strips, k, held_out[k]) for k in folds])[order],
        **{name: measured[name][order] for name in MEASURED},
    )


def measure_strip(outputs: Outputs, mask_bits: NDArray[np.uint8]) -> NDArray:
    """All that the table needs of a strip's maps and mask bits (256, 1600): a record (1,) of the fields MEASURED."""
    prob, tail_px = outputs.combine()
    area_px, overlap_px, true_px = measure(prob, mask_bits)
    found = (true_px, area_px, overlap_px, *measure_large(largest_class(prob), mask_bits), tail_px)
    return np.array([found], [(name, *LAYOUT[name]) for name in MEASURED])


def gates(stores: Sequence[Store], n: int) -> NDArray[np.float32]:
    """Mean class probability of the models that give one, (n, 4); ones where there is none."""
    return mean_gate([store.gate for store in stores if store.gate is not None], n)


def _gates(paths: Paths, strips: Strips, fold: int, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Gates (n, 4) of the strips that a fold holds out."""
    folders = [paths.oof(name, fold) for name in paths.solution.gates]
    for folder in folders:
        _check_coverage(folder, [strips.image_ids[row] for row in rows])
    return gates([open_store(folder) for folder in folders], len(rows))


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
        names: of the segmenters.
        strips: the training strips.
        rows: fold to the rows of the strips that it holds out, ascending.
        call: gets the outputs and the true masks of a strip; from the top of a module, that processes may find it.
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


def outputs_of(stores: Sequence[Store], place: int) -> Outputs:
    """What the segmenters of some stores say of the strip at a place in them."""
    sums = [store.sums[place] for store in stores if store.sums is not None]
    return Outputs([store.map(place) for store in stores], np.stack(sums))


def _call_on_rows(call: OnStrip[T], folders: list[Path], cache: Path, first: int, rows: NDArray[np.int64]) -> list[T]:
    """Worker: read the models' outputs of some strips and make the call on them and the masks."""
    stores = [open_store(folder) for folder in folders]
    masks = np.load(cache / "train_masks.npy", mmap_mode="r")
    return [call(outputs_of(stores, place), np.asarray(masks[row])) for place, row in enumerate(rows, first)]


def _check_coverage(folder: Path, expected: list[str]) -> None:
    """A store must hold exactly the strips that its fold holds out, in row order."""
    found = open_store(folder).image_ids
    if found != expected:
        odd = sorted(set(found) ^ set(expected)) or ["the order"]
        raise UserError(f"{folder} holds predictions of other strips ({shorten(odd)}): run `steel oof CONFIG --force`")
