"""The nets of one model at work, from strips to mean probabilities: what the stages and the Kaggle kernel share.

Apart from the stores of `predict`, which need libraries that the kernel lacks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from steel.config import ModelConfig, Solution
from steel.device import amp_dtype, open_device
from steel.errors import UserError
from steel.fit.checkpoint import load_weights
from steel.infer.tta import from_view, to_view
from steel.nets.build import Net, Outputs, build, place
from steel.paths import Paths

FULL = 16  # strips that fill a GPU; more would only take more of its memory


@dataclass(frozen=True)
class Predictor:
    """The nets of one model (one per fold), on their device, and how to run them.

    Batches are always of one size, the last padded with its own last strip: arithmetic may depend on the batch size,
    and then a strip's bytes would depend on its neighbours. On a GPU `at_once` views go through a net together, as far
    as it takes to fill it; on a CPU one after the other, which takes less memory.
    """

    gives_maps: bool
    nets: list[Net]
    views: list[str]
    batch: int
    device: torch.device
    dtype: torch.dtype
    at_once: int = 1

    @classmethod
    def load(cls, paths: Paths, name: str, folds: Sequence[int]) -> "Predictor":
        """Load the weights of a model's folds."""
        return cls.of(paths.solution, name, [paths.fold(name, fold) / "weights.safetensors" for fold in folds])

    @classmethod
    def of(cls, solution: Solution, name: str, weights: Sequence[Path]) -> "Predictor":
        """Load a model's weights from a file for each of its folds."""
        model: ModelConfig = solution.models[name]
        device = open_device(solution.machine)
        nets = []
        for path in weights:
            net = build(model, pretrained=False)
            load_weights(net, path)
            nets.append(place(net, device).eval())
        dtype = amp_dtype(model.amp, device)
        views, batch = list(solution.predict.tta), solution.predict.batch
        at_once = max(1, FULL // batch) if device.type == "cuda" else 1
        return cls(model.kind == "segmenter", nets, views, batch, device, dtype, at_once)

    @property
    def n_passes(self) -> int:
        """Passes of nets over a batch."""
        return len(self.nets) * len(self.views)

    def __call__(self, images: NDArray[np.uint8]) -> Outputs:
        """Mean probabilities over nets and views of up to `batch` strips (b, 256, 1600) uint8."""
        found = self._forward(self.pad(list(images)), len(images))
        _check(_total(found))
        return found

    def pad(self, strips: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Up to `batch` strips (256, 1600) as a full batch in memory that a GPU can fetch while it computes."""
        shape = (self.batch, *strips[0].shape)
        batch = torch.empty(shape, dtype=torch.uint8, pin_memory=self.device.type == "cuda")
        for i, row in enumerate(batch.numpy()):
            np.copyto(row, strips[min(i, len(strips) - 1)])  # other threads run while the disk is waited for
        return batch

    @torch.inference_mode()
    def start(self, batch: Tensor, n: int) -> "Answer":
        """Begin to compute what is kept of the first n strips of a padded batch; a GPU is not waited for."""
        found = self._forward(batch, n)
        maps, parts = (None, None) if found.maps is None else (_levels(found.maps), _parts(found.maps))
        total = _total(found).to("cpu", non_blocking=True)
        maps, parts, labels = (
            None if kept is None else kept.to("cpu", non_blocking=True) for kept in (maps, parts, found.labels)
        )
        done = torch.cuda.Event() if self.device.type == "cuda" else None
        if done is not None:
            done.record(torch.cuda.current_stream(self.device))  # else that of the first GPU, whichever this is
        return Answer(maps, parts, labels, total, done)

    @torch.inference_mode()
    def _forward(self, batch: Tensor, n: int) -> Outputs:
        """Mean probabilities of the first n strips of a padded batch (batch, 256, 1600), on the device."""
        totals: list[Tensor | None] = [None, None]  # of maps and of labels
        for found in self._each(batch.to(self.device, non_blocking=True).unsqueeze(1)):
            for i, prob in enumerate(found):
                if prob is not None:
                    total = totals[i]
                    totals[i] = prob if total is None else total.add_(prob)
        return Outputs(*(None if total is None else total[:n] / self.n_passes for total in totals))

    def _each(self, x: Tensor) -> Iterator[Outputs]:
        """Probabilities of a batch (batch, 1, 256, 1600) by each net and view."""
        for net in self.nets:
            for start in range(0, len(self.views), self.at_once):
                views = self.views[start : start + self.at_once]
                with torch.autocast(self.device.type, self.dtype, enabled=self.dtype is not torch.float32):
                    maps, labels = net(torch.cat([to_view(x, view) for view in views]))
                for i, view in enumerate(views):
                    of_view = slice(i * self.batch, (i + 1) * self.batch)
                    yield Outputs(
                        None if maps is None else from_view(maps[of_view].float().sigmoid(), view),
                        None if labels is None else labels[of_view].float().sigmoid(),
                    )


@dataclass(frozen=True)
class Answer:
    """What is kept of b strips, on its way from the device until it is waited for.

    Attributes:
        maps: (b, 4, 256, 1600) uint8, 255 = 1.0; None from a classifier.
        parts: (b, 4) int64, the sum over the pixels in 2**-32ths, likewise.
        labels: (b, 4) float32; None from a net that gives maps only.
        total: of all values: no number if one of them is none.
        done: when all is there; None where it always is.
    """

    maps: Tensor | None
    parts: Tensor | None
    labels: Tensor | None
    total: Tensor
    done: torch.cuda.Event | None

    def wait(self) -> tuple[NDArray[np.uint8] | None, NDArray[np.float64] | None, NDArray[np.float64] | None]:
        """Maps, sums and labels, as `Builder.write` takes them; a UserError if a net gave no numbers."""
        if self.done is not None:
            self.done.synchronize()
        _check(self.total)
        sums = None if self.parts is None else self.parts.numpy() / 2**32
        labels = None if self.labels is None else self.labels.double().numpy()
        return None if self.maps is None else self.maps.numpy(), sums, labels


def quantise(prob: Tensor) -> NDArray[np.uint8]:
    """Probabilities in [0, 1] as uint8, 255 = 1.0, rounded half to even."""
    return _levels(prob).cpu().numpy()


def sum_pixels(prob: Tensor) -> NDArray[np.float64]:
    """Sum over the pixels of probabilities (b, 4, H, W) in [0, 1], (b, 4): what uint8 will lose of the faint ones."""
    return _parts(prob).cpu().numpy() / 2**32


def _levels(prob: Tensor) -> Tensor:
    return (prob * 255).round_().to(torch.uint8)


def _parts(prob: Tensor) -> Tensor:
    """Sum over the pixels in whole 2**-32ths: no order of adding, so no batch, device or thread, can change it.

    A strip at a time: eight bytes for each of its pixels stay in a processor's cache.
    """
    return torch.stack([(one * 2**32).long().flatten(1).sum(1) for one in prob])


def _total(found: Outputs) -> Tensor:
    return torch.stack([part.sum() for part in found if part is not None]).sum()


def _check(total: Tensor) -> None:
    if not torch.isfinite(total):
        raise UserError("a net gives values that are no numbers; predict and train it in fp32 (amp: fp32)")
