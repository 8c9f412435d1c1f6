"""The nets of one model at work, from strips to mean probabilities: what the stages and the Kaggle kernel share.

Apart from the stores of `predict`, which need libraries that the kernel lacks.
"""

from collections.abc import Sequence
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
        return cls(model.kind == "segmenter", nets, list(solution.predict.tta), solution.predict.batch, device, dtype)

    @property
    def n_passes(self) -> int:
        """Passes of nets over a batch."""
        return len(self.nets) * len(self.views)

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
        found = [None if total is None else total[:n] / self.n_passes for total in totals]
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
