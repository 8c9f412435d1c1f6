"""The table of all held-out strips, from the stored maps of the models; and any other pass over those maps."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryFile
from typing import Generic, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from steel.competition import N_CLASSES
from steel.data.cache import Strips, open_strips
from steel.data.folds import deal_groups, fold_of, group_of
from steel.decide.combine import Outputs
from steel.decide.components import measure_large
from steel.decide.ensemble import Blend, mean_gate, only_winner, winner
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
RECORD = np.dtype([(name, *LAYOUT[name]) for name in MEASURED])


@dataclass(frozen=True)
class Built(Generic[T]):
    """What a pass over the stores has given.

    Attributes:
        tables: of each blend.
        found: results of the call, in the order of the tables' rows.
        probs: class probabilities (n, 4) of each classifier, in that order.
    """

    tables: list[Table]
    found: list[T]
    probs: list[NDArray[np.float64]]


def build_tables(
    paths: Paths, folds: Sequence[int], blends: Sequence[Blend], call: OnStrip[T] | None = None
) -> Built[T]:
    """Measure the ensemble's map of every image that the given folds hold out, for one or more ways to average.

    Of a single fold the table's column `fold` names random parts: rules are tuned on some and scored on another.

    Args:
        paths: of the solution.
        folds: those whose stores are read.
        blends: ways to average.
        call: anything more to do with each strip in the same pass; None: nothing.
    """
    strips = open_strips(paths.cache, "train")
    split = fold_of(paths.folds, strips.image_ids)
    rows = {k: np.flatnonzero(split == k) for k in folds}
    order = np.argsort(np.concatenate(list(rows.values())))  # tables are in row order of the cache, whatever the folds
    chosen = np.concatenate(list(rows.values()))[order]
    image_ids = np.array(strips.image_ids)[chosen]
    of_one = deal_groups(group_of(paths.folds, image_ids.tolist()), N_PARTS) if len(folds) == 1 else None
    fold = (split[chosen] if of_one is None else of_one).astype(np.int16)
    probs = [prob[order] for prob in _classifiers_of(paths, strips, rows)]
    names, voting = paths.solution.segmenters, list(blends)
    if call is None:  # maps that no blend asks are not read, which is most of the time
        used = [i for i in range(len(names)) if any(row[i] for blend in blends for row in blend.counts)]
        gates = range(len(paths.solution.gates))
        names, voting = [names[i] for i in used], [blend.of(used, gates) for blend in blends]
    measure_all = partial(_measure_all, blends=tuple(voting), call=call)
    found = map_strips(paths, names, strips, rows, measure_all, "decide: table")
    measured = [_scratch(paths.decide, len(chosen)) for _ in blends]
    results = _sort(found, np.argsort(order), measured)
    tables = []
    for blend, of_blend in zip(blends, measured, strict=True):
        gate = mean_gate(probs, len(chosen), blend.gate_counts)
        tables.append(Table(image_ids, fold, gate=gate, **{name: of_blend[name] for name in MEASURED}))
    return Built(tables, [] if call is None else cast(list[T], results), probs)


def _sort(
    found: Iterator[tuple[list[NDArray], T | None]], places: NDArray[np.int64], measured: Sequence[NDArray]
) -> list[T | None]:
    """Put records and results, as they come, in their places: the records of each blend into an array of its own."""
    results: list[T | None] = [None] * len(places)
    for place, (records, result) in zip(places, found, strict=True):
        for of_blend, record in zip(measured, records, strict=True):
            of_blend[place] = record[0]
        results[place] = result
    return results


def measure_strip(outputs: Outputs, mask_bits: NDArray[np.uint8], blends: Sequence[Blend]) -> list[NDArray]:
    """All that the tables of some blends need of a strip: a record (1,) of the fields MEASURED for each.

    Args:
        outputs: of the segmenters.
        mask_bits: (256, 1600) uint8.
        blends: ways to average.
    """
    records = []
    large: list[list[tuple]] = [[] for _ in range(N_CLASSES)]  # by class, what blends before this one have shown
    for blend in blends:
        prob, tail_px = outputs.combine(blend)
        won = winner(prob)
        area_px, overlap_px, true_px = measure(prob, mask_bits, won)
        owned = only_winner(prob, won[1])
        for k in range(N_CLASSES):
            same = [found for values, found in large[k] if np.array_equal(values, owned[k])]
            found = same[0] if same else measure_large(owned[k], (mask_bits >> k & 1).view(np.bool_))
            large[k].append((owned[k], found))
        large_px, large_overlap_px = (np.stack(px) for px in zip(*(of_class[-1][1] for of_class in large), strict=True))
        record = (true_px, area_px, overlap_px, large_px, large_overlap_px, tail_px)
        records.append(np.array([record], RECORD))
    return records


def _measure_all(
    outputs: Outputs, mask_bits: NDArray[np.uint8], blends: Sequence[Blend], call: OnStrip[T] | None
) -> tuple[list[NDArray], T | None]:
    return measure_strip(outputs, mask_bits, blends), None if call is None else call(outputs, mask_bits)


def class_probs(stores: Sequence[Store]) -> list[NDArray[np.float64]]:
    """Class probabilities of each classifier, (n, 4)."""
    return [store.gate for store in stores if store.gate is not None]


def _classifiers_of(paths: Paths, strips: Strips, rows: Mapping[int, NDArray[np.int64]]) -> list[NDArray[np.float64]]:
    """Class probabilities (n, 4) of each classifier, fold after fold, of the strips that the folds hold out."""
    parts = []
    for fold, held_out in rows.items():
        folders = [paths.oof(name, fold) for name in paths.solution.gates]
        for folder in folders:
            _check_coverage(folder, [strips.image_ids[row] for row in held_out])
        parts.append(class_probs([open_store(folder) for folder in folders]))
    return [np.concatenate(of_one) for of_one in zip(*parts, strict=True)]


def map_strips(
    paths: Paths,
    names: Sequence[str],
    strips: Strips,
    rows: Mapping[int, NDArray[np.int64]],
    call: OnStrip[T],
    title: str,
) -> Iterator[T]:
    """Yield the result of a call for each held-out strip, in parallel over processes when there are many.

    Args:
        paths: of the solution.
        names: of the segmenters.
        strips: the training strips.
        rows: fold to the rows of the strips that it holds out, ascending.
        call: gets the outputs and the true masks of a strip; from the top of a module, that processes may find it.
        title: of the progress.

    Yields:
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
        for task in track(tasks, title, "chunks"):
            yield from _call_on_rows(*task)
        return
    with Workers(min(workers, len(tasks))) as pool:
        for part in track(pool.map(_call_on_rows, *zip(*tasks, strict=True)), title, "chunks", len(tasks)):
            yield from part


def _scratch(folder: Path, n: int) -> NDArray:
    """Records of the fields MEASURED, of n strips, in a file without a name: memory that the system may take back."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=folder) as file:
        os.posix_fallocate(file.fileno(), 0, n * RECORD.itemsize)  # a full disk is an error here, not a crash later
        return np.memmap(file, RECORD, "r+", shape=(n,))


def outputs_of(stores: Sequence[Store], place: int) -> Outputs:
    """What the segmenters of some stores say of the strip at a place in them."""
    sums = [store.sums[place] for store in stores if store.sums is not None]
    maps, levels = zip(*(store.read(place) for store in stores), strict=True)
    return Outputs(maps, np.stack(sums), np.stack(levels))


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
