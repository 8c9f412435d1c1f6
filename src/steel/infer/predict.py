"""Stages `oof` and `predict`: from weights and strips to stored probabilities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from steel import specs
from steel.data.cache import Strips, open_strips
from steel.data.folds import fold_of
from steel.infer.predictor import Answer, Predictor
from steel.infer.store import Builder
from steel.overlap import overlap
from steel.paths import Paths
from steel.progress import track
from steel.stage import Spec

AHEAD = 2  # batches that wait on either side of the net


def make_oof(paths: Paths, name: str, fold: int) -> dict[Path, str]:
    """Predict the strips that a fold holds out, by the model that did not see them."""
    job = specs.of_oof(paths, name, fold)
    strips = open_strips(paths.cache, "train")
    rows = np.flatnonzero(fold_of(paths.folds, strips.image_ids) == fold)
    return _fill(job, Predictor.load(paths, name, [fold]), strips, rows)


def make_test(paths: Paths, name: str, folds: Sequence[int]) -> dict[Path, str]:
    """Predict the test strips: the mean over the folds' models and the views."""
    strips = open_strips(paths.cache, "test")
    rows = np.arange(len(strips.index))
    return _fill(specs.of_test(paths, name, folds), Predictor.load(paths, name, folds), strips, rows)


def _fill(job: Spec, predictor: Predictor, strips: Strips, rows: NDArray[np.int64]) -> dict[Path, str]:
    """Write the store of some rows of the cache; batches that an interrupted run finished are kept.

    One batch is read, and the last one written, while the net is at work on another.
    """
    builder = Builder(job.folder, job.key, [strips.image_ids[row] for row in rows], predictor.gives_maps)
    done, n = builder.done, len(rows)
    batches = [range(s, min(s + predictor.batch, n)) for s in range(0, n, predictor.batch)]
    batches = [places for places in batches if not done.issuperset(places)]

    def read(places: range) -> tuple[range, Tensor]:
        return places, predictor.pad([strips.images[rows[place]] for place in places])

    def write(computed: tuple[range, Answer]) -> None:
        places, answer = computed
        builder.write(places, *answer.wait())

    read_ahead = overlap(read, batches, AHEAD)
    computed = ((places, predictor.start(batch, len(places))) for places, batch in read_ahead)
    for _ in track(overlap(write, computed, AHEAD), job.name, "batches", len(batches)):
        pass
    return builder.finish()
