"""Stages `oof` and `predict`: from weights and strips to stored probabilities."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steel import specs
from steel.data.cache import Strips, open_strips
from steel.data.folds import fold_of
from steel.infer.predictor import Predictor, quantise, sum_pixels
from steel.infer.store import Builder
from steel.paths import Paths
from steel.progress import track
from steel.stage import Spec


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
    """Write the store of some rows of the cache; batches that an interrupted run finished are kept."""
    image_ids = [strips.image_ids[row] for row in rows]
    builder = Builder(job.folder, job.key, image_ids, predictor.gives_maps)
    done = builder.done
    starts = [
        s
        for s in range(0, len(rows), predictor.batch)
        if not done.issuperset(range(s, min(s + predictor.batch, len(rows))))
    ]
    for start in track(starts, job.name, "batches"):
        part = rows[start : start + predictor.batch]
        maps, labels = predictor(strips.images[part])
        gate = None if labels is None else labels.double().cpu().numpy()
        places = list(range(start, start + len(part)))
        if maps is None:
            assert gate is not None
            builder.write(places, None, None, gate)
        else:
            builder.write(places, quantise(maps), sum_pixels(maps), gate)
    return builder.finish()
