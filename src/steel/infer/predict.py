"""Stages `oof` and `predict`: from weights and strips to stored probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steel import specs
from steel.config import ModelConfig, Solution
from steel.data.cache import Strips, open_strips
from steel.data.folds import fold_of
from steel.device import amp_dtype, open_device
from steel.errors import UserError
from steel.fit.checkpoint import load_weights
from steel.infer.store import Builder
from steel.infer.tta import from_view, to_view
from steel.nets.build import Net, Outputs, build, place
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


@dataclass(frozen=True)
class Predictor:
    """The nets of one model (one per fold), on their device, and how to run them.

    Batches are always of one size, the last padded with its own last strip: arithmetic may depend on the batch size,
    and then a strip's bytes would depend on its neighbours.
    """

    gives_maps: bool
    nets: list[Net]
    views: list[str]
    batch: int
    device: torch.device
    dtype: torch.dtype

    @classmethod
    def load(cls, paths: Paths, name: str, folds: Sequence[int]) -> "Predictor":
        """Load the weights of a model's folds."""
        solution: Solution = paths.solution
        model: ModelConfig = solution.models[name]
        device = open_device(solution.machine)
        nets = []
        for fold in folds:
            net = build(model, pretrained=False)
            load_weights(net, paths.fold(name, fold) / "weights.safetensors")
            nets.append(place(net, device).eval())
        dtype = amp_dtype(model.amp, device)
        return cls(model.kind == "segmenter", nets, list(solution.predict.tta), solution.predict.batch, device, dtype)

    @torch.inference_mode()
    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """Mean probabilities over nets and views of up to `batch` strips (b, 256, 1600) uint8."""
        n = len(images)
        padded = np.concatenate([images, np.repeat(images[-1:], self.batch - n, axis=0)])
        x = torch.from_numpy(padded).to(self.device).unsqueeze(1)
        totals: list[Tensor | None] = [None, None]  # of maps and of labels
        for net in self.nets:
            for view in self.views:
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
                    logits = net(to_view(x, view))
                for i, part in enumerate(logits):
                    if part is not None:
                        prob, total = from_view(part.float().sigmoid(), view), totals[i]
                        totals[i] = prob if total is None else total.add_(prob)
        found = [None if total is None else total[:n] / (len(self.nets) * len(self.views)) for total in totals]
        if not all(part is None or torch.isfinite(part).all() for part in found):
            raise UserError("a net gives values that are no numbers; predict and train it in fp32 (amp: fp32)")
        return Outputs(*found)


def quantise(prob: Tensor) -> NDArray[np.uint8]:
    """Probabilities in [0, 1] as uint8, 255 = 1.0, rounded half to even."""
    return (prob * 255).round().to(torch.uint8).cpu().numpy()


def sum_pixels(prob: Tensor) -> NDArray[np.float64]:
    """Sum over the pixels of probabilities (b, 4, H, W) in [0, 1], (b, 4): what uint8 will lose of the faint ones.

    Of whole 2**-32ths, so that no order of adding, and so no batch and no number of threads, can change it.
    """
    return (prob.double() * 2**32).long().flatten(2).sum(2).double().cpu().numpy() / 2**32


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
